// amplitude as pages use it, the library of today and the one of before: each row is a use, and what the page and
// the gateway get of it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { bare, like, places } from "./bare.mjs";

const { open } = bare("amplitude");
const NEW = readFileSync(new URL("../node_modules/@amplitude/analytics-browser/lib/scripts/amplitude-snippet-min.js", import.meta.url), "utf8")
  .replace(/c\.integrity="[^"]*",c\.crossOrigin="anonymous",/, "").replace(/https:\/\/cdn\.amplitude\.com\/[^"]*/, "data:text/javascript,") + ";";
// amplitude-js 8: no mark of its own, and instances by getInstance().
const OLD = `(function(e,t){var n=e.amplitude||{_q:[],_iq:{}};function s(e,t){e.prototype[t]=function(){this._q.push([t].concat(Array.prototype.slice.call(arguments,0)));return this}}
  var o=function(){this._q=[];return this};"add append clearAll prepend set setOnce unset preInsert postInsert remove".split(" ").forEach(function(a){s(o,a)});n.Identify=o;
  var u=function(){this._q=[];return this};"setProductId setQuantity setPrice setRevenueType setEventProperties".split(" ").forEach(function(a){s(u,a)});n.Revenue=u;
  var d="init logEvent logRevenue setUserId setUserProperties setOptOut setVersionName setDomain setDeviceId enableTracking setGlobalUserProperties identify clearUserProperties setGroup logRevenueV2 regenerateDeviceId groupIdentify onInit onNewSessionStart logEventWithTimestamp logEventWithGroups setSessionId resetSessionId getDeviceId getUserId setMinTimeBetweenSessionsMillis setEventUploadThreshold setUseDynamicConfig setServerZone setServerUrl sendEvents setLibrary setTransport".split(" ");
  function v(e){function t(t){e[t]=function(){e._q.push([t].concat(Array.prototype.slice.call(arguments,0)))}}for(var n=0;n<d.length;n++)t(d[n])}v(n);
  n.getInstance=function(e){e=(!e||e.length===0?"$default_instance":e).toLowerCase();if(!Object.prototype.hasOwnProperty.call(n._iq,e)){n._iq[e]={_q:[]};v(n._iq[e])}return n._iq[e]};e.amplitude=n})(window,document);`;
const INIT = "amplitude.init('k', { defaultTracking: false });";

