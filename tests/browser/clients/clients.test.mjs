// The vendors' own npm clients, told of the gateway by their documented option and nothing else: what
// they call becomes the right events, once, and no client sees anything to complain of.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Shop } from "./harness.mjs";

const ORDER = { order_id: "o-1", revenue: 25.5, currency: "EUR" };
const product = { product_id: "p1", name: "Lamp", price: 12.75, quantity: 2 };
const FULL_ORDER = { ...ORDER, total: 30, products: [product] };
const LEFT = { track: "Left", properties: { how: "link" }, ga4: "Left", meta: "Left" };
const PAGE = { page: true, ga4: "page_view", meta: "PageView" };
const IDENTIFY = { identify: true, traits: { email: "a@b.example", plan: "pro" } };
const GROUP = { group: "acme", traits: { tier: "gold" }, ga4: "join_group" };
const PURCHASE = { track: "Order Completed", properties: FULL_ORDER, ga4: "purchase", meta: "Purchase" };
const SPEC = [PAGE, IDENTIFY, GROUP, PURCHASE];

// What each client's page (pages/NAME.mjs) comes to, in any order, and how it is answered.
const CLIENTS = {
  plausible: {
    // GA4 takes no purchase without its items, and this client has none to send; nor an id of the
    // visitor, by whom Meta could know them.
    expected: [{ ...PAGE, meta: undefined }, { ...PURCHASE, properties: ORDER, ga4: undefined, meta: undefined },
      { track: "Page Engagement", ga4: "Page_Engagement" }],
    early: 2,
  },
  mixpanel: {
    sendsCookies: true,
    // Updates of groups name no visitor.
    nobodys: ["group"],
    expected: [PAGE, { identify: true }, { identify: true }, IDENTIFY,
      { identify: true, traits: { company: ["acme"] } }, GROUP, PURCHASE, LEFT],
  },
  amplitude: {
    // GA4 and Meta are told no revenue without a currency: this client has none to send with it.
    expected: [PAGE, { identify: true, traits: { plan: "pro" } }, { ...GROUP, traits: undefined },
      PURCHASE, { track: "Order Completed", properties: { revenue: 25.5 } }, LEFT],
  },
  segment: { expected: [...SPEC, LEFT] },
  rudderstack: { expected: [...SPEC, LEFT] },
  jitsu: { expected: SPEC },
  snowplow: {
    sendsCookies: true,
    expected: [PAGE, { track: "Play", properties: { value: 5 }, ga4: "Play", meta: "Play" },
      { ...PURCHASE, properties: { ...ORDER, products: [product] } },
      { ...LEFT, track: "left", ga4: "left", meta: "left" }],
  },
  posthog: {
    expected: [...SPEC, LEFT, { track: "Page Left", ga4: "Page_Left", meta: "Page Left" }],
    early: 4,
  },
};

let shop;
before(async () => {
  shop = await Shop.open([...Object.keys(CLIENTS), "recorded"]);
});
after(() => shop?.close());

/** The members of `expected` in `found`. */
function assertIncludes(found, expected, what) {
  for (const [name, value] of Object.entries(expected ?? {})) {
    const own = found?.[name];
    if (Array.isArray(value) && typeof value[0] === "object") {
      assert.equal(own?.length, value.length, `${what}.${name}`);
      value.forEach((member, index) => assertIncludes(own[index], member, `${what}.${name}`));
    } else {
      assert.deepEqual(own, value, `${what}.${name} of ${JSON.stringify(found)}`);
    }
  }
}

const named = (event) => event.event ?? event.type;
const nameOf = ({ track, page, identify }) =>
  track ?? (page ? "page" : identify ? "identify" : "group");

/** Takes an event that is as expected out of those found. */
function take(events, expected) {
  const fits = (event) => {
    if (named(event) !== nameOf(expected)) return false;
    try {
      assertIncludes(event.properties, expected.properties, "properties");
      assertIncludes(event.traits, expected.traits, "traits");
      if (expected.group) assert.equal(event.groupId, expected.group);
      return true;
    } catch {
      return false;
    }
  };
  const index = events.findIndex(fits);
  assert.notEqual(index, -1, `no ${JSON.stringify(expected)} in ${JSON.stringify(events)}`);
  return events.splice(index, 1)[0];
}

