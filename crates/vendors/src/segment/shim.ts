// analytics, Segment's browser API, answered by Tagway. The page's stub is kept: its queue is worked
// off, and what it would queue later runs at once. The page's middlewares and plugins see each event first.

import type { Tagway } from "../../../../static/sdk/src/api";

type Params = Record<string, any>;
type Call = (...args: any[]) => any;

const page = window as unknown as { tagway: Tagway; analytics?: any };
const tagway: any = page.tagway;
const { copy, here } = tagway.settings;
const { ids, safe, uuid } = tagway;

/** What the library keeps: id, traits, group, groupTraits. */
const [state, save] = tagway.keep("segment");
type Hook = { name?: string; isAfter?: boolean; run: (payload: any, next: (payload: any) => void) => unknown };
let hooks: Hook[] = [];
let hearers: [string, Call][] = [];
/** How long a callback waits for the gateway's answer, in ms, as in the library. */
let patience = 300;

const isCallback = (arg: unknown): arg is Call => typeof arg === "function";
const emit = (name: string, ...args: any[]) =>
  hearers.slice().map(([wanted, hear]) => wanted === name && safe(hear)(...args));
const put = (object: any, path: string, value: unknown) => {
  const names = path.split(".");
  const last = names.pop()!;
  for (const name of names) object = object[name] ||= {};
  object[last] = value;
};

/** What waits for load(), where a snippet is there to call it. */
const gate = tagway.gate();

/** Sends an event as the hooks leave it, and settles with the library's context of it. */
const dispatch = (event: Params, told: any[], own?: Params | null, callback?: Call, of?: Params) => {
  const options = own || {};
  const { context, integrations, timestamp, messageId, anonymousId, userId, ...more } = options;
  const all = page.analytics._loadOptions || {};
  [event] = copy({
    messageId: messageId || uuid(),
    timestamp: timestamp || new Date(),
    integrations: { ...all.integrations, ...integrations },
    userId: userId ?? state.id,
    anonymousId: anonymousId || ids.of({}).anonymousId,
    context: { page: { ...here(), ...of }, ...(context || more) },
    ...event,
  });
  const ctx: Params = {
    id: event.messageId,
    event,
    attempts: 1,
    logs: () => [],
    log() {},
    updateEvent: (path: string, value: unknown) => (put(ctx.event, path, value), ctx.event),
    cancel(fault?: unknown) {
      throw fault;
    },
    toJSON: () => ({ id: ctx.id, event: ctx.event }),
  };
  return new Promise((resolve) => {
    const end = () => resolve(ctx);
    const send = () => {
      const { type, event: name, properties, traits, groupId, previousId, ...rest } = ctx.event;
      if (type === "track") tagway.track(name, properties, rest, end);
      else if (type === "page") tagway.page(ctx.event.name, properties, rest, end);
      else if (type === "identify") tagway.identify(rest.userId, traits, rest, end);
      else if (type === "group") tagway.group(groupId, traits, rest, end);
      else tagway.alias(rest.userId, previousId, rest, end);
      emit(type, ...told);
      for (const hook of hooks) if (hook.isAfter) safe(hook.run)({ obj: ctx.event, ctx }, () => {});
    };
    const step = (place: number) => {
      const hook = hooks[place];
      if (!hook) return send();
      if (hook.isAfter) return step(place + 1);
      // What is no member of it is a method that asks the event.
      const payload: Params = new Proxy({ obj: ctx.event, ctx, then: undefined, json: () => ctx.event } as Params, {
        get: (it, name: string) => (name in it ? it[name] : (key = name) => ctx.event[key]),
      });
      // What a hook's own fault leaves is not sent: it may be what had to be taken out.
      safe(hook.run)(payload, (payload: any) => {
        if (!payload) return end();
        ctx.event = payload.obj || ctx.event;
        step(place + 1);
      });
    };
    gate.pass(() => {
      const { disable } = page.analytics._loadOptions || {};
      if (isCallback(disable) ? disable({ integrations: {} }) : disable === true) end();
      else step(0);
    });
    setTimeout(end, patience);
  }).then((it) => (safe(callback || (() => {}))(it), it));
};

/** Calls a method with its texts in front, its objects and its callback: all may be left out. */
const said = (texts: number, say: (texts: any[], own: any, options: any, callback?: Call, of?: Params) => any) =>
  (...args: any[]) => {
    // The newest snippet says last where the page was at the call.
    const { __t, p: path, u: url, s: search, t: title, r: referrer } = args[args.length - 1] || ({} as any);
    const of = __t === "bpc" ? (args.pop(), { path, url, search, title, referrer }) : undefined;
    const rest = args.filter((arg) => !isCallback(arg));
    const front: any[] = [];
    while (front.length < texts && rest.length && typeof (rest[0] ?? "") !== "object") front.push(rest.shift());
    return say(front, rest[0] || {}, rest[1], args.find(isCallback), of);
  };

const listen = (kind: string) => (elements: any, name: any, own?: any) => {
  for (const element of elements instanceof Element ? [elements] : Array.from<any>(elements?.toArray?.() || elements || [])) {
    element.addEventListener(kind, safe(() => {
      const of = (it: any) => (isCallback(it) ? it(element) : it);
      api.track!(of(name), of(own));
    }));
  }
  return root;
};

