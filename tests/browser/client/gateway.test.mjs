// Client mode and custom integrations as the running gateway serves them: the vendors' libraries come
// from its host, out of a CDN that is played here (Mixpanel's and Amplitude's own builds from npm), and
// what they send goes through it.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { appendFile, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { promisify } from "node:util";
import { gunzipSync } from "node:zlib";
import { Shop, TAGWAY } from "../clients/harness.mjs";
import { complaintsOf, gatewayOf, pageOf, script, until } from "../sdk/sites.mjs";

const installed = (path) => readFile(new URL(`../node_modules/${path}`, import.meta.url), "utf8");

/** As Meta's does: works off its queue and sends each event to Facebook's host. */
const META = `fbq.callMethod = function (call, id, name, said, more) {
  if (call.slice(0, 5) !== "track") return;
  fetch("https://www.facebook.com/tr/?id=" + id + "&ev=" + encodeURIComponent(name) +
    "&eid=" + encodeURIComponent(more.eventID), { method: "POST", keepalive: true });
};
fbq.queue.splice(0).forEach(function (call) { fbq.callMethod.apply(fbq, call); });`;

const FILES = {
  "good.js": "function handle(event, context, done) { setTimeout(() => done(event.event || event.type), 5); }",
  "last.js": `const seen = (window.seen = []);
    function handle(event, context) { seen.push([event.event || event.type, context.results.good, context.user.id]); }`,
  "throws.js": "function handle() { throw new Error('boom \\u0007 a@b.example'); }",
  "hangs.js": "function handle(event, context, done) {}",
  // So deep that the gateway does not look for mistakes in it.
  "syntax.js": `function handle${"(".repeat(2000)}`,
  "own.js": "let count = 0; const handle = (event) => { window.inline = ++count; };",
  "lazy.js": "function handle(event) { (window.lazy ??= []).push(event.event); event.event = 'changed'; }",
  "strict.js": "async function handle(event) { (window.strict ??= []).push(event.event || event.type); }",
  "draft.js": "function handle(event) { (window.draft ??= []).push(event.event || event.type); }",
};

let shop, cdn, meta, mixpanel, amplitude, start;

/** A server that notes what it is asked and answers with a script, or as the vendors' do. */
async function recorder(scripts = {}) {
  const asked = [];
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const bytes = Buffer.concat(chunks);
    const { pathname, searchParams } = new URL(request.url, "http://any");
    const text = (bytes[0] === 0x1f ? gunzipSync(bytes) : bytes).toString();
    asked.push({ method: request.method, pathname, query: searchParams, text, fields: request.headers });
    const found = scripts[pathname];
    response.setHeader("content-type", found ? "text/javascript" : "application/json");
    response.end(found ?? '{"code":200,"status":"OK","num_records_imported":1}');
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { server, asked, at: `http://127.0.0.1:${server.address().port}` };
}

const site = (name, more) => `
[[sites]]
name = "${name}"
hosts = ["${name}.shop.localhost"]
origins = ["${shop.origin}"]
${more}
[[sites.destinations]]
name = "events"
vendor = "webhook"
batch_delay = "1ms"
[sites.destinations.settings]
url = "http://127.0.0.1:${shop.vendors.events.port}/"
`;

const vendor = (name, { upstream, settings, how }) => `
[sites.vendors.${name}]
script_endpoint = "${cdn.at}"
upstream = "${upstream.at}"
[[sites.destinations]]
name = "${name}"
vendor = "${name}"
endpoint = "${upstream.at}"
batch_delay = "1ms"
${how}
[sites.destinations.settings]
${settings}
`;

const integration = (name, more = "") =>
  `[[sites.integrations]]\nname = "${name}"\nfile = "${name}.js"\n${more}\n`;