const isLast = (each) => each.track?.toLowerCase() === "left";
// What says most chooses first, so that a vague expectation leaves it to others.
const vague = ({ properties, traits }) => (properties || traits ? 0 : 1);
const sorted = (names) => names.filter(Boolean).sort();

function check(name, { expected, sendsCookies, nobodys = [] }, seen) {
  const page = `${shop.origin}/${name}`;
  assert.deepEqual(seen.complaints, [], "no errors, no warnings, nothing refused or sent elsewhere");
  const ids = seen.events.map((event) => event.messageId);
  assert.equal(new Set(ids).size, ids.length, "each event once");
  assert.deepEqual(seen.events.map(named).sort(), expected.map(nameOf).sort());
  const visitors = new Set(
    seen.events.filter((event) => !nobodys.includes(event.type)).map((event) => event.anonymousId));
  assert.equal(visitors.size, 1, `one visitor: ${[...visitors]}`);
  assert.ok(![...visitors].includes(undefined));
  const left = [...seen.events];
  for (const each of [...expected].sort((a, b) => vague(a) - vague(b))) {
    const event = take(left, each);
    const told = seen.meta.filter((request) => request.event_id === event.messageId);
    assert.deepEqual(told.map((request) => request.event_name), sorted([each.meta]), named(event));
    assert.ok(Math.abs(Date.parse(event.timestamp) - Date.now()) < 60_000, event.timestamp);
  }
  assert.deepEqual(seen.meta.map((request) => request.event_name).sort(),
    sorted(expected.map((each) => each.meta)));
  assert.deepEqual(seen.ga4.map((request) => request.name).sort(),
    sorted(expected.map((each) => each.ga4)));
  const isSomebodys = (hit) => nobodys.length === 0 || hit.name !== "join_group";
  const clients = new Set(seen.ga4.filter(isSomebodys).map((hit) => hit.client_id));
  assert.equal(clients.size, 1, "one client of GA4's");
  if (sendsCookies) {
    // A first page's requests may cross: the browser keeps what the last answer gave it.
    const kept = seen.cookies.find((cookie) => cookie.name === "_fbp")?.value;
    assert.equal(seen.meta.at(-1).user_data.fbp, kept, "Meta is told of the cookie");
  }
  for (const { params } of seen.ga4.filter((request) => request.name === "page_view")) {
    assert.ok(params.page_location.startsWith(page), params.page_location);
  }
  for (const { params } of seen.ga4.filter((request) => request.name === "purchase")) {
    assert.deepEqual([params.transaction_id, params.value, params.currency], ["o-1", 25.5, "EUR"]);
    assertIncludes(params.items[0], { item_id: "p1", item_name: "Lamp", price: 12.75, quantity: 2 });
  }
  for (const { custom_data: data } of seen.meta.filter((request) => request.event_name === "Purchase")) {
    assert.equal(data.currency, "EUR");
    assert.equal(data.order_id, "o-1");
  }
  const known = seen.events.filter((event) => event.userId);
  for (const event of known) assert.equal(event.userId, `u-${name}`);
  if (expected.some((each) => each.identify)) {
    const order = seen.ga4.find((request) => request.name === "purchase");
    assert.equal(order.user_id, `u-${name}`);
  }
}

for (const [name, client] of Object.entries(CLIENTS)) {
  test(`${name}'s own client is understood, and understands`, async () => {
    const count = client.expected.length;
    const early = client.early ?? client.expected.filter((each) => !isLast(each)).length;
    const seen = await shop.visit(name, { count, early });
    check(name, client, seen);
  });
}

// The requests of a first visit run beside each other, and a repeated one of them may have a cookie that the first
// had not: only requests of one visitor are the same.
let returning;

