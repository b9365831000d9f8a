// The Amplitude API in the page, served by Tagway: the stub of the vendor's snippet stays, its queued calls
// run, and later calls run at once. Messages are sent in Amplitude's words, and the gateway makes canonical
// ones of them (beacon/to_canonical.rs). The old library, whose instances come from getInstance(), has the
// same API with callbacks and without page views of its own.

import type { Tagway } from "../../../../static/sdk/src/api";

type Params = Record<string, any>;
type Call = { name: string; args: any[]; resolve?: (value: unknown) => void };

const page = window as unknown as { tagway: Tagway; amplitude?: any; sessionReplay?: any };
const tagway = page.tagway;
const { ids, opted, safe, uuid } = tagway;
const shim = "amplitude";

/** Records all calls, as the snippet's own stand-in does. */
const Recorder: any = function () {
  const _q: unknown[] = [];
  const told: any = new Proxy({}, {
    get: (_, name) => name === "_q" ? _q : (...args: unknown[]) => (_q.push({ name, args }), told),
  });
  return told;
};

const calls = (told: any): Call[] =>
  Array.from(told?._q || []).map((call: any) => (call.name ? call : { name: call[0], args: Array.from(call).slice(1) }));

/** Returns the traits and Amplitude's own operations of an Identify, or of the object that it becomes. */
const read = (told: any): [Params, Params] => {
  const traits: Params = {};
  const operations: Params = {};
  const add = (name: string, key: string, value: unknown) => {
    if (name === "unset") traits[key] = null;
    else (name === "set" ? traits : operations["$" + name] ||= {})[key] = value;
  };
  for (const { name, args: [key, value] } of calls(told)) add(name, key, value);
  if (told && !told._q) {
    for (const key in told) {
      if (key[0] === "$") for (const inner in told[key]) add(key.slice(1), inner, told[key][inner]);
      else add("set", key, told[key]);
    }
  }
  return [traits, operations];
};

/** The time that a promise waits for the gateway's answer, in ms. */
const WAIT = 2e3;
const isCallback = (it: unknown): it is (...args: any[]) => void => typeof it === "function";

