// posthog, answered by Tagway: the stub that the vendor's snippet leaves in the page is kept, its
// queue is worked off, and what it would queue later runs at once. Events are named as the gateway's
// own reading of the library's uploads names them (event.rs). Every flag is off.

import type { Tagway } from "../../../static/sdk/src/api";

type Params = Record<string, any>;

const page = window as unknown as { tagway: Tagway; posthog?: any };
const tagway = page.tagway;

const NAMES: Params = {
  __proto__: null,
  $pageleave: "Page Left", $rageclick: "Rage Click", $dead_click: "Dead Click", $exception: "Exception Raised",
};

const pair = (key: any, value?: unknown): Params => (typeof key === "object" ? key : { [key]: value });

let always: Params = {};
let groups: Params = {};
let isOut = false;

const capture = (name: string, said?: Params, options: Params = {}) => {
  const { $set, $set_once, ...properties }: Params = { ...always, ...said };
  const told: Params = {
    context: {
      traits: { ...$set_once, ...options.$set_once, ...$set, ...options.$set },
      groupId: groups.company || Object.values(groups)[0],
      groups,
      source: { client: "posthog", event: name },
    },
  };
  if (options.uuid) told.messageId = options.uuid;
  if (options.timestamp) told.timestamp = options.timestamp;
  if (name === "$pageview") tagway.page(undefined, properties, told);
  else tagway.track(NAMES[name] || name, properties, told);
};
const set = (traits?: Params, once?: Params) => tagway.identify(undefined, { ...once, ...traits });
const consent = (yes: boolean) => {
  isOut = !yes;
  tagway.consent({ analytics: yes });
};

const people: Record<string, (...args: any[]) => any> = {
  set: (key, value) => set(pair(key, value)),
  set_once: (key, value) => set(pair(key, value)),
};
const api: Record<string, (...args: any[]) => any> = {
  init,
  capture,
  captureException: (error, said) =>
    capture("$exception", { $exception_message: String((error && error.message) || error), ...said }),
  identify: (id, traits, once) => id && tagway.identify(String(id), { ...once, ...traits }),
  setPersonProperties: set,
  group(type, key, traits) {
    groups = { ...groups, [type]: key };
    tagway.group(String(key), traits, { context: { groups: { [type]: key } } });
  },
  resetGroups() {
    groups = {};
  },
  alias: (id, before = tagway.user().id) => (before ? tagway.alias(id, before) : tagway.identify(id)),
  reset() {
    always = groups = {};
    tagway.reset();
  },
  register(said) {
    always = { ...always, ...said };
  },
  register_once(said) {
    always = { ...said, ...always };
  },
  unregister(key) {
    const { [key]: _, ...rest } = always;
    always = rest;
  },
  get_property: (key) => always[key],
  getGroups: () => groups,
  get_distinct_id: () => tagway.user().id,
  opt_in_capturing: () => consent(true),
  opt_out_capturing: () => consent(false),
  has_opted_in_capturing: () => !isOut,
  has_opted_out_capturing: () => isOut,
  isFeatureEnabled: () => false,
  onFeatureFlags(callback) {
    callback([], {}, {});
    return () => {};
  },
};
api.register_for_session = api.register!;
api.unregister_for_session = api.unregister!;
for (const name of "getFeatureFlag getFeatureFlagPayload reloadFeatureFlags get_session_id set_config debug".split(" ")) {
  api[name] = () => undefined;
}

const serve = (stub: any, own: typeof api) => {
  const queue = Array.isArray(stub) ? stub.splice(0) : [];
  const run = ([name, ...args]: any[]) => {
    if (own[name]) own[name]!(...args);
  };
  Object.assign(stub, own);
  stub.push = run;
  return () => queue.forEach(run);
};

function init(_token: string, config: Params = {}, name?: string) {
  const stub = name && name !== "posthog" ? (root[name] = root[name] || {}) : root;
  stub.people = stub.people || {};
  const runPeople = serve(stub.people, people);
  const run = serve(stub, api);
  stub.__loaded = true;
  if (config.opt_out_capturing_by_default) consent(false);
  if (typeof config.loaded === "function") config.loaded(stub);
  if (config.capture_pageview !== false) capture("$pageview");
  run();
  runPeople();
  return stub;
}

const root = (page.posthog = page.posthog || { init });
(root._i || []).splice(0).forEach((args: any) => init.apply(null, args));
root.init = init;
