// The parts of the browser script that run others' code, in Chromium, over a core that only hands
// messages on: the vendors' real libraries where npm has them, good and bad integrations.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { after, before, beforeEach, test } from "node:test";
import { chromium } from "playwright-core";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const dist = (name) => readFile(new URL(`../../../static/sdk/dist/${name}.js`, import.meta.url), "utf8");
const modules = new URL("../node_modules/", import.meta.url).pathname;

const CORE = `(() => {
  const followers = [];
  const tagway = window.tagway = () => {};
  tagway.settings = window.SETTINGS;
  tagway.user = () => ({ id: "u1" });
  tagway.on = (name, callback) => followers.push([name, callback]);
  tagway.say = (message) => followers.forEach(([name, callback]) =>
    (name === "*" || name === message.type) && callback(message));
})();`;

let server, origin, browser, asked, reports, scripts;

before(async () => {
  scripts = new Map();
  server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://shop");
    asked.push(pathname);
    if (pathname === "/tw/problem") {
      let body = "";
      for await (const chunk of request) body += chunk;
      reports.push(JSON.parse(body));
      return response.writeHead(204).end();
    }
    const script = scripts.get(pathname);
    if (script !== undefined) {
      response.setHeader("content-type", "text/javascript; charset=utf-8");
      return response.end(script);
    }
    if (pathname !== "/") return response.writeHead(404).end();
    response.setHeader("content-type", "text/html");
    response.end("<!doctype html><title>Lamps</title><body style='height:3000px'><p>Lamps</p>");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  origin = `http://127.0.0.1:${server.address().port}`;
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu"] });
});

beforeEach(() => {
  asked = [];
  reports = [];
  scripts.clear();
});

after(async () => {
  await browser?.close();
  server.closeAllConnections();
  server.close();
});

async function opened(settings, names, { path = "/", context } = {}) {
  context ??= await browser.newContext();
  const page = await context.newPage();
  await page.goto(origin + path);
  await page.evaluate((it) => { window.SETTINGS = it; }, { endpoint: origin, ...settings });
  await page.addScriptTag({ content: CORE });
  for (const name of names) await page.addScriptTag({ content: await dist(name) });
  return page;
}

const say = (page, message) => page.evaluate((it) => window.tagway.say(it), message);
const track = (event, more) => ({ type: "track", event, messageId: `m-${event}`, properties: {}, ...more });

async function until(check, what) {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const value = await check();
    if (value) return value;
    assert.ok(Date.now() < deadline, `${what} did not come`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const client = (settings, more) =>
  ({ src: "/lib.js", load: "now", names: ["x"], events: ["*"], consent: [], unknown: "allow", settings, ...more });

const META = "fbq.callMethod = (...call) => (window.told ??= []).push(call);" +
  "fbq.queue.splice(0).forEach((call) => fbq.callMethod(...call));";

const metaEvents = (page) =>
  page.evaluate(() => (window.told ?? []).filter(([call]) => call.startsWith("track")));

test("what a shim said in its vendor's words is left to a gateway that delivers too", async () => {
  scripts.set("/lib.js", META);
  const settings = { clients: { meta: { ...client({ pixel_id: "1" }), both: true } } };
  const page = await opened(settings, ["parts/clients", "clients/meta"]);
  await say(page, track("purchase", { shim: "ga4" }));
  await say(page, track("Signed Up"));
  const told = await until(async () => {
    const told = await metaEvents(page);
    return told.length && told;
  }, "events");
  assert.deepEqual(told.map((call) => call[4].eventID), ["m-Signed Up"]);
});

test("meta's library is told each event once, with the id that the gateway sends", async () => {
  scripts.set("/lib.js", META);
  const page = await opened({ clients: { meta: client({ pixel_id: "1" }) } }, ["parts/clients", "clients/meta"]);
  await say(page, track("Order Completed", { properties: { total: 5, currency: "EUR" } }));
  await say(page, { type: "page", messageId: "m-page" });
  const told = await until(async () => {
    const told = await metaEvents(page);
    return told.length >= 2 && told;
  }, "events");
  assert.deepEqual(told[0], ["trackSingle", "1", "Purchase",
    { total: 5, currency: "EUR", value: 5 }, { eventID: "m-Order Completed" }]);
  assert.deepEqual(told[1], ["trackSingle", "1", "PageView", {}, { eventID: "m-page" }]);
  assert.equal(told.length, 2);
});

test("a library is not even loaded for a visitor who refused, and its globs hold", async () => {
  scripts.set("/lib.js", META);
  const strict = client({ pixel_id: "1" }, { consent: ["advertising"], unknown: "deny", events: ["*", "!Secret*"] });
  const page = await opened({ clients: { meta: strict } }, ["parts/clients", "clients/meta"]);
  const choice = (advertising) => ({ context: { consent: { categoryPreferences: { advertising } } } });
  await say(page, track("Unknown"));
  await say(page, track("Refused", choice(false)));
  await say(page, track("Secret Thing", choice(true)));
  await say(page, track("Off", { ...choice(true), integrations: { X: false } }));
  await page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 300)));
  assert.ok(!asked.includes("/lib.js"), asked);
  await say(page, track("Granted", choice(true)));
  const told = await until(async () => {
    const told = await metaEvents(page);
    return told.length && told;
  }, "the event");
  assert.deepEqual(told.map(([, , name]) => name), ["Granted"]);
});

