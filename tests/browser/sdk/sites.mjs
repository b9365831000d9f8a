// Sites of the gateway that differ in their [sites.sdk], and pages of the shop with their /tw.js.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { appendFile } from "node:fs/promises";
import { get } from "node:http";
import { join } from "node:path";
import { after, before, beforeEach } from "node:test";
import { Shop } from "../clients/harness.mjs";

const DEADLINE_MS = Number(process.env.DEADLINE_MS ?? 60_000);
const POLL_MS = 25;
const snippet = (src) => readFileSync(new URL("../../../static/sdk/dist/snippet.js", import.meta.url), "utf8")
  .replace("TAGWAY_SRC", src);

export async function until(isSo, what) {
  const deadline = Date.now() + DEADLINE_MS;
  while (!(await isSo())) {
    assert.ok(Date.now() < deadline, typeof what === "function" ? what() : what);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

const portOf = (shop) => new URL(shop.gateway).port;
const hostOf = (name) => `${name}.shop.localhost`;

/** Where the site's gateway is. */
export const gatewayOf = (shop, name) => `http://${hostOf(name)}:${portOf(shop)}`;

const table = (shop, name, [sdk, more]) => `
[[sites]]
name = "${name}"
hosts = ["${hostOf(name)}"]
origins = ["${shop.origin}"]
write_key = "${name}"
[sites.sdk]
${sdk}
${more}
[[sites.destinations]]
name = "events"
vendor = "webhook"
batch_delay = "1ms"
[sites.destinations.settings]
url = "http://127.0.0.1:${shop.vendors.events.port}/"
`;

/** The site's script as the gateway answers it: [status, text]. */
export function script(shop, name) {
  const headers = { host: `${hostOf(name)}:${portOf(shop)}` };
  return new Promise((resolve, reject) => {
    get({ host: "127.0.0.1", port: portOf(shop), path: "/tw.js", headers }, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (chunk) => (text += chunk));
      answer.on("end", () => resolve([answer.statusCode, text]));
    }).on("error", reject);
  });
}

/** Adds sites to the running gateway, by name the lines of their [sites.sdk], or those and more tables. */
export async function addSites(shop, sites) {
  const tables = Object.entries(sites).map(([name, lines]) => table(shop, name, [lines, ""].flat()));
  await appendFile(join(shop.data, "tagway.toml"), tables.join(""));
  for (const name of Object.keys(sites)) {
    await until(async () => (await script(shop, name))[0] === 200, `the gateway serves ${name}`);
  }
}

/** Notes what the page complains of: errors, refused requests, requests to anybody else. */
export function complaintsOf(page) {
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (line) => {
    if (["error", "warning"].includes(line.type())) complaints.push(line.text());
  });
  page.on("response", (response) => {
    if (response.status() >= 400) complaints.push(`${response.status()} ${response.url()}`);
  });
  page.on("request", (request) => {
    const { hostname } = new URL(request.url());
    if (!hostname.endsWith(".shop.localhost")) complaints.push(`elsewhere: ${request.url()}`);
  });
  return complaints;
}

/**
 * What the shop serves (as `shop.own`): at /page the snippet, `early` calls, the site's script and the
 * `content`, under a strict policy; elsewhere an empty page. `how` comes before the script in place of
 * the snippet, given the script's address.
 */
export function pageOf(shop, name, { early = "", content = "<h1>Lamps</h1>", how } = {}) {
  const gateway = gatewayOf(shop, name);
  const src = `${gateway}/tw.js`;
  const policy = `default-src 'none'; script-src 'nonce-n' ${gateway}; connect-src ${gateway}; img-src data:; ` +
    // The vendors' snippets put plain addresses into scripts.
    (how ? "" : "require-trusted-types-for 'script'");
  const html = { "content-type": "text/html; charset=utf-8" };
  const tags = how
    ? `<script nonce="n">${how(src)}${early}</script>`
    : `<script nonce="n">${snippet(src)}${early}</script>`;
  const body = `<!doctype html><html lang="en"><head><title>Lamps</title><link rel="icon" href="data:,">
    ${tags}</head><body>${content}</body></html>`;
  const page = { headers: { ...html, "content-security-policy": policy }, body };
  const elsewhere = { headers: html, body: "<!doctype html><title>Elsewhere</title>" };
  return async (pathname) => (pathname === "/page" ? page : elsewhere);
}

const idsOf = (request) => JSON.parse(request.postData() ?? "{}").batch?.map(({ messageId }) => messageId) ?? [];

/** What the tests of a file stand on: the shop with these sites, what came of a test, and its pages. */
export function stage(sites) {
  let shop, start;
  before(async () => {
    shop = await Shop.open([]);
    await addSites(shop, sites);
  });
  after(() => shop?.close());
  beforeEach(() => {
    start = shop.sent().events.length;
    shop.own = undefined;
  });
  const events = () => shop.sent().events.slice(start);

  /** A page of a site, with what it complains of and asks for. */
  async function open(name, { context, path = "/page", viewport, ...how } = {}) {
    shop.own = pageOf(shop, name, how);
    context ??= await shop.browser.newContext({ viewport });
    const page = await context.newPage();
    const complaints = complaintsOf(page);
    const asked = [];
    page.on("request", (request) => {
      const { pathname } = new URL(request.url());
      if (request.method() === "POST") asked.push({ pathname, at: Date.now(), ids: idsOf(request) });
    });
    await page.goto(shop.origin + path);
    await page.waitForFunction(() => window.tagway?.loaded);
    return { context, page, complaints, asked };
  }

  /** What would come twice has come by then: all that was sent is answered, and the browser was idle. */
  async function quiet(page) {
    const count = () => events().filter(({ event }) => event === "Quiet").length;
    const earlier = count();
    await page.evaluate(() => new Promise((done) => tagway.track("Quiet", {}, {}, () => done())));
    await until(() => count() > earlier, () => `the last event: ${JSON.stringify(events())}`);
  }

  return { shop: () => shop, events, open, quiet };
}
