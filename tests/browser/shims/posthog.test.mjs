// posthog as pages use it: each row is a use, and what the page and the gateway get of it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { bare, like, places } from "./bare.mjs";
import { PAGES } from "./pages.mjs";

const { open } = bare("posthog");
const SNIPPET = PAGES.posthog.snippet("data:text/javascript,").replace(/posthog\.init\('phc_shop'[^;]*;\s*$/, "");
const init = (config) => `posthog.init('k', { capture_pageview: false, ${config} });`;
const INIT = init("");
const get = (page, code) => page.evaluate(code);

const ROWS = {
  "init reports the page": ["", [{ type: "page" }], undefined, "posthog.init('k');"],
  "capture, with what is set": ["posthog.capture('A', { n: 1, $set: { plan: 'pro' } }, { uuid: 'i', timestamp: new Date(1e12) }); posthog.capture('B', null, null); posthog.capture('C');",
    [{ event: "A", messageId: "i", timestamp: "2001-09-09T01:46:40.000Z", properties: { n: 1, $set: { plan: "pro" } } }, { event: "B" }, { event: "C" }]],
  "identify, people, groups": ["posthog.identify('u', { a: 1 }); posthog.group('co', 'acme', { tier: 'gold' }); posthog.capture('A');",
    [{ userId: "u", traits: { a: 1 } }, { groupId: "acme", traits: { tier: "gold" }, context: { groups: { co: "acme" } } }, { event: "A", userId: "u", properties: { $groups: { co: "acme" } } }]],
  "register, register_once, unregister": ["posthog.register({ a: 1, b: 1 }); posthog.register_once({ a: 2, c: 3 }); posthog.capture('A'); ", [{ properties: { a: 1, b: 1, c: 3 } }]],
  "before_send changes and drops whatever leaves": ["posthog.capture('secret'); posthog.capture('login', { password: 'x', card: 1, ok: 1 }); posthog.identify('u', { email: 'x', ok: 1 }); posthog.group('co', 'a', { vat: 1, ok: 1 });",
    [(it) => it.event === "login" && JSON.stringify(Object.keys(it.properties)) === '["ok","$groups"]', (it) => JSON.stringify(it.traits) === '{"ok":1}', (it) => JSON.stringify(it.traits) === '{"ok":1}'], undefined,
    init("property_denylist: ['card'], before_send: (it) => { if (it.event === 'secret') return null; delete it.properties.password; if (it.$set) delete it.$set.email; if (it.properties.$group_set) delete it.properties.$group_set.vat; return it; }")],
  "sanitize_properties, several hooks": ["posthog.capture('A', { secret: 1, n: 1 });", [(it) => it.properties.n === 3 && !("secret" in it.properties)], undefined,
    init("sanitize_properties: (it) => { delete it.secret; return it; }, before_send: [(it) => { it.properties.n = 2; return it; }, (it) => { it.properties.n += 1; return it; }]")],
  "a hook's fault lets nothing out": ["posthog.capture('A'); posthog.capture('B');", [{ event: "B" }], undefined, init("before_send: (it) => { if (it.event === 'A') throw new Error('theirs'); return it; }"), /theirs/],
  "loaded comes before the page, which it may stop": ["posthog.capture('A');", [], undefined, "posthog.init('k', { loaded: (it) => { it.opt_out_capturing(); } });"],
  "opted out by default": ["posthog.capture('A'); posthog.opt_in_capturing(); posthog.capture('B');", [{ event: "B" }], undefined, init("opt_out_capturing_by_default: true")],
  "the page's own address": ["posthog.capture('$pageview', { $current_url: location.origin + '/virtual?a=1' });", [{ type: "page", context: { page: { path: "/virtual", search: "?a=1" } } }]],
  "what cannot be read": ["posthog.capture('A', { get x() { throw new Error('no'); }, n: 1n }); posthog.capture('B');", [{ event: "B" }], undefined, INIT, /no/],
};
const AFTER = {
  "capture gives what is sent": ["const it = posthog.capture('A', { n: 1 }); window.got = [it.uuid, it.event, it.properties.n];", [{ event: "A" }], async (page, [sent]) => assert.deepEqual(await get(page, "got"), [sent.messageId, "A", 1])],
  "opt-out stops everything": ["posthog.opt_out_capturing(); window.got = [posthog.has_opted_out_capturing(), posthog.has_opted_in_capturing(), posthog.capture('A'), posthog.get_explicit_consent_status()]; posthog.identify('u'); posthog.setPersonProperties({ a: 1 }); posthog.group('a', 'b'); posthog.people.set('a', 1); posthog.opt_in_capturing(); posthog.capture('B');",
    [{ event: "B" }], async (page) => assert.deepEqual(await get(page, "got"), [true, false, undefined, "denied"])],
  "who never chose": ["window.got = [posthog.has_opted_out_capturing(), posthog.has_opted_in_capturing(), posthog.get_explicit_consent_status(), posthog.is_capturing()];", [], async (page) => assert.deepEqual(await get(page, "got"), [false, false, "pending", true])],
  "bootstrap: ids and flags": ["window.got = [posthog.get_distinct_id(), posthog.isFeatureEnabled('on'), posthog.getFeatureFlag('v'), posthog.getFeatureFlagPayload('v'), posthog.isFeatureEnabled('off'), posthog.getFeatureFlag('x')]; posthog.onFeatureFlags((on, all) => { window.flags = [on, all]; }); posthog.capture('A');",
    [{ event: "A", anonymousId: "mine" }], async (page) => { assert.deepEqual(await get(page, "got"), ["mine", true, "b", { a: 1 }, false, undefined]); assert.deepEqual(await get(page, "flags"), [["on", "v"], { on: true, v: "b", off: false }]); },
    init("bootstrap: { distinctID: 'mine', featureFlags: { on: true, v: 'b', off: false }, featureFlagPayloads: { v: '{\"a\":1}' } }")],
  "an identified id of bootstrap": ["posthog.capture('A'); window.got = posthog.get_distinct_id();", [{ event: "A", userId: "u" }], async (page) => assert.equal(await get(page, "got"), "u"), init("bootstrap: { distinctID: 'u', isIdentifiedID: true }")],
  "what loaded finds": ["", [], async (page, _, warnings) => { const [id, session, flag, conf, is, url] = await get(page, "got"); assert.match(id, /^[0-9a-f-]{36}$/); assert.match(session, /^[0-9a-f-]{36}$/); assert.deepEqual([flag, conf, is, url], ["x", "h", true, ""]); },
    init("api_host: 'h', loaded: (it) => { it.featureFlags.override({ f: 'x' }); it.debug(); window.got = [it.get_distinct_id(), it.get_session_id(), it.getFeatureFlag('f'), it.config.api_host, it.__loaded, it.get_session_replay_url()]; }")],
  "ids are what events carry": ["window.got = [posthog.get_distinct_id(), posthog.get_session_id(), posthog.get_property('$device_id')]; posthog.capture('A');", [{ event: "A" }],
    async (page, [sent]) => assert.deepEqual(await get(page, "got"), [sent.anonymousId, sent.context.sessionId, sent.anonymousId])],
  "set_once": ["posthog.identify('u', { a: 1 }, { first: 1 }); posthog.setPersonProperties({}, { first: 2 }); posthog.people.set_once('b', 1); posthog.people.set({ c: 1 }); posthog.capture('A', { $set_once: { d: 1 } });",
    [{ traits: { a: 1, first: 1 }, context: { source: { operations: { $set_once: { first: 1 } } } } }, (it) => !("first" in it.traits) && it.context.source.operations.$set_once.first === 2, { traits: { b: 1 } }, { traits: { c: 1 } }, { properties: { $set_once: { d: 1 } } }]],
  "alias, reset": ["posthog.identify('u'); posthog.alias('v'); posthog.reset(); posthog.capture('A'); window.got = posthog.get_distinct_id();", [{}, { type: "alias", userId: "v", previousId: "u" }, (it) => !it.userId], async (page) => assert.match(await get(page, "got"), /^[0-9a-f-]{36}$/)],
  "on, surveys, early access": ["posthog.on('eventCaptured', (it) => { window.heard = it.event; }); posthog.getSurveys((it) => { window.surveys = it; }); posthog.getEarlyAccessFeatures((it) => { window.early = it; }); posthog.capture('A');", [{ event: "A" }], async (page) => assert.deepEqual(await get(page, "[heard, surveys, early]"), ["A", [], []])],
  "what is not done says so once": ["posthog.startSessionRecording(); posthog.startSessionRecording(); posthog.capture('A');", [{ event: "A" }], async (page, _, warnings) => assert.equal(warnings.length, 1)],
  "a second instance": ["posthog.init('k2', { capture_pageview: false }, 'two'); posthog.two.register({ b: 1 }); posthog.two.capture('Two'); posthog.capture('One');", [{ event: "Two", properties: { b: 1 } }, (it) => it.event === "One" && !("b" in it.properties)]],
};

for (const [rows, only] of [[ROWS], [AFTER, "after"]]) {
  for (const [name, [calls, expected, check, init = INIT, fault]] of Object.entries(rows)) {
    for (const when of places(only)) {
      test(`posthog: ${name}, snippet ${when} the script`, async () => {
        const { page, context, errors, warnings, settled } = await open({ [when]: SNIPPET + init + calls });
        const found = await settled();
        if (name !== "what cannot be read") {
          assert.equal(found.length, expected.length, JSON.stringify(found));
          expected.forEach((it, i) => typeof it === "function" ? assert.ok(it(found[i]), JSON.stringify(found[i])) : assert.deepEqual(like(found[i], it), it));
        } else assert.ok(found.some(({ event }) => event === "B"));
        await check?.(page, found, warnings);
        if (fault && errors.length) assert.match(errors.join(), fault);
        else assert.deepEqual(errors, []);
        await context.close();
      });
    }
  }
}

test("posthog: what it keeps holds on the next page, and what is set once is said once", async () => {
  const calls = "posthog.register({ shop: 'lamps' }); posthog.identify('u', {}, { first_url: location.pathname });";
  const one = await open({ after: `${SNIPPET}${INIT} ${calls}`, path: "/a" });
  await one.settled();
  const two = await open({ after: `${SNIPPET}${INIT} window.got = posthog.get_distinct_id(); posthog.capture('Two'); ${calls}`, context: one.context, path: "/b" });
  const found = await two.settled();
  const [sent] = found.filter(({ event }) => event === "Two");
  assert.deepEqual([sent.userId, sent.properties.shop, await get(two.page, "got")], ["u", "lamps", "u"]);
  assert.deepEqual(found.filter(({ type }) => type === "identify").map(({ traits }) => traits), [{ first_url: "/a" }, {}]);
  await one.context.close();
});

test("posthog: new addresses are pages where the page asks for it", async () => {
  const { page, context, settled } = await open({ after: `${SNIPPET} posthog.init('k', { capture_pageview: 'history_change' });` });
  for (const path of ["/two", "/two?q", "/three"]) await page.evaluate((it) => { history.pushState({}, "", it); return new Promise((done) => setTimeout(done, 30)); }, path);
  assert.deepEqual((await settled()).map((it) => it.context.page.path), ["/", "/two", "/three"]);
  await context.close();
});