/** What has an id and traits, each of which its function gives or sets. */
const entity = (id: string, traits: string) => ({
  id(...value: any[]) {
    if (value.length) state[id] = value[0], save();
    return state[id] ?? null;
  },
  traits(...value: any[]) {
    if (value.length) state[traits] = value[0], save();
    return state[traits] || {};
  },
});
const user: Params = { ...entity("id", "traits"), anonymousId: (id?: string | null) => ids.anonymous(id || undefined) };
user.logout = user.reset = () => api.reset!();
const team = entity("group", "groupTraits");

const api: Record<string, Call> = {
  track: said(1, ([name], own, options, callback, of) => {
    if (name === undefined && own.event) [name, own] = [own.event, own.properties];
    return dispatch({ type: "track", event: String(name), properties: own }, [String(name), own, options], options, callback, of);
  }),
  page: said(2, ([first, second], own, options, callback, of) => {
    const [category, name] = second == null ? [undefined, first] : [first, second];
    const properties = { ...of, ...own, ...(category && { category }) };
    return dispatch({ type: "page", name, properties }, [category, name, properties, options], options, callback, of);
  }),
  identify: said(1, ([id], traits, options, callback, of) => {
    if (id != null && String(id) !== state.id) state.traits = {};
    if (id != null) state.id = String(id);
    [state.traits] = copy({ ...state.traits, ...traits });
    save();
    return dispatch({ type: "identify", userId: state.id, traits: state.traits }, [state.id, traits, options], options, callback, of);
  }),
  group(...args: any[]) {
    if (!args.length) return team;
    return said(1, ([id], traits, options, callback, of) => {
      if (id != null) state.group = String(id);
      [state.groupTraits] = copy({ ...traits });
      save();
      return state.group && dispatch({ type: "group", groupId: state.group, traits }, [state.group, traits, options], options, callback, of);
    })(...args);
  },
  alias: said(2, ([id, previous], _, options, callback, of) =>
    dispatch({ type: "alias", userId: id, previousId: previous ?? state.id ?? ids.anonymous() }, [id, previous, options], options, callback, of)),
  reset() {
    for (const name in state) delete state[name];
    save();
    tagway.reset();
    emit("reset");
  },
  ready: async (callback?: Call) => callback?.(),
  on(name, hear) {
    hearers.push([name, hear]);
    return root;
  },
  once(name, hear) {
    const once = (...args: any[]) => {
      api.off!(name, once);
      hear(...args);
    };
    return api.on!(name, once);
  },
  off(name, hear) {
    hearers = hearers.filter(([wanted, own]) => wanted !== name || (hear && own !== hear));
    return root;
  },
  emit: (name, ...args) => (emit(name, ...args), root),
  user: () => user,
  id: () => user.id(),
  setAnonymousId: (id) => user.anonymousId(id),
  addSourceMiddleware: async (middleware: Call) => {
    hooks.push({ run: (payload, next) => middleware({ payload, integrations: payload.obj.integrations, next }) });
  },
  register: (...plugins: any[]) => Promise.all(plugins.map(async (plugin) => {
    const { name, type } = plugin;
    // In its turn, and at once where it does not say otherwise: the page may be left.
    hooks.push({ name, isAfter: /^(dest|aft)/.test(type), run(payload, next) {
      const result = plugin[payload.obj.type]?.(payload.ctx) || payload.ctx;
      const go = (it: any) => next({ obj: (it || payload.ctx).event });
      result.then ? result.then(go) : go(result);
    } });
    try {
      return await plugin.load?.({}, root);
    } catch (fault) {
      api.deregister!(name);
      throw fault;
    }
  })),
  async deregister(...names: string[]) {
    hooks = hooks.filter(({ name }) => !names.includes(name!));
  },
  use: (plugin: Call) => (plugin(root), root),
  addDestinationMiddleware: async () => tagway.absent("analytics", "addDestinationMiddleware")(),
  timeout: (time) => (patience = time),
  debug: () => root,
  noConflict: () => root,
  load(writeKey: string, options?: Params) {
    root._loadOptions = options;
    begin(writeKey);
    return root;
  },
  pageview: (path?: string) => api.page!(path ? { path } : {}),
  trackLink: listen("click"),
  trackForm: listen("submit"),
};
api.trackClick = api.trackLink!;
api.trackSubmit = api.trackForm!;
api.screen = api.page!;
api.addIntegrationMiddleware = api.addDestinationMiddleware!;

/** As the library is once it has been loaded. */
const begin = (writeKey: string) => {
  root.settings = { writeKey };
  gate.open();
  const { _loadOptions: options = {} } = root;
  emit("initialize", root.settings, options);
  emit("ready");
  if (options.initialPageview) api.page!();
};

const root = (page.analytics ||= []);
if (!root.initialized) {
  // What changes and hears events comes before what is one, as in the library.
  const isEarly = ([name]: any) => /^(addS|reg|on|setA)/.test(name);
  if (Array.isArray(root)) root.splice(0, root.length, ...root.filter(isEarly), ...root.filter((call) => !isEarly(call)));
  // A snippet marks what it has loaded: one that has not waits for the page to do so.
  const isWaiting = /_loadOptions/.test(root.load) && !("_loadOptions" in root);
  const run = tagway.serve(root, api, {
    name: "analytics",
    // Its snippets end where they find it loaded, and begin anew what their end would do.
    marks: { invoked: root.invoked },
    late: gate.shut,
  });
  Object.assign(root, { initialized: true, VERSION: "2", options: {}, plugins: [], integrations: {} });
  if (isWaiting) gate.shut();
  run();
  if (!isWaiting) begin(root._writeKey);
}
