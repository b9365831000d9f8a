// A second visit: the script comes from the browser's cache and runs while the page is still arriving, before the
// vendor's snippet at its end. What the snippet calls is sent once on both visits.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { composed, until } from "./bare.mjs";
import { PAGES } from "./pages.mjs";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const CALLS = {
  mixpanel: "mixpanel.track('bottom')",
  amplitude: "amplitude.track('bottom')",
  segment: "analytics.track('bottom')",
  posthog: "posthog.capture('bottom')",
};

let server, browser, origin, vendor, sent, scripts, release;
before(async () => {
  server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://shop");
    let body = "";
    for await (const chunk of request) body += chunk;
    if (request.method === "POST") {
      sent.push(...JSON.parse(body).batch);
      return response.writeHead(200, { "content-type": "application/json" }).end('{"success":true}');
    }
    if (pathname.endsWith(".js")) {
      scripts += 1;
      return response.writeHead(200, { "content-type": "text/javascript; charset=utf-8", "cache-control": "max-age=3600" })
        .end(composed([vendor], { endpoint: `${origin}/n/` }));
    }
    response.writeHead(200, { "content-type": "text/html; charset=utf-8", "cache-control": "no-store" });
    response.write(`<!doctype html><html lang="en"><head><title>Lamps</title><link rel="icon" href="data:,">
      <script async src="/${vendor}.js"></script></head><body><p>Lamps</p>`);
    await new Promise((resolve) => { release = resolve; });
    response.end(`<script>${PAGES[vendor].snippet("data:text/javascript,")}</script><script>${CALLS[vendor]}</script></body></html>`);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  origin = `http://localhost:${server.address().port}`;
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });
});
after(async () => {
  await browser?.close();
  server.closeAllConnections();
  server.close();
});

for (const name of Object.keys(CALLS)) {
  test(`${name}: the script of a second visit is there before the snippet at the end of the page`, async () => {
    [vendor, sent, scripts, release] = [name, [], 0, undefined];
    const context = await browser.newContext();
    const page = await context.newPage();
    const errors = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (line) => { if (line.type() === "error") errors.push(line.text()); });
    const bottoms = () => sent.filter(({ event }) => event === "bottom").length;
    for (const visit of [1, 2]) {
      await page.goto(origin, { waitUntil: "commit" });
      await page.waitForFunction((it) => window.tagway?.loaded?.[it], name);
      release();
      await page.waitForFunction(() => document.readyState === "complete");
      await page.evaluate(() => { tagway.track("last"); tagway.flush(); });
      await until(() => sent.filter(({ event }) => event === "last").length === visit, () => `visit ${visit}: ${JSON.stringify(sent)} ${errors}`);
      assert.equal(bottoms(), visit, `visit ${visit}: ${JSON.stringify(sent)}`);
    }
    assert.equal(scripts, 1, "the second visit has the script from the cache");
    assert.deepEqual(errors, []);
    await context.close();
  });
}