const NEW_ROWS = {
  "init reports the page, and settles": ["", [{ type: "page" }], async (page) => assert.equal(await page.evaluate(() => amplitude.init("k").promise.then(() => 1)), 1), "amplitude.init('k');"],
  "init in every shape": ["", [{ type: "identify", userId: "u" }], undefined, "amplitude.init('k', 'u', { defaultTracking: { pageViews: false } });"],
  "track settles with the event that is sent": ["amplitude.track('A', { n: 1 }).promise.then((it) => { window.got = [it.code, it.event.event_type, it.event.insert_id, it.event.event_properties.n]; });", [{ event: "A", properties: { n: 1 } }],
    async (page, [sent]) => { await page.waitForFunction(() => window.got); assert.deepEqual(await page.evaluate(() => window.got), [200, "A", sent.messageId, 1]); }],
  "track of a whole event": ["amplitude.track({ event_type: 'A', event_properties: { n: 1 }, user_properties: { $set: { plan: 'pro' }, $add: { n: 1 } }, groups: { co: 'acme' }, insert_id: 'i', time: 0 + 1e12, user_id: 'u', device_id: 'd' });",
    [{ type: "identify", userId: "u" }, { event: "A", messageId: "i", timestamp: "2001-09-09T01:46:40.000Z", userId: "u", anonymousId: "d", properties: { n: 1 }, integrations: { Amplitude: { groups: { co: "acme" } } },
      context: { groupId: "acme", traits: { plan: "pro" }, source: { operations: { $add: { n: 1 } } } } }]],
  "options of an event": ["amplitude.track('A', null, { insert_id: 'i', groups: { co: 'x' } }); amplitude.logEvent('B');", [{ event: "A", messageId: "i", context: { groupId: "x" } }, { event: "B" }]],
  "Identify, groups, Revenue": [`amplitude.identify(new amplitude.Identify().set('plan', 'pro').add('n', 1).unset('x')).promise.then((it) => { window.got = it.code; }); amplitude.setGroup('co', 'acme'); amplitude.groupIdentify('co', 'acme', new amplitude.Identify().set('tier', 'gold'));
    amplitude.revenue(new amplitude.Revenue().setProductId('p').setPrice(2).setQuantity(3));`,
    [{ traits: { plan: "pro", x: null }, context: { source: { operations: { $add: { n: 1 } } } } }, { groupId: "acme" }, { groupId: "acme", traits: { tier: "gold" } }, { event: "revenue_amount", properties: { $productId: "p", $price: 2, $quantity: 3 } }],
    async (page) => { await page.waitForFunction(() => window.got === 200); }],
  "ids are what events carry": ["window.got = [amplitude.getDeviceId(), amplitude.getSessionId(), amplitude.getUserId()]; amplitude.setUserId('u'); amplitude.track('A'); window.got.push(amplitude.getUserId());", [{ type: "identify" }, { event: "A", userId: "u" }],
    async (page, [, sent]) => assert.deepEqual(await page.evaluate(() => window.got), [sent.anonymousId, sent.context.sessionId, undefined, "u"]), INIT, "after"],
  "setDeviceId, setSessionId, setUserId(null)": ["amplitude.setDeviceId('d'); amplitude.setSessionId(1796000000000); amplitude.setUserId('u'); amplitude.setUserId(null); amplitude.track('A');",
    [{ type: "identify" }, { event: "A", anonymousId: "d", userId: null, context: { sessionId: 1796000000000 } }]],
  "opt-out stops everything, and answers": ["amplitude.track('A'); amplitude.setOptOut(true); amplitude.track('B').promise.then((it) => { window.got = it.code; }); amplitude.identify(new amplitude.Identify().set('a', 1)); amplitude.setUserId('u'); amplitude.setGroup('a', 'b'); amplitude.setOptOut(false); amplitude.track('C');",
    [{ event: "A" }, { event: "C" }], async (page) => { await page.waitForFunction(() => window.got === 0); }],
  "plugins change and drop events before they leave": [`amplitude.add({ name: 'p', type: 'before', setup: async () => {}, execute: async (it) => it.event_type === 'drop' ? null : { ...it, event_properties: { ...it.event_properties, email: undefined, seen: 1 } } });
    amplitude.track('A', { email: 'x' }); amplitude.track('drop');`, [(it) => JSON.stringify(it.properties) === '{"seen":1}']],
  "null and what cannot be read": ["amplitude.track('A', null); amplitude.track('B', { get x() { throw new Error('no'); }, n: 1n }); amplitude.identify(null); amplitude.track('C');", [{ event: "A" }, { event: "B", properties: { n: "1" } }, { type: "identify" }, { event: "C" }]],
  "what the library does by itself, and what nobody does": ["amplitude.setTransport('beacon'); amplitude.flush().promise.then(() => { window.got = 1; }); amplitude.track('A');", [{ event: "A" }], async (page) => { await page.waitForFunction(() => window.got === 1); }],
  "a second instance": ["const two = amplitude.createInstance(); two.init('k2', { defaultTracking: false }); two.track('Two').promise.then((it) => { window.got = it.code; });", [{ event: "Two" }], async (page) => { await page.waitForFunction(() => window.got === 200); }],
};
const OLD_ROWS = {
  "init calls back, and reports no page": ["", [{ type: "identify", userId: "u" }], async (page) => { await page.waitForFunction(() => window.ready === 1); }, "amplitude.getInstance().init('k', 'u', {}, () => { window.ready = 1; });"],
  "onInit": ["", [], async (page) => { await page.waitForFunction(() => window.ready === 1); }, "amplitude.getInstance().onInit(() => { window.ready = 1; }); amplitude.getInstance().init('k');"],
  "logEvent calls back": ["amplitude.getInstance().logEvent('A', { n: 1 }, (code, body) => { window.got = [code, body]; });", [{ event: "A", properties: { n: 1 } }], async (page) => { await page.waitForFunction(() => window.got); assert.deepEqual(await page.evaluate(() => window.got), [200, "success"]); }],
  "user properties, revenue, groups, times": [`const it = amplitude.getInstance(); it.setUserProperties({ k: 'v' }); it.logRevenue(2, 3, 'p'); it.logRevenueV2(new amplitude.Revenue().setPrice(1)); it.logEventWithGroups('G', {}, { co: 'x' }); it.logEventWithTimestamp('T', {}, 1e12); it.setUserId(null); it.setVersionName('1');`,
    [{ type: "identify", traits: { k: "v" } }, { properties: { $price: 2, $quantity: 3, $productId: "p" } }, { event: "revenue_amount", properties: { $price: 1 } }, { event: "G", context: { groupId: "x" } }, { event: "T", timestamp: "2001-09-09T01:46:40.000Z" }]],
  "a named instance": ["amplitude.getInstance('two').init('k2'); amplitude.getInstance('two').logEvent('Two'); amplitude.getInstance().logEvent('One');", [{ event: "Two" }, { event: "One" }], undefined, undefined, "after"],
};

