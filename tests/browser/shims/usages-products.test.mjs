// mixpanel, amplitude and posthog as wrappers, components and helpers write it.

import { readFileSync } from "node:fs";
import { PAGES } from "./pages.mjs";
import { testUsages } from "./usages.mjs";

const installed = (path) => readFileSync(new URL(`../node_modules/${path}`, import.meta.url), "utf8");
const UUID = "/^[0-9a-f-]{36}$/";
/** The browser's own signal, for those that heed it. */
const DNT = "Object.defineProperty(navigator, 'doNotTrack', { value: '1' });";

const MIXPANEL = `window.MIXPANEL_CUSTOM_LIB_URL = 'data:text/javascript,';${installed("mixpanel-browser/dist/mixpanel-jslib-snippet.min.js")}`;
testUsages("mixpanel", MIXPANEL, {
  "a function in the queue": { calls: "mixpanel.push(function () { this.track('A'); window.got = typeof this.get_distinct_id; });", sends: [{ event: "A" }], got: "function" },
  "the token and the configuration": { late: "window.got = [mixpanel.get_config('token'), mixpanel.config.token, typeof mixpanel.get_config()]", got: ["k", "k", "object"] },
  "flags are what the page falls back on": {
    late: "Promise.all([mixpanel.flags.get_variant_value('a', 'blue'), mixpanel.flags.is_enabled('b'), mixpanel.flags.get_variant('c', { key: 'x' })]).then((it) => { window.got = [...it, mixpanel.flags.is_enabled_sync('b', true), mixpanel.flags.get_variant_value_sync('a', 1), mixpanel.flags.are_flags_ready()]; })",
    got: ["blue", false, { key: "x" }, true, 1, true],
  },
  "what a session recording has": { late: "window.got = [mixpanel.get_session_recording_properties().$mp_replay_id ?? null, mixpanel.get_session_replay_url() ?? null, mixpanel.pause_session_recording() ?? null]", got: [null, null, null], warns: 2 },
  "a method that nobody heard of": { late: "mixpanel.start_something(); mixpanel.people.delete_user(); mixpanel.track('A'); window.got = [typeof mixpanel.own, 'own' in mixpanel]", sends: [{ event: "A" }], got: ["undefined", false], warns: 2 },
  "senders of batches, which nobody has": { late: "mixpanel.start_batch_senders(); mixpanel.stop_batch_senders(); mixpanel.track('A')", sends: [{ event: "A" }], warns: 2 },
  "a group that is left": {
    calls: "mixpanel.set_group('co', ['a', 'b']); mixpanel.remove_group('co', 'a'); mixpanel.track('A'); mixpanel.remove_group('none', 'x');",
    sends: [{ traits: { co: ["a", "b"] } }, { traits: { co: ["b"] } }, { event: "A", properties: { co: ["b"] } }, { traits: { none: [] } }],
  },
  "persistence": { late: "mixpanel.register({ a: 1 }); setTimeout(() => { window.got = ['_tw_mixpanel' in localStorage, mixpanel.get_property('a')]; })", got: [true, 1] },
  "no persistence": { init: "mixpanel.init('k', { disable_persistence: true })", late: "mixpanel.register({ a: 1 }); setTimeout(() => { window.got = ['_tw_mixpanel' in localStorage, mixpanel.get_property('a')]; })", got: [false, 1] },
  "a browser that asks not to be tracked": { snippet: DNT + MIXPANEL, calls: "mixpanel.track('A', {}, (it) => { window.got = it; });", got: 0 },
  "a browser that asks not to be tracked, and nobody heeds it": { snippet: DNT + MIXPANEL, init: "mixpanel.init('k', { ignore_dnt: true })", calls: "mixpanel.track('A');", sends: [{ event: "A" }] },
  "disable, and enable again": { late: "mixpanel.disable(); mixpanel.track('A'); mixpanel.enable(); mixpanel.track('B')", sends: [{ event: "B" }] },
  "init twice, as React's strict mode does": { calls: "mixpanel.init('k', { loaded: () => { window.got = 2; } }); mixpanel.track('A');", init: "window.got = 1; mixpanel.init('k', {});", sends: [{ event: "A" }], got: 1, when: "after" },
  "loaded identifies, and the first event has it": { init: "mixpanel.init('k', { loaded: (it) => { it.identify('u'); it.register({ app: 'shop' }); } });", calls: "mixpanel.track('A');", sends: [{ userId: "u" }, { event: "A", userId: "u", properties: { app: "shop" } }] },
  "calls of who finds the global before init": { snippet: "", init: "", when: "after", calls: "window.mixpanel && mixpanel.track('A'); mixpanel.people.set({ a: 1 }); window.got = Object.keys(localStorage).length;", got: 0 },
  "calls of who finds the global, and inits later": { snippet: "", init: "", when: "after", calls: "window.mixpanel && mixpanel.track('A', { n: 1 }); mixpanel.people.set({ a: 1 }); mixpanel.init('k', {});", sends: [{ event: "A", properties: { n: 1 } }, { type: "identify", traits: { a: 1 } }] },
  "nothing is kept before init": { init: "", calls: "window.got = 1;", got: 1 },
  "super properties of the session, and of once": { calls: "mixpanel.register_for_session({ s: 1 }); mixpanel.register_once({ s: 2, o: 1 }, 1); mixpanel.unregister_for_session('o'); mixpanel.track('A');", sends: [(it) => it.properties.s === 2 && !("o" in it.properties)], when: "after" },
  "people by name, by number and with dates": { calls: "mixpanel.people.set('$created', new Date(0)); mixpanel.people.increment({ a: 1, b: -2 }); mixpanel.people.unset(['x', 'y']); mixpanel.people.set_once('first', 1, () => { window.got = 1; });",
    sends: [{ traits: { $created: "1970-01-01T00:00:00.000Z" } }, { context: { source: { operations: { $add: { a: 1, b: -2 } } } } }, { traits: { x: null, y: null } }, { context: { source: { operations: { $set_once: { first: 1 } } } } }], got: 1 },
  "an opt-in with an event of its own": { calls: "mixpanel.opt_out_tracking(); mixpanel.clear_opt_in_out_tracking(); mixpanel.track('A'); window.got = 1;", sends: [{ event: "A" }], got: 1, when: "after" },
  "a component that tracks as it leaves": { calls: "addEventListener('pagehide', () => mixpanel.track('Left', {}, { send_immediately: true, transport: 'sendBeacon' }));", late: "dispatchEvent(new Event('pagehide'))", sends: [{ event: "Left" }] },
}, { init: "mixpanel.init('k', { debug: true, persistence: 'localStorage' })" });

