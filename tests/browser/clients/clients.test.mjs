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
    // GA4 takes no purchase without its items, and this client has none to send.
    expected: [PAGE, { ...PURCHASE, properties: ORDER, ga4: undefined },
      { track: "Page Engagement", ga4: "Page_Engagement", meta: "Page Engagement" }],
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
  posthog: { expected: [...SPEC, LEFT, { track: "Page Left", ga4: "Page_Left", meta: "Page Left" }], early: 4 },
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
  // The one that says most comes first, so that a vague expectation leaves it to others.
  const index = events.findIndex(fits);
  assert.notEqual(index, -1, `no ${JSON.stringify(expected)} in ${JSON.stringify(events)}`);
  return events.splice(index, 1)[0];
}

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
  const clients = new Set(
    seen.ga4.filter((request) => !nobodys.length || request.name !== "join_group").map((request) => request.client_id));
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
    const early = client.early ?? count - client.expected.filter((each) => each.track?.toLowerCase() === "left").length;
    const seen = await shop.visit(name, { count, early });
    check(name, client, seen);
  });
}

test("nothing came again in the end", async () => {
  const ids = shop.sent().meta.map((request) => request.event_id);
  assert.equal(new Set(ids).size, ids.length);
});