/** Gives an instance its methods. */
const serve = (stub: any, name: string, isOld?: unknown) => {
  const [state, save] = tagway.keep(name);
  const plugins: any[] = [];
  const queue = calls(stub);
  /** What is said before init() waits for it: pages call it after the visitor's answer. */
  const gate = tagway.gate(true);
  let options: Params = {};

  /** Settles as the library does: a promise of the result, and its old callback. */
  const settle = (event: Params, say: (done: (status?: number) => void) => void, callback?: unknown, bad?: unknown) => ({
    promise: new Promise((resolve) => {
      const end = (code: number, message: string) => resolve({ event, code, message });
      if (opted(name) === false) return end(0, "No request sent: opted out");
      setTimeout(() => end(0, "Not answered yet"), WAIT);
      gate.pass(() => say((status = 200) => (status < 300 ? end(200, "Event tracked successfully") : end(status, "Not accepted"))));
    }).then((result: any) => {
      const answer = result.code === 200 || !isCallback(bad) ? callback : bad;
      if (isCallback(answer)) safe(answer)(result.code, result.code === 200 ? "success" : result.message);
      return result;
    }),
  });
  const settled = (value?: unknown) => ({ promise: Promise.resolve(value) });

  /** Runs the page's plugins, which change and drop events before they are sent. */
  const pass = (event: Params, send: (event: Params) => void, place = 0): void => {
    const plugin = plugins[place];
    if (!plugin) return send(event);
    const go = (it: any) => it && pass(it, send, place + 1);
    let result: any = event;
    if (plugin.execute) result = safe(plugin.execute.bind(plugin) as any)(event);
    // What a destination gives is no event.
    if (plugin.type === "destination") result = event;
    if (result?.then) result.then(go, () => {});
    else go(result);
  };
  const of = (more: Params, event: Params = {}) => {
    const { insert_id, time, user_id, device_id, session_id } = event || {};
    const found = ids.of({ shim, userId: state.id, ...more });
    if (insert_id) found.messageId = insert_id;
    if (time) found.timestamp = new Date(time);
    if (user_id) found.userId = String(user_id);
    if (device_id) found.anonymousId = device_id;
    if (session_id > 0) found.context.sessionId = session_id;
    return found;
  };

  const setUserId = (id: any) => {
    if (id === undefined || id === "") id = null;
    if (id === (state.id ?? null)) return;
    state.id = id === null ? id : String(id);
    save();
    if (id !== null) gate.pass(() => opted(name) !== false && tagway.identify(String(id), {}, of({})));
  };
  const optOut = (out: boolean) => opted(name, !out);
  const track = (given: any, own?: Params | null, more?: Params | null, callback?: unknown, bad?: unknown) => {
    const whole = given && typeof given === "object" ? { ...given, ...own } : { event_type: given, event_properties: own, ...more };
    whole.insert_id ||= uuid();
    whole.time ||= Date.now();
    const identity = { user_id: state.id, device_id: ids.of({}).anonymousId };
    const event = tagway.settings.copy({ ...identity, ...whole })[0];
    return settle(event, (done) =>
      pass(event, (it) => {
        if (it.user_id && it.user_id !== state.id && whole.user_id) setUserId(it.user_id);
        const [traits, operations] = read(it.user_properties);
        const context: Params = { source: { operations }, traits };
        const { groups } = it;
        if (groups) context.groupId = String([].concat(Object.values(groups)[0] as any)[0]);
        const { price, quantity, revenue, revenueType, productId } = it;
        tagway.track(it.event_type, { price, quantity, revenue, revenueType, productId, ...it.event_properties },
          of({ context, integrations: groups && { Amplitude: { groups } } }, it), done);
      }), callback, bad);
  };
  const person = (told: any, callback?: unknown) => {
    const [traits, operations] = read(told);
    const event = { event_type: "$identify", user_properties: { $set: traits, ...operations } };
    return settle(event, (done) =>
      pass(event, ({ user_properties: { $set, ...rest } }) =>
        tagway.identify(undefined, $set || {}, of({ context: { source: { operations: rest } } }, callback as Params), done)), callback);
  };
  const group = (type: string, given: any, told?: any, callback?: unknown) => {
    const [traits, operations] = read(told);
    return settle({ event_type: "$groupidentify" }, (done) =>
      [].concat(given).map((id) =>
        tagway.group(String(id), traits, of({ context: { groupType: type, groups: { [type]: id }, source: { operations } } }, callback as Params), done)), callback);
  };
  const view = () =>
    settle({}, (done) => pass({ event_type: "[Amplitude] Page Viewed", event_properties: {} }, ({ event_properties: said }) =>
      tagway.page(undefined, said, of({}), done)));
  const revenue = (told: any, more?: Params) => {
    const bought: Params = {};
    // As in the library itself: setProductId() sets $productId.
    for (const { name: method, args: [value] } of calls(told)) {
      if (method === "setEventProperties") Object.assign(bought, value);
      else bought["$" + method[3]!.toLowerCase() + method.slice(4)] = value;
    }
    return track("revenue_amount", bought, more);
  };

  const api: Record<string, (...args: any[]) => any> = {
    init(apiKey: string, id?: any, own?: any, callback?: any) {
      options = { apiKey, ...(own || (id && typeof id === "object" ? id : {})) };
      const { autocapture: auto, defaultTracking: before = true, optOut: out, userId, deviceId, sessionId } = options;
      if (deviceId) ids.anonymous(deviceId);
      const named = (id && typeof id !== "object" ? id : undefined) ?? userId;
      if (named != null) setUserId(named);
      if (out !== undefined) optOut(out);
      if (sessionId) ids.session(sessionId);
      const choice = isOld ? false : auto ?? before;
      if (choice && choice.pageViews !== false) {
        view();
        if (choice.pageViews?.trackHistoryChanges !== false) tagway.moved(view);
      }
      if (isCallback(callback)) gate.pass(() => callback(stub));
      gate.open();
      return settled();
    },
    onInit: (callback) => gate.pass(() => callback(stub)),
    track: (event, own, more) => track(event, own, more),
    logEvent: (event, own, callback, bad) => isCallback(callback) || isOld ? track(event, own, null, callback, bad) : track(event, own, callback),
    logEventWithTimestamp: (event, own, time, callback, bad) => track(event, own, { time }, callback, bad),
    logEventWithGroups: (event, own, groups, callback, bad) => track(event, own, { groups }, callback, bad),
    identify: (told, callback) => person(told, callback),
    setUserProperties: (said) => person({ ...said }),
    clearUserProperties: () => person({ $clearAll: { all: "-" } }),
    setGroup: (type, given, callback) => group(type, given, undefined, callback),
    groupIdentify: (type, given, told, callback) => group(type, given, told, callback),
    revenue,
    logRevenueV2: revenue,
    logRevenue: ($price, $quantity = 1, $productId?) => track("revenue_amount", { $price, $quantity, $productId }),
    setUserId,
    getUserId: () => state.id ?? undefined,
    setDeviceId: (id) => void ids.anonymous(id),
    getDeviceId: () => ids.anonymous(),
    regenerateDeviceId: () => void ids.anonymous(uuid()),
    getSessionId: () => ids.session(),
    setSessionId: (id) => void ids.session(id),
    getIdentity: () => ({ userId: state.id ?? undefined, deviceId: ids.anonymous() }),
    setIdentity({ userId, deviceId }) {
      if (deviceId) ids.anonymous(deviceId);
      if (userId !== undefined) setUserId(userId);
    },
    setOptOut: optOut,
    getOptOut: () => opted(name) === false,
    reset() {
      for (const key in state) delete state[key];
      save();
      tagway.reset();
    },
    flush: () => settled(tagway.flush()),
    add(plugin) {
      plugins.push(plugin);
      return { promise: Promise.resolve(plugin.setup?.(options, stub)) };
    },
    remove(wanted) {
      plugins.splice(0, plugins.length, ...plugins.filter((it) => it.name !== wanted));
      return settled();
    },
    sendEvents: () => tagway.flush(),
    isNewSession: () => false,
  };
  // They say to the library what the gateway does otherwise.
  for (const quiet of "setTransport setVersionName setServerUrl extendSession".split(" ")) api[quiet] = () => {};
  api.setGlobalUserProperties = api.setUserProperties!;
  const run = safe(async ({ name: method, args, resolve }: Call) => {
    const result = (api[method] || tagway.absent(shim, method))(...args) as any;
    resolve?.(await result?.promise);
  });
  tagway.serve(stub, api, {
    name: shim,
    marks: stub === root ? { invoked: root.invoked, Identify: root.Identify || Recorder, Revenue: root.Revenue || Recorder } : {},
  });
  stub._q = { push: (call: any) => run(call.name ? call : { name: call[0], args: Array.from(call).slice(1) }) };
  Object.defineProperty(stub, "options", { configurable: true, get: () => ({ ...options, userId: state.id, deviceId: ids.anonymous() }) });
  queue.map(run);
  return stub;
};