const AMPLITUDE = installed("@amplitude/analytics-browser/lib/scripts/amplitude-snippet-min.js")
  .replace(/c\.integrity="[^"]*",c\.crossOrigin="anonymous",/, "").replace(/https:\/\/cdn\.amplitude\.com\/[^"]*/, "data:text/javascript,");
testUsages("amplitude", AMPLITUDE, {
  "nothing leaves before init": { init: "", calls: "amplitude.setUserId('u'); amplitude.track('A'); window.got = 1;", got: 1 },
  "what was said before init comes with it": { init: "", calls: "amplitude.track('A'); amplitude.setUserId('u'); amplitude.track('B');", late: "amplitude.init('k', { autocapture: false }).promise.then(() => { window.got = 1; })", sends: [{ event: "A" }, { userId: "u", type: "identify" }, { event: "B", userId: "u" }], got: 1 },
  "the session replay plugin beside it": { snippet: "", init: "", when: "after", calls: "window.amplitude.add(window.sessionReplay.plugin({ sampleRate: 1 })); window.amplitude.init('k', { autocapture: { elementInteractions: true, pageViews: false } }); amplitude.track('A');", sends: [{ event: "A" }] },
  "the library's words for levels": { init: "", when: "after", calls: "amplitude.init('k', undefined, { logLevel: amplitude.Types.LogLevel.None, serverZone: amplitude.Types.ServerZone.EU, defaultTracking: false }); amplitude.track('A');", sends: [{ event: "A" }] },
  "options of identify, of groups and of revenue": {
    calls: "const i = new amplitude.Identify().set('a', 1); amplitude.identify(i, { user_id: 'x', device_id: 'd' }); amplitude.setGroup('co', 'acme', { user_id: 'x' }); amplitude.groupIdentify('co', 'acme', new amplitude.Identify().set('t', 1), { user_id: 'x' }); amplitude.revenue(new amplitude.Revenue().setPrice(1), { user_id: 'x' });",
    sends: [{ type: "identify", userId: "x", anonymousId: "d", traits: { a: 1 } }, { type: "group", userId: "x" }, { type: "group", userId: "x", traits: { t: 1 } }, { type: "identify" }, { event: "revenue_amount", userId: "x" }],
  },
  "a destination of the page's own changes nothing": { late: "amplitude.add({ name: 'd', type: 'destination', setup: async () => {}, execute: async (event) => { window.got = event.event_type; return { event, code: 200, message: 'ok' }; } }).promise.then(() => amplitude.track('A', { n: 1 }))", sends: [{ event: "A", properties: { n: 1 } }], got: "A" },
  "a plugin whose setup fails": { late: "amplitude.add({ name: 'p', setup: () => Promise.reject(new Error('theirs')), execute: async (it) => it }).promise.catch(() => { window.got = 1; }); amplitude.track('A')", sends: [{ event: "A" }], got: 1 },
  "a plugin that is taken out": { late: "amplitude.add({ name: 'p', execute: async () => null }); amplitude.remove('p').promise.then(() => amplitude.track('A'))", sends: [{ event: "A" }] },
  "user properties that are cleared": { calls: "amplitude.identify(new amplitude.Identify().clearAll().set('a', 1)); window.got = 1;", sends: [{ type: "identify", traits: { a: 1 } }], got: 1 },
  "an identify that is asked what it has": { late: "const i = new amplitude.Identify().set('a', 1).setOnce('b', 2).append('c', 3); amplitude.identify(i).promise.then((it) => { window.got = [it.code, it.event.user_properties.$setOnce]; })", sends: [{ traits: { a: 1 } }], got: [200, { b: 2 }] },
  "the key and the ids of the options": { late: "window.got = [amplitude.options.apiKey, amplitude.options.deviceId === amplitude.getDeviceId(), typeof amplitude.getSessionId()]", got: ["k", true, "number"] },
  "an identity that is set": {
    late: "amplitude.setIdentity({ userId: 'u', deviceId: 'd' }); amplitude.track('A'); amplitude.setIdentity({ deviceId: 'e' }); amplitude.track('B'); window.got = amplitude.getIdentity()",
    sends: [{ type: "identify", userId: "u", anonymousId: "d" }, { event: "A", userId: "u", anonymousId: "d" }, { event: "B", userId: "u", anonymousId: "e" }], got: { userId: "u", deviceId: "e" },
  },
  "storage that is cleared, which nobody does": { late: "amplitude.clearStorage(); amplitude.track('A')", sends: [{ event: "A" }], warns: 1 },
  "a method that nobody heard of": { late: "amplitude.enableSomething(); amplitude.track('A')", sends: [{ event: "A" }], warns: 1 },
  "opt-out in the options, and a banner that asks": { init: "amplitude.init('k', { optOut: true, autocapture: false })", calls: "amplitude.track('A'); amplitude.setOptOut(false); amplitude.track('B');", sends: [{ event: "B" }] },
  "extendSession, setSessionId, getOptOut": { late: "amplitude.extendSession(); amplitude.setSessionId(1796000000000); window.got = [amplitude.getSessionId(), amplitude.getOptOut()]; amplitude.track('A')", sends: [{ event: "A", context: { sessionId: 1796000000000 } }], got: [1796000000000, false] },
  "a link that waits for its event": { late: "amplitude.track('Out').promise.then(() => { window.got = 'gone'; })", sends: [{ event: "Out" }], got: "gone" },
}, { init: "amplitude.init('k', { autocapture: false })" });

