// gtag and fbq as wrappers, themes and helpers write it.

import { testUsages } from "./usages.mjs";

const GTAG = "window.dataLayer = window.dataLayer || []; function gtag() { dataLayer.push(arguments); } gtag('js', new Date());";
const QUIET = "gtag('config', 'G-A', { send_page_view: false })";

testUsages("ga4", GTAG, {
  "a Google tag's own id reports the page": { init: "", calls: "gtag('set', 'developer_id.dZTNiMT', true); gtag('config', 'GT-ABCD');", sends: [{ type: "page" }] },
  "an event for a group has its members' parameters": {
    init: "gtag('config', 'G-A', { send_page_view: false, groups: 'shop', author: 'ann' });",
    calls: "gtag('event', 'sale', { send_to: 'shop', value: 1 });", sends: [{ event: "sale", properties: { author: "ann", value: 1 } }],
  },
  "an event for the default group": {
    init: "gtag('config', 'G-A', { send_page_view: false, author: 'ann' });",
    calls: "gtag('event', 'sale', { send_to: 'default', event_callback: () => { window.got = 1; } });", sends: [{ event: "sale", properties: { author: "ann" } }], got: 1,
  },
  "a group of advertising alone is no event": {
    calls: "gtag('config', 'AW-1', { groups: ['ads', 'all'] }); gtag('event', 'conversion', { send_to: ['ads'], event_callback: () => { window.got = 1; } });", got: 1,
  },
  "a group that has been opted out of": {
    init: "window['ga-disable-G-A'] = true; gtag('config', 'G-A', { groups: 'shop' });", calls: "gtag('event', 'sale', { send_to: 'shop' }); window.got = 1;", got: 1,
  },
  "the same event for a property and for a group of another is one": {
    init: "gtag('config', 'G-A', { send_page_view: false }); gtag('config', 'G-B', { groups: 'shop' });",
    calls: "for (const send_to of ['G-A', 'shop']) gtag('event', 'sale', { send_to, value: 1 });", sends: [{ event: "sale" }, ],
  },
  "a page that begins its data layer anew": {
    init: "window.dataLayer = [{ pageType: 'home' }]; function gtag() { dataLayer.push(arguments); } gtag('js', new Date());", snippet: "",
    calls: `${QUIET}; gtag('event', 'e');`, sends: [{ event: "e" }],
  },
  "a data layer that is declared as a variable": {
    init: "var dataLayer = dataLayer || []; dataLayer = []; function gtag() { dataLayer.push(arguments); }", snippet: "", calls: `${QUIET}; gtag('event', 'e');`, sends: [{ event: "e" }],
  },
  "a script with another data layer that comes late": {
    when: "after", init: "", snippet: "",
    late: `window.dl = []; window.gtag = function () { dl.push(arguments); }; gtag('config', 'G-A', { send_page_view: false }); gtag('event', 'early');
      const tag = document.createElement('script'); tag.src = '/gtag/js?id=G-A&l=dl'; document.head.append(tag);
      gtag('event', 'last', { event_callback: () => { window.got = 'G-A'; } });`,
    sends: [{ event: "early" }, { event: "last" }], got: "G-A", faults: /<|token/,
  },
  "a function in the data layer runs, with the layer's own methods": {
    calls: "dataLayer.push(function () { this.set('a', 1); this.reset(); window.got = typeof this.get('a'); });", got: "undefined",
  },
  "an address that is none": { calls: "gtag('event', 'e', { page_location: 'http://', n: 1 }); gtag('event', 'f', { page_location: location });", sends: [{ event: "e", properties: { n: 1 } }, { event: "f" }] },
  "get of the id that config had": { init: "gtag('config', 'G-A', { send_page_view: false, user_id: 'u' });", calls: "gtag('get', 'G-A', 'user_id', (it) => { window.got = it; });", got: "u", sends: [{ userId: "u" }] },
  "get of the click's id, and of nothing": {
    path: "/?gclid=click-1", calls: "Promise.all(['gclid', 'nothing'].map((name) => new Promise((done) => gtag('get', 'G-A', name, done)))).then((it) => { window.got = it.map((one) => String(one)); });",
    got: ["click-1", "undefined"],
  },
  "a user who is logged out": {
    calls: "gtag('set', { user_id: 'u' }); gtag('event', 'a'); gtag('set', { user_id: null }); gtag('event', 'b'); gtag('config', 'G-A', { user_id: 'v', send_page_view: false }); gtag('event', 'c');",
    sends: [{ type: "identify", userId: "u" }, { event: "a", userId: "u" }, (it) => it.event === "b" && !it.userId, { type: "identify", userId: "v" }, { event: "c", userId: "v" }],
  },
  "a user of the event itself": { calls: "gtag('event', 'login', { method: 'mail', user_id: 'u' });", sends: [{ type: "identify", userId: "u" }, { event: "login", userId: "u" }] },
  "a page that waits for Google's tag": { when: "before", calls: "const timer = setInterval(() => { if (window.google_tag_manager) { clearInterval(timer); window.got = 1; } }, 10);", got: 1 },
  "a callback that navigates, of an event of several targets": { calls: "gtag('event', 'purchase', { send_to: ['G-A', 'AW-1/x'], value: 1, event_callback: (id) => { window.got = id; } });", sends: [{ event: "purchase" }], got: "G-A" },
  "parameters that the page changes afterwards, and frozen ones": {
    calls: "const p = { n: 1, list: [1] }; gtag('event', 'a', p); p.n = 2; p.list.push(2); gtag('event', 'b', Object.freeze({ items: null }));",
    sends: [{ event: "a", properties: { n: 1, list: [1] } }, { event: "b" }], when: "after",
  },
  "gtag by call and apply, and with more arguments": { calls: "gtag.call(window, 'event', 'a'); gtag.apply(null, ['event', 'b', {}, 'more']); gtag('event', 'c', undefined, null);", sends: [{ event: "a" }, { event: "b" }, { event: "c" }] },
  "consent with words that it does not know": {
    calls: "gtag('consent', 'default', { analytics_storage: 'denied', ad_user_data: 'denied', wait_for_update: 500 }); gtag('consent', 'update', { analytics_storage: 'granted', x: 1 }); gtag('event', 'e');",
    sends: [{ event: "e", context: { consent: { categoryPreferences: { analytics: true, ad_user_data: false } } } }],
  },
  "a plain object that looks like a command is none": { calls: "dataLayer.push({ 0: 'event', 1: 'x', length: 2 }, ['event', 'y']); gtag('event', 'z');", sends: [{ event: "z" }] },
  "eventCallback that throws, and one that is no function": {
    calls: "dataLayer.push({ event: 'x', eventCallback() { throw new Error('theirs'); } }, { event: 'y', eventCallback: 'no' }); gtag('event', 'e', { event_callback: 'no' });", sends: [{ event: "e" }], faults: /theirs/,
  },
}, { init: QUIET });

