// mixpanel, answered by Tagway: the stub that the vendor's snippet leaves in the page is kept, its
// queue is worked off, and what it would queue later runs at once. What is told goes out in Mixpanel's
// words, and the gateway makes canonical messages of it (retell.rs).

import type { Tagway } from "../../../static/sdk/src/api";

type Params = Record<string, any>;

const page = window as unknown as { tagway: Tagway; mixpanel?: any };
const tagway = page.tagway;
const shim = "mixpanel";

const pair = (key: any, value?: unknown): Params => (typeof key === "object" ? key : { [key]: value });

/** What changes a person or a group, by `say(traits, context)`. */
const profile = (say: (traits: Params, context?: Params) => void) => {
  const operation = (name: string, start?: unknown) => (key: any, value?: any) =>
    say({}, { source: { operations: { [name]: pair(key, value ?? start) } } });
  const append = operation("$append");
  return {
    set: (key: any, value?: any) => say(pair(key, value)),
    set_once: operation("$set_once"),
    unset: (keys: any) => say(Object.fromEntries([].concat(keys).map((key) => [key, null]))),
    increment: operation("$add", 1),
    append,
    union: operation("$union"),
    remove: operation("$remove"),
    track_charge: ($amount: number, said?: Params) => append("$transactions", { $amount, ...said }),
  } as Record<string, (...args: any[]) => void>;
};

const install = (stub: any, config: Params = {}) => {
  let always: Params = {};
  const began: Record<string, number> = {};
  let isOut = false;
  const consent = (analytics: boolean) => {
    isOut = !analytics;
    tagway.consent({ analytics });
  };
  const track = (name: string, said?: Params, options?: any, callback?: any) => {
    const properties: Params = { ...always, ...said };
    if (began[name]) properties.$duration = (Date.now() - began[name]!) / 1e3;
    began[name] = 0;
    tagway.track(name, properties, { shim }, () => (callback || options)?.call?.(0, 1));
  };
  const listen = (kind: string) => (query: string, name: string, said?: any) =>
    addEventListener(kind, (event) => {
      const found = (event.target as Element).closest(query);
      if (found) track(name, said?.call ? said(found) : said);
    });
  const people = profile((traits, context) => tagway.identify(undefined, traits, { shim, context }));
  const member = (key: string, ids: any) => people.set!(key, (always[key] = [].concat(ids)));
  const api: Record<string, (...args: any[]) => any> = {
    track,
    track_with_groups: (name: string, said?: Params, groups?: Params) => track(name, { ...said, ...groups }),
    track_pageview: (said?: Params) => tagway.page(undefined, { ...always, ...said }, { shim }),
    track_links: listen("click"),
    track_forms: listen("submit"),
    time_event: (name: string) => (began[name] = Date.now()),
    identify: (id: string) => id && tagway.identify(String(id)),
    alias: (id: string, before = tagway.user().id) => (before ? tagway.alias(id, before) : tagway.identify(id)),
    register: (said: Params) => Object.assign(always, said),
    register_once: (said: Params) => (always = { ...said, ...always }),
    unregister: (key: string) => delete always[key],
    get_property: (key: string) => always[key],
    set_group: member,
    add_group: (key: string, id: string) => member(key, (always[key] || []).concat(id)),
    remove_group: (key: string, id: string) => member(key, always[key]?.filter((other: string) => other !== id) || []),
    get_group: (key: string, id: string) =>
      profile((traits, context) =>
        tagway.group(String(id), traits, { shim, context: { ...context, groupType: key } })),
    reset() {
      always = {};
      tagway.reset();
    },
    get_distinct_id: () => tagway.user().id,
    get_config: (key?: string) => (key ? config[key] : config),
    opt_in_tracking: () => consent(true),
    opt_out_tracking: () => consent(false),
    has_opted_in_tracking: () => !isOut,
    has_opted_out_tracking: () => isOut,
  };
  api.register_for_session = api.register!;
  const runPeople = tagway.serve((stub.people ||= {}), people);
  const run = tagway.serve(stub, api, { run([name, ...args]) {
    // A call of what a call gives: a group's.
    if (name.map) api[name[0]]!(...name.slice(1))[args[0][0]](...args[0].slice(1));
    else api[name]?.(...args);
  } });
  if (config.opt_out_tracking_by_default) consent(false);
  if (config.track_pageview) api.track_pageview!();
  config.loaded?.(stub);
  run();
  runPeople();
  return stub;
};

function init(_token: string, config?: Params, name?: string) {
  return install(name && name !== shim ? (root[name] ||= {}) : root, config);
}

const root = (page.mixpanel ||= {});
(root._i || []).splice(0).map((args: any) => init.apply(null, args));
root.__loaded = root.init = init;
