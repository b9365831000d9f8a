// fbq as pages use it: each row is a use, and what the page and the gateway get of it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { bare, like, places } from "./bare.mjs";

const { open } = bare("meta");
const SNIPPET = `!function(f,b,e,v,n,t,s){if(f.fbq)return;n=f.fbq=function(){n.callMethod?n.callMethod.apply(n,arguments):n.queue.push(arguments)};
  if(!f._fbq)f._fbq=n;n.push=n;n.loaded=!0;n.version='2.0';n.queue=[]}(window,document,'script');`;

const ROWS = {
  "init, PageView, an event with its id": [`fbq('init', '1', { em: 'a@b.example' }); fbq('track', 'PageView'); fbq('track', 'Purchase', { value: 1, currency: 'EUR' }, { eventID: 'e' });`,
    [{ type: "page", context: { traits: { em: "a@b.example" } } }, { event: "Purchase", messageId: "e.Purchase", properties: { value: 1 }, context: { source: { event_id: "e", pixel_id: "1" } } }]],
  "null in the place of arguments": [`fbq('init', '1', null); fbq('track', 'Lead', null, null); fbq('trackCustom', 'C', undefined, null); fbq('set', 'userData', null); fbq(); fbq(null);`,
    [{ event: "Lead" }, { event: "C" }], {}, true],
  "the same event for each of two pixels is one": [`fbq('init', '1'); fbq('init', '2'); for (const id of fbq.getState().pixels.map(({ id }) => id)) { fbq('trackSingle', id, 'PageView'); fbq('trackSingle', id, 'Purchase', { value: 1, currency: 'EUR' }); }`,
    [{ type: "page" }, { event: "Purchase", context: { source: { pixel_id: "1" } } }], {}, false, "after"],
  "another event for the second pixel is another": [`fbq('init', '1'); fbq('init', '2'); fbq('trackSingleCustom', '1', 'A', { n: 1 }); fbq('trackSingleCustom', '2', 'A', { n: 2 });`,
    [{ event: "A" }, { event: "A", context: { source: { pixel_id: "2" } } }]],
  "what was told while consent was revoked comes with the grant": [`fbq('consent', 'revoke'); fbq('init', '1'); fbq('track', 'PageView'); const p = { content_ids: ['a'] }; fbq('track', 'ViewContent', p); p.content_ids = [];
    fbq('consent', 'grant'); fbq('track', 'Lead');`,
    [{ type: "page", context: { consent: { categoryPreferences: { advertising: true } } } }, { event: "ViewContent", properties: { content_ids: ["a"] } }, { event: "Lead" }], {}, false, "after"],
  "nothing comes while consent is revoked": [`fbq('consent', 'revoke'); fbq('init', '1'); fbq('track', 'PageView'); fbq('track', 'Lead');`, []],
  "a PageView of the same address is one": [`fbq('init', '1'); fbq('track', 'PageView'); fbq('track', 'PageView');`, [{ type: "page" }]],
  "unless the page wants them": [`fbq('init', '1'); fbq.allowDuplicatePageViews = true; fbq('track', 'PageView'); fbq('track', 'PageView');`, [{ type: "page" }, { type: "page" }]],
  "limited data use": [`fbq('dataProcessingOptions', ['LDU'], 0, 0); fbq('init', '1'); fbq('track', 'Lead');`, [{ event: "Lead", context: { dataProcessingOptions: [["LDU"], 0, 0] } }]],
  "push, as the snippet has it, and arrays of the first generation": [`fbq.push('init', '1'); fbq.push('track', 'Lead'); _fbq.push(['track', 'Old', { value: 1 }]);`, [{ event: "Lead" }, { event: "Old", properties: { value: 1 } }]],
  "a command that it does not know": [`fbq('unheard', 'of'); fbq('unheard', 'of'); fbq('trackCustom', 'after');`, [{ event: "after" }], {}, true],
  "what cannot be read": [`fbq('track', 'A', { get x() { throw new Error('no'); }, n: 1n }); fbq('track', 'B');`, [{ event: "A", properties: { n: "1" } }, { event: "B" }]],
};

for (const [name, [calls, expected, globals = {}, warns, only]] of Object.entries(ROWS)) {
  for (const when of places(only)) {
    test(`fbq: ${name}, ${when} the script`, async () => {
      const { context, errors, warnings, settled } = await open({ [when]: SNIPPET + calls });
      const found = await settled();
      assert.equal(found.length, expected.length, JSON.stringify(found));
      expected.forEach((it, i) => assert.deepEqual(like(found[i], it), it));
      assert.deepEqual(errors, []);
      if (warns) assert.deepEqual([...new Set(warnings)], warnings, "each once");
      else assert.deepEqual(warnings, []);
      await context.close();
    });
  }
}

for (const when of ["before", "after"]) {
  test(`fbq: what helpers look for, with the snippet ${when} the script`, async () => {
    const { page, context } = await open({ [when]: `${SNIPPET} fbq('init', '1', { em: 'x' }); fbq('track', 'Lead');` });
    const seen = await page.evaluate(() => ({
      is: [typeof fbq, fbq.version, fbq.loaded, Array.isArray(fbq.queue), typeof fbq.push, _fbq === fbq, typeof fbq.callMethod],
      pixels: fbq.getState().pixels, by: Object.keys(fbq.instance.pixelsByID),
    }));
    assert.deepEqual(seen.is, ["function", "2.0", true, true, "function", true, "function"]);
    assert.deepEqual(like(seen.pixels, [{ id: "1", eventCount: 1 }]), [{ id: "1", eventCount: 1 }]);
    assert.deepEqual(seen.by, ["1"]);
    await context.close();
  });
}

test("fbq: the queue of the first generation", async () => {
  const { context, settled } = await open({ before: "window._fbq = [['addPixelId', '9'], ['track', 'Old', {}]];" });
  assert.deepEqual((await settled()).map(({ event, context: { source } }) => [event, source.pixel_id]), [["Old", "9"]]);
  await context.close();
});

test("fbq: new addresses are pages, unless the page forbids it", async () => {
  for (const [more, paths] of [["", ["/", "/two", "/three"]], ["fbq.disablePushState = true;", ["/"]]]) {
    const { page, context, settled } = await open({ before: `${SNIPPET} fbq('init', '1'); fbq('track', 'PageView'); ${more}` });
    for (const path of ["/two", "/two", "/three"]) {
      await page.evaluate((it) => { history.pushState({}, "", it); return new Promise((done) => setTimeout(done, 30)); }, path);
      // An application that tells it as well does not count it twice.
      if (path === "/two" && !more) await page.evaluate(() => fbq("track", "PageView"));
    }
    assert.deepEqual((await settled()).map((it) => it.context.page.path), paths);
    await context.close();
  }
});
