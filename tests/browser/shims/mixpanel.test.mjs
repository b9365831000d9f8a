// mixpanel as pages use it: each row is a use, and what the page and the gateway get of it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { bare, like, places } from "./bare.mjs";

const { open } = bare("mixpanel");
const NEW = "window.MIXPANEL_CUSTOM_LIB_URL = 'data:text/javascript,';" +
  readFileSync(new URL("../node_modules/mixpanel-browser/dist/mixpanel-jslib-snippet.min.js", import.meta.url), "utf8") + ";";
const OLD = `(function(c,a){window.mixpanel=a;var e,d,h=0,f;a._i=[];a.init=function(b,c,f){function d(a,b){var c=b.split(".");2==c.length&&(a=a[c[0]],b=c[1]);a[b]=function(){a.push([b].concat(Array.prototype.slice.call(arguments,0)))}}var g=a;"undefined"!==typeof f?g=a[f]=[]:f="mixpanel";g.people=g.people||[];
  h="disable track track_pageview track_links track_forms register register_once unregister identify alias name_tag set_config people.set people.increment people.track_charge people.append".split(" ");for(e=0;e<h.length;e++)d(g,h[e]);a._i.push([b,c,f])};a.__SV=1.2})(document,window.mixpanel||[]);`;
const INIT = "mixpanel.init('k');";
const op = (operations) => ({ type: "identify", context: { source: { operations } } });

