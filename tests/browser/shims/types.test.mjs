// Every public method of the vendors' npm types is a function on the shim, with the vendor's snippet and without,
// or a named exception of static/sdk/shims.md; called without arguments it does not throw.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { bare } from "./bare.mjs";
import { PAGES } from "./pages.mjs";
import { methodsOf } from "./types.mjs";

const installed = (path) => readFileSync(new URL(`../node_modules/${path}`, import.meta.url), "utf8");
const TABLES = readFileSync(new URL("../../../static/sdk/shims.md", import.meta.url), "utf8");
const AMPLITUDE = "@amplitude/analytics-browser/lib/esm/index.d.ts";
const MIXPANEL = "mixpanel-browser/src/index.d.ts";

/**
 * By vendor: the snippet, what initialises the library, and by the place where a page finds it each file of types,
 * with the name in it.
 */
const VENDORS = {
  posthog: {
    snippet: PAGES.posthog.snippet("data:text/javascript,").replace(/posthog\.init\('phc_shop'[^;]*;\s*$/, ""),
    init: "posthog.init('k', { capture_pageview: false })",
    types: { posthog: ["posthog-js/dist/module.d.ts", "PostHog"] },
  },
  mixpanel: {
    snippet: `window.MIXPANEL_CUSTOM_LIB_URL = 'data:text/javascript,';${installed("mixpanel-browser/dist/mixpanel-jslib-snippet.min.js")}`,
    init: "mixpanel.init('k', {})",
    types: { mixpanel: [MIXPANEL, "Mixpanel"], "mixpanel.people": [MIXPANEL, "People"], "mixpanel.get_group('a', 'b')": [MIXPANEL, "Group"] },
  },
  amplitude: {
    snippet: installed("@amplitude/analytics-browser/lib/scripts/amplitude-snippet-min.js")
      .replace(/c\.integrity="[^"]*",c\.crossOrigin="anonymous",/, "").replace(/https:\/\/cdn\.amplitude\.com\/[^"]*/, "data:text/javascript,"),
    init: "amplitude.init('k', { autocapture: false })",
    types: { amplitude: [AMPLITUDE], "new amplitude.Identify()": [AMPLITUDE, "Identify"], "new amplitude.Revenue()": [AMPLITUDE, "Revenue"] },
  },
  segment: {
    snippet: PAGES.segment.snippet("data:text/javascript,"),
    init: "0",
    types: { analytics: ["@segment/analytics-next/dist/types/index.d.ts", "Analytics"] },
  },
};

for (const [vendor, { snippet, init, types }] of Object.entries(VENDORS)) {
  const { open } = bare(vendor);
  const section = TABLES.split(/^## /m).find((it) => it.toLowerCase().startsWith(vendor));
  const exceptions = new Set(section.match(/No function there: (.*?)\n\n/s)?.[1].match(/`(\w+)`/g)?.map((it) => it.slice(1, -1)));
  describe(vendor, () => {
    for (const [how, code] of [["with the snippet", { before: `${snippet};${init}` }], ["without the snippet", { after: init }]]) {
      test(`${vendor} has the methods of its npm types, ${how}`, async () => {
        const { page, context } = await open(code);
        await page.waitForFunction(() => window.tagway?.loaded && document.readyState === "complete");
        const places = Object.fromEntries(Object.entries(types).map(([place, file]) => [place, methodsOf(...file)]));
        const faults = [];
        for (const [place, methods] of Object.entries(places)) {
          assert.ok(methods.length > 2, `${place}: the types name ${methods}`);
          const found = await page.evaluate(async ([place, methods]) => {
            const faults = [];
            for (const method of methods) {
              const object = (0, eval)(place);
              if (typeof object[method] !== "function") {
                faults.push(`${method} is ${typeof object[method]}`);
                continue;
              }
              try {
                const gives = object[method]();
                if (/Async$/.test(method) && typeof gives?.then !== "function") faults.push(`${method} gives no promise`);
              } catch (fault) {
                faults.push(`${method} throws ${fault}`);
              }
            }
            return faults;
          }, [place, methods.filter((it) => !exceptions.has(it))]);
          faults.push(...found.map((it) => `${place}.${it}`));
        }
        assert.deepEqual(faults, []);
        for (const name of exceptions) assert.ok(Object.values(places).flat().includes(name), `${name} is no method of the types`);
        await context.close();
      });
    }
  });
}