before(async () => {
  shop = await Shop.open([]);
  cdn = await recorder({
    "/en_US/fbevents.js": META,
    "/libs/mixpanel-2-latest.min.js": await installed("mixpanel-browser/dist/mixpanel.min.js"),
    "/libs/analytics-browser-2.11.1-min.js.gz":
      await installed("@amplitude/analytics-browser/lib/scripts/amplitude-min.js"),
  });
  [meta, mixpanel, amplitude] = [await recorder(), await recorder(), await recorder()];
  for (const [name, text] of Object.entries(FILES)) await writeFile(join(shop.data, name), text);
  const both = 'mode = "both"\nclient_load = "idle"';
  await appendFile(join(shop.data, "tagway.toml"), [
    site("meta", vendor("meta", {
      upstream: meta, settings: 'pixel_id = "1234567890"',
      how: 'mode = "client"\nconsent = ["advertising"]\nunknown_consent = "hold"\nevents = ["*", "!Secret*"]',
    })),
    site("lazy", vendor("meta", {
      upstream: meta, settings: 'pixel_id = "1234567890"', how: 'mode = "client"\nclient_load = "interaction"',
    })),
    site("mixpanel", vendor("mixpanel", {
      upstream: mixpanel, how: both,
      settings: 'project_token = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"\nproject_id = "1"\nservice_account = "s"\nservice_secret = "hush-hush"',
    })),
    site("amplitude", vendor("amplitude", {
      upstream: amplitude, how: both, settings: 'api_key = "0123456789abcdef0123456789abcdef"',
    })),
    site("own", integration("last", 'after = ["good", "hangs", "syntax"]') + integration("good") +
      integration("throws") + integration("hangs", 'timeout = "200ms"') + integration("syntax") +
      integration("own", "inline = true") + integration("lazy", 'lazy = true\non = ["Order *"]') +
      integration("strict", 'consent = ["analytics"]') + integration("draft", "preview = true")),
  ].join(""));
  for (const name of ["meta", "lazy", "mixpanel", "amplitude", "own"]) {
    await until(async () => (await script(shop, name))[0] === 200, `the gateway serves ${name}`);
  }
});

after(async () => {
  await shop?.close();
  for (const recorder of [cdn, meta, mixpanel, amplitude]) {
    recorder?.server.closeAllConnections();
    recorder?.server.close();
  }
});

beforeEach(() => {
  start = shop.sent().events.length;
  for (const recorder of [cdn, meta, mixpanel, amplitude]) recorder.asked.length = 0;
});

const events = () => shop.sent().events.slice(start);
const nameOf = ({ event, type }) => event ?? type;

async function open(name, { early, query = "", context, policy } = {}) {
  const own = pageOf(shop, name, { early });
  shop.own = async (pathname) => {
    const page = await own(pathname);
    return policy ? { ...page, headers: { ...page.headers, "content-security-policy": policy } } : page;
  };
  context ??= await shop.browser.newContext();
  const page = await context.newPage();
  const complaints = complaintsOf(page);
  const asked = [];
  page.on("request", (request) => asked.push(new URL(request.url()).pathname));
  await page.goto(`${shop.origin}/page${query}`);
  await page.waitForFunction(() => window.tagway?.loaded);
  return { context, page, complaints, asked };
}

/** Waits until all is settled, and holds each destination to its sums. */
async function ledger(name) {
  let rows;
  await until(async () => {
    const all = await (await fetch(`${shop.admin}/api/v1/ledger`)).json();
    rows = all.filter((row) => row.site === name);
    return rows.length && rows.every((row) => row.pending === 0);
  }, () => `not settled: ${JSON.stringify(rows)}`);
  for (const row of rows) assert.equal(row.accepted, row.delivered + row.skipped + row.dead, JSON.stringify(row));
  return rows;
}

const told = (recorder) => recorder.asked.filter(({ pathname }) => pathname === "/tr/")
  .map(({ query }) => [query.get("ev"), query.get("eid")]);

test("the page's library has the events once the visitor agrees, and the gateway sends none", async () => {
  const { context, page, complaints, asked } = await open("meta", { early: 'tagway.track("Early", {a: 1});' });
  await page.evaluate(() => tagway.track("Secret Thing"));
  await until(() => events().length === 3, () => `${events().map(nameOf)}`);
  assert.ok(!asked.some((path) => path.startsWith("/meta")), `${asked}`);
  await page.evaluate(() => tagway.consent({ advertising: true }));
  await until(() => told(meta).length >= 2, () => `${asked}`);
  await page.evaluate(() => tagway.track("Order Completed", { total: 5, currency: "EUR" }));
  await until(() => told(meta).length >= 3 && events().length >= 4, () => `${told(meta)}`);
  const idOf = (name) => events().find((event) => nameOf(event) === name).messageId;
  // The library's requests run beside each other: which comes first is the network's.
  assert.deepEqual(told(meta).sort(), [
    ["Early", idOf("Early")], ["PageView", idOf("page")], ["Purchase", idOf("Order Completed")],
  ]);
  const rows = await ledger("meta");
  assert.deepEqual(rows.map((row) => row.destination).sort(), ["events", "forward-meta"]);
  assert.equal(events().length, 4, "what the library sends is no event of its own");
  assert.equal(asked.filter((path) => path === "/meta/en_US/fbevents.js").length, 1);
  assert.ok(meta.asked.every(({ pathname }) => pathname === "/tr/"), "nothing by the Conversions API");
  assert.deepEqual(complaints, []);
  await context.close();
});

