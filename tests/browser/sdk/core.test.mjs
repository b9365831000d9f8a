// The script as the gateway serves it, in a page of the shop: its events arrive at the destination,
// once each. Only failures are played: by Chromium, in place of the gateway's answer.

import assert from "node:assert/strict";
import { test } from "node:test";
import { script, stage, until } from "./sites.mjs";

const OUTBOX = "_twq";
const SITES = {
  plain: "auto = []",
  paged: 'auto = ["page"]',
  held: 'auto = ["page"]\nwait_for_consent = true',
};

const { shop, events, open, quiet } = stage(SITES);
const nameOf = ({ event, type }) => event ?? type;
const names = () => events().map(nameOf);
const counts = () => names().reduce((sum, name) => ({ ...sum, [name]: (sum[name] ?? 0) + 1 }), {});
const arrived = (...wanted) => until(() => wanted.every((name) => names().includes(name)), () => `${names()}`);
const outbox = (page) => page.evaluate((key) => localStorage.getItem(key), OUTBOX);

/** Answers the page's events in the gateway's place until `stop()` is called. */
async function fail(page, status, fields = {}) {
  const headers = {
    ...fields, "access-control-allow-origin": shop().origin, "access-control-allow-credentials": "true",
    "access-control-expose-headers": "Retry-After",
  };
  const answer = (route) => (status ? route.fulfill({ status, headers }) : route.abort());
  await page.route("**/e", answer);
  return () => page.unroute("**/e", answer);
}

test("who holds on to what the snippet left is heard when the script is there", async () => {
  const { context, page } = await open("plain", { early: 'window.held = tagway; held.track("Early");' });
  await arrived("Early");
  await page.evaluate(() => held.track("Late", { a: 1 }));
  await arrived("Late");
  assert.deepEqual(counts(), { Early: 1, Late: 1 });
  assert.deepEqual(events().find(({ event }) => event === "Late").properties, { a: 1 });
  await context.close();
});

test("what the snippet queued goes out in one request, under a strict policy", async () => {
  const { context, page, complaints, asked } = await open("paged", { early: 'tagway.track("Early", {a: 1});' });
  await arrived("page", "Early");
  assert.deepEqual(counts(), { page: 1, Early: 1 });
  assert.equal(asked.length, 1);
  assert.deepEqual(events().find(({ event }) => event === "Early").properties, { a: 1 });
  assert.deepEqual(complaints, []);
  assert.equal(await page.evaluate(() => document.cookie), "");
  assert.equal(await page.evaluate(() => localStorage.length), 0);
  await context.close();
});

test("a message that fails is sent again by its id until it is accepted, and then forgotten", async () => {
  const { context, page, asked } = await open("plain");
  const stop = await fail(page, 503);
  const isDone = page.evaluate(() => new Promise((done) => tagway.track("Bought", {}, {}, done)));
  await until(() => asked.length >= 2, "a second try");
  assert.deepEqual(asked[0].ids, asked[1].ids);
  assert.match(await outbox(page), /Bought/);
  await stop();
  assert.ok((await isDone) < 300);
  await arrived("Bought");
  await quiet(page);
  assert.deepEqual(counts(), { Bought: 1, Quiet: 1 });
  assert.equal(await outbox(page), null);
  await context.close();
});

test("the wait that the gateway asks for is kept, also when the network comes back", async () => {
  const { context, page, asked } = await open("plain");
  const stop = await fail(page, 429, { "retry-after": "3" });
  await page.evaluate(() => tagway.track("Asked to wait"));
  await until(() => asked.length === 1, "the first try");
  await stop();
  await page.evaluate(() => {
    dispatchEvent(new Event("online"));
    tagway.track("Meanwhile");
    tagway.flush();
  });
  await arrived("Asked to wait", "Meanwhile");
  assert.ok(asked[1].at - asked[0].at >= 3000, `${asked[1].at - asked[0].at} ms`);
  assert.equal(asked.length, 2);
  await context.close();
});

test("a network that comes back ends the wait for it", async () => {
  const { context, page, asked } = await open("plain");
  const stop = await fail(page, 0);
  await page.evaluate(() => {
    // The waits of a second and more end at a sign only.
    const wait = setTimeout;
    globalThis.setTimeout = (then, time, ...values) => wait(() => (time < 1000 || !globalThis.areWaitsEndless) && then(...values), time);
    tagway.track("Offline");
  });
  await until(() => asked.length >= 3, "three tries");
  await page.evaluate(() => { globalThis.areWaitsEndless = true; });
  await stop();
  await page.evaluate(() => dispatchEvent(new Event("online")));
  await arrived("Offline");
  await context.close();
});

