// Pages that keep the vendors' own inline code: what they call before and after the stand-in arrives
// becomes the right events, once, and nothing else is loaded.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Shop } from "../clients/harness.mjs";
import { addSites, complaintsOf, gatewayOf, script, until } from "../sdk/sites.mjs";
import { PAGES } from "./pages.mjs";

const ORDER = { order_id: "o-1", revenue: 25.5, total: 30, currency: "EUR" };
const product = { product_id: "p1", name: "Lamp", price: 12.75, quantity: 2 };
const TOLD = { type: "track", event: "Order Completed", properties: { ...ORDER, products: [product] } };
const LEFT = { type: "track", event: "left", properties: { how: "link" } };
const PERSON = { type: "identify", traits: { email: "a@b.example", plan: "pro" } };
const GROUP = { type: "group", groupId: "acme", traits: { tier: "gold" } };
const PAGE = { type: "page" };
const consent = (categoryPreferences) => ({ context: { consent: { categoryPreferences } } });
const id = (userId, messages) => messages.map((message) => ({ userId, ...message }));

const EXPECTED = {
  ga4: {
    events: id("u-ga4", [
      { type: "identify", traits: { plan: "pro" } },
      { ...PAGE, ...consent({ advertising: false, analytics: true }) },
      { type: "track", event: "Order Completed", properties: { order_id: "o-1", revenue: 25.5, total: 25.5, value: 25.5,
        currency: "EUR", products: [product] } },
      { ...LEFT, ...consent({ advertising: true, analytics: true }) },
    ]),
    globals: { answered: 1, got: [null] },
  },
  meta: {
    events: [
      { ...PAGE, context: { ...consent({ advertising: false }).context, traits: { email: "a@b.example" },
        clientIds: { meta: { external_id: "u-meta" } } } },
      { type: "track", event: "Order Completed", messageId: "e-1.Purchase", properties: { revenue: 25.5, total: 25.5,
        currency: "EUR", products: [{ product_id: "p1", price: 12.75, quantity: 2 }] },
        context: { source: { client: "meta", event: "Purchase", event_id: "e-1", pixel_id: "1234567890" } } },
      { ...LEFT, ...consent({ advertising: true }) },
    ],
  },
  mixpanel: {
    events: [
      PAGE,
      ...id("u-mixpanel", [
        { type: "identify" },
        { type: "identify", traits: { company: ["acme"] } },
        GROUP,
        { ...TOLD, properties: { ...TOLD.properties, shop: "lamps", company: ["acme"] } },
        PERSON,
        { ...LEFT, ...consent({ analytics: false }) },
      ]),
    ],
    globals: { got: "u-mixpanel" },
  },
  amplitude: {
    events: [
      PAGE,
      ...id("u-amplitude", [
        { type: "identify" },
        { type: "identify", traits: { plan: "pro" }, context: { source: { operations: { $add: { visits: 1 } } } } },
        { ...GROUP, traits: {} },
        TOLD,
        { type: "track", event: "Order Completed", properties: { revenue: 25.5, revenue_type: "sale",
          products: [{ product_id: "p1", price: 12.75, quantity: 2 }] } },
        { ...LEFT, ...consent({ analytics: false }) },
      ]),
    ],
    globals: { answered: 200, got: true },
  },
  segment: {
    events: [{ ...PAGE, name: "Lamps" }, ...id("u-segment", [PERSON, GROUP, TOLD, LEFT])],
    globals: { answered: 1 },
  },
  posthog: {
    events: [PAGE, ...id("u-posthog", [PERSON, { ...GROUP, context: { groups: { company: "acme" } } },
      { ...TOLD, context: { groupId: "acme" } }, { ...LEFT, ...consent({ analytics: false }) }])],
    globals: { answered: 0, got: [false, true, "u-posthog"] },
  },
  intercom: { events: id("u-intercom", [PERSON, GROUP, TOLD, LEFT]), withoutProof: true },
  drift: { events: [PAGE, ...id("u-drift", [PERSON, TOLD, LEFT])], globals: { answered: "function" } },
};

let shop;
before(async () => {
  shop = await Shop.open([]);
  const sites = Object.keys(PAGES).map((name) => [name, `auto = []\nshims = ["${name}"]`]);
  await addSites(shop, Object.fromEntries(sites));
});
after(() => shop?.close());

/** The members of `expected` in `found`. */
const like = (found, expected) => {
  if (Array.isArray(expected)) return Array.isArray(found) ? found.map((it, i) => like(it, expected[i] ?? it)) : found;
  if (expected && typeof expected === "object" && found && typeof found === "object") {
    return Object.fromEntries(Object.keys(expected).map((key) => [key, like(found[key], expected[key])]));
  }
  return found;
};

/**
 * A page with the vendor's snippet, which loads the site's /tw.js, and what it complains of. With
 * `shims` the script comes from the shop, with them in its settings: the gateway has none to give.
 */
