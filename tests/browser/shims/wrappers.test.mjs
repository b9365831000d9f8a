// The wrappers that sites install from npm, as they are, over the running gateway: what they say becomes the right
// events, their callbacks come, and the page has no error.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { build } from "esbuild";
import { Shop } from "../clients/harness.mjs";
import { addSites, complaintsOf, gatewayOf, until } from "../sdk/sites.mjs";
import { like } from "./bare.mjs";
import { PAGES } from "./pages.mjs";
import { WRAPPERS } from "./wrappers.mjs";

/** The vendors' hosts, and where the gateway has what they serve. */
const MOUNTS = { "https://www.googletagmanager.com": "ga4", "https://connect.facebook.net": "meta", "https://cdn.mxpnl.com": "mixpanel", "https://cdn.amplitude.com": "amplitude",
  "https://cdn.segment.com": "segment", "https://eu-assets.i.posthog.com": "posthog", "https://widget.intercom.io": "intercom", "https://js.driftt.com": "drift" };
const POSTHOG = PAGES.posthog.snippet("https://eu-assets.i.posthog.com/static/array.js").replace(/posthog\.init\('phc_shop'[^;]*;\s*$/, "");
const own = '[sites.vendors.intercom]\napp_id = "shop"\n[sites.vendors.drift]\nembed_id = "shop"\n';

let shop;
before(async () => {
  shop = await Shop.open([]);
  await addSites(shop, { wrapped: [`auto = []\nshims = ${JSON.stringify(Object.values(MOUNTS))}`, own] });
});
after(() => shop?.close());

async function bundle(code) {
  const { outputFiles: [file] } = await build({
    stdin: { contents: code.replace("POSTHOG\n", `${POSTHOG};\n`), resolveDir: new URL("..", import.meta.url).pathname }, bundle: true, write: false, format: "iife",
    platform: "browser", target: "chrome120", logLevel: "error",
    define: { "process.env.NODE_ENV": '"production"', "process.env.__NEXT_SCRIPT_WORKERS": "false", "process.env": "{}", __VUE_OPTIONS_API__: "true", __VUE_PROD_DEVTOOLS__: "false", __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: "false" },
  });
  return file.text;
}

const labels = (events) => events.map(({ event, type }) => event ?? type).sort();

for (const [name, { code, events: said, more, got, only }] of Object.entries(WRAPPERS)) {
  for (const way of only ? [only] : ["library", "sdk"]) {
    test(`${name}, ${way}`, async () => {
      const gateway = gatewayOf(shop, "wrapped");
      const events = said.concat(more?.[way] ?? []);
      const start = shop.sent().events.length;
      let script = await bundle(code);
      if (way === "library") for (const [host, mount] of Object.entries(MOUNTS)) {
        script = script.replaceAll(host, `${gateway}/${mount}`).replaceAll(host.slice("https:".length), `${gateway.slice("http:".length)}/${mount}`);
      }
      const context = await shop.browser.newContext();
      const page = await context.newPage();
      const complaints = complaintsOf(page);
      // With the SDK there, the vendor's own library does not come: blocked, or not there any more.
      await page.route((url) => `https://${url.host}` in MOUNTS, (route) => route.fulfill({ contentType: "text/javascript", body: "" }));
      const html = { "content-type": "text/html; charset=utf-8" };
      const sdk = way === "sdk" ? `<script src="${gateway}/tw.js"></script>` : "";
      shop.own = async (pathname) => pathname === "/wrapped.js" ? { headers: { "content-type": "text/javascript; charset=utf-8" }, body: script }
        : pathname === "/elsewhere" ? { headers: html, body: "<!doctype html><title>Elsewhere</title>" } : { headers: html, body: `<!doctype html><html lang="en"><head><title>Lamps</title><link rel="icon" href="data:,">${sdk}</head><body><h1>Lamps</h1><script src="/wrapped.js"></script></body></html>` };
      await page.goto(`${shop.origin}/wrapped`);
      const since = () => shop.sent().events.slice(start);
      await until(() => since().length >= events.length, () => `${name}: ${JSON.stringify(labels(since()))} ${complaints}`);
      const seen = () => page.evaluate(() => JSON.stringify(window.got));
      await until(async () => (await seen()) === JSON.stringify(got), `${name}: got ${await seen()} ${complaints}`);
      await page.waitForTimeout(300);
      await page.goto(`${shop.origin}/elsewhere`).catch(() => {});
      const found = since();
      for (const expected of events) {
        const at = found.findIndex((it) => { try { assert.deepEqual(like(it, expected), expected); return true; } catch { return false; } });
        assert.ok(at >= 0, `${name}: ${JSON.stringify(expected)} of ${JSON.stringify(found)}`);
        found.splice(at, 1);
      }
      assert.deepEqual(found, [], name);
      const hosts = Object.keys(MOUNTS).map((host) => `elsewhere: ${host}`.replace("https", "http"));
      const unexpected = complaints.filter((line) => !(way === "sdk" && hosts.some((host) => line.replace("https", "http").startsWith(host))));
      assert.deepEqual(unexpected, []);
      await context.close();
    });
  }
}