test("what a closed page could not send is sent by the next one", async () => {
  const { context, page } = await open("plain");
  await fail(page, 0);
  await page.evaluate(() => (tagway.track("Unsent"), tagway.flush()));
  await until(async () => /Unsent/.test(await outbox(page)), "the outbox");
  await page.close();
  const next = await open("plain", { context });
  await arrived("Unsent");
  await quiet(next.page);
  assert.deepEqual(counts(), { Unsent: 1, Quiet: 1 });
  assert.equal(await outbox(next.page), null);
  await context.close();
});

test("nonsense in the outbox is no outbox", async () => {
  const { context, page } = await open("plain");
  await page.evaluate((key) => localStorage.setItem(key, "{nonsense"), OUTBOX);
  const next = await open("plain", { context });
  const stop = await fail(next.page, 503);
  await next.page.evaluate(() => (tagway.track("Sane"), tagway.flush()));
  await until(async () => /Sane/.test(await outbox(next.page)), "the outbox");
  await stop();
  await arrived("Sane");
  await context.close();
});

test("two tabs lose nothing and double nothing", async () => {
  const first = await open("plain");
  const stops = [await fail(first.page, 503)];
  await first.page.evaluate(() => (tagway.track("Of the first"), tagway.flush()));
  await until(async () => /Of the first/.test(await outbox(first.page)), "the outbox");
  // The second tab takes up what the first has left there, while the first still tries.
  const second = await open("plain", { context: first.context });
  await second.page.evaluate(() => tagway.track("Of the second"));
  await arrived("Of the first", "Of the second");
  await stops.pop()();
  await quiet(first.page);
  await quiet(second.page);
  assert.deepEqual(counts(), { "Of the first": 1, "Of the second": 1, Quiet: 2 });
  for (const { page } of [first, second]) assert.equal(await outbox(page), null);
  await first.context.close();
});

test("a page that is left has sent its last events", async () => {
  const { context, page } = await open("plain");
  await page.evaluate(() => addEventListener("pagehide", () => tagway.track("Last"), true));
  await page.goto(`${shop().origin}/elsewhere`);
  await arrived("Last");
  await quietly(context);
  assert.deepEqual(counts(), { Last: 1, Quiet: 1 });
});

test("a reset goes alone and after what was said before it, and makes another visitor", async () => {
  const { context, page, asked } = await open("plain");
  await page.evaluate(() => {
    tagway.identify("u-1", { plan: "pro" });
    tagway.track("Before");
    tagway.reset();
    tagway.track("After");
  });
  await arrived("Before", "After");
  // The browser may tell of its requests later than the gateway of what they brought.
  for (let wait = 0; asked.length < 3 && wait < 1000; wait += 1) await page.waitForTimeout(50);
  assert.deepEqual(asked.map(({ pathname }) => pathname), ["/e", "/reset", "/e"]);
  const [earlier, later] = ["Before", "After"].map((name) => events().find(({ event }) => event === name));
  assert.notEqual(earlier.anonymousId, later.anonymousId);
  assert.deepEqual([earlier.userId, later.userId ?? null], ["u-1", null]);
  await context.close();
});

test("nothing is sent or stored before the visitor was asked, and then it says what they chose", async () => {
  const { context, page, asked } = await open("held");
  await page.evaluate(() => (tagway.track("Held"), tagway.flush(), dispatchEvent(new Event("pagehide"))));
  await page.evaluate(() => new Promise((done) => requestIdleCallback(() => setTimeout(done, 300))));
  assert.deepEqual(asked, []);
  assert.equal(await outbox(page), null);
  await page.evaluate(() => tagway.consent({ analytics: true, advertising: false }));
  await arrived("page", "Held");
  await page.evaluate(() => (tagway.consent({ advertising: true }), tagway.track("Later")));
  await arrived("Later");
  const said = Object.fromEntries(events().map((it) => [nameOf(it), it.context.consent.categoryPreferences]));
  const chosen = { analytics: true, advertising: false };
  assert.deepEqual(said, { page: chosen, Held: chosen, Later: { analytics: true, advertising: true } });
  await context.close();
});

