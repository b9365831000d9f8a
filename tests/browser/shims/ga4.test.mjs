// gtag as pages use it: each row is a use, and what the page and the gateway get of it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { bare, like, until, places } from "./bare.mjs";

const { open } = bare("ga4");
const SNIPPET = "window.dataLayer = window.dataLayer || []; function gtag() { dataLayer.push(arguments); } gtag('js', new Date());";
const CONFIG = `${SNIPPET} gtag('config', 'G-SHOP1');`;
const global = async (page, name) => {
  await page.waitForFunction((it) => window[it] !== undefined, name);
  return page.evaluate((it) => JSON.parse(JSON.stringify(window[it])), name);
};

// By what the table of the API says: the calls, before or after the script, the messages they make and the globals they set.
const ROWS = {
  "config reports the page, with its parameters": [`gtag('config', 'G-A', { content_group: 'shop' });`,
    [{ type: "page", properties: { content_group: "shop" } }]],
  "config with send_page_view false reports none": [`gtag('config', 'G-A', { send_page_view: false });`, []],
  "parameters of config hold for later events": [`gtag('config', 'G-A', { send_page_view: false, content_group: 'shop', author: 'ann' });
    gtag('event', 'sign_up', { method: 'mail', author: 'bob' });`,
    [{ event: "sign_up", properties: { content_group: "shop", author: "bob", method: "mail" } }]],
  "set holds for later events": [`gtag('set', { a: 1 }); gtag('set', 'b', { c: 2 }); gtag('event', 'e');`,
    [{ event: "e", properties: { a: 1, b: { c: 2 } } }]],
  "set for a target": [`gtag('config', 'G-A', { send_page_view: false }); gtag('set', 'G-A', { a: 1 }); gtag('event', 'e');`, [{ event: "e", properties: { a: 1 } }]],
  "null in the place of parameters": [`gtag('config', 'G-A', null); gtag('event', 'n', null); gtag('set', null); gtag('consent', 'update', null);
    gtag('event', 'm', undefined);`, [{ type: "page" }, { event: "n" }, { event: "m" }]],
  "whatever is pushed": [`dataLayer.push(Object.create(null)); dataLayer.push(() => {}); dataLayer.push(undefined, null, 1, ['event', 'x']); gtag();
    gtag('unheard', 'of'); dataLayer.push({ event: 'e', toString() { throw 1; } }); gtag('event', 'after');`, [{ event: "after" }]],
  "event_callback comes once, with the id": [`gtag('config', 'G-A', { send_page_view: false }); window.n = [];
    gtag('event', 'e', { event_callback(id) { n.push(id); } }); setTimeout(() => { window.got = n; }, 3000);`, [{ event: "e" }], { got: ["G-A"] }],
  "event_callback of an advertising conversion": [`gtag('event', 'conversion', { send_to: 'AW-1/x', event_callback: () => { window.got = 'followed'; } });`, [], { got: "followed" }],
  "event_callback that throws": [`gtag('event', 'a', { event_callback() { throw new Error('theirs'); } }); gtag('event', 'b');`, [{ event: "a" }, { event: "b" }], {}, /theirs/],
  "eventCallback of a pushed object": [`dataLayer.push({ event: 'x', eventCallback: () => { window.got = 'followed'; }, eventTimeout: 2000 });`, [], { got: "followed" }],
  "get client_id, session_id: what the events carry": [`gtag('config', 'G-A', { send_page_view: false }); gtag('get', 'G-A', 'client_id', (c) =>
      gtag('get', 'G-A', 'session_id', (s) => { gtag('event', 'e', { c, s }); window.got = [/^\\d+\\.\\d+$/.test(c), /^\\d{10}$/.test(s)]; }));`,
    [(it) => it.context.clientIds.ga4.client_id === it.properties.c && String(it.context.sessionId) === it.properties.s], { got: [true, true] }],
  "get of what was set": [`gtag('config', 'G-A', { send_page_view: false, x: 'y' }); gtag('get', 'G-A', 'x', (it) => { window.got = it; });`, [], { got: "y" }],
  "client_id of the page's own": [`gtag('config', 'G-A', { client_id: '1.2' }); gtag('get', 'G-A', 'client_id', (it) => { window.got = it; });`,
    [{ type: "page", context: { clientIds: { ga4: { client_id: "1.2" } } } }], { got: "1.2" }],
  "the page's word on its address": [`gtag('config', 'G-A', { send_page_view: false });
    gtag('event', 'page_view', { page_location: '/next?a=1', page_title: 'Next', page_referrer: 'https://a.example/' });`,
    [{ type: "page", context: { page: { path: "/next", search: "?a=1", title: "Next", referrer: "https://a.example/" } } }]],
  "the page_path of a route": [`gtag('config', 'G-A', { send_page_view: false }); gtag('config', 'G-A', { page_path: '/route' });`, [{ type: "page", context: { page: { path: "/route" } } }]],
  "the same event for two targets is one": [`gtag('config', 'G-A'); gtag('config', 'G-B'); for (const send_to of ['G-A', 'G-B']) gtag('event', 'page_view', { send_to, page_title: 'P' });
    for (const send_to of ['G-A', 'G-B', 'G-A']) gtag('event', 'purchase', { send_to, value: 1 });`,
    [{ type: "page" }, { type: "page" }, { event: "purchase" }, { event: "purchase" }]],
  "another event for another target is another": [`for (const [send_to, value] of [['G-A', 1], ['G-B', 2]]) gtag('event', 'purchase', { send_to, value });`,
    [{ event: "purchase" }, { event: "purchase" }]],
  "ga-disable stops everything, and answers": [`window['ga-disable-G-A'] = true; gtag('config', 'G-A'); gtag('event', 'e', { event_callback: () => { window.got = 1; } });`, [], { got: 1 }],
  "user_id and user_properties": [`gtag('config', 'G-A', { send_page_view: false, user_id: 7 }); gtag('set', 'user_properties', { plan: 'pro' }); gtag('event', 'e');`,
    [{ type: "identify", userId: "7" }, { event: "e", userId: "7", properties: { user_properties: { plan: "pro" } } }]],
  "consent: update counts before default": [`gtag('consent', 'default', { ad_storage: 'denied', analytics_storage: 'granted', wait_for_update: 500 });
    gtag('consent', 'update', { ad_storage: 'granted' }); gtag('event', 'e');`,
    [{ event: "e", context: { consent: { categoryPreferences: { advertising: true, analytics: true } } } }]],
};