const root = (page.amplitude ||= {});
// The old library has getInstance() only.
const isOld = root.getInstance && !root.createInstance && !root.invoked;
const instances: Params = { ...root._iq };
const instance = (name: string | undefined, old: unknown) => {
  const key = String(name || "").toLowerCase();
  return !key || key === "$default_instance" ? (old && !isOld ? former() : root) : (served[key] ||= serve(instances[key] || {}, `${shim}_${key}`, old));
};
const served: Params = {};
let first: any;
/** Returns the main instance for pages of the old library without a stub of its own. */
const former = () => (first ||= serve({}, shim, 1));
serve(root, shim, isOld);
tagway.serve(root, {
  getInstance: (name?: string) => instance(name, 1),
  createInstance: (name?: string) => instance(name || uuid(), 0),
});
// What the loader of a key brings besides: the page's next line would throw without it.
root.Types ||= { LogLevel: { None: 0, Error: 1, Warn: 2, Verbose: 3, Debug: 4 }, ServerZone: { US: "US", EU: "EU" } };
page.sessionReplay ||= { plugin: () => ({}) };
root._iq = {};
root.runQueuedFunctions = () => {};
for (const key in instances) served[key] = key === "$default_instance" ? serve(instances[key], shim, 1) : serve(instances[key], `${shim}_${key}`, isOld);
if (served.$default_instance) first = served.$default_instance;
