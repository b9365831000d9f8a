// What callers hand over, in Chromium: values that JSON cannot hold lose themselves and nothing else, and an
// event says what the caller's objects were at the call.

import assert from "node:assert/strict";
import { test } from "node:test";
import { stage, until } from "./sites.mjs";

const { events, open, quiet } = stage({ plain: "auto = []" });
const named = (name) => events().filter(({ event }) => event === name);
const arrived = (name, count = 1) => until(() => named(name).length >= count, () => `${name}: ${JSON.stringify(events())}`);

// By name: what makes the properties, in the page, and what arrives of them beside `k`.
const VALUES = {
  bigint: ["{ id: 9007199254740993n, list: [1n] }", { id: "9007199254740993", list: ["1"] }],
  circular: ["(() => { const o = { a: 1 }; o.self = o; o.list = [o, { o }]; return o; })()", { a: 1, list: [null, {}] }],
  getter: ["{ a: 1, get bad() { throw new Error('no'); } }", { a: 1 }],
  window: ["{ a: 1, target: window, frame: document, node: document.body, event: [document.head] }", { a: 1, event: [null] }],
  symbol: ["{ a: 1, bad: Symbol('x'), [Symbol('y')]: 1 }", { a: 1 }],
  call: ["{ a: 1, bad() {}, list: [() => {}] }", { a: 1, list: [null] }],
  json: ["{ a: 1, bad: { toJSON() { throw new Error('no'); } }, good: { toJSON: () => 'yes' } }", { a: 1, good: "yes" }],
  proxy: [`{ a: 1, bad: new Proxy({}, { ownKeys() { throw new Error('no'); } }),
    revoked: (() => { const { proxy, revoke } = Proxy.revocable({}, {}); revoke(); return proxy; })() }`, { a: 1 }],
  endless: ["(() => { const deep = () => new Proxy({}, { ownKeys: () => ['x', 'y'], get: (_, key) => key === 'toJSON' ? undefined : deep(), " +
    "getOwnPropertyDescriptor: () => ({ enumerable: true, configurable: true }) }); return { a: 1, deep: deep() }; })()", { a: 1 }],
  twice: ["(() => { let o = [1]; for (let i = 0; i < 40; i += 1) o = [o, o]; return { a: 1, o }; })()", { a: 1 }, "late"],
  sparse: ["(() => { const list = [1]; list[4e9] = 2; return { a: 1, list }; })()", { a: 1, list: [1] }],
  numbers: ["{ nan: NaN, infinite: -Infinity }", {}],
  dates: ["{ at: new Date(0), never: new Date(NaN) }", { at: "1970-01-01T00:00:00.000Z" }],
  collections: ["{ map: new Map([['a', 1n]]), set: new Set([1, document]) }", { map: [["a", "1"]], set: [1, null] }],
};

for (const [name, [made, expected, isLate]] of Object.entries(VALUES)) {
  test(`values, ${name}: the member is lost, and nothing else`, async () => {
    // What the snippet keeps and what the script takes, and both around a message that is as good as any.
    const bad = `tagway.track("Before"); tagway.track("Bad", Object.assign(${made}, { k: 1 }));`;
    const kept = `try { ${bad} } catch (error) { window.thrown = String(error); }`;
    const { context, page } = await open("plain", { early: isLate ? "" : kept });
    if (!isLate) await arrived("Before");
    await page.evaluate(`tagway.track("Bad", ${made}); tagway.track("After"); 0`);
    await arrived("After");
    await arrived("Bad", isLate || name === "getter" ? 1 : 2);
    const [bad2] = named("Bad").slice(-1);
    const members = Object.fromEntries(Object.keys(expected).map((key) => [key, bad2.properties[key]]));
    assert.deepEqual(members, expected, JSON.stringify(bad2));
    assert.ok(!("bad" in bad2.properties) && !("self" in bad2.properties));
    await quiet(page);
    assert.equal(named("After").length, 1);
    await context.close();
  });
}

