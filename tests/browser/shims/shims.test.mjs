// Pages that keep the vendors' own inline code: what they call before and after the stand-in arrives
// becomes the right events, once, and nothing else is loaded.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Shop } from "../clients/harness.mjs";
import { addSites, complaintsOf, gatewayOf, until } from "../sdk/sites.mjs";
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
    globals: { answered: 1, got: [true] },
  },
  meta: {
    events: [
      // While consent is revoked, events wait.
      { ...PAGE, context: { ...consent({ advertising: true }).context, traits: { email: "a@b.example" },
        clientIds: { meta: { external_id: "u-meta" } } } },
      { type: "track", event: "Order Completed", messageId: "e-1.Purchase", properties: { revenue: 25.5, total: 25.5,
        currency: "EUR", products: [{ product_id: "p1", price: 12.75, quantity: 2 }] },
        context: { source: { client: "meta", event: "Purchase", event_id: "e-1", pixel_id: "1234567890" } } },
      { ...LEFT, ...consent({ advertising: true }) },
    ],
    early: 0,
    warns: /fbq\.unheard/,
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
      ]),
    ],
    globals: { got: "u-mixpanel" },
    warns: /mixpanel\.start_session_recording/,
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
      { ...TOLD, context: { groupId: "acme" } }])],
    warns: /posthog\.startSessionRecording/,
    globals: { answered: 0, got: [false, true, "u-posthog"] },
  },
  intercom: { events: id("u-intercom", [PERSON, GROUP, TOLD, LEFT]), withoutProof: true },
  drift: { events: [PAGE, ...id("u-drift", [PERSON, TOLD, LEFT])], globals: { answered: "function" } },
};

/** Where the vendors have their messengers, for the account "shop". */
const MESSENGER = /^\/(widget\/shop|include\/\d+\/shop\.js)$/;

// How a messenger takes the place of its stub, as far as a page can see.
const CHATS = {
  intercom: {
    id: "app_id",
    host: "https://widget.intercom.io",
    real: () => {
      window.messenger = () => {
        window.told = window.Intercom.q.map((call) => [...call]);
        window.Intercom = (...call) => window.told.push(call);
      };
    },
    isTold: (told) => told.some(([name, said]) => name === "boot" && said.app_id === "shop" &&
      said.user_id === "u-intercom" && said.user_hash === "proof") && told.some(([name]) => name === "show"),
    meanwhile: "Intercom('trackEvent', 'meanwhile'); Intercom('showSpace', 'help');",
    calls: "Intercom('update', { plan: 'gold' }); Intercom('trackEvent', 'later');",
    hears: [([name]) => name === "showSpace", ([name, said]) => name === "update" && said.plan === "gold"],
  },
  drift: {
    id: "embed_id",
    host: "https://js.driftt.com",
    real: () => {
      window.messenger = () => {
        const told = window.drift.slice();
        window.told = told;
        window.drift = { identify: (...said) => told.push(["identified", ...said]), track: () => told.push(["tracked"]) };
        told.forEach(([name, event, callback]) => {
          if (name === "on" && event === "ready") callback({ openChat: () => told.push(["openChat"]) });
        });
      };
    },
    isTold: (told) => told.some(([name, who]) => name === "identify" && who === "u-drift") &&
      told.some(([name]) => name === "openChat"),
    meanwhile: "drift.track('meanwhile'); drift.identify('u-drift', { plan: 'meanwhile' });",
    calls: "drift.identify('u-drift', { plan: 'gold' }); drift.track('later');",
    hears: ["meanwhile", "gold"].map((plan) => ([name, who, said]) =>
      name === "identified" && who === "u-drift" && said.plan === plan),
  },
};