const FBQ = `!function(f,b,e,v,n,t,s){if(f.fbq)return;n=f.fbq=function(){n.callMethod?n.callMethod.apply(n,arguments):n.queue.push(arguments)};
  if(!f._fbq)f._fbq=n;n.push=n;n.loaded=!0;n.version='2.0';n.queue=[]}(window,document,'script')`;

testUsages("meta", FBQ, {
  "the agent of a plugin": { calls: "fbq('init', '1', {}, { agent: 'wordpress-6.4-3.0.15' }); fbq('track', 'PageView'); fbq('set', 'agent', 'tmgoogletagmanager', '1'); fbq('set', 'autoConfig', false, '1');", sends: [{ type: "page" }] },
  "the page of the first generation": { calls: "_fbq.push(['addPixelId', '1']); _fbq.push(['track', 'PixelInitialized', {}]);", sends: [{ type: "page", context: { source: { pixel_id: "1" } } }] },
  "ids that are numbers": { calls: "fbq('init', 1); fbq('trackSingle', 1, 'Lead', {}, { eventID: 7 });", sends: [{ event: "Lead", messageId: "7.Lead", context: { source: { pixel_id: "1" } } }] },
  "a helper that waits for the pixel": { when: "before", calls: "fbq('init', '1'); const wait = () => window.fbq && fbq.callMethod ? (fbq('track', 'Lead'), window.got = fbq.getState().pixels.length) : setTimeout(wait, 10); wait();", sends: [{ event: "Lead" }], got: 1 },
  "fbq by call and apply": { calls: "fbq('init', '1'); fbq.call(null, 'track', 'Lead'); fbq.apply(window, ['trackCustom', 'C', { n: 1 }]); window.fbq?.('track', 'Search');", sends: [{ event: "Lead" }, { event: "C", properties: { n: 1 } }, { event: "Search" }] },
  "a queue whose one call is nonsense": { calls: "fbq('init', '1'); fbq(undefined); fbq({}); fbq('track'); fbq('track', 'Lead');", sends: [{}, { event: "Lead" }], warns: 2 },
  "userData that comes after init": { calls: "fbq('init', '1', { em: 'a@b.example' }); fbq('set', 'userData', { ph: '1' }); fbq('track', 'Lead');", sends: [{ event: "Lead", context: { traits: { em: "a@b.example", ph: "1" } } }] },
  "consent that is revoked again": {
    calls: "fbq('init', '1'); fbq('consent', 'revoke'); fbq('track', 'A'); fbq('consent', 'grant'); fbq('consent', 'revoke'); fbq('track', 'B'); window.got = 1;",
    sends: [{ event: "A" }], got: 1,
  },
  "events of one id in a page": { calls: "fbq('init', '1'); fbq('track', 'AddToCart', { value: 1 }, { eventID: 'x' }); fbq('track', 'InitiateCheckout', { value: 1 }, { eventID: 'x' });", sends: [{ messageId: "x.AddToCart" }, { messageId: "x.InitiateCheckout" }] },
});
