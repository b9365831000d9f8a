// analytics as pages use it: each row is a use, and what the page and the gateway get of it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { bare, like, until, places } from "./bare.mjs";

const { open } = bare("segment");
// 5.2.0 and 4.13.1, with the same script as the page's own tag has.
const NEW = `!function(){var i="analytics",analytics=window[i]=window[i]||[];if(!analytics.initialize)if(analytics.invoked)window.console&&console.error&&console.error("Segment snippet included twice.");else{analytics.invoked=!0;analytics.methods=["trackSubmit","trackClick","trackLink","trackForm","pageview","identify","reset","group","track","ready","alias","debug","page","screen","once","off","on","addSourceMiddleware","addIntegrationMiddleware","setAnonymousId","addDestinationMiddleware","register"];analytics.factory=function(e){return function(){if(window[i].initialized)return window[i][e].apply(window[i],arguments);var n=Array.prototype.slice.call(arguments);if(["track","screen","alias","group","page","identify"].indexOf(e)>-1){var c=document.querySelector("link[rel='canonical']");n.push({__t:"bpc",c:c&&c.getAttribute("href")||void 0,p:location.pathname,u:location.href,s:location.search,t:document.title,r:document.referrer})}n.unshift(e);analytics.push(n);return analytics}};for(var n=0;n<analytics.methods.length;n++){var key=analytics.methods[n];analytics[key]=analytics.factory(key)}analytics.load=function(key,n){analytics._loadOptions=n};analytics._writeKey="k";analytics.SNIPPET_VERSION="5.2.0";analytics.load("k");LAST}}();`;
const OLD = `!function(){var analytics=window.analytics=window.analytics||[];if(!analytics.initialize)if(analytics.invoked)window.console&&console.error&&console.error("Segment snippet included twice.");else{analytics.invoked=!0;analytics.methods=["trackSubmit","trackClick","trackLink","trackForm","pageview","identify","reset","group","track","ready","alias","debug","page","once","off","on","addSourceMiddleware","addIntegrationMiddleware","setAnonymousId","addDestinationMiddleware"];analytics.factory=function(e){return function(){var t=Array.prototype.slice.call(arguments);t.unshift(e);analytics.push(t);return analytics}};for(var e=0;e<analytics.methods.length;e++){var key=analytics.methods[e];analytics[key]=analytics.factory(key)}analytics.load=function(key,e){analytics._loadOptions=e};analytics.SNIPPET_VERSION="4.13.1";analytics.load("k");LAST}}();`;