test("traits, choices, options and names that JSON cannot hold stop nothing", async () => {
  const { context, page } = await open("plain");
  await page.evaluate(() => {
    const bad = { get bad() { throw new Error("no"); }, seen: 10n };
    tagway.identify("u-9", bad);
    tagway.identify(77n, { plan: "pro" });
    tagway.identify(bad);
    tagway.track("Options", {}, bad);
    tagway.track(Symbol("x"));
    tagway.consent({ ...{}, get bad() { throw new Error("no"); }, analytics: true });
    tagway.group("g", bad);
    tagway.track("After");
  });
  await arrived("After");
  await arrived("Options");
  await quiet(page);
  const people = events().filter(({ type }) => type === "identify").map(({ userId, traits }) => [userId, traits]);
  assert.deepEqual(people, [["u-9", { seen: "10" }], ["77", { plan: "pro" }], ["77", { seen: "10" }]]);
  assert.equal(events().filter(({ type }) => type === "group").length, 1);
  await context.close();
});

test("what is no message in the outbox is none, and an outbox that nobody will ever free is free", async () => {
  for (const stored of [
    [9e15, [null, 5, "x", { type: "track" }, { type: "track", event: "Kept", messageId: `kept-${Math.random()}`, properties: {} }], null],
    [9e15, { 0: 1 }, null],
    "x",
    { messages: 1 },
  ]) {
    const { context, page } = await open("plain");
    await page.evaluate((it) => { localStorage._twq = JSON.stringify(it); }, stored);
    const next = await open("plain", { context });
    await next.page.evaluate(() => tagway.track("After"));
    await arrived("After");
    if (stored[1]?.length) await arrived("Kept");
    await quiet(next.page);
    assert.equal(await next.page.evaluate(() => localStorage._twq), undefined, JSON.stringify(stored));
    await context.close();
  }
});

test("an event says what the caller's objects were at the call", async () => {
  const use = `const o = { step: 1, items: [{ sku: "A" }], call() {} }, traits = { plan: "free" }, choice = { analytics: true };
    tagway.track("Step", o); o.step = 2; o.items.push({ sku: "B" }); tagway.track("Step", o);
    o.step = 3; o.items.length = 0; tagway.track("Step", o); o.step = 4;
    tagway.identify("u-1", traits); traits.plan = "pro"; tagway.page("Named", traits); traits.plan = "none";
    tagway.consent(choice); choice.analytics = false;`;
  const told = (found) => [
    found.filter(({ event }) => event === "Step").map(({ properties: { step, items } }) => [step, items.map(({ sku }) => sku)]),
    found.filter(({ type }) => type === "identify").map(({ traits }) => traits.plan),
    found.filter(({ type }) => type === "page").map(({ properties }) => properties.plan),
  ];
  const expected = [[[1, ["A"]], [2, ["A", "B"]], [3, []]], ["free"], ["pro"]];
  const { context, page } = await open("plain", { early: use });
  await arrived("Step", 3);
  await quiet(page);
  assert.deepEqual(told(events()), expected, "before the script is there");
  const count = events().length;
  await page.evaluate(`{ ${use} } 0`);
  await arrived("Step", 6);
  await quiet(page);
  assert.deepEqual(told(events().slice(count)), expected, "after it is there");
  const [choice] = events().slice(-1);
  assert.deepEqual(choice.context.consent.categoryPreferences, { analytics: true });
  await context.close();
});

test("who listens gets a copy", async () => {
  const { context, page } = await open("plain");
  await page.evaluate(() => {
    tagway.on("track", (message) => {
      message.properties.self = message;
      message.properties.n = 2;
    });
    tagway.track("Heard", { n: 1 });
    tagway.user().traits = { plan: "pro" };
  });
  await arrived("Heard");
  assert.deepEqual(named("Heard")[0].properties, { n: 1 });
  await context.close();
});