test("held events go when the visitor agrees", async () => {
  scripts.set("/lib.js", META);
  const holding = client({ pixel_id: "1" }, { consent: ["advertising"], unknown: "hold" });
  const page = await opened({ clients: { meta: holding } }, ["parts/clients", "clients/meta"]);
  await say(page, track("Early"));
  assert.ok(!asked.includes("/lib.js"));
  await say(page, { type: "consent", categories: { advertising: true } });
  await until(async () => (await metaEvents(page)).length === 1, "the held event");
});

test("a library waits for the visitor's first interaction where the settings say so", async () => {
  scripts.set("/lib.js", META);
  const lazy = client({ pixel_id: "1" }, { load: "interaction" });
  const page = await opened({ clients: { meta: lazy } }, ["parts/clients", "clients/meta"]);
  await say(page, track("Early"));
  await page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 300)));
  assert.ok(!asked.includes("/lib.js"));
  await page.keyboard.press("Tab");
  await until(async () => (await metaEvents(page)).length === 1, "the event");
});

test("mixpanel's own build sends the message's id as $insert_id", async () => {
  scripts.set("/lib.js", await readFile(`${modules}mixpanel-browser/dist/mixpanel.min.js`, "utf8"));
  const context = await browser.newContext();
  const sent = [];
  await context.route("**/track/**", async (route) => {
    const data = new URLSearchParams(route.request().postData() ?? "").get("data");
    if (data) sent.push(...JSON.parse(Buffer.from(data, "base64").toString()));
    await route.fulfill({ body: "1" });
  });
  const settings = client({ project_token: "t0ken" }, { api: origin });
  const page = await opened({ clients: { mixpanel: settings } },
    ["parts/clients", "clients/mixpanel"], { context });
  const timestamp = "2026-11-25T10:00:00.123Z";
  await say(page, track("Lamp Seen", { messageId: "1-2-3", timestamp, properties: { color: "red" } }));
  await say(page, track("Lamp Left", { messageId: "not plain", properties: { color: "red" } }));
  await until(() => sent.length >= 2, "the events");
  assert.equal(sent[0].properties.time, Date.parse(timestamp) / 1000);
  assert.deepEqual(sent.map(({ event, properties }) => [event, properties.$insert_id, properties.color]), [
    ["Lamp Seen", "1-2-3", "red"],
    // As the gateway writes ids that Mixpanel would not take.
    ["Lamp Left", createHash("sha256").update("not plain").digest("hex").slice(0, 36), "red"],
  ]);
});