for (const [rows, version, snippet, byDefault] of [[NEW_ROWS, "2", NEW, INIT], [OLD_ROWS, "8", OLD, "amplitude.getInstance().init('k');"]]) {
  for (const [name, [calls, expected, check, init = byDefault, only]] of Object.entries(rows)) {
    for (const when of places(only)) {
      test(`amplitude ${version}: ${name}, snippet ${when} the script`, async () => {
        const { page, context, errors, warnings, settled } = await open({ [when]: snippet + init + calls });
        if (name.startsWith("init reports")) await page.waitForFunction(() => window.tagway.loaded);
        else await check?.(page, await settled());
        const found = await settled();
        assert.equal(found.length, expected.length, JSON.stringify(found));
        expected.forEach((it, i) => typeof it === "function" ? assert.ok(it(found[i]), JSON.stringify(found[i])) : assert.deepEqual(like(found[i], it), it));
        assert.deepEqual([errors, warnings], [[], []]);
        await context.close();
      });
    }
  }
}

test("amplitude: a snippet that comes late complains of nothing", async () => {
  for (const [snippet, calls] of [[NEW, INIT], [OLD, "amplitude.getInstance().init('k');"]]) {
    const lines = [];
    const { page, context, errors } = await open({ after: `${snippet}${calls}` });
    page.on("console", (line) => lines.push(line.text()));
    await page.waitForFunction(() => document.readyState === "complete");
    assert.deepEqual([errors, lines], [[], []]);
    await context.close();
  }
});

test("amplitude: who it is and its device hold on the next page, until the reset", async () => {
  const one = await open({ after: `${NEW}${INIT} amplitude.setUserId('u'); window.got = amplitude.getDeviceId();` });
  const device = await one.page.evaluate(() => got);
  await one.settled();
  const two = await open({ after: `${NEW}${INIT} amplitude.track('Two');`, context: one.context });
  const [sent] = (await two.settled()).filter(({ event }) => event === "Two");
  assert.deepEqual([sent.userId, sent.anonymousId, await two.page.evaluate(() => amplitude.getUserId())], ["u", device, "u"]);
  await two.page.evaluate(() => amplitude.reset());
  assert.equal(await two.page.evaluate(() => amplitude.getUserId()), undefined);
  assert.notEqual(await two.page.evaluate(() => amplitude.getDeviceId()), device);
  await one.context.close();
});

test("amplitude: new addresses are pages", async () => {
  const { page, context, settled } = await open({ after: `${NEW} amplitude.init('k');` });
  for (const path of ["/two", "/two", "/three"]) await page.evaluate((it) => { history.pushState({}, "", it); return new Promise((done) => setTimeout(done, 30)); }, path);
  assert.deepEqual((await settled()).map((it) => it.context.page.path), ["/", "/two", "/three"]);
  await context.close();
});

test("amplitude: promises settle while nobody answers", async () => {
  const { page, context } = await open({ status: 503, after: NEW + INIT });
  assert.equal(await page.evaluate(() => amplitude.track("A").promise.then((it) => it.code)), 0);
  await context.close();
});