const POSTHOG = PAGES.posthog.snippet("data:text/javascript,").replace(/posthog\.init\('phc_shop'[^;]*;\s*$/, "");
const quiet = (more = "") => `posthog.init('k', { capture_pageview: false, ${more} })`;
testUsages("posthog", POSTHOG, {
  "calls of who finds the global before init": { snippet: "", init: "", when: "after", calls: "window.posthog?.capture('A'); window.posthog?.people.set('a', 1); window.got = 1;", got: 1 },
  "calls of who finds the global, and inits later": { snippet: "", init: "", when: "after", calls: "window.posthog?.capture('A'); posthog.onFeatureFlags((it) => { window.got = it.length; }); posthog.init('k', { capture_pageview: false });", sends: [{ event: "A" }], got: 0 },
  "a function in the queue": { calls: "posthog.push(function () { window.got = typeof this.capture; });", got: "function" },
  "a page that was opted out is reported with the opt-in": { init: "posthog.init('k', { opt_out_capturing_by_default: true })", late: "posthog.capture('A'); posthog.opt_in_capturing(); posthog.opt_in_capturing(); posthog.capture('B')", sends: [{ type: "page" }, { event: "B" }] },
  "an exception has its type": { calls: "posthog.captureException(new TypeError('no'), { where: 'x' }); posthog.captureException('text');", sends: [{ event: "$exception", properties: { $exception_type: "TypeError", $exception_message: "no", where: "x" } }, { event: "$exception", properties: { $exception_message: "text" } }] },
  "flags by their whole result": { init: quiet("bootstrap: { featureFlags: { a: 'blue', b: true }, featureFlagPayloads: { a: '{\"n\":1}' } }"), late: "window.got = [posthog.getFeatureFlagResult('a'), posthog.getFeatureFlagResult('x') ?? null, posthog.getAllFeatureFlags(), posthog.isFeatureEnabled('a', { send_event: false })]", got: [{ key: "a", enabled: true, variant: "blue", payload: { n: 1 } }, null, { a: "blue", b: true }, true] },
  "flags that the page sets": { late: "const off = posthog.onFeatureFlags((flags) => { window.got = flags; }); posthog.updateFlags({ a: true }); off(); posthog.updateFlags({ b: true })", got: ["a"] },
  "hooks of captures": { late: "window.got = []; const off = posthog._addCaptureHook((name, it) => got.push(name, it.properties.n)); posthog.capture('A', { n: 1 }); off(); posthog.capture('B')", sends: [{ event: "A" }, { event: "B" }], got: ["A", 1] },
  "what is kept, as helpers read it": { late: `posthog.register({ a: 1 }); window.got = [posthog.persistence.props.a, posthog.persistence.get_property('a'), ${UUID}.test(posthog.persistence.props.distinct_id), posthog._isIdentified(), posthog.config.token]`, got: [1, 1, true, false, "k"] },
  "properties that are unset": { calls: "posthog.identify('u');", late: "posthog.unsetPersonProperties(['a'])", sends: [{ userId: "u" }, { userId: "u", traits: { a: null } }] },
  "surveys and what nobody does": { late: "posthog.getActiveMatchingSurveys((it) => { window.got = it.length; }); posthog.renderSurvey('x', '#y'); posthog.onSurveysLoaded(() => {}); posthog.captureLog({ body: 'x' })", got: 0, warns: 2 },
  "a browser that asks not to be tracked": { snippet: DNT + POSTHOG, init: quiet("respect_dnt: true"), calls: "posthog.capture('A'); window.got = posthog.has_opted_out_capturing ? 1 : 0;", late: "posthog.identify('u'); window.got = [posthog.is_capturing(), posthog.capture('B') ?? null]", got: [false, null] },
  "a browser that asks not to be tracked, and nobody heeds it": { snippet: DNT + POSTHOG, calls: "posthog.capture('A');", sends: [{ event: "A" }] },
  "a survey that nobody can show": { late: "posthog.displaySurvey('x'); posthog.canRenderSurveyAsync('x').then((it) => { window.got = !it.visible; })", got: true, warns: 2 },
  "an integration of Sentry": { late: "const made = posthog.sentryIntegration({ organization: 'o' }); window.got = [made.name, made.setupOnce() ?? null]", got: ["posthog", null] },
  "shutdown": { late: "posthog.capture('A'); posthog.shutdown().then(() => { window.got = 1; })", sends: [{ event: "A" }], got: 1 },
  "identify of the same person again": { calls: "posthog.identify('u', { a: 1 }); posthog.identify('u', { a: 2 }); posthog.identify(null); posthog.identify('');", sends: [{ userId: "u", traits: { a: 1 } }, { userId: "u", traits: { a: 2 } }] },
  "a page that leaves": { calls: "posthog.capture('$pageleave', { $prev_pageview_pathname: '/' }); posthog.capture('A', {}, { send_instantly: true, transport: 'sendBeacon' });", sends: [{ event: "$pageleave" }, { event: "A" }] },
  "an address that is none": { calls: "posthog.capture('$pageview', { $current_url: 'http://' });", sends: [{ type: "page" }] },
  "a named instance": { calls: "posthog.init('k2', { capture_pageview: false }, 'two');", late: "posthog.two.capture('Two'); window.got = [String(posthog.two), posthog.two.config.token]", sends: [{ event: "Two" }], got: ["posthog.two", "k2"] },
  "loaded that identifies before the page": { init: "posthog.init('k', { loaded: (it) => { if (true) it.debug(); it.identify('u'); it.register({ app: 'shop' }); } })", sends: [{ userId: "u" }, { type: "page", userId: "u", properties: { app: "shop" } }] },
}, { init: quiet() });

