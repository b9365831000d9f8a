// One page of a shop and its tags, in four variants, over TLS and HTTP/2, each host with a certificate
// of its own so that browsers cannot share connections between hosts that are apart in the real world.
//
//   none      no tags
//   vendors   seven vendors' real libraries from npm, each on hosts of its vendor
//   proxied   the same, all on the shop's own host
//   tagway    the gateway in server mode: /tw.js and /e on the shop's own host, two events
//
// and two more where they are asked for, which compare the shims with what they stand in for:
//
//   libraries the four libraries of `vendors` that have a shim, those that npm has
//   shims     /tw.js with all eight shims, behind the vendors' own snippets, each with a shop's calls

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { createHash, createPublicKey } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer as createTcp } from "node:net";
import { createSecureServer } from "node:http2";
import { request as call } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createSecureContext } from "node:tls";
import { brotliCompressSync, constants } from "node:zlib";
import { build } from "esbuild";
import { PAGES } from "../shims/pages.mjs";

export const TAGWAY = process.env.TAGWAY ?? new URL("../../../target/debug/tagway", import.meta.url).pathname;
export const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
export const SHOP = "www.shop.test";
export const VARIANTS = ["none", "vendors", "proxied", "tagway"];
/** The same shop on a host of its own, whose site has the shims. */
const SHIMS = "shims.shop.test";
const DEADLINE_MS = 60_000;

// Where a vendor's library comes from and where it sends, and the page's code that starts it.
const VENDORS = [
  { name: "mixpanel", cdn: "cdn.mixpanel.test", api: "api.mixpanel.test", code: (at) => `
    import mixpanel from "mixpanel-browser";
    mixpanel.init("0f1e2d3c", { api_host: ${at}, track_pageview: true, batch_flush_interval_ms: 300 });
    mixpanel.track("Product Viewed", PRODUCT);` },
  { name: "amplitude", cdn: "cdn.amplitude.test", api: "api.amplitude.test", code: (at) => `
    import * as amplitude from "@amplitude/analytics-browser";
    amplitude.init("0123456789abcdef0123456789abcdef", { serverUrl: ${at} + "/2/httpapi", flushIntervalMillis: 100,
      fetchRemoteConfig: false, diagnosticsSampleRate: 0 });
    amplitude.track("Product Viewed", PRODUCT);` },
  { name: "segment", cdn: "cdn.segment.test", api: "api.segment.test", code: (at) => `
    import { AnalyticsBrowser } from "@segment/analytics-next";
    const analytics = AnalyticsBrowser.load({ writeKey: "shop", cdnURL: ${at} });
    analytics.page(); analytics.track("Product Viewed", PRODUCT);` },
  { name: "posthog", cdn: "cdn.posthog.test", api: "api.posthog.test", code: (at) => `
    import posthog from "posthog-js";
    posthog.init("phc_shop", { api_host: ${at}, disable_external_dependency_loading: true });
    posthog.capture("Product Viewed", PRODUCT);` },
  { name: "rudderstack", cdn: "cdn.rudderstack.test", api: "api.rudderstack.test", code: (at) => `
    import { RudderAnalytics } from "@rudderstack/analytics-js/bundled";
    const analytics = new RudderAnalytics();
    analytics.load("2abcdefghijklmnopqrstuvwxyz", ${at}, { configUrl: ${at} });
    analytics.page(); analytics.track("Product Viewed", PRODUCT);` },
  { name: "snowplow", cdn: "cdn.snowplow.test", api: "api.snowplow.test", code: (at) => `
    import * as snowplow from "@snowplow/browser-tracker";
    snowplow.newTracker("sp", ${at}, { appId: "shop" });
    snowplow.trackPageView();
    snowplow.trackStructEvent({ category: "Product", action: "View", label: "p1", value: 5 });` },
  { name: "jitsu", cdn: "cdn.jitsu.test", api: "api.jitsu.test", code: (at) => `
    import { jitsuAnalytics } from "@jitsu/js";
    const jitsu = jitsuAnalytics({ host: ${at}, writeKey: "shop:secret" });
    jitsu.page(); jitsu.track("Product Viewed", PRODUCT);` },
];
const PRODUCT = { product_id: "p1", name: "Lamp", price: 12.75, quantity: 2, currency: "EUR" };

