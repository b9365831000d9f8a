// A shop on www.shop.localhost whose pages run the vendors' npm clients, the gateway on
// t.shop.localhost, and recorders in the places of its destinations.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { gunzipSync } from "node:zlib";
import { build } from "esbuild";
import { chromium } from "playwright-core";

export const TAGWAY = process.env.TAGWAY ?? new URL("../../../target/debug/tagway", import.meta.url).pathname;
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const DEADLINE_MS = 60_000;
// Some clients are silent in browsers that call themselves headless or automated. Said on the command
// line, because requests that outlive their page would lose what a page is told to say.
const AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) " +
  "Chrome/140.0.0.0 Safari/537.36";

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function listen(handler) {
  const server = createServer(handler);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

const port = (server) => server.address().port;

/** One file of JavaScript for each page script, by its name. */
async function bundles(names) {
  const entry = (name) => new URL(`./pages/${name}.mjs`, import.meta.url).pathname;
  const { outputFiles } = await build({
    entryPoints: Object.fromEntries(names.map((name) => [name, entry(name)])),
    bundle: true, write: false, format: "iife", platform: "browser", target: "chrome120",
    outdir: "/", logLevel: "error",
  });
  return new Map(outputFiles.map((file) => [file.path, file.text]));
}

/** A vendor that takes everything and remembers it. */
export async function recorder(answer) {
  const bodies = [];
  const server = await listen(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const bytes = Buffer.concat(chunks);
    const text = bytes[0] === 0x1f ? gunzipSync(bytes) : bytes;
    const body = JSON.parse(text);
    bodies.push(body);
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(answer(body)));
  });
  return { server, bodies, port: port(server) };
}

const settings = (data, origin, vendors) => `
data_dir = "${data}"
[listen]
http = "127.0.0.1:0"
admin = "127.0.0.1:0"
[egress]
allow_private = true
[limits]
client_per_second = 0
client_events_per_second = 0
client_bytes_per_second = "0B"
[log]
level = "error"
[[sites]]
name = "shop"
hosts = ["t.shop.localhost"]
origins = ["${origin}"]
write_key = "shop"
[[sites.destinations]]
name = "events"
vendor = "webhook"
batch_delay = "1ms"
[sites.destinations.settings]
url = "http://127.0.0.1:${vendors.events.port}/"
[[sites.destinations]]
name = "ga4"
vendor = "ga4"
batch_delay = "1ms"
endpoint = "http://127.0.0.1:${vendors.ga4.port}"
[sites.destinations.settings]
measurement_id = "G-SHOP1"
api_secret = "secret"
[[sites.destinations]]
name = "meta"
vendor = "meta"
batch_delay = "1ms"
endpoint = "http://127.0.0.1:${vendors.meta.port}"
[sites.destinations.settings]
pixel_id = "1234567890"
access_token = "secret"
`;

/** A gateway of this configuration, once it listens. */
export async function started(data, config) {
  const path = join(data, "tagway.toml");
  await writeFile(path, config);
  const child = spawn(TAGWAY, ["serve", "--config", path], { stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: child.stdout })) {
    const http = /"http":"[^"]*:(\d+)"/.exec(line)?.[1];
    const admin = /"admin":"([^"]+)"/.exec(line)?.[1];
    if (!http || !admin) continue;
    child.stdout.resume();
    return { child, gateway: `http://t.shop.localhost:${http}`, admin: `http://${admin}` };
  }
  throw new Error("the gateway did not start");
}

/** The browser, with everything off that it does without being asked. */
export const launched = () => chromium.launch({
  executablePath: CHROMIUM,
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-blink-features=AutomationControlled", `--user-agent=${AGENT}`],
});

export class Shop {
  static async open(names) {
    const shop = new Shop();
    shop.scripts = await bundles(names);
    shop.pages = await listen((request, response) => shop.#serve(request, response));
    shop.origin = `http://www.shop.localhost:${port(shop.pages)}`;
    shop.vendors = {
      events: await recorder(() => ({})),
      ga4: await recorder(() => ({})),
      meta: await recorder((body) => ({ events_received: body.data.length, messages: [] })),
    };
    shop.data = await mkdtemp(join(tmpdir(), "tagway-clients-"));
    Object.assign(shop, await started(shop.data, settings(shop.data, shop.origin, shop.vendors)));
    shop.browser = await launched();
    return shop;
  }

  #serve(request, response) {
    const { pathname } = new URL(request.url, "http://shop");
    // A test's own pages come before those of the clients.
    const own = this.own?.(pathname);
    if (own) return own.then(({ headers, body }) => response.writeHead(200, headers).end(body));
    const script = this.scripts.get(pathname);
    if (script) {
      response.setHeader("content-type", "text/javascript; charset=utf-8");
      return response.end(script);
    }
    if (pathname === "/favicon.ico") return response.writeHead(204).end();
    const name = pathname.slice(1);
    const tag = this.scripts.has(`/${name}.js`) ? `<script src="/${name}.js"></script>` : "";
    response.setHeader("content-type", "text/html; charset=utf-8");
    return response.end(`<!doctype html><html lang="en"><head><title>Lamps</title>
      <script>window.GATEWAY = ${JSON.stringify(this.gateway)};</script></head>
      <body><h1>Lamps</h1>${tag}</body></html>`);
  }