const ROWS = {
  "track, and what holds": [`mixpanel.register({ shop: 'lamps', deep: { a: 1 } }); mixpanel.register_once({ shop: 'no', first: 1 }); mixpanel.track('A', { n: 1 }); mixpanel.unregister('shop'); mixpanel.track('B');`,
    [{ event: "A", properties: { shop: "lamps", first: 1, deep: { a: 1 }, n: 1 } }, (it) => !("shop" in it.properties)]],
  "track in every shape, with its callbacks": [`window.n = []; const cb = (it) => n.push(it); mixpanel.track('A', {}, cb); mixpanel.track('B', {}, { send_immediately: true }, cb); mixpanel.track('C', cb); mixpanel.track('D', null); mixpanel.track('E', undefined, null);`,
    [{ event: "A" }, { event: "B" }, { event: "C" }, { event: "D" }, { event: "E" }], async (page) => { await page.waitForFunction(() => window.n.length === 3); assert.deepEqual(await page.evaluate(() => window.n), [1, 1, 1]); }],
  "time_event": [`mixpanel.time_event('A'); mixpanel.track('A'); mixpanel.track('A');`, [(it) => it.properties.$duration >= 0, (it) => !("$duration" in it.properties)], undefined, INIT, undefined, "after"],
  "identify and people": [`mixpanel.identify('u'); mixpanel.people.set({ $email: 'e' }); mixpanel.people.set('plan', 'pro'); mixpanel.people.increment('n'); mixpanel.people.append('list', 1); mixpanel.people.track_charge(5); mixpanel.track('A');`,
    [{ type: "identify", userId: "u" }, { traits: { $email: "e" } }, { traits: { plan: "pro" } }, op({ $add: { n: 1 } }), op({ $append: { list: 1 } }), op({ $append: { $transactions: { $amount: 5 } } }), { event: "A", userId: "u" }], undefined, INIT, undefined, "after"],
  "property_blacklist and hooks come before anything leaves": ["mixpanel.track('A', { secret: 1, email: 'x', ok: 1 }); mixpanel.track('drop');", [(it) => JSON.stringify(it.properties) === '{"ok":1}'], undefined,
    "mixpanel.init('k', { property_blacklist: ['secret'], hooks: { before_send_events: (it) => { delete it.properties.email; return it.event === 'drop' ? null : it; } } });"],
  "a fault of loaded stops nothing": ["mixpanel.track('A');", [{ event: "A" }], undefined, "mixpanel.init('k', { loaded() { throw new Error('theirs'); } });", /theirs/],
  "the first generation's page view and name": ["mixpanel.name_tag('ann'); mixpanel.track_pageview('/virtual');", [{ type: "page", properties: { mp_name_tag: "ann" }, context: { page: { url: /\/virtual$/ } } }]],
  "a second instance": ["mixpanel.register({ a: 1 }); mixpanel.two.register({ b: 1 }); mixpanel.two.track('Two'); mixpanel.track('One');", [{ event: "Two", properties: { b: 1 } }, { event: "One", properties: { a: 1 } }], undefined, `${INIT} mixpanel.init('k2', {}, 'two');`, undefined, "after"],
  "disable": ["mixpanel.disable(['A']); mixpanel.track('A'); mixpanel.track('B');", [{ event: "B" }]],
  "what cannot be read": ["mixpanel.track('A', { get x() { throw new Error('no'); }, n: 1n, window }); mixpanel.track('B');", [{ event: "B" }], undefined, INIT, /no/],
};
// What the stubs of the first generation do not have.
const LATER = {
  "set_once, union, unset, remove": ["mixpanel.people.set_once('a', 1); mixpanel.people.union('l', [1]); mixpanel.people.unset('x'); mixpanel.people.remove('l', 1);",
    [op({ $set_once: { a: 1 } }), op({ $union: { l: [1] } }), { traits: { x: null } }, op({ $remove: { l: 1 } })]],
  "groups": ["mixpanel.set_group('co', 'a'); mixpanel.add_group('co', 'b'); mixpanel.get_group('co', 'a').set({ tier: 'gold' }); mixpanel.get_group('co', 'a').set_once('x', 1); mixpanel.track_with_groups('A', { n: 1 }, { co: 'c' });",
    [{ traits: { co: ["a"] } }, { traits: { co: ["a", "b"] } }, { type: "group", groupId: "a", traits: { tier: "gold" }, context: { groupType: "co" } }, { type: "group" }, { event: "A", properties: { co: "c", n: 1 } }]],
  "opt-out stops everything, opt-in begins again": ["mixpanel.track('A'); mixpanel.opt_out_tracking(); window.seen = [mixpanel.has_opted_out_tracking(), mixpanel.has_opted_in_tracking()]; mixpanel.track('B', {}, (it) => { window.b = it; }); mixpanel.identify('u'); mixpanel.people.set('a', 1); mixpanel.get_group('c', 'a').set('b', 1); mixpanel.track_pageview(); mixpanel.opt_in_tracking(); mixpanel.track('C'); window.now = mixpanel.has_opted_in_tracking();",
    [{ event: "A" }, { event: "C" }], async (page) => assert.deepEqual(await page.evaluate(() => [window.seen, window.b, window.now]), [[true, false], 0, true]), INIT, undefined, "after"],
  "opted out by default": ["mixpanel.track('A'); mixpanel.opt_in_tracking(); mixpanel.track('B');", [{ event: "B" }], undefined, "mixpanel.init('k', { opt_out_tracking_by_default: true });"],
  "who never chose has opted neither in nor out": ["window.got = [mixpanel.has_opted_in_tracking(), mixpanel.has_opted_out_tracking()];", [], async (page) => assert.deepEqual(await page.evaluate(() => window.got), [false, false]), INIT, undefined, "after"],
  "ids before anybody is identified are what events carry": ["window.got = [mixpanel.get_distinct_id(), mixpanel.get_property('distinct_id'), mixpanel.persistence.props.distinct_id, mixpanel.cookie.props.$device_id]; mixpanel.track('A');", [{ event: "A" }],
    async (page, [sent]) => { const got = await page.evaluate(() => window.got); const id = sent.anonymousId; assert.match(id, /^[0-9a-f-]{36}$/); assert.deepEqual(got, [`$device:${id}`, `$device:${id}`, `$device:${id}`, id]); }, INIT, undefined, "after"],
  "what is not done says so once": ["mixpanel.start_session_recording(); mixpanel.start_session_recording(); mixpanel.track('A');", [{ event: "A" }], async (page, _, warnings) => assert.equal(warnings.length, 1)],
};