async function open(name, { shims, policy } = {}) {
  const context = await shop.browser.newContext();
  const page = await context.newPage();
  const complaints = complaintsOf(page);
  const { snippet, before } = PAGES[name];
  const src = shims ? `/shim/${name}.js` : `${gatewayOf(shop, name)}/tw.js`;
  let release;
  const isReleased = new Promise((resolve) => {
    release = resolve;
  });
  await page.route((url) => url.href.endsWith(src), async (route) => {
    await isReleased;
    await route.continue();
  });
  const javascript = (body) => ({ headers: { "content-type": "text/javascript; charset=utf-8" }, body });
  const answers = {
    [`/shim/${name}.js`]: async () => {
      const [, text] = await script(shop, name);
      const settings = JSON.stringify({ endpoint: gatewayOf(shop, name), shims }).slice(1, -1);
      const own = text.replace('"shims":{}', settings);
      assert.notEqual(own, text, "the settings stand in the script");
      return javascript(own);
    },
    "/shim/messenger.js": async () => javascript("window.messenger && messenger();"),
    [`/shim/${name}`]: async () => {
      const headers = { "content-type": "text/html; charset=utf-8" };
      if (policy) headers["content-security-policy"] = policy;
      return { headers, body: `<!doctype html><html lang="en"><head><title>Lamps</title>
        <script nonce="n">${snippet(src)}</script></head><body><h1>Lamps</h1></body></html>` };
    },
  };
  shop.own = (pathname) => answers[pathname]?.();
  await page.goto(`${shop.origin}/shim/${name}`, { waitUntil: "commit" });
  await page.waitForFunction(() => document.querySelector("h1"));
  await page.evaluate(before);
  release();
  await page.waitForFunction(() => window.tagway?.loaded);
  return { page, context, complaints };
}

for (const [name, { events, globals = {}, withoutProof }] of Object.entries(EXPECTED)) {
  test(`${name}: the vendor's snippet, answered by Tagway`, async () => {
    const start = shop.sent().events.length;
    const { page, context, complaints } = await open(name);
    const since = () => shop.sent().events.slice(start);
    // The calls before have gone out when those after are made.
    const early = events.length - 1;
    await until(() => since().length >= early, () => `${name} early: ${complaints} ${JSON.stringify(since())}`);
    await page.evaluate(PAGES[name].after);
    await until(() => since().length >= events.length, () => `${name}: ${JSON.stringify(since())}`);
    for (const [global, value] of Object.entries(globals)) {
      const isThere = async () => (await page.evaluate((key) => window[key], global)) !== undefined;
      await until(isThere, `${name}: ${global}`);
      const found = await page.evaluate((key) => JSON.parse(JSON.stringify(window[key])), global);
      assert.deepEqual(found, value, global);
    }
    // A stand-in that would say something again does so on the way out.
    await page.goto(`${shop.origin}/elsewhere`);
    await page.waitForTimeout(300);
    const found = since();
    assert.deepEqual(found.map(asExpected(events)), events, JSON.stringify(found));
    assert.equal(found.length, events.length);
    if (withoutProof) assert.ok(!JSON.stringify(found).includes("proof"), "what proves the person stays in the page");
    assert.deepEqual(complaints, []);
    await context.close();
  });
}

function asExpected(events) {
  return (found, index) => like(found, events[index] ?? found);
}

const CHATS = {
  intercom: {
    shims: { intercom: { app_id: "shop", src: "/shim/messenger.js" } },
    calls: () => JSON.parse(JSON.stringify(window.Intercom.q ?? window.told)),
    real: () => {
      window.messenger = () => {
        window.told = window.Intercom.q.map((call) => [...call]);
        window.Intercom = (...call) => window.told.push(call);
      };
    },
    isTold: (told) => told.some(([name, said]) => name === "boot" && said.user_id === "u-intercom" && said.user_hash === "proof") &&
      told.some(([name]) => name === "show"),
  },
  drift: {
    shims: { drift: { embed_id: "shop", src: "/shim/messenger.js" } },
    real: () => {
      window.messenger = () => {
        window.told = window.drift.slice();
        window.drift = { identify() {}, track() {} };
        window.told.forEach(([name, event, callback]) => {
          if (name === "on" && event === "ready") callback({ openChat: () => window.told.push(["openChat"]) });
        });
      };
    },
    isTold: (told) => told.some(([name, who]) => name === "identify" && who === "u-drift") &&
      told.some(([name]) => name === "openChat"),
  },
};

for (const [name, { shims, real, isTold }] of Object.entries(CHATS)) {
  test(`${name}: a button until somebody wants to talk`, async () => {
    const policy = `default-src 'none'; script-src 'self' 'nonce-n'; style-src 'none'; connect-src ${gatewayOf(shop, name)}`;
    const { page, context, complaints } = await open(name, { shims, policy });
    const asked = [];
    page.on("request", (request) => asked.push(new URL(request.url()).pathname));
    const button = page.getByRole("button", { name: "Open chat" });
    await button.waitFor();
    await page.evaluate(real);
    assert.ok(!asked.includes("/shim/messenger.js"), "nothing is loaded before");
    const box = await button.boundingBox();
    assert.ok(box.width >= 44 && box.height >= 44, "large enough for a finger");
    await button.press("Enter");
    await page.waitForFunction(() => window.told);
    const told = () => page.evaluate(() => JSON.parse(JSON.stringify(window.told)));
    await until(async () => isTold(await told()), `${name} told`);
    await until(async () => (await button.count()) === 0, `${name} button`);
    const start = shop.sent().events.length;
    await page.evaluate(name === "intercom" ? "Intercom('trackEvent', 'later')" : "drift.track('later')");
    await until(() => shop.sent().events.slice(start).some((event) => event.event === "later"), "later");
    assert.deepEqual(complaints, []);
    await context.close();
  });
}