test("a page that is closed before the visitor was asked leaves nothing", async () => {
  const { context, page } = await open("held");
  await page.evaluate(() => tagway.track("Held"));
  await page.goto(`${shop().origin}/elsewhere`);
  assert.equal(await outbox(page), null);
  await quietly(context);
  assert.deepEqual(names(), ["Quiet"]);
});

async function quietly(context) {
  const { page } = await open("plain", { context });
  await quiet(page);
  await context.close();
}

test("what the visitor chose holds on the pages that follow, and is read from storage once", async () => {
  const { context, page } = await open("held");
  await page.evaluate(() => tagway.consent({ analytics: true, advertising: false }));
  await arrived("page");
  // Whoever leaves before the answer leaves an outbox.
  await quiet(page);
  await page.close();
  await context.addInitScript(() => {
    const storage = window.localStorage;
    window.reads = 0;
    Object.defineProperty(window, "localStorage", { get: () => ((window.reads += 1), storage) });
  });
  const next = await open("held", { context, early: `tagway.on("consent", function (it) { window.said = it.categories; });
    tagway.track("Again");` });
  await arrived("Again");
  await quiet(next.page);
  const choices = events().map((it) => it.context.consent.categoryPreferences);
  assert.ok(choices.length >= 4);
  for (const choice of choices) assert.deepEqual(choice, { analytics: true, advertising: false });
  assert.deepEqual(await next.page.evaluate(() => [window.reads, window.said]), [1, choices[0]]);
  // The rest of the choice stays as it was.
  await next.page.evaluate(() => (tagway.consent({ advertising: true }), tagway.track("Changed")));
  await arrived("Changed");
  const { page: third } = await open("held", { context, early: 'tagway.track("Third");' });
  await arrived("Third");
  const [last] = events().filter(({ event }) => event === "Third");
  assert.deepEqual(last.context.consent.categoryPreferences, { analytics: true, advertising: true });
  assert.equal(await third.evaluate(() => document.cookie), "");
  await context.close();
});

test("of two tabs, what was chosen last is kept", async () => {
  const first = await open("plain");
  await first.page.evaluate(() => (tagway.consent({ advertising: false }), tagway.flush()));
  await until(async () => /false/.test(await outbox(first.page)), "the first choice");
  const second = await open("plain", { context: first.context });
  await second.page.evaluate(() => (tagway.consent({ advertising: true }), tagway.flush()));
  await until(async () => /true/.test(await outbox(first.page)), "the second choice");
  await fail(first.page, 503);
  await first.page.evaluate(() => (tagway.track("Kept"), tagway.flush()));
  await until(async () => /Kept/.test(await outbox(first.page)), "the outbox");
  const [, , choice] = JSON.parse(await outbox(first.page));
  assert.deepEqual(choice, { advertising: true });
  await first.context.close();
});

test("a callback that fails stops nothing", async () => {
  const { context, page, complaints } = await open("plain");
  await page.evaluate(() => {
    tagway.on("*", () => {
      throw new Error("a listener's");
    });
    tagway.ready(() => {
      throw new Error("a caller's");
    });
    tagway.track("Anyway");
    tagway("unheard", "of");
  });
  await arrived("Anyway");
  assert.equal(complaints.length, 2);
  await context.close();
});

test("the script comes once, however often it is loaded", async () => {
  const { context, page } = await open("paged");
  await arrived("page");
  const [, text] = await script(shop(), "paged");
  await page.evaluate(() => {
    window.first = tagway;
  });
  const cdp = await context.newCDPSession(page);
  await cdp.send("Runtime.evaluate", { expression: text });
  assert.equal(await page.evaluate(() => window.first === tagway), true);
  await quiet(page);
  assert.deepEqual(counts(), { page: 1, Quiet: 1 });
  await context.close();
});

test("a message that no request may hold is refused, and those around it are sent", async () => {
  const { context, page } = await open("plain");
  const status = page.evaluate(() => new Promise((done) => {
    tagway.track("Small");
    tagway.track("Huge", { text: "x".repeat(70_000) }, {}, done);
    tagway.track("Small too");
  }));
  assert.equal(await status, 413);
  await arrived("Small", "Small too");
  assert.ok(!names().includes("Huge"));
  await context.close();
});
