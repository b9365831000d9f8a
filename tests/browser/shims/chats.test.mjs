// Intercom and drift as pages use them: the button in the messenger's place obeys the page, and what is said of
// people and events arrives. What happens when the messenger comes, shims.test.mjs has.

import assert from "node:assert/strict";
import { test } from "node:test";
import { bare, like, until } from "./bare.mjs";

const intercom = bare("intercom").open;
const drift = bare("drift").open;
const INTERCOM = `(function(){var w=window;var ic=w.Intercom;if(typeof ic==="function"){ic('reattach_activator');ic('update',w.intercomSettings);}else{var i=function(){i.c(arguments);};i.q=[];i.c=function(args){i.q.push(args);};w.Intercom=i;}})();`;
const DRIFT = `"use strict";!function(){var t=window.driftt=window.drift=window.driftt||[];if(!t.init){if(t.invoked)return void(window.console&&console.error&&console.error("Drift snippet included twice."));t.invoked=!0,t.methods=["identify","config","track","reset","debug","show","ping","page","hide","off","on"],t.factory=function(e){return function(){var n=Array.prototype.slice.call(arguments);return n.unshift(e),t.push(n),t}},t.methods.forEach(function(e){t[e]=t.factory(e)}),t.load=function(t){}}}();drift.load('shop');`;
const settings = (origin) => ({ shims: { intercom: { from: "", app_id: "shop" }, drift: { from: "", embed_id: "shop" } } });
const button = (page) => page.getByRole("button", { name: "Open chat" });
const isShown = async (page, is) => until(async () => ((await button(page).count()) > 0) === is, `the button is ${is ? "" : "not "}there`);

for (const when of ["before", "after"]) {
  test(`Intercom: the button obeys hide_default_launcher, shutdown and boot, snippet ${when} the script`, async () => {
    const { page, context, errors, asked } = await intercom({ settings: settings(), [when]: `${INTERCOM} Intercom('boot', { app_id: 'shop', hide_default_launcher: true });` });
    await isShown(page, false);
    await page.evaluate(() => Intercom("update", { hide_default_launcher: false }));
    await isShown(page, true);
    await page.evaluate(() => Intercom("update", { hide_default_launcher: true }));
    await isShown(page, false);
    await page.evaluate(() => Intercom("boot", { hide_default_launcher: false }));
    await isShown(page, true);
    assert.equal(await page.evaluate(() => Intercom.booted), true);
    await page.evaluate(() => Intercom("shutdown"));
    await isShown(page, false);
    assert.equal(await page.evaluate(() => Intercom.booted), false);
    assert.equal(asked(), 0);
    assert.deepEqual(errors, []);
    await context.close();
  });
}

test("Intercom: a launcher of the page's own opens the messenger, also where the page stops the event", async () => {
  const real = "window.told = window.Intercom.q.map((it) => [...it]); window.Intercom = (...it) => { told.push(it); };";
  const { page, context, asked } = await intercom({ settings: settings(), real, body: `<p onclick="event.stopPropagation()"><button class="help"><b>Help</b></button></p>`,
    before: `${INTERCOM} Intercom('boot', { app_id: 'shop', user_id: 'u', hide_default_launcher: true, custom_launcher_selector: '.help' });` });
  await page.click(".help b");
  await page.waitForFunction(() => window.told);
  assert.equal(asked(), 1);
  const told = await page.evaluate(() => told);
  assert.deepEqual(like(told, [["boot", { user_id: "u", custom_launcher_selector: ".help" }], ["show"]]), [["boot", { user_id: "u", custom_launcher_selector: ".help" }], ["show"]]);
  await isShown(page, false);
  await context.close();
});

test("Intercom: people, companies and events arrive; nothing throws", async () => {
  const { page, context, errors, settled } = await intercom({ settings: settings(), before: `window.intercomSettings = { app_id: 'shop', user_id: 7, email: 'a@b.example', company: { company_id: 'acme', tier: 'gold' } }; ${INTERCOM}
    Intercom('trackEvent', 'invited', { n: 1 }); Intercom('trackEvent', 'bare'); Intercom('update', null); Intercom('boot', null); Intercom('update'); Intercom(); Intercom('trackEvent', 'odd', { get x() { throw new Error('no'); }, n: 1n });` });
  const found = await settled();
  assert.deepEqual(found.filter(({ type }) => type === "track").map(({ event, properties }) => [event, properties]), [["invited", { n: 1 }], ["bare", {}], ["odd", { n: "1" }]]);
  assert.deepEqual(like(found[0], { userId: "7", traits: { email: "a@b.example" } }), { userId: "7", traits: { email: "a@b.example" } });
  assert.ok(found.some(({ groupId, traits }) => groupId === "acme" && traits.tier === "gold"));
  const got = await page.evaluate(() => new Promise((done) => Intercom("onUnreadCountChange", (n) => done([n, typeof Intercom("getVisitorId")]))));
  assert.deepEqual(got, [0, "string"]);
  assert.deepEqual(errors, []);
  await context.close();
});

for (const when of ["before", "after"]) {
  test(`drift: the button obeys the page, and what is said arrives, snippet ${when} the script`, async () => {
    const { page, context, errors, warnings, settled } = await drift({ settings: settings(), [when]: `${DRIFT} drift.on('ready', (api) => { window.api = api; api.widget.hide(); });
      drift.identify('u', { plan: 'pro' }); drift.identify('u', null); drift.track('A', { n: 1 }); drift.track('B'); drift.page(); drift.config({ locale: 'en' }); drift.on('ready', () => { throw new Error('theirs'); }); drift.track('C');` });
    await isShown(page, false);
    await page.evaluate(() => api.widget.show());
    await isShown(page, true);
    await page.evaluate(() => drift.api.widget.hide());
    await isShown(page, false);
    const found = await settled();
    assert.deepEqual(found.map(({ type, event }) => event ?? type), ["identify", "identify", "A", "B", "page", "C"]);
    assert.match(errors.join(), /theirs/);
    assert.equal(errors.length, 1);
    assert.deepEqual(warnings, []);
    await context.close();
  });
}

test("drift: a link of the page's own and a call of the API open the widget, and do there what they say", async () => {
  const real = `const queue = window.drift.slice(); window.told = []; window.drift = {};
    for (const [name, event, callback] of queue) if (name === 'on' && event === 'ready') callback(new Proxy({}, { get: (_, it) => (...args) => window.told.push([it, ...args]) }));`;
  for (const [act, expected] of [["document.querySelector('.drift-open-chat').click()", ["openChat"]], ["api.startInteraction({ interactionId: 5 })", ["startInteraction", { interactionId: 5 }]]]) {
    const { page, context, asked } = await drift({ settings: settings(), real, body: `<a class="drift-open-chat">talk</a>`, before: `${DRIFT} drift.on('ready', (api) => { window.api = api; });` });
    await page.evaluate(act);
    await page.waitForFunction(() => window.told?.length);
    assert.deepEqual(await page.evaluate(() => told), [expected]);
    assert.equal(asked(), 1);
    await context.close();
  }
});