let shop;
before(async () => {
  shop = await Shop.open([]);
  const sdk = (name) => `auto = []\nshims = ["${name}"]`;
  const sites = Object.fromEntries(Object.keys(PAGES).map((name) => [name, sdk(name)]));
  for (const [name, { id }] of Object.entries(CHATS)) {
    const own = `[sites.vendors.${name}]\n${id} = "shop"\n`;
    const proxy = `scripts = "proxy"\nscript_endpoint = "http://127.0.0.1:${new URL(shop.origin).port}"\n`;
    sites[`${name}-direct`] = [sdk(name), own];
    sites[`${name}-proxy`] = [sdk(name), own + proxy];
  }
  await addSites(shop, sites);
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

const javascript = (body) => ({ headers: { "content-type": "text/javascript; charset=utf-8" }, body });

/** A page with the vendor's snippet, which loads the site's /tw.js, and what it complains of. */
async function open(name, { site = name, policy } = {}) {
  const context = await shop.browser.newContext();
  const page = await context.newPage();
  const complaints = complaintsOf(page);
  const { snippet, before } = PAGES[name];
  const src = `${gatewayOf(shop, site)}/tw.js`;
  let release;
  const isReleased = new Promise((resolve) => {
    release = resolve;
  });
  await page.route((url) => url.href === src, async (route) => {
    await isReleased;
    await route.continue();
  });
  const headers = { "content-type": "text/html; charset=utf-8" };
  if (policy) headers["content-security-policy"] = policy;
  const body = `<!doctype html><html lang="en"><head><title>Lamps</title><link rel="icon" href="data:,">
    <script nonce="n">${snippet(src)}</script></head><body><h1>Lamps</h1></body></html>`;
  shop.own = (pathname) => {
    if (pathname === `/shim/${name}`) return Promise.resolve({ headers, body });
    // As the vendor, for the gateway's proxy.
    if (MESSENGER.test(pathname)) return Promise.resolve(javascript("window.messenger && messenger();"));
  };
  await page.goto(`${shop.origin}/shim/${name}`, { waitUntil: "commit" });
  await page.waitForFunction(() => document.querySelector("h1"));
  await page.evaluate(before);
  release();
  await page.waitForFunction(() => window.tagway?.loaded);
  return { page, context, complaints };
}

for (const [name, { events, globals = {}, early = events.length - 1, warns, withoutProof }] of Object.entries(EXPECTED)) {
  test(`${name}: the vendor's snippet, answered by Tagway`, async () => {
    const start = shop.sent().events.length;
    const { page, context, complaints } = await open(name);
    const since = () => shop.sent().events.slice(start);
    // The calls before have gone out when those after are made.
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
    if (withoutProof) assert.ok(!JSON.stringify(found).includes("proof"), "what proves the person goes no further than the gateway");
    // What is deliberately not done says so once.
    const said = complaints.filter((line) => warns?.test(line));
    assert.deepEqual([complaints.filter((line) => !said.includes(line)), said.length], [[], warns ? 1 : 0]);
    await context.close();
  });
}

function asExpected(events) {
  return (found, index) => like(found, events[index] ?? found);
}

for (const [name, chat] of Object.entries(CHATS)) {
  for (const way of ["direct", "proxy"]) {
    test(`${name}, ${way}: a button until somebody wants to talk`, async () => {
      const site = `${name}-${way}`;
      const gateway = gatewayOf(shop, site);
      const start = shop.sent().events.length;
      const [host, path] = way === "proxy" ? [gateway, `/${name}`] : [chat.host, ""];
      const policy = `default-src 'none'; script-src 'nonce-n' ${gateway} ${host}; style-src 'none'; img-src data:; connect-src ${gateway}`;
      const { page, context, complaints } = await open(name, { site, policy });
      const isMessenger = (url) => url.origin === host && url.pathname.startsWith(path) &&
        MESSENGER.test(url.pathname.slice(path.length));
      const asked = [];
      let isDown = true;
      await page.route((url) => isMessenger(url), async (route) => {
        asked.push(route.request().url());
        if (isDown) return route.abort();
        await page.evaluate(chat.meanwhile);
        return way === "proxy" ? route.continue() : route.fulfill(javascript("window.messenger && messenger();"));
      });
      const button = page.getByRole("button", { name: "Open chat" });
      await button.waitFor();
      await page.evaluate(chat.real);
      assert.deepEqual(asked, [], "nothing is loaded before");
      const box = await button.boundingBox();
      assert.ok(box.width >= 44 && box.height >= 44, "large enough for a finger");
      await button.press("Enter");
      await until(() => asked.length === 1, "the messenger is asked for");
      // What fails can be tried again.
      isDown = false;
      await until(async () => {
        if (await button.count()) await button.press("Enter");
        return asked.length === 2;
      }, "and again");
      await page.waitForFunction(() => window.told);
      const told = () => page.evaluate(() => JSON.parse(JSON.stringify(window.told)));
      await until(async () => chat.isTold(await told()), `${name} told`);
      await until(async () => (await button.count()) === 0, `${name} button`);
      await page.evaluate(chat.calls);
      const since = () => shop.sent().events.slice(start).map(({ event }) => event);
      await until(() => ["meanwhile", "later"].every((event) => since().includes(event)), () => `${since()}`);
      const heard = await told();
      for (const hears of chat.hears) assert.ok(heard.some(hears), JSON.stringify(heard));
      assert.ok(!heard.some(([what]) => /track/i.test(what)), "events go to the gateway alone");
      const unexpected = complaints.filter((line) => !/ERR_FAILED|^elsewhere: https:\/\/(widget\.intercom|js\.driftt)/.test(line));
      assert.deepEqual(unexpected, []);
      await context.close();
    });
  }
}

test("a chat whose id nobody gave has no button", async () => {
  const { page, context } = await open("intercom");
  await page.evaluate(() => Intercom("show"));
  await page.waitForFunction(() => document.readyState === "complete");
  assert.equal(await page.getByRole("button").count(), 0);
  await context.close();
});