for (const [name, [calls, expected, globals = {}, fault]] of Object.entries(ROWS)) {
  for (const when of places()) {
    test(`gtag: ${name}, ${when} the script`, async () => {
      const code = when === "before" ? { before: SNIPPET + calls } : { after: SNIPPET + calls };
      const { page, context, errors, settled } = await open(code);
      for (const [key, value] of Object.entries(globals)) assert.deepEqual(await global(page, key), value);
      const found = await settled();
      assert.equal(found.length, expected.length, JSON.stringify(found));
      expected.forEach((it, i) => typeof it === "function" ? assert.ok(it(found[i]), JSON.stringify(found[i])) : assert.deepEqual(like(found[i], it), it));
      if (fault) await until(() => fault.test(errors.join()), () => `${errors}`);
      else assert.deepEqual(errors, []);
      await context.close();
    });
  }
}

test("gtag: a data layer of another name", async () => {
  const { context, settled, errors } = await open({
    before: "window.dl = []; function gtag() { dl.push(arguments); } gtag('config', 'G-A');",
    after: "gtag('event', 'hello');", src: "/tw.js?id=G-A&l=dl",
  });
  assert.deepEqual((await settled()).map(({ event, type }) => event ?? type), ["page", "hello"]);
  assert.deepEqual(errors, []);
  await context.close();
});

test("gtag: an event that a link waits for, while nobody answers", async () => {
  const { page, context } = await open({ before: CONFIG, status: 503 });
  await page.evaluate(() => gtag("event", "e", { event_callback: () => { window.got = 1; }, event_timeout: 300 }));
  await page.waitForFunction(() => window.got === 1);
  await context.close();
});

test("gtag: the client id holds on the next page, and is forgotten where storage is refused", async () => {
  const ask = "gtag('get', 'G-A', 'client_id', (it) => { window.got = it; });";
  const one = await open({ before: CONFIG + ask });
  const id = await global(one.page, "got");
  const two = await open({ before: CONFIG + ask, context: one.context });
  assert.equal(await global(two.page, "got"), id);
  await two.page.evaluate(() => gtag("consent", "update", { analytics_storage: "denied" }));
  await two.settled();
  const three = await open({ before: CONFIG + ask, context: one.context });
  assert.notEqual(await global(three.page, "got"), id);
  await until(async () => (await three.page.evaluate(() => localStorage._tw_ga4)) === undefined, "nothing is stored");
  await one.context.close();
});