test("amplitude's own build sends the message's id as insert_id", async () => {
  scripts.set("/lib.js", await readFile(`${modules}@amplitude/analytics-browser/lib/scripts/amplitude-min.js`, "utf8"));
  const context = await browser.newContext();
  const sent = [];
  await context.route("**/2/httpapi", async (route) => {
    sent.push(...JSON.parse(route.request().postData() ?? "{}").events);
    await route.fulfill({ contentType: "application/json", body: JSON.stringify({ code: 200 }) });
  });
  await context.route("https://**", (route) => route.abort());
  const settings = client({ api_key: "0123456789abcdef" }, { api: origin });
  const page = await opened({ clients: { amplitude: settings } },
    ["parts/clients", "clients/amplitude"], { context });
  await say(page, track("Lamp Seen", { properties: { color: "red" } }));
  await until(() => sent.length, "the event");
  assert.deepEqual(sent.map(({ event_type, insert_id }) => [event_type, insert_id]), [["Lamp Seen", "m-Lamp Seen"]]);
});

const integration = (name, more) =>
  ({ name, src: `/tw/${name}.js`, events: ["*"], consent: [], timeout: 300, after: [], lazy: false, ...more });
const script = (name, body) =>
  scripts.set(`/tw/${name}.js`, `tagway.integration("${name}",function(){${body}\n;return handle});`);

test("what goes wrong in one integration is reported and hurts no other", async () => {
  script("throws", "function handle() { throw new Error('boom'); }");
  script("hangs", "function handle(event, context, done) {}");
  script("syntax", "function handle( {");
  script("good", "function handle(event, context, done) { window.seen = [event.event, context.results]; done(7); }");
  script("last", "function handle(event, context) { window.last = context.results; }");
  const names = ["throws", "hangs", "syntax", "good"];
  const page = await opened({ integrations: [...names.map((name) => integration(name)),
    integration("last", { after: ["good", "hangs"] })] }, ["parts/integrations"]);
  await say(page, track("Sold"));
  const last = await until(() => page.evaluate(() => window.last), "the last integration");
  assert.deepEqual(last, { good: 7 });
  await until(() => reports.length >= 3, "reports");
  const kinds = Object.fromEntries(reports.map(({ integration, kind }) => [integration, kind]));
  assert.deepEqual(kinds, { throws: "error", hangs: "timeout", syntax: "load" });
});

test("a lazy integration is loaded with its first event, and consent holds for all", async () => {
  script("lazy", "function handle(event) { (window.seen ??= []).push(event.event); }");
  script("strict", "function handle(event) { window.strict = 1; }");
  const page = await opened({ integrations: [integration("lazy", { lazy: true, events: ["Order *"] }),
    integration("strict", { consent: ["analytics"] })] }, ["parts/integrations"]);
  await say(page, track("Lamp Seen"));
  assert.ok(!asked.includes("/tw/lazy.js"));
  await say(page, track("Order Completed"));
  assert.deepEqual(await until(() => page.evaluate(() => window.seen), "the event"), ["Order Completed"]);
  assert.ok(!asked.includes("/tw/strict.js"), "no choice is no consent");
});

test("a draft runs in the browser that was given the token, and in no other", async () => {
  scripts.set("/tw/preview.js", `tagway.drafts([${JSON.stringify(integration("draft"))}]);`);
  script("draft", "function handle(event) { window.draft = event.event; }");
  const context = await browser.newContext();
  const page = await opened({ preview: true }, ["parts/integrations"], { path: "/?tw_preview=abc", context });
  await until(() => asked.includes("/tw/preview.js"), "the drafts");
  await until(() => asked.includes("/tw/draft.js"), "the draft");
  await say(page, track("Sold"));
  await until(() => page.evaluate(() => window.draft), "the draft's event");
  asked = [];
  const again = await opened({ preview: true }, ["parts/integrations"], { context });
  await until(() => asked.includes("/tw/draft.js"), "the draft on another page");
  await again.close();
  asked = [];
  const other = await opened({ preview: true }, ["parts/integrations"]);
  await say(other, track("Sold"));
  await other.evaluate(() => new Promise((resolve) => setTimeout(resolve, 200)));
  assert.ok(!asked.includes("/tw/preview.js"));
});

