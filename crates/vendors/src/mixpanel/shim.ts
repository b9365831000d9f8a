// mixpanel, answered by Tagway: the stub that the vendor's snippet leaves in the page is kept, its
// queue is worked off, and what it would queue later runs at once. What is told goes out in Mixpanel's
// words, and the gateway makes canonical messages of it (beacon/to_canonical.rs).

import type { Tagway } from "../../../../static/sdk/src/api";

type Params = Record<string, any>;

const page = window as unknown as { tagway: Tagway; mixpanel?: any };
const tagway = page.tagway;
const { ids, opted, safe } = tagway;
const shim = "mixpanel";

const pair = (key: any, value?: unknown): Params => (key && typeof key === "object" ? key : { [key]: value });
const isCallback = (it: unknown): it is (...args: any[]) => void => typeof it === "function";
/** A callback that comes once: with the gateway's answer, or where that takes too long, in ms. */
const WAIT = 1e3;
const settle = (callback: any, answer: unknown) => {
  const done = () => {
    if (callback) safe(callback)(answer);
    callback = 0;
  };
  setTimeout(done, WAIT);
  return done;
};

/** What changes a person or a group, by `say(traits, context, callback)`. */
const profile = (say: (traits: Params, context: Params | undefined, callback: any) => void) => {
  const operation = (name: string, start?: unknown) => (key: any, ...rest: any[]) => {
    const [value] = rest.filter((it) => !isCallback(it));
    say({}, { source: { operations: { [name]: pair(key, value ?? start) } } }, rest.find(isCallback));
  };
  const append = operation("$append");
  const set = (key: any, value?: any, callback?: any) => say(pair(key, value), undefined, callback || value);
  return {
    set,
    set_once: operation("$set_once"),
    unset: (keys: any, callback?: any) => say(Object.fromEntries([].concat(keys).map((key) => [key, null])), undefined, callback),
    increment: operation("$add", 1),
    append,
    union: operation("$union"),
    remove: operation("$remove"),
    track_charge: ($amount: number, said?: Params, callback?: any) => append("$transactions", { $amount, ...said }, callback),
    clear_charges: (callback?: any) => set("$transactions", [], callback),
  } as Record<string, (...args: any[]) => void>;
};