const ROWS = {
  "page, identify, track, group, with nothing of the snippet's in them": [`analytics.page(); analytics.identify('u', { plan: 'pro' }); analytics.track('T', { a: 1 }); analytics.group('g', { tier: 'gold' });`,
    [(it) => it.type === "page" && !("__t" in it.properties), (it) => it.userId === "u" && JSON.stringify(it.traits) === '{"plan":"pro"}', (it) => it.event === "T" && JSON.stringify(it.properties) === '{"a":1}',
      (it) => it.groupId === "g" && JSON.stringify(it.traits) === '{"tier":"gold"}']],
  "page in every shape": [`analytics.page('N'); analytics.page('C', 'N'); analytics.page({ a: 1 }); analytics.page(null, 'N', { b: 1 }); analytics.pageview('/v');`,
    [{ name: "N" }, { name: "N", properties: { category: "C" } }, { properties: { a: 1 } }, { name: "N", properties: { b: 1 } }, { properties: { path: "/v" } }]],
  "callbacks get the context of the event that is sent": [`analytics.track('T', { a: 1 }, (ctx) => { window.got = [ctx.event.event, ctx.event.messageId, ctx.event.properties.a]; });`, [{ event: "T" }],
    async (page, [sent]) => { await page.waitForFunction(() => window.got); assert.deepEqual(await page.evaluate(() => window.got), ["T", sent.messageId, 1]); }],
  "callbacks in every place": [`window.n = 0; const more = () => { n += 1; }; analytics.track('A', more); analytics.identify('u', more); analytics.page(more); analytics.group('g', more); analytics.track('B', {}, {}, more);`,
    [{}, {}, {}, {}, {}], async (page) => { await page.waitForFunction(() => window.n === 5); }],
  "what is said of an event": [`analytics.track('T', { a: 1 }, { integrations: { All: false }, context: { campaign: { source: 's' } }, timestamp: new Date(0), anonymousId: 'an' });`,
    [{ event: "T", integrations: { All: false }, timestamp: "1970-01-01T00:00:00.000Z", anonymousId: "an", context: { campaign: { source: "s" }, page: { path: "/" } } }]],
  "identify in every shape": [`analytics.identify(7); analytics.identify({ a: 1 }); analytics.identify(null, { b: 1 }); analytics.identify('8', { c: 1 });`,
    [{ userId: "7" }, { userId: "7", traits: { a: 1 } }, { userId: "7", traits: { a: 1, b: 1 } }, (it) => JSON.stringify(it.traits) === '{"c":1}']],
  "alias, reset": [`analytics.identify('u'); analytics.alias('v'); analytics.reset(); analytics.track('T');`, [{}, { type: "alias", userId: "v", previousId: "u" }, (it) => !it.userId]],
  "middlewares change and drop events": [`analytics.addSourceMiddleware(({ payload, next }) => { delete payload.obj.properties.email; if (payload.obj.event === 'secret') return next(null); payload.obj.properties.seen = 1; next(payload); });
    analytics.track('a', { email: 'x', n: 1 }); analytics.track('secret'); analytics.track('late', {});`,
    [(it) => JSON.stringify(it.properties) === '{"n":1,"seen":1}', { event: "late" }]],
  "a middleware's fault lets nothing out": [`analytics.addSourceMiddleware(({ payload, next }) => { if (payload.obj.event === 'b') throw new Error('theirs'); next(payload); }); analytics.track('a'); analytics.track('b', () => { window.got = 1; }); analytics.track('c');`,
    [{ event: "a" }, { event: "c" }], async (page) => { await page.waitForFunction(() => window.got === 1); }, /theirs/],
  "middlewares come first, wherever the page has them": [`analytics.track('a', { email: 'x' }); analytics.addSourceMiddleware(({ payload, next }) => { delete payload.obj.properties.email; next(payload); });`,
    [(it) => !it.properties.email], undefined, undefined, "before"],
  "plugins enrich events": [`analytics.register({ name: 'p', type: 'enrichment', isLoaded: () => true, load: () => Promise.resolve(), track: (ctx) => { ctx.updateEvent('properties.own.x', 1); return ctx; }, page: async (ctx) => { ctx.event.properties.later = 1; return ctx; } });
    analytics.track('a'); analytics.page();`, [{ event: "a", properties: { own: { x: 1 } } }, { type: "page", properties: { later: 1 } }], undefined, undefined, "after"],
  "on, once, off": [`window.heard = []; const hear = (...it) => heard.push(it.slice(0, 3)); analytics.on('track', hear); analytics.once('page', hear); analytics.on('identify', hear); analytics.on('group', hear);
    analytics.track('x', { a: 1 }); analytics.page('C', 'N', { b: 1 }); analytics.page(); analytics.identify('u', { p: 1 }); analytics.group('g'); analytics.off('track', hear); analytics.track('y');`,
    [{}, {}, {}, {}, {}, {}], async (page) => assert.deepEqual(like(await page.evaluate(() => heard), [["track"]]) && (await page.evaluate(() => JSON.parse(JSON.stringify(heard.map((it) => it.slice(0, 2)))))),
      [["x", { a: 1 }], ["C", "N"], ["u", { p: 1 }], ["g", {}]])],
  "what cannot be read": [`analytics.track('A', { get x() { throw new Error('no'); }, n: 1n }); analytics.track('B');`, [{ event: "A", properties: { n: "1" } }, { event: "B" }]],
  "trackLink of an element, of a list, by functions": [`document.addEventListener('DOMContentLoaded', () => { const a = document.createElement('a'); a.id = 'l';
      analytics.trackLink(a, 'One', { a: 1 }); analytics.trackLink([a], (el) => 'Two ' + el.id, (el) => ({ id: el.id })); a.click(); });`, [{ event: "One" }, { event: "Two l", properties: { id: "l" } }]],
  "what is not done says so once": [`analytics.addDestinationMiddleware('x', () => {}); analytics.addDestinationMiddleware('x', () => {}); analytics.debug(); analytics.timeout(100); analytics.track('T');`, [{ event: "T" }],
    undefined, undefined, "after", 1],
};

