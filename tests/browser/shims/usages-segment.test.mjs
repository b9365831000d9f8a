// analytics as wrappers, themes and helpers write it.

import { createRequire } from "node:module";
import { testUsages } from "./usages.mjs";

const SNIPPET = createRequire(import.meta.url)("@segment/snippet").min({ apiKey: "shop", load: false, page: false })
  .replace(/t\.src=[^;]*;/, 't.src="data:text/javascript,";');
const load = (options = "{}") => `analytics.load('shop', ${options});`;

testUsages("segment", SNIPPET, {
  "the library under another name": { late: "const own = analytics.noConflict(); own.track('T'); window.got = own === analytics", sends: [{ event: "T" }], got: true },
  "options of load": { init: load("{ integrations: { All: false, Mixpanel: true } }"), calls: "analytics.track('T');", sends: [{ event: "T", integrations: { All: false, Mixpanel: true } }] },
  "a load that reports the page": { init: load("{ initialPageview: true }"), calls: "analytics.track('T');", sends: [(it) => it.type === "track" || it.type === "page", {}] },
  "a load that is off": { init: load("{ disable: true }"), calls: "analytics.track('T', () => { window.got = 1; });", got: 1 },
  "a load that its settings turn off": { init: load("{ disable: (settings) => !settings.integrations.X }"), calls: "analytics.track('T'); window.got = 1;", got: 1 },
  "the event of the start, and being ready": { calls: "window.n = []; analytics.on('initialize', () => n.push('initialize')); analytics.on('ready', () => n.push('ready')); analytics.ready(() => setTimeout(() => { window.got = n; }, 50));", got: ["initialize", "ready"], when: "before" },
  "ready before and after, each once": { calls: "window.n = 0; analytics.ready(() => { n += 1; });", late: "analytics.ready(() => { n += 1; }).then(() => { window.got = n; })", got: 2 },
  "a middleware that asks the payload by its methods": {
    calls: "analytics.addSourceMiddleware(({ payload, next }) => { if (payload.type() === 'track' && payload.event() === 'Drop') return next(null); if (payload.type() === 'identify') return next(payload); payload.obj.properties.who = payload.userId(); payload.obj.properties.n = payload.json().properties.n + 1; next(payload); }); analytics.identify('u'); analytics.track('Drop', {}); analytics.track('T', { n: 1 });",
    sends: [{ type: "identify" }, { event: "T", properties: { n: 2, who: "u" } }], when: "after", warns: 0,
  },
  "a middleware of a destination, with its promise": { late: "analytics.addDestinationMiddleware('Amplitude', ({ next, payload }) => next(payload)).then(() => { window.got = 1; }); analytics.addIntegrationMiddleware('X', () => {})", got: 1, warns: 1 },
  "a plugin of a destination, whose fault stops nothing": {
    late: "analytics.register({ name: 'd', type: 'destination', isLoaded: () => true, load: async () => {}, track() { throw new Error('theirs'); } }).then(() => { analytics.track('T'); window.got = 1; })", sends: [{ event: "T" }], got: 1, faults: /theirs/,
  },
  "a plugin after the event": { late: "analytics.register({ name: 'a', type: 'after', isLoaded: () => true, load: async () => {}, track: (ctx) => { window.got = ctx.event.event; } }); analytics.track('T')", sends: [{ event: "T" }], got: "T" },
  "a plugin that cancels": { late: "analytics.register({ name: 'b', type: 'before', isLoaded: () => true, load: async () => {}, track: (ctx) => { if (ctx.event.event === 'no') ctx.cancel(new Error('cancelled')); return ctx; } }); analytics.track('no'); analytics.track('yes')", sends: [{ event: "yes" }], faults: /cancelled/ },
  "a plugin that is taken out again": { late: "analytics.register({ name: 'p', type: 'enrichment', isLoaded: () => true, load: async () => {}, track: (ctx) => { ctx.event.properties.p = 1; return ctx; } }).then(() => analytics.deregister('p')).then(() => analytics.track('T')).then(() => { window.got = 1; })", sends: [(it) => !it.properties.p], got: 1 },
  "use of a plugin of before": { late: "analytics.use((it) => { window.got = typeof it.track; }).track('T')", sends: [{ event: "T" }], got: "function" },
  "a plugin whose load fails": { late: "analytics.register({ name: 'p', type: 'before', isLoaded: () => true, load: () => Promise.reject(new Error('theirs')), track: (ctx) => ctx }).catch(() => { window.got = 1; }); analytics.track('T')", sends: [{ event: "T" }], got: 1 },
  "pageview of the first generation": { calls: "analytics.pageview('/virtual');", sends: [{ type: "page", properties: { path: "/virtual" } }] },
  "screen": { calls: "analytics.screen('Home', { a: 1 });", sends: [{ name: "Home", properties: { a: 1 } }] },
  "links of a list that is not iterable": {
    body: "<a id=l href='#x'>x</a>", late: "const a = document.getElementById('l'); analytics.trackLink({ 0: a, length: 1 }, 'Link'); analytics.trackLink({ toArray: () => [a] }, 'jQuery'); analytics.trackClick(null, 'x'); a.click()", sends: [{ event: "Link" }, { event: "jQuery" }],
  },
  "an object as the event": { calls: "analytics.track({ event: 'T', properties: { a: 1 } }); analytics.track('U', null); analytics.track('V', undefined, { context: { ip: '0.0.0.0' } });", sends: [{ event: "T", properties: { a: 1 } }, { event: "U" }, { event: "V", context: { ip: "0.0.0.0" } }] },
  "the traits and the id of the event's options": { calls: "analytics.track('T', {}, { userId: 'u', anonymousId: 'a', context: { traits: { plan: 'pro' }, groupId: 'g', page: { title: 'Own' } } });", sends: [{ userId: "u", anonymousId: "a", context: { traits: { plan: "pro" }, groupId: "g", page: { title: "Own" } } }] },
  "traits that are cleared, and a logout": { late: "analytics.identify('u', { a: 1 }); analytics.user().traits({}); analytics.user().id(null); window.got = [analytics.user().id(), analytics.user().traits()]; analytics.user().logout(); analytics.track('T')", sends: [{ userId: "u" }, (it) => !it.userId], got: [null, {}] },
  "what helpers look for": { late: "window.got = [typeof analytics.VERSION, typeof analytics.settings.writeKey, typeof analytics.options, Array.isArray(analytics.plugins), typeof analytics.integrations, analytics.initialized, typeof analytics.user().anonymousId()]", init: load(), got: ["string", "string", "object", true, "object", true, "string"] },
  "listeners in a chain": { late: "window.n = []; const f = () => n.push(1); analytics.on('track', f).track('A'); analytics.off('track').track('B'); analytics.emit('own'); window.got = n.length", sends: [{ event: "A" }, { event: "B" }], got: 1 },
  "calls before the page allows to load": { init: "", calls: "analytics.identify('u'); analytics.track('A', () => { window.got = 1; });", got: 1 },
  "calls before the page allows to load, which then come": { init: "", calls: "analytics.identify('u'); analytics.track('A');", late: "analytics.track('B'); setTimeout(() => { analytics.load('shop', { integrations: { X: false } }); window.got = 1; }, 50)", sends: [{ userId: "u" }, { event: "A" }, { event: "B" }], got: 1 },
  "calls that are pushed": { calls: "analytics.push(['track', 'A', { n: 1 }]); analytics.push(['identify', 'u']);", sends: [{ event: "A" }, { userId: "u" }] },
  "group without an id, and with traits alone": { calls: "analytics.group('g', { a: 1 }); analytics.group({ b: 2 });", sends: [{ groupId: "g" }, { groupId: "g", traits: { b: 2 } }] },
  "alias of somebody else": { calls: "analytics.alias('new', 'old', { integrations: { All: false } }, () => { window.got = 1; });", sends: [{ type: "alias", userId: "new", previousId: "old" }], got: 1 },
}, { init: load() });