test("who refuses never meets the library", async () => {
  const { context, page, asked } = await open("meta", { early: "tagway.consent({ advertising: false });" });
  await page.evaluate(() => tagway.track("Order Completed", {}));
  await until(() => events().length === 2, () => `${events().map(nameOf)}`);
  // It would have been asked for by then: the page was idle, and its own events are there.
  await page.evaluate(() => new Promise((done) => requestIdleCallback(() => requestIdleCallback(done))));
  assert.ok(!asked.some((path) => path.startsWith("/meta")), `${asked}`);
  await context.close();
});

test("a library that waits for an interaction is not asked for before one", async () => {
  const { context, page, asked } = await open("lazy");
  await until(() => events().length === 1, "the page's own event");
  await page.evaluate(() => new Promise((done) => requestIdleCallback(() => requestIdleCallback(done))));
  assert.ok(!asked.some((path) => path.startsWith("/meta")), `${asked}`);
  await page.keyboard.press("Tab");
  await until(() => told(meta).length === 1, () => `${asked}`);
  assert.equal(told(meta)[0][0], "PageView");
  await context.close();
});

test("mixpanel has the same event from the page and from the gateway, under one id", async () => {
  const [, text] = await script(shop, "mixpanel");
  assert.ok(!text.includes("hush-hush") && !text.includes("service"), "no secret in the page");
  const { context, page, complaints } = await open("mixpanel");
  await page.evaluate(() => {
    tagway.identify("u-1");
    tagway.track("Lamp Seen", { color: "red" });
  });
  const sent = (path) => mixpanel.asked.filter(({ pathname }) => pathname.startsWith(path))
    .flatMap(({ text }) => {
      const data = new URLSearchParams(text).get("data");
      const parsed = JSON.parse(data ? (/^[{[]/.test(data) ? data : Buffer.from(data, "base64").toString()) : text);
      return [parsed].flat();
    }).filter(({ event }) => event === "Lamp Seen");
  await until(() => sent("/track").length && sent("/import").length,
    () => JSON.stringify(mixpanel.asked.map(({ pathname, text }) => [pathname, text.slice(0, 300)])));
  const [[own], [gateways]] = [sent("/track"), sent("/import")];
  assert.equal(own.properties.$insert_id, gateways.properties.$insert_id);
  assert.equal(own.properties.distinct_id, "u-1");
  assert.equal(gateways.properties.distinct_id, "u-1");
  // The gateway takes the browser's clock for what it is worth, so the two differ by some milliseconds.
  assert.ok(Math.abs(own.properties.time * 1000 - gateways.properties.time) < 2000);
  assert.equal(own.properties.color, "red");
  await ledger("mixpanel");
  assert.equal(events().filter((event) => nameOf(event) === "Lamp Seen").length, 1);
  assert.deepEqual(complaints.filter((line) => line.startsWith("elsewhere")), []);
  await context.close();
});

test("amplitude has the same event from the page and from the gateway, under one id", async (t) => {
  const seen = () => amplitude.asked.filter(({ pathname }) => pathname === "/2/httpapi")
    .flatMap(({ text, fields }) => JSON.parse(text).events.map((event) => ({ ...event, agent: fields["user-agent"] })))
    .filter((event) => event.event_type === "Lamp Seen");
  // The library alone decides when it sends: a page in which it stays silent is reported, and opened once more.
  const visit = async (patience) => {
    const { context, page, complaints, asked } = await open("amplitude");
    amplitude.asked.length = 0;
    await page.evaluate(() => tagway.track("Lamp Seen", { color: "red" }));
    const both = () => seen().length >= 2;
    const deadline = Date.now() + patience;
    while (!both() && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 50));
    const state = await page.evaluate(() => [navigator.onLine, typeof window.amplitude?.track]);
    await context.close();
    const sent = amplitude.asked.map(({ text }) => text.slice(0, 300));
    return { complaints, isSilent: !both(), what: JSON.stringify([state, asked, complaints, sent]) };
  };
  let visited = await visit(30_000);
  if (visited.isSilent) {
    t.diagnostic(`the library sent nothing: ${visited.what}`);
    visited = await visit(60_000);
  }
  assert.ok(!visited.isSilent, visited.what);
  await ledger("amplitude");
  assert.equal(seen().length, 2, "once by the page, once by the gateway");
  assert.equal(new Set(seen().map((event) => event.insert_id)).size, 1);
  assert.deepEqual(visited.complaints.filter((line) => line.startsWith("elsewhere")), []);
});

async function failures() {
  const text = await (await fetch(`${shop.admin}/metrics`)).text();
  const lines = text.matchAll(/tagway_integration_errors_total\{site="own",integration="(\w+)"\} (\d+)/g);
  return Object.fromEntries([...lines].filter(([, , count]) => count !== "0").map(([, name, count]) => [name, +count]));
}

test("what goes wrong in one integration is counted by the gateway and hurts no other", async () => {
  const gateway = gatewayOf(shop, "own");
  // Scripts by the nonce only: those that are loaded later have it from /tw.js.
  const policy = `default-src 'none'; script-src 'nonce-n'; connect-src ${gateway}; img-src data:; ` +
    "require-trusted-types-for 'script'; trusted-types tagway tagway-snippet";
  const { context, page, complaints, asked } = await open("own", { policy, early: 'tagway.identify("u-1");' });
  await page.evaluate(() => tagway.track("Order Completed", {}));
  await page.waitForFunction(() => window.seen?.length === 3 && window.lazy && window.inline === 3);
  const seen = await page.evaluate(() => [window.seen, window.lazy]);
  assert.deepEqual(seen, [
    [["page", "page", "u-1"], ["identify", "identify", "u-1"], ["Order Completed", "Order Completed", "u-1"]],
    ["Order Completed"],
  ]);
  const wanted = { throws: 1, hangs: 1, syntax: 1 };
  await until(async () => Object.keys(await failures()).length === 3, "reports");
  assert.deepEqual(await failures(), wanted);
  for (const name of ["strict", "draft", "own"]) {
    assert.ok(!asked.some((path) => path.startsWith(`/tw/${name}.`)), `${name}: ${asked}`);
  }
  await page.evaluate(() => tagway.consent({ analytics: true }));
  await page.waitForFunction(() => window.strict?.length === 3);
  assert.deepEqual(await page.evaluate(() => window.strict), ["page", "identify", "Order Completed"]);
  // Nothing but the script that is broken and what is said of those that failed.
  const others = complaints.filter((line) => !/SyntaxError|tagway: the integration/.test(line));
  assert.deepEqual(others, []);
  await until(() => events().length === 3, () => `${events().map(nameOf)}`);
  await context.close();
});

test("a draft runs in the browser that opened the link, and in no other", async () => {
  const { stdout } = await promisify(execFile)(TAGWAY,
    ["preview", "--config", join(shop.data, "tagway.toml"), "--site", "own", "--page", `${shop.origin}/page`]);
  const link = new URL(stdout.split("\n")[0]);
  assert.equal(link.origin, shop.origin);
  const { context, page } = await open("own", { query: link.search });
  await page.waitForFunction(() => window.draft);
  assert.deepEqual(await page.evaluate(() => window.draft), ["page"], "what was before it came as well");
  const again = await open("own", { context });
  await again.page.waitForFunction(() => window.draft);
  const off = await open("own", { context, query: "?tw_preview=off" });
  const without = await open("own", { context });
  for (const { page, asked } of [off, without]) {
    await page.waitForFunction(() => window.seen?.length);
    assert.ok(!asked.includes("/tw/preview.js"), `${asked}`);
  }
  await context.close();
  const forged = link.search.slice(0, -4) + "AAAA";
  const other = await open("own", { query: forged });
  await until(() => other.asked.includes("/tw/preview.js"), () => `${other.asked}`);
  await other.page.waitForFunction((key) => localStorage[key] === undefined, "tw_preview");
  assert.equal(await other.page.evaluate(() => window.draft), undefined);
  await other.context.close();
});

test("a page learns what became of each message", async () => {
  const { context, page } = await open("own");
  const answers = await page.evaluate(() => Promise.all(["Good", "x".repeat(5000), "Better"].map((name) =>
    new Promise((done) => tagway.track(name, {}, {}, done)))));
  assert.deepEqual(answers, [200, 400, 200]);
  const alone = await page.evaluate(() => new Promise((done) => tagway.track("Alone", {}, {}, done)));
  assert.equal(alone, 204);
  await context.close();
});