// What the libraries ask of their vendors: enough for each to start and to believe that it was heard.
const ANSWERS = [
  [/\/projects\/shop\/settings$/, { integrations: { "Segment.io": { apiKey: "shop", apiHost: "api.segment.test/v1" } } }],
  [/\/sourceConfig/, { source: { id: "s", name: "s", writeKey: "2abcdefghijklmnopqrstuvwxyz", enabled: true,
    workspaceId: "w", config: { statsCollection: {} }, destinations: [] } }],
  [/\/(array|flags|decide)/, { supportedCompression: ["gzip-js"], featureFlags: {}, surveys: false }],
];

async function bundle({ code }, at) {
  const contents = `const PRODUCT = ${JSON.stringify(PRODUCT)};${code(JSON.stringify(at))}`;
  const resolveDir = new URL("..", import.meta.url).pathname;
  const { outputFiles: [file] } = await build({
    stdin: { contents, resolveDir }, bundle: true, minify: true, write: false, format: "iife",
    platform: "browser", target: "chrome120", logLevel: "error",
  });
  return file.contents;
}

// As a real host does: compressed once, before anyone asks.
const asset = (type, content) => ({ type, body: brotliCompressSync(content, {
  params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }) });

function page(scripts, inline = "") {
  const products = Array.from({ length: 24 }, (_, number) =>
    `<li class="product"><h2>Product ${number}</h2><p>A sturdy thing for every day, number ${number}.</p></li>`);
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>Shop</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<link rel="stylesheet" href="/shop.css"><script defer src="/app.js"></script>
${inline}${scripts.map((src) => `<script async src="${src}"></script>`).join("\n")}
<h1>Shop</h1><ul>${products.join("")}</ul></html>`;
}

// The page's own work: what any shop does.
const APP = `for (const item of document.querySelectorAll(".product")) {
  const price = document.createElement("b");
  price.textContent = new Intl.NumberFormat("en", { style: "currency", currency: "EUR" }).format(item.textContent.length);
  item.append(price);
}`;

// What a page has first: it brings the script, which reports the page by itself.
const snippet = async (src) => (await readFile(new URL("../../../static/sdk/dist/snippet.js", import.meta.url), "utf8"))
  .replace("TAGWAY_SRC", src);

/** The site key's certificates, one for each host, and the digest by which a browser believes them. */
async function certificates(folder, hosts) {
  const key = join(folder, "key.pem");
  const openssl = (...words) => execFileSync("openssl", words, { stdio: ["ignore", "pipe", "ignore"] });
  openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key);
  const pem = await readFile(key);
  const of = new Map(hosts.map((host) => [host, createSecureContext({ key: pem, cert: openssl("req", "-x509",
    "-key", key, "-days", "2", "-subj", `/CN=${host}`, "-addext", `subjectAltName=DNS:${host}`) })]));
  const spki = createPublicKey(pem).export({ type: "spki", format: "der" });
  return { of, digest: createHash("sha256").update(spki).digest("base64") };
}

async function freePort() {
  const server = createTcp().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

async function gateway(folder) {
  const port = await freePort();
  const file = join(folder, "tagway.toml");
  await writeFile(file, `data_dir = "${folder}/data"
[listen]
http = "127.0.0.1:${port}"
admin = "127.0.0.1:0"
trusted_proxies = ["127.0.0.0/8"]
[log]
level = "error"
[[sites]]
name = "shop"
hosts = ["${SHOP}"]
origins = ["https://${SHOP}"]
write_key = "shop"
[[sites]]
name = "shims"
hosts = ["${SHIMS}"]
origins = ["https://${SHIMS}"]
write_key = "shims"
[sites.sdk]
auto = []
shims = ${JSON.stringify(Object.keys(PAGES))}
`);
  const child = spawn(TAGWAY, ["serve", "--config", file], { stdio: ["ignore", "pipe", "inherit"] });
  await Promise.race([once(child.stdout, "data"),
    once(child, "exit").then(([code]) => assert.fail(`the gateway ended with ${code}`))]);
  child.stdout.resume();
  const stop = async () => {
    if (child.exitCode !== null) return;
    child.kill("SIGTERM");
    await once(child, "exit");
  };
  return { port, stop };
}

/** Opens the shop, the vendors' hosts and the gateway. */
export async function open(variants = VARIANTS) {
  const folder = await mkdtemp(join(tmpdir(), "tagway-cost-"));
  const hosts = [SHOP, SHIMS, ...VENDORS.flatMap(({ cdn, api }) => [cdn, api])];
  const { of, digest } = await certificates(folder, hosts);
  const tagway = await gateway(folder);

  const css = await readFile(new URL("../../../static/demo/shop.css", import.meta.url));
  const files = new Map([
    [`${SHOP}/shop.css`, asset("text/css", css)],
    [`${SHOP}/app.js`, asset("text/javascript", APP)],
    [`${SHOP}/none`, asset("text/html", page([]))],
    [`${SHOP}/tagway`, asset("text/html", page([],
      `<script>${await snippet("/tw.js")}tagway("track","Product Viewed",${JSON.stringify(PRODUCT)})</script>`))],
  ]);
  for (const name of ["shop.css", "app.js"]) files.set(`${SHIMS}/${name}`, files.get(`${SHOP}/${name}`));
  const calls = Object.values(PAGES).map((it) => `<script>${it.snippet("data:text/javascript,")};${it.before}</script>`);
  files.set(`${SHIMS}/shims`, asset("text/html", page([], `<script>${await snippet("/tw.js")}</script>${calls.join("")}`)));
  const urls = { vendors: [], proxied: [], libraries: [] };
  for (const vendor of Object.keys(urls).some((name) => variants.includes(name)) ? VENDORS : []) {
    files.set(`${vendor.cdn}/${vendor.name}.js`,
      asset("text/javascript", await bundle(vendor, `https://${vendor.api}`)));
    urls.vendors.push(`https://${vendor.cdn}/${vendor.name}.js`);
    if (vendor.name in PAGES) urls.libraries.push(urls.vendors.at(-1));
    files.set(`${SHOP}/p/${vendor.name}.js`,
      asset("text/javascript", await bundle(vendor, `https://${SHOP}/p/${vendor.name}`)));
    urls.proxied.push(`/p/${vendor.name}.js`);
  }
  for (const [name, scripts] of Object.entries(urls)) files.set(`${SHOP}/${name}`, asset("text/html", page(scripts)));

  const bodies = [];
  const options = { allowHTTP1: true, SNICallback: (host, done) => done(null, of.get(host)) };
  const server = createSecureServer(options, (request, response) => {
    const host = request.authority ?? request.headers.host;
    const path = request.url.split("?")[0];
    const file = files.get(host + path);
    if (file) {
      const caching = path.endsWith(".js") || path.endsWith(".css") ? "public, max-age=31536000" : "no-cache";
      response.writeHead(200, { "content-type": file.type, "content-encoding": "br", "cache-control": caching });
      response.end(file.body);
    } else if ((host === SHOP || host === SHIMS) && (path.startsWith("/tw.") || path === "/e")) {
      pass(request, response, { port: tagway.port, host }, bodies);
    } else {
      answer(request, response, path);
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const close = async () => {
    server.close();
    await tagway.stop();
    await rm(folder, { recursive: true, force: true });
  };
  return { url: (variant) => `https://${variant === "shims" ? SHIMS : SHOP}/${variant}`, bodies, close, digest,
    rules: `MAP *.test 127.0.0.1:${server.address().port}`, gatewayPort: tagway.port };
}

// The shop's own server hands the gateway's paths on, as any reverse proxy does.
function pass(request, response, { port, host }, bodies) {
  const headers = Object.fromEntries(Object.entries(request.headers).filter(([name]) => !name.startsWith(":")));
  const forwarded = { "x-forwarded-for": "198.51.100.7", "x-forwarded-proto": "https" };
  const onward = call({ host: "127.0.0.1", port, method: request.method, path: request.url,
    headers: { ...headers, ...forwarded, host } }, (answer) => {
    const { connection, "transfer-encoding": _, "keep-alive": __, ...rest } = answer.headers;
    response.writeHead(answer.statusCode, rest);
    answer.pipe(response);
  });
  onward.on("error", () => response.writeHead(502).end());
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    if (request.method === "POST") bodies.push(Buffer.concat(chunks).toString());
    onward.end(Buffer.concat(chunks));
  });
}

function answer(request, response, path) {
  const cors = { "access-control-allow-origin": request.headers.origin ?? "*",
    "access-control-allow-credentials": "true",
    "access-control-allow-headers": request.headers["access-control-request-headers"] ?? "*" };
  const [, body] = ANSWERS.find(([pattern]) => pattern.test(path)) ?? [null, { status: 1, code: 200, success: true }];
  request.resume();
  response.writeHead(200, { ...cors, "content-type": "application/json" });
  response.end(request.method === "OPTIONS" ? "" : JSON.stringify(body));
}

/** Waits until it holds. */
export async function until(claim, what) {
  const deadline = Date.now() + DEADLINE_MS;
  while (!(await claim())) {
    assert.ok(Date.now() < deadline, what);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