  /** What the events' destination, GA4 and Meta were sent so far. */
  sent() {
    return {
      events: this.vendors.events.bodies.flat(),
      ga4: this.vendors.ga4.bodies.flatMap(({ events, ...who }) =>
        events.map((event) => ({ ...event, ...who }))),
      meta: this.vendors.meta.bodies.flatMap((body) => body.data),
    };
  }

  /** A browser that has the gateway's cookie of a visitor already, as after any first event. */
  async returningBrowser() {
    const count = this.sent().events.length;
    const context = await this.browser.newContext();
    const page = await context.newPage();
    await page.goto(`${this.origin}/elsewhere`);
    await page.evaluate(() => fetch(`${window.GATEWAY}/v1/page`, {
      method: "POST", credentials: "include", body: JSON.stringify({ writeKey: "shop" }),
    }));
    await this.#settled(count + 1);
    assert.ok((await context.cookies()).length > 0, "the browser has a cookie");
    await page.close();
    return context;
  }

  /**
   * Runs a client's page: `window.calls()`, and when `early` events of it have arrived `window.last()`
   * on the way to another page. Gives what the destinations were sent, once there are `count` events,
   * and the answers the page got. In a new browser, unless one is given, which stays open.
   */
  async visit(name, { count, early = 0, query = "?utm_source=news&utm_medium=email", browser }) {
    const before = this.sent();
    const context = browser ?? await this.browser.newContext();
    const page = await context.newPage();
    const complaints = [];
    const answers = [];
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("console", (line) => {
      if (["error", "warning"].includes(line.type())) complaints.push(line.text());
    });
    page.on("request", (request) => {
      const { hostname } = new URL(request.url());
      if (!hostname.endsWith(".shop.localhost")) complaints.push(`elsewhere: ${request.url()}`);
    });
    page.on("requestfailed", (request) => {
      // What is under way when the page is left is not seen to end, but it arrives.
      const text = request.failure()?.errorText;
      if (text !== "net::ERR_ABORTED") complaints.push(`${text}: ${request.url()}`);
    });
    page.on("response", (response) => {
      if (!response.url().startsWith(this.gateway)) return;
      const request = response.request();
      answers.push(`${request.method()} ${new URL(response.url()).pathname} ${response.status()}`);
      if (response.status() >= 400) complaints.push(answers.at(-1));
    });
    await page.goto(`${this.origin}/${name}${query}`);
    await page.evaluate(() => window.calls());
    await this.#settled(before.events.length + early);
    await page.evaluate(() => window.last?.());
    await page.goto(`${this.origin}/elsewhere`);
    await this.#settled(before.events.length + count);
    // A client that would send something again does so by now.
    await pause(700);
    await this.#settled(before.events.length + count);
    const cookies = await context.cookies();
    await (browser ? page : context).close();
    const now = this.sent();
    const since = (which) => now[which].slice(before[which].length);
    return {
      complaints, answers, cookies, events: since("events"), ga4: since("ga4"), meta: since("meta"),
    };
  }

  async #settled(count) {
    const deadline = Date.now() + DEADLINE_MS;
    for (;;) {
      const rows = await (await fetch(`${this.admin}/api/v1/ledger`)).json();
      const isDone = rows.every((row) => row.accepted >= count && row.pending === 0);
      if (isDone && this.sent().events.length >= count) return;
      const names = () => this.sent().events.slice(-12).map((event) => event.event ?? event.type);
      assert.ok(Date.now() < deadline, `not settled at ${count}: ${JSON.stringify(rows)} ${names()}`);
      await pause(50);
    }
  }

  async close() {
    await this.browser?.close();
    if (this.child?.exitCode === null) {
      this.child.kill("SIGTERM");
      const [code] = await once(this.child, "exit");
      assert.equal(code, 0, "the gateway ends in order");
    }
    for (const { server } of Object.values(this.vendors ?? {})) {
      server.closeAllConnections();
      server.close();
    }
    this.pages?.closeAllConnections();
    this.pages?.close();
    if (this.data) await rm(this.data, { recursive: true, force: true });
  }
}