const install = (stub: any, given: Params | undefined, name: string) => {
  const config: Params = { api_host: "", ...given };
  if (stub.__on) return stub;
  stub.__on = 1;
  const [state, save] = config.disable_persistence ? [{} as Params, () => {}] : tagway.keep(name);
  const [always, keep, registry] = tagway.registry(state, save);
  const disabled: any[] = [];
  const isOut = () => tagway.isOut(name, config.opt_out_tracking_by_default, !config.ignore_dnt);
  const of = (options?: Params) => ids.of({ shim, userId: state.id, ...options });
  const ask = () => state.id || "$device:" + ids.anonymous();
  const tell = (kind: "track" | "page", name: string, own: any, callback?: any, context?: Params) => {
    const answer = (status?: number) => settle(isCallback(callback) ? callback : 0, status! < 300 ? 1 : 0);
    let properties: Params = { ...always(), ...(own && typeof own === "object" && own) };
    for (const key of config.property_blacklist || []) delete properties[key];
    if (isOut() || disabled.some((it) => it === 1 || it === name)) return void setTimeout(answer(400));
    if (state.began?.[name]) {
      properties.$duration = (Date.now() - state.began[name]) / 1e3;
      delete state.began[name];
      save();
    }
    let hooked: any = { event: name, properties };
    for (const hook of [].concat(config.hooks?.before_send_events || [])) hooked = hooked && (hook as any)(hooked);
    if (!hooked) return void setTimeout(answer(400));
    if (kind === "page") tagway.page(undefined, hooked.properties, of({ context }), answer(200));
    else tagway.track(hooked.event, hooked.properties, of({ context }), answer(200));
    return true;
  };
  const track = (name: string, own?: Params, options?: any, callback?: any) =>
    tell("track", String(name), own, [own, options, callback].find(isCallback));
  const view = (own?: any, options?: any) => {
    // Of the first generation, it says the address.
    const isAddress = typeof own === "string";
    const context = isAddress ? { page: tagway.pageAt(own) } : undefined;
    if (options?.event_name) return tell("track", options.event_name, own);
    return tell("page", "$mp_web_page_view", isAddress ? {} : own, options, context);
  };
  // Before whatever the page does with the event: a menu may stop it.
  const listen = (kind: string) => (query: any, name: string, said?: any) =>
    addEventListener(kind, safe((event: Event) => {
      const target = event.target as Element;
      const elements: Element[] = query.nodeType ? [query] : Array.from(query);
      const found = typeof query === "string" ? target.closest?.(query) : elements.find((it) => it.contains(target));
      if (found) track(name, isCallback(said) ? said(found) as any : said);
    }), true);
  const person = (traits: Params, context: Params | undefined, callback: any) => {
    const done = settle(isCallback(callback) ? callback : 0, isOut() ? 0 : 1);
    if (isOut()) setTimeout(done);
    else tagway.identify(undefined, traits, of({ context }), done);
  };
  const people = profile(person);
  const member = (key: string, given: any) => {
    const list = [].concat(given);
    keep({ ...always(), [key]: list });
    people.set!(key, list);
  };
  const api: Record<string, (...args: any[]) => any> = {
    track,
    track_with_groups: (name: string, said?: Params, groups?: Params, callback?: any) => track(name, { ...said, ...groups }, callback),
    track_pageview: view,
    track_links: listen("click"),
    track_forms: listen("submit"),
    time_event(name: string) {
      (state.began ||= {})[name] = Date.now();
      save();
    },
    identify(id: string) {
      if (id == null || isOut()) return;
      state.id = String(id);
      save();
      tagway.identify(state.id, {}, of());
    },
    alias(id: string, before = ask()) {
      if (!isOut()) tagway.alias(id, String(before).replace("$device:", ""), of({ userId: id }));
    },
    name_tag: (mp_name_tag: string) => keep({ ...always(), mp_name_tag }),
    ...registry,
    get_property: (key: string) =>
      key === "distinct_id" ? ask() : key === "$device_id" ? ids.anonymous() : key === "$user_id" ? state.id : always()[key],
    set_group: member,
    add_group: (key: string, id: string) => member(key, (always()[key] || []).concat(id)),
    remove_group: (key: string, id: string) => member(key, always()[key]?.filter((other: string) => other !== id) || []),
    get_group: (key: string, id: string) => ({
      ...profile((traits, context, callback) => {
        if (!isOut()) tagway.group(String(id), traits, of({ context: { ...context, groupType: key } }), settle(isCallback(callback) ? callback : 0, 1));
      }),
      delete: tagway.absent("mixpanel.get_group()", "delete"),
    }),
    reset() {
      for (const key in state) delete state[key];
      save();
      tagway.reset();
    },
    get_distinct_id: ask,
    get_config: (key?: string) => (key ? config[key] : config),
    set_config: (more: Params) => Object.assign(config, more),
    disable: (names?: string[]) => disabled.push(...(names || [1])),
    opt_in_tracking: () => opted(name, true),
    opt_out_tracking: () => opted(name, false),
    clear_opt_in_out_tracking: () => opted(name, null),
    has_opted_in_tracking: () => opted(name) === true,
    has_opted_out_tracking: isOut,
    get_session_recording_properties: () => ({}),
    enable: () => disabled.splice(0),
    toString: () => name.replace("_", "."),
  };
  const runPeople = tagway.serve((stub.people ||= []), people, { name: "mixpanel.people" });
  const run = tagway.serve(stub, api, {
    name: "mixpanel",
    run([name, ...args]) {
      // A call of what a call gives: a group's.
      if (name.map) api[name[0]]!(...name.slice(1))[args[0][0]](...args[0].slice(1));
      else (api[name] || tagway.absent("mixpanel", name))(...args);
    },
  });
  const props = { get: () => ({ ...always(), distinct_id: ask(), $device_id: ids.anonymous() }) };
  stub.persistence = stub.cookie = Object.defineProperty({}, "props", props);
  stub.config = config;
  stub.flags = flags;
  if (config.opt_out_tracking_by_default && opted(name) === undefined) tagway.consent({ analytics: false });
  const auto = config.track_pageview || config.autocapture?.pageview;
  if (auto) view();
  // By a word, each new address is a page as well.
  if (auto && auto !== true) {
    tagway.moved(view, () => {
      const { pathname, search, href } = location;
      return auto === "full-url" ? href : auto === "url-with-path" ? pathname : pathname + search;
    });
  }
  if (config.loaded) safe(config.loaded)(stub);
  run();
  runPeople();
  return stub;
};

/** Flags are what the page falls back on. */
const flags: Params = { are_flags_ready: () => true, load_flags: async () => {} };
for (const name of ["get_variant", "get_variant_value", "is_enabled"]) {
  flags[name + "_sync"] = (_key: string, fallback: unknown = false) => fallback;
  flags[name] = async (_key: string, fallback: unknown = false) => fallback;
}

const root = (page.mixpanel ||= []);
root.__SV ||= 1.2;
root.__loaded = true;
tagway.instances(root, shim, install);
