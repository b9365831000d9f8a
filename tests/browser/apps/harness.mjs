// The same walk through an application twice: directly, and behind a gateway that has the defaults and an origin.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { launched, recorder, started } from "../clients/harness.mjs";
import { until } from "../sdk/sites.mjs";

/** What an application is called by, whoever answers. */
const HOST = "app.shop.localhost";

const settings = (data, origin, vendor, sdk) => `
data_dir = "${data}"
[listen]
http = "127.0.0.1:0"
admin = "127.0.0.1:0"
[egress]
allow_private = true
[log]
level = "error"
[[sites]]
name = "app"
hosts = ["${HOST}"]
origin = "${origin}"
${sdk}
[[sites.destinations]]
name = "events"
vendor = "webhook"
linger = "1ms"
[sites.destinations.settings]
url = "http://127.0.0.1:${vendor.port}/"
`;

/** A tab that goes through an application, and what was seen there. */
export class Walk {
  static async begin(browser, base, isBehind) {
    const walk = new Walk();
    Object.assign(walk, { base, isBehind, complaints: [], seen: [] });
    walk.context = await browser.newContext({ acceptDownloads: true });
    walk.page = await walk.tab();
    return walk;
  }

  /** One more tab of the same visitor. */
  async tab() {
    const page = await this.context.newPage();
    page.on("pageerror", (error) => this.complaints.push(this.#plain(error)));
    page.on("console", (line) => {
      if (["error", "warning"].includes(line.type())) this.complaints.push(this.#plain(`${line.text()} ${line.location().url}`));
    });
    page.on("request", (request) => {
      const { host, protocol } = new URL(request.url());
      if (/^(http|ws)s?:$/.test(protocol) && host !== new URL(this.base).host) this.complaints.push(`elsewhere: ${request.url()}`);
    });
    page.on("requestfailed", (request) => {
      const text = request.failure()?.errorText;
      if (text !== "net::ERR_ABORTED") this.complaints.push(`${text}: ${this.#plain(request.url())}`);
    });
    return page;
  }

  /** A text without the address, and so the same for both. */
  #plain(text) {
    return String(text).replaceAll(this.base, "").replaceAll(new URL(this.base).host, "");
  }

  /** Waits until the page has the gateway's script, where it gets one: one that is left before is not counted. */
  async counted() {
    if (this.isBehind) await this.page.waitForFunction(() => window.tagway?.loaded);
  }

  /** Notes what a page shows that is counted, and whatever else a step found. */
  async note(step, more = {}) {
    await this.counted();
    await this.noteUncounted(step, more);
  }

  /** Notes what a page shows that does not have the gateway's script. */
  async noteUncounted(step, more = {}) {
    const text = await this.page.innerText("body");
    this.seen.push({ step, address: this.#plain(this.page.url()), title: await this.page.title(), text: this.#plain(text), ...more });
  }

  async goto(path) {
    return this.page.goto(this.base + path, { waitUntil: "load" });
  }

  /** Waits until the page has this title. */
  titled(title) {
    return this.page.waitForFunction((title) => document.title === title, title);
  }
}

/** The status of what is asked without a browser, which would not send these fields. */
export async function statusOf(url, { method, headers, body }) {
  const { host, port, pathname } = new URL(url);
  const asked = request({ host: "127.0.0.1", port, method, path: pathname, headers: { host, ...headers } });
  asked.end(body);
  const [answer] = await once(asked, "response");
  answer.resume();
  return answer.statusCode;
}

/**
 * Goes through an application directly and behind the gateway. `serve` starts it anew for each, as
 * { origin, close }; `pages` are the page events [path, title] that the second time has to bring; `sdk` are lines of
 * the site's in the configuration.
 */
export async function compare(serve, journey, { pages, sdk = "" }) {
  const data = await mkdtemp(join(tmpdir(), "tagway-apps-"));
  const browser = await launched();
  const vendor = await recorder(() => ({}));
  const events = () => vendor.bodies.flat().filter(({ type }) => type === "page")
    .map(({ context }) => [context.page.path, context.page.title]);
  let app, child;
  const walkAt = async (base, isBehind) => {
    const walk = await Walk.begin(browser, base, isBehind);
    await journey(walk);
    return walk;
  };
  const closeApp = async () => {
    const closed = app?.close();
    app = undefined;
    await closed;
  };
  try {
    app = await serve();
    const direct = await walkAt(`http://${HOST}:${new URL(app.origin).port}`, false);
    assert.deepEqual(direct.complaints, [], "the application itself is sound");
    await direct.context.close();
    await closeApp();

    app = await serve();
    const gateway = await started(data, settings(data, app.origin, vendor, sdk));
    child = gateway.child;
    const behind = await walkAt(`http://${HOST}:${new URL(gateway.gateway).port}`, true);
    assert.deepEqual(behind.complaints, []);
    assert.deepEqual(behind.seen, direct.seen);
    await until(() => events().length >= pages.length, () => `page events: ${JSON.stringify(events())}`);
    // Leaving sends what there still is.
    await behind.page.goto("about:blank");
    await behind.context.close();
    // In the order of their arrival the events of pages that follow each other closely may change places.
    const sorted = (all) => all.map((it) => JSON.stringify(it)).sort();
    assert.deepEqual(sorted(events()), sorted(pages));
  } finally {
    await browser.close();
    if (child?.exitCode === null) {
      child.kill("SIGTERM");
      await once(child, "exit");
    }
    await closeApp();
    vendor.server.closeAllConnections();
    vendor.server.close();
    await rm(data, { recursive: true, force: true });
  }
}