const metaOf = (seen) =>
  Object.fromEntries(seen.meta.map((request) => [request.event_id, request.event_name]));

test("gtag.js's requests, as recorded, become the same hits of GA4's", async () => {
  const names = ["page", "identify", "scroll", "Signed Up", "Product Viewed", "custom_ev",
    "Order Completed", "user_engagement"];
  const count = names.length;
  returning = await shop.returningBrowser();
  const seen = await shop.visit("recorded", { count, early: count, query: "?gtag", browser: returning });
  assert.deepEqual(seen.complaints, []);
  assert.deepEqual(seen.answers, Array(5).fill("POST /ga4/g/collect 204"));
  assert.deepEqual(seen.events.map(named).sort(), names.toSorted());
  for (const event of seen.events) {
    assert.deepEqual([event.anonymousId, event.userId], ["1763984794.1795434662", "user-42"]);
  }
  // The name of Google's own events is Google's: servers may not send it.
  assert.deepEqual(seen.ga4.map((hit) => hit.name).sort(),
    ["custom_ev", "page_view", "purchase", "scroll", "sign_up", "view_item"]);
  for (const hit of seen.ga4) {
    assert.deepEqual([hit.client_id, hit.user_id], ["1763984794.1795434662", "user-42"]);
    assert.equal(hit.params.session_id, 1795434661);
  }
  const purchase = seen.ga4.find((hit) => hit.name === "purchase").params;
  assertIncludes(purchase, { transaction_id: "T1", value: 40, currency: "USD", tax: 2, shipping: 3,
    coupon: "C", items: [{ item_id: "SKU_1", item_name: "N", price: 20, quantity: 2 }] }, "purchase");
  const bought = seen.meta.find((request) => request.event_name === "Purchase");
  assertIncludes(bought.custom_data, { value: 40, currency: "USD", order_id: "T1" }, "Purchase");
});

test("gtag.js's requests that come again count once", async () => {
  const seen = await shop.visit("recorded", { count: 0, query: "?gtag", browser: returning });
  await returning.close();
  assert.deepEqual(seen.complaints, []);
  assert.deepEqual([seen.events, seen.ga4, seen.meta], [[], [], []]);
});

test("fbevents.js's requests, as recorded, keep their ids on the way to Meta", async () => {
  const seen = await shop.visit("recorded", { count: 4, early: 4, query: "?fbevents" });
  assert.deepEqual(seen.complaints, []);
  assert.deepEqual(seen.answers.toSorted(), [...Array(3).fill("GET /meta/tr/ 200"), "POST /meta/tr/ 200"]);
  assert.deepEqual(seen.events.map(named).sort(), ["MyCustom", "Order Completed", "Product Viewed", "page"]);
  const told = metaOf(seen);
  assert.deepEqual(Object.values(told).sort(), ["MyCustom", "PageView", "Purchase", "ViewContent"]);
  assert.deepEqual([told["evt-1"], told["evt-2"]], ["Purchase", "ViewContent"]);
  const bought = seen.meta.find((request) => request.event_id === "evt-1");
  assertIncludes(bought.custom_data, { value: 25.5, currency: "USD",
    contents: [{ id: "p1", quantity: 2 }] }, "Purchase");
  const hashes = { em: "80305c9bb1bb2480e03894350e0a8a366dcbdeb302e69e0817aa0743abd77054",
    ph: "d6736136ea896c1bfdc553e0e86e702c70d060d805696ca3e4e9e0961353860a",
    external_id: "6d894aa3ee802549d7f340e7c1cf0d1c1cb14cd84f768d92ffaa6785337c4997" };
  for (const [name, hash] of Object.entries(hashes)) {
    const own = bought.user_data[name];
    assert.ok(own?.includes(hash), `${name} comes along: ${JSON.stringify(bought.user_data)}`);
  }
});

test("nothing came again in the end", async () => {
  const ids = shop.sent().meta.map((request) => request.event_id);
  assert.equal(new Set(ids).size, ids.length);
});
