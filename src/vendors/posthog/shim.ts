// posthog, answered by Tagway: the stub that the vendor's snippet leaves in the page is kept, its
// queue is worked off, and what it would queue later runs at once. Events go out in PostHog's words, and
// the gateway makes canonical ones of them (event.rs). Every flag is off, and what the stub has besides
// stays as it is: nobody answers.

import type { Tagway } from "../../../static/sdk/src/api";

type Params = Record<string, any>;

const page = window as unknown as { tagway: Tagway; posthog?: any };
const tagway = page.tagway;
const shim = "posthog";

const pair = (key: any, value?: unknown): Params => (typeof key === "object" ? key : { [key]: value });

let always: Params = {};
let groups: Params = {};
let isOut = false;

const capture = (name: string, said?: Params, { uuid, timestamp, $set, $set_once }: Params = {}) =>
  tagway[name === "$pageview" ? "page" : "track"](
    name,
    { ...($set && { $set }), ...($set_once && { $set_once }), ...always, ...said, $groups: groups },
    { shim, ...(uuid && { messageId: uuid }), ...(timestamp && { timestamp }) },
  );
const set = (traits?: Params, once?: Params) => tagway.identify(undefined, { ...once, ...traits });
const consent = (yes: boolean) => {
  isOut = !yes;
  tagway.consent({ analytics: yes });
};
const put = (key: any, value: unknown) => set(pair(key, value));

const api: Record<string, (...args: any[]) => any> = {
  init,
  capture,
  captureException: (error, said) =>
    capture("$exception", { $exception_message: String(error?.message || error), ...said }),
  identify: (id, traits, once) => id && tagway.identify(String(id), { ...once, ...traits }),
  setPersonProperties: set,
  group(type, key, traits) {
    groups = { ...groups, [type]: key };
    tagway.group(String(key), traits, { context: { groups: { [type]: key } } });
  },
  resetGroups() {
    groups = {};
  },
  alias: (id: string, before = tagway.user().id) => (before ? tagway.alias(id, before) : tagway.identify(id)),
  reset() {
    always = groups = {};
    tagway.reset();
  },
  register: (said: Params) => (always = { ...always, ...said }),
  register_once: (said: Params) => (always = { ...said, ...always }),
  unregister: (key: string) => delete always[key],
  get_property: (key: string) => always[key],
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

function init(_token: string, config: Params = {}, name?: string) {
  const stub = name && name !== shim ? (root[name] ||= {}) : root;
  const runPeople = tagway.serve((stub.people ||= {}), { set: put, set_once: put });
  const run = tagway.serve(stub, api);
  stub.__loaded = true;
  if (config.opt_out_capturing_by_default) consent(false);
  config.loaded?.(stub);
  if (config.capture_pageview !== false) capture("$pageview");
  run();
  runPeople();
  return stub;
}

const root = (page.posthog ||= {});
(root._i || []).splice(0).map((args: any) => init.apply(null, args));
root.init = init;