for (const [name, [calls, expected, check, fault, only, warns = 0]] of Object.entries(ROWS)) {
  for (const [version, snippet] of [["5.2.0", NEW], ["4.13.1", OLD]]) {
    for (const when of places(only)) {
      test(`analytics: ${name}, snippet ${version} ${when} the script`, async () => {
        const { page, context, errors, warnings, settled } = await open({ [when]: snippet.replace("LAST", "") + calls });
        const found = await settled();
        assert.equal(found.length, expected.length, JSON.stringify(found));
        expected.forEach((it, i) => typeof it === "function" ? assert.ok(it(found[i]), JSON.stringify(found[i])) : assert.deepEqual(like(found[i], it), it));
        await check?.(page, found);
        if (fault) await until(() => fault.test(errors.join()), () => `${errors}`);
        else assert.deepEqual(errors, []);
        assert.equal(warnings.length, warns, String(warnings));
        await context.close();
      });
    }
  }
}

test("analytics: a snippet that comes late reports its page, and complains of nothing", async () => {
  for (const snippet of [NEW, OLD]) {
    const { context, errors, settled } = await open({ after: `${snippet.replace("LAST", "analytics.page();")} analytics.track('late');` });
    assert.deepEqual((await settled()).map(({ type, event }) => event ?? type), ["page", "late"]);
    assert.deepEqual(errors, []);
    await context.close();
  }
});

test("analytics: promises get the context, also while nobody answers", async () => {
  for (const status of [200, 503]) {
    const { page, context } = await open({ status, after: NEW.replace("LAST", "") });
    const got = await page.evaluate(() => Promise.all([analytics.track("T", { a: 1 }), analytics.page(), analytics.identify("u"), analytics.ready()])
      .then(([track, view, who]) => [track.event.event, typeof track.id, view.event.type, who.event.userId]));
    assert.deepEqual(got, ["T", "string", "page", "u"]);
    await context.close();
  }
});

test("analytics: ids and traits, on this page and the next", async () => {
  const one = await open({ after: NEW.replace("LAST", "") });
  const ids = (page) => page.evaluate(() => [analytics.user().id(), analytics.user().traits(), analytics.id(), analytics.group().id(), analytics.group().traits()]);
  assert.deepEqual(await ids(one.page), [null, {}, null, null, {}]);
  const anonymous = await one.page.evaluate(() => analytics.user().anonymousId());
  assert.match(anonymous, /^[0-9a-f-]{36}$/);
  await one.page.evaluate(() => { analytics.identify("u", { plan: "pro" }); analytics.group("g", { tier: "gold" }); analytics.track("One"); });
  assert.equal((await one.settled()).find(({ event }) => event === "One").anonymousId, anonymous);
  const two = await open({ after: NEW.replace("LAST", ""), context: one.context });
  assert.deepEqual(await ids(two.page), ["u", { plan: "pro" }, "u", "g", { tier: "gold" }]);
  await two.page.evaluate(() => { analytics.setAnonymousId("mine"); analytics.track("Two"); });
  const [found] = (await two.settled()).filter(({ event }) => event === "Two");
  assert.deepEqual([found.userId, found.anonymousId], ["u", "mine"]);
  await two.page.evaluate(() => analytics.reset());
  assert.deepEqual(await ids(two.page), [null, {}, null, null, {}]);
  assert.notEqual(await two.page.evaluate(() => analytics.user().anonymousId()), "mine");
  await one.context.close();
});
