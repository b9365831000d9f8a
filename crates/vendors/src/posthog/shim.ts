// posthog, answered by Tagway: the stub that the vendor's snippet leaves in the page is kept, its
// queue is worked off, and what it would queue later runs at once. Events go out in PostHog's words, and
// the gateway makes canonical ones of them (event.rs). Flags are those that the page brings, and else off.

import type { Tagway } from "../../../../static/sdk/src/api";

type Params = Record<string, any>;
type Call = (...args: any[]) => any;

const page = window as unknown as { tagway: Tagway; posthog?: any };
const tagway = page.tagway;
const { ids, opted, safe, uuid } = tagway;
const { copy } = tagway.settings;
const shim = "posthog";

const pair = (key: any, value?: unknown): Params => (key && typeof key === "object" ? key : { [key]: value });
/** How long a session pauses before the next begins, in ms. */
const PAUSE = 18e5;

/** What a page says of its address counts before the browser's own word. */
const pageOf = ({ $current_url: said, title, $referrer }: Params) => {
  const found = tagway.pageAt(said);
  if (title) found.title = title;
  if ($referrer) found.referrer = $referrer;
  return found;
};

const install = (stub: any, given: Params | undefined, name: string, init: Call) => {
  if (stub.__loaded) return stub;
  const config: Params = { api_host: "", ...given };
  const isKept = !config.disable_persistence && config.persistence !== "memory";
  const [state, save] = isKept ? tagway.keep(name) : [{} as Params, () => {}];
  const [always, , registry] = tagway.registry(state, save);
  const { bootstrap = {} } = config;
  let flags: Params = { ...bootstrap.featureFlags };
  let flagHearers: Call[] = [];
  let hearers: Call[] = [];
  let groups: Params = state.groups || {};

  const isOut = () => tagway.isOut(name, config.opt_out_capturing_by_default, config.respect_dnt);
  const ask = () => state.id || ids.anonymous();
  const session = () => {
    const now = Date.now();
    const { session: before = {} } = state;
    state.session = { id: now - before.at < PAUSE ? before.id : bootstrap.sessionID || uuid(), at: now };
    save();
    return state.session.id;
  };
  const of = (more: Params, context?: Params) =>
    ids.of({ shim, userId: state.id, ...more, context: { sessionId: state.session && session(), ...context } });
  /** What is set once is said as a trait the first time alone, and as the operation that it is each time. */
  const once = (said: Params = {}): [Params, Params] => {
    const fresh: Params = {};
    for (const key in said) if (!state.once?.[key]) (state.once ||= {})[key] = 1, fresh[key] = said[key];
    if (Object.keys(fresh)[0]) save();
    return [fresh, Object.keys(said)[0] ? { source: { operations: { $set_once: said } } } : {}];
  };

  /** Gives what is to be said as the page's own hooks leave it, if they leave it. */
  const hooked = (event: string, given: Params, own: Params = {}): any => {
    if (isOut()) return;
    let properties = given;
    if (config.sanitize_properties) properties = config.sanitize_properties(properties, event);
    for (const key of config.property_denylist || config.property_blacklist || []) delete properties[key];
    let result: any = { uuid: uuid(), event, properties, timestamp: new Date(), ...own };
    for (const hook of [].concat(config.before_send || [])) result = result && (hook as any)(result);
    return result;
  };

  const capture = (event: string, said?: Params | null, options?: Params | null) => {
    const { uuid, timestamp, ...more } = options || {};
    const [first] = copy({ ...always(), ...said });
    const own: Params = { ...(uuid && { uuid }), ...(timestamp && { timestamp }) };
    for (const key of ["$set", "$set_once"]) {
      if (more[key] || first[key]) own[key] = { ...first[key], ...more[key] };
      delete first[key];
    }
    const result = hooked(String(event), first, own);
    if (!result) return;
    const [fresh, context] = once(result.$set_once);
    const isPage = result.event === "$pageview";
    tagway[isPage ? "page" : "track"](
      result.event,
      { $set: result.$set, $set_once: result.$set_once && fresh, ...result.properties, $groups: groups },
      of({ messageId: result.uuid, timestamp: timestamp && result.timestamp }, { ...context, page: pageOf(result.properties) }),
    );
    for (const hear of hearers) safe(hear)(result);
    return result;
  };
  /** Whether the first page is still to be reported: opted out, it waits for the visitor's answer. */
  let isUnseen: unknown;
  const view = () => {
    isUnseen = isOut();
    capture("$pageview");
  };
  const set = (traits?: Params | null, first?: Params | null, event = "$set") => {
    const result = hooked(event, {}, { $set: { ...copy(traits)[0] }, $set_once: { ...copy(first)[0] } });
    if (!result) return;
    const [fresh, context] = once(result.$set_once);
    tagway.identify(state.id, { ...fresh, ...result.$set }, of({ messageId: result.uuid }, context));
  };
  const consented = () => {
    const answer = opted(name);
    return answer === undefined ? "pending" : answer ? "granted" : "denied";
  };
  const tellFlags = (hearers = flagHearers) => {
    const on = Object.keys(flags).filter((key) => flags[key]);
    for (const hear of hearers) safe(hear)(on, flags, {});
  };

  const api: Record<string, Call> = {
    // Its snippet queues all but the first.
    init,
    capture,
    captureException(error, said) {
      const type = error?.name || "Error";
      const value = String(error?.message || error);
      return capture("$exception", { $exception_type: type, $exception_message: value, ...said });
    },
    identify(id, traits, first) {
      if (id == null || id === "" || isOut()) return;
      if (state.id && state.id !== String(id)) state.once = {};
      state.id = String(id);
      save();
      set(traits, first, "$identify");
    },
    setPersonProperties: (traits, first) => set(traits, first),
    group(type, key, traits) {
      groups = state.groups = { ...groups, [type]: key };
      save();
      const result = hooked("$groupidentify", { $group_type: type, $group_key: key, $group_set: { ...copy(traits)[0] } });
      if (result) tagway.group(String(key), result.properties.$group_set, of({}, { groups: { [type]: key } }));
    },
    resetGroups() {
      groups = state.groups = {};
      save();
    },
    alias(id: string, before = ask()) {
      if (isOut()) return;
      tagway.alias(id, before, of({ userId: id }));
    },
    reset() {
      for (const key in state) delete state[key];
      groups = {};
      save();
      tagway.reset();
    },
    ...registry,
    get_property: (key: string) => key === "distinct_id" ? ask() : key === "$device_id" ? ids.anonymous() : always()[key],
    getGroups: () => groups,
    get_distinct_id: ask,
    get_session_id: session,
    get_session_replay_url: () => "",
    sessionRecordingStarted: () => false,
    opt_in_capturing() {
      opted(name, true);
      if (isUnseen) view();
    },
    opt_out_capturing: () => opted(name, false),
    clear_opt_in_out_capturing: () => opted(name, null),
    has_opted_in_capturing: () => opted(name) === true,
    has_opted_out_capturing: isOut,
    get_explicit_consent_status: consented,
    is_capturing: () => !isOut(),
    getFeatureFlag: (key) => flags[key],
    getAllFeatureFlags: () => flags,
    getFeatureFlagResult: (key) => key in flags ? { key, enabled: !!flags[key], variant: flags[key] === true ? undefined : flags[key], payload: api.getFeatureFlagPayload!(key) } : undefined,
    updateFlags: (next) => stub.featureFlags.overrideFeatureFlags(next),
    getFeatureFlagPayload(key) {
      const found = bootstrap.featureFlagPayloads?.[key];
      try {
        return JSON.parse(found);
      } catch {
        return found;
      }
    },
    isFeatureEnabled: (key) => !!flags[key],
    onFeatureFlags(callback) {
      flagHearers.push(callback);
      tellFlags([callback]);
      return () => {
        flagHearers = flagHearers.filter((it) => it !== callback);
      };
    },
    on(_name, callback) {
      hearers.push(callback);
      return () => {
        hearers = hearers.filter((it) => it !== callback);
      };
    },
    onSessionId(callback) {
      callback(session(), "");
      return () => {};
    },
    _addCaptureHook: (callback) => api.on!("", (it: Params) => callback(it.event, it)),
    _isIdentified: () => !!state.id,
    unsetPersonProperties: (keys) => set(Object.fromEntries([].concat(keys).map((key) => [key, null]))),
    shutdown: async () => tagway.flush(),
    // Sentry takes no integration that is undefined.
    sentryIntegration: () => ({ name: shim, setupOnce() {} }),
    set_config: (more) => Object.assign(config, more),
    toString: () => (name === shim ? name : name.replace("_", ".")),
  };
  // What asks for something that nobody has is answered.
  for (const asked of ["getSurveys", "getActiveMatchingSurveys", "onSurveysLoaded", "getEarlyAccessFeatures"]) {
    api[asked] = (callback) => {
      callback?.([]);
      return () => {};
    };
  }
  for (const quiet of "debug reloadFeatureFlags setPersonPropertiesForFlags resetPersonPropertiesForFlags setGroupPropertiesForFlags resetGroupPropertiesForFlags createPersonProfile".split(" ")) api[quiet] = () => {};

  if (bootstrap.distinctID && !state.id) {
    if (bootstrap.isIdentifiedID) state.id = String(bootstrap.distinctID), save();
    else ids.anonymous(String(bootstrap.distinctID));
  }
  const runPeople = tagway.serve((stub.people ||= []), {
    set: (key: any, value: unknown) => set(pair(key, value)),
    set_once: (key: any, value: unknown) => set({}, pair(key, value)),
  }, { name: "posthog.people" });
  const run = tagway.serve(stub, api, {
    name: shim,
  });
  stub.featureFlags = {
    getFlags: () => Object.keys(flags),
    getFlagVariants: () => flags,
    getFeatureFlag: api.getFeatureFlag,
    isFeatureEnabled: api.isFeatureEnabled,
    override: (next: any) => stub.featureFlags.overrideFeatureFlags(next),
    overrideFeatureFlags(next: any) {
      next = next?.flags ?? next;
      flags = { ...bootstrap.featureFlags };
      if (Array.isArray(next)) for (const key of next) flags[key] = true;
      else if (next) Object.assign(flags, next);
      tellFlags();
    },
  };
  stub.config = config;
  stub.persistence = {
    get props() {
      return { ...always(), distinct_id: ask(), $device_id: ids.anonymous() };
    },
    get_property: api.get_property,
  };
  stub.__loaded = true;
  if (config.opt_out_capturing_by_default && opted(name) === undefined) tagway.consent({ analytics: false });
  if (config.loaded) safe(config.loaded)(stub);
  if (config.capture_pageview !== false) view();
  if (config.capture_pageview === "history_change" || (config.capture_pageview === undefined && config.defaults >= "2025-05-24")) {
    tagway.moved(() => capture("$pageview"), () => location.pathname);
  }
  run();
  runPeople();
  return stub;
};

const root = (page.posthog ||= []);
root.__SV ||= 1;
tagway.instances(root, shim, install);
