// Tests of usages, one a row: what the page calls, what is sent of it, and what the page gets back.

import assert from "node:assert/strict";
import { test } from "node:test";
import { bare, like, places, until } from "./bare.mjs";

/**
 * Tests each row with the snippet before the script and after it, or where `when` says. `calls` stand in the head
 * after the snippet; `late` runs once the page is there. `sends` are the messages in their order; `got` is what
 * the page left in window.got; `faults` are the page's own, `warns` how often the console warns.
 */
export function testUsages(vendor, snippet, rows, byDefault = {}) {
  const { open } = bare(vendor);
  for (const [name, row] of Object.entries(rows)) {
    const { calls = "", late, sends = [], got, faults, warns = 0, when, init = byDefault.init ?? "", check, ...how } = row;
    for (const place of places(when)) {
      test(`${vendor}: ${name}, ${place} the script`, async () => {
        const { page, context, errors, warnings, settled } = await open({ ...byDefault.how, ...how, [place]: `${row.snippet ?? snippet};${init};${calls}` });
        await page.waitForFunction(() => window.tagway?.loaded && document.readyState === "complete");
        if (late) await page.evaluate(late);
        if (got !== undefined) {
          const seen = () => page.evaluate(() => JSON.stringify(window.got));
          await until(async () => (await seen()) === JSON.stringify(got), `${name}: got ${await seen()}`).catch(async (fault) => {
            assert.equal(await seen(), JSON.stringify(got), String(errors));
            throw fault;
          });
        }
        const found = await settled();
        assert.deepEqual(found.map((it, i) => (typeof sends[i] === "function" ? sends[i](it) || it : like(it, sends[i] ?? it))),
          sends.map((it) => (typeof it === "function" ? true : it)), `${JSON.stringify(found)} ${errors}`);
        await check?.(page, found);
        if (faults) await until(() => faults.test(errors.join()), () => `${errors}`);
        else assert.deepEqual(errors, []);
        assert.equal(warnings.length, warns, String(warnings));
        await context.close();
      });
    }
  }
}
