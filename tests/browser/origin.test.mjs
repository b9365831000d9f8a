// Pages of an origin behind the gateway, in a browser: under policies of their own, as applications that take
// over the whole document, and in pages that leave tags out.

import assert from "node:assert/strict";
import { appendFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Shop } from "./clients/harness.mjs";
import { script, until } from "./sdk/sites.mjs";

const NONCE = "'nonce-oXyH9nGiPmPt5tBRP2zw'";
const HOST = "behind.shop.localhost";

/** Sends an event of the page's own, under the nonce of its policy. */
const own = (name) => `<script nonce="oXyH9nGiPmPt5tBRP2zw">window.tagway && tagway.track("Own", { name: "${name}" })</script>`;
const policy = (text) => `<meta http-equiv="Content-Security-Policy" content="${text}">`;
const page = (name, meta) =>
  `<!doctype html><html><head><meta charset="utf-8">${meta}<title>${name}</title></head><body>hi${own(name)}</body></html>`;
const PAGES = {
  none: page("none", ""),
  self: page("self", policy(`script-src 'self' ${NONCE}`)),
  nonce: page("nonce", policy(`script-src ${NONCE}`)),
  entities: page("entities", policy(`script-src ${NONCE.replaceAll("'", "&#039;")}; connect-src &#x27;self&#x27;`)),
  dynamic: page("dynamic", policy(`script-src ${NONCE} 'strict-dynamic'; object-src 'none'; base-uri 'self'`)),
  types: page("types", policy(`script-src ${NONCE}; require-trusted-types-for 'script'`)),
  base: page("base", `<base href="http://elsewhere.shop.localhost/">${policy(`script-src ${NONCE}`)}`),
  reported: page("reported", ""),
  omitted: `<!doctype html>\n<meta charset="utf-8">\n<title>omitted</title>\n<h1>Hi</h1>${own("omitted")}`,
  frameset: `<!doctype html><html><title>frameset</title>${own("frameset")}<frameset cols="*"></frameset></html>`,
};
/** The policies that only report, which no page can name in itself. */
const REPORTING = { reported: `script-src ${NONCE}; connect-src 'self'; report-uri /violation` };
const STOPPED = {
  hashes: page("hashes", policy("script-src 'sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='")),
  connections: page("connections", policy(`script-src ${NONCE}; connect-src 'none'`)),
};

let shop, gateway;
before(async () => {
  shop = await Shop.open([]);
  gateway = shop.gateway.replace("t.shop.localhost", HOST);
  await appendFile(join(shop.data, "tagway.toml"), `
[[sites]]
name = "behind"
hosts = ["${HOST}"]
origins = ["${gateway}"]
origin = "http://127.0.0.1:${new URL(shop.origin).port}"
[sites.sdk]
auto = []
[[sites.destinations]]
name = "events"
vendor = "webhook"
batch_delay = "1ms"
[sites.destinations.settings]
url = "http://127.0.0.1:${shop.vendors.events.port}/"
`);
  const headers = { "content-type": "text/html; charset=utf-8" };
  shop.own = async (pathname) => {
    const name = pathname.slice(1);
    const reporting = REPORTING[name] && { "content-security-policy-report-only": REPORTING[name] };
    return { headers: { ...headers, ...reporting }, body: PAGES[name] ?? STOPPED[name] ?? "" };
  };
  await until(async () => (await script(shop, "behind"))[0] === 200, "the gateway serves the site");
});
after(() => shop?.close());

async function open(name) {
  const context = await shop.browser.newContext();
  const tab = await context.newPage();
  const complaints = [];
  await tab.addInitScript(() => {
    window.violated = [];
    addEventListener("securitypolicyviolation", ({ violatedDirective }) => window.violated.push(violatedDirective));
  });
  tab.on("pageerror", (error) => complaints.push(String(error)));
  tab.on("console", (line) => {
    if (["error", "warning"].includes(line.type())) complaints.push(line.text());
  });
  await tab.goto(`${gateway}/${name}`, { waitUntil: "load" });
  return { context, tab, complaints };
}

const arrived = (name) => shop.sent().events.some(({ event, properties }) => event === "Own" && properties.name === name);

for (const name of Object.keys(PAGES)) {
  test(`${name}: the script loads and the page's event arrives`, async () => {
    const { context, tab, complaints } = await open(name);
    await until(() => arrived(name), () => `${name}: ${complaints}`);
    const left = await tab.evaluate(() => [...document.querySelectorAll("script")].filter((it) =>
      it.src.includes("tw.js") || it.text.includes("tw.js")).length);
    assert.equal(left, 0, "the snippet leaves nothing in the document");
    assert.deepEqual(complaints.filter((line) => !line.includes("elsewhere")), []);
    assert.deepEqual(await tab.evaluate(() => window.violated), []);
    await context.close();
  });
}

for (const name of Object.keys(STOPPED)) {
  test(`${name}: what the policy would stop is not put in, and nothing is complained of`, async () => {
    const { context, tab, complaints } = await open(name);
    assert.equal(await tab.evaluate(() => typeof window.tagway), "undefined");
    assert.ok(!complaints.some((line) => line.includes("tw.js")), `${complaints}`);
    await context.close();
  });
}

test("applications that take over the whole document find in it what they made", async () => {
  const { context, tab } = await open("none");
  await tab.waitForFunction(() => window.tagway?.loaded);
  const [here, sent] = await tab.evaluate(async () => {
    // What a script fetches is as the origin sent it.
    const text = await (await fetch(location.href)).text();
    const made = new DOMParser().parseFromString(text, "text/html");
    return [document, made].map((it) => it.documentElement.outerHTML);
  });
  assert.ok(!sent.includes("tw.js"));
  assert.equal(here, sent);
  await context.close();
});