for (const [rows, versions] of [[ROWS, [["2.83", NEW], ["2.0", OLD]]], [LATER, [["2.83", NEW]]]]) {
  for (const [name, [calls, expected, check, init = INIT, fault, only]] of Object.entries(rows)) {
    for (const [version, snippet] of versions) {
      for (const when of places(only)) {
        test(`mixpanel: ${name}, snippet ${version} ${when} the script`, async () => {
          const { page, context, errors, warnings, settled } = await open({ [when]: snippet + init + calls });
          const found = await settled();
          if (name !== "what cannot be read") {
            assert.equal(found.length, expected.length, JSON.stringify(found));
            expected.forEach((it, i) => typeof it === "function" ? assert.ok(it(found[i]), JSON.stringify(found[i])) : matches(found[i], it));
          } else assert.ok(found.some(({ event }) => event === "B"));
          await check?.(page, found, warnings);
          if (fault && errors.length) assert.match(errors.join(), fault);
          else assert.deepEqual(errors, []);
          await context.close();
        });
      }
    }
  }
}

function matches(found, expected) {
  const { url } = expected.context?.page ?? {};
  if (url) return assert.match(found.context.page.url, url);
  assert.deepEqual(like(found, expected), expected);
}

test("mixpanel: what is registered and who it is hold on the next page, until the reset", async () => {
  const one = await open({ after: `${NEW}${INIT} mixpanel.register({ shop: 'lamps' }); mixpanel.identify('u-6'); mixpanel.time_event('Two');` });
  await one.settled();
  const two = await open({ after: `${NEW}${INIT} mixpanel.track('Two'); window.got = mixpanel.get_distinct_id();`, context: one.context });
  const [sent] = (await two.settled()).filter(({ event }) => event === "Two");
  assert.deepEqual([sent.userId, sent.properties.shop, sent.properties.$duration > 0, await two.page.evaluate(() => got)], ["u-6", "lamps", true, "u-6"]);
  await two.page.evaluate(() => mixpanel.reset());
  assert.match(await two.page.evaluate(() => mixpanel.get_distinct_id()), /^\$device:/);
  assert.equal(await two.page.evaluate(() => mixpanel.get_property("shop")), undefined);
  await one.context.close();
});

test("mixpanel: nothing of it is stored where the page keeps nothing", async () => {
  const { page, context } = await open({ after: `${NEW}${INIT} mixpanel.track('A');` });
  assert.deepEqual(await page.evaluate(() => Object.keys(localStorage)), []);
  await context.close();
});

test("mixpanel: links and forms by selector, element and list, also where the page stops the event", async () => {
  const body = `<a id="x" class="s" href="#a">x</a><ul onclick="event.stopPropagation()"><li><a id="y" href="#b"><b>y</b></a></li></ul><form id="f" onsubmit="return false"><button>go</button></form>`;
  const { page, context, errors, settled } = await open({ after: NEW + INIT, body });
  await page.evaluate(() => {
    const $ = (id) => document.getElementById(id);
    mixpanel.track_links("a.s", "selector", { n: 1 });
    mixpanel.track_links($("y"), "element", (el) => ({ id: el.id }));
    mixpanel.track_links({ length: 1, 0: $("x") }, "list");
    mixpanel.track_links(document.querySelectorAll("#y"), "nodes");
    mixpanel.track_forms($("f"), "form");
    mixpanel.track_links("[[", "nonsense");
  });
  await page.click("#x");
  await page.click("#y b");
  await page.click("button");
  const names = (await settled()).map(({ event }) => event).sort();
  assert.deepEqual(names, ["element", "form", "list", "nodes", "selector"]);
  assert.ok(errors.every((it) => /selector/.test(it)), "a selector that is none is the page's own fault");
  await context.close();
});

test("mixpanel: new addresses are pages where the page asks for it", async () => {
  const { page, context, settled } = await open({ after: `${NEW} mixpanel.init('k', { track_pageview: 'url-with-path' });` });
  for (const path of ["/two", "/two?q", "/three"]) await page.evaluate((it) => { history.pushState({}, "", it); return new Promise((done) => setTimeout(done, 30)); }, path);
  assert.deepEqual((await settled()).map((it) => it.context.page.path), ["/", "/two", "/three"]);
  await context.close();
});
