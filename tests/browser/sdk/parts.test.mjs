// What pages report by themselves, and window.analytics, by the script that the gateway serves.

import assert from "node:assert/strict";
import { test } from "node:test";
import { PAGES } from "../shims/pages.mjs";
import { stage, until } from "./sites.mjs";

const SITES = {
  ...Object.fromEntries(["history", "links", "downloads", "forms", "scroll", "vitals", "errors"]
    .map((part) => [part, `auto = ["${part}"]`])),
  alias: "auto = []\nalias = true",
};

const { shop, events, quiet, ...stand } = stage(SITES);
const open = (name, how) =>
  stand.open(name, { path: "/page?lang=en", viewport: { width: 800, height: 600 }, ...how });

/** The events but for the last, by which all others have come. */
async function told(page) {
  await quiet(page);
  return events().filter(({ event }) => event !== "Quiet").map(({ event, type, properties }) => [event ?? type, properties]);
}

/** Clicks or submissions reach the part, and the page stays. */
const stay = (kind) => document.addEventListener(kind, (event) => event.preventDefault());

test("history: a page for each change of path or query, with the title that comes after it", async () => {
  const { context, page } = await open("history");
  const go = (...call) => page.evaluate(([method, path]) => {
    history[method](null, "", path);
    // Frameworks may take the old one away before they have the next.
    document.querySelector("title").remove();
    return new Promise((done) => setTimeout(() => done(document.title = path), 20));
  }, call);
  await go("pushState", "/lamps");
  await go("replaceState", "/lamps");
  await go("pushState", "/lamps#top");
  await go("replaceState", "/lamps?sort=price");
  await page.evaluate(() => history.go(-2));
  await page.waitForFunction(() => location.pathname === "/page");
  await page.evaluate(() => (document.title = "back"));
  await told(page);
  const pages = events().filter(({ type }) => type === "page").map(({ context: { page: it } }) => [it.path + it.search, it.title]);
  assert.deepEqual(pages, [["/lamps", "/lamps"], ["/lamps?sort=price", "/lamps?sort=price"],
    ["/page?lang=en", "back"]]);
  // One that is left before its title came is told of, and one that another takes the place of is not.
  await page.evaluate(() => {
    history.pushState(null, "", "/first");
    history.pushState(null, "", "/passing");
    history.replaceState(null, "", "/second");
    history.pushState(null, "", "/third");
  });
  await page.evaluate(() => (document.title = "third"));
  await told(page);
  const later = events().filter(({ type }) => type === "page").map(({ context: { page: it } }) => it.path);
  assert.deepEqual(later.slice(-3), ["/first", "/second", "/third"]);
  await context.close();
});

test("links: a click on one that leaves the site", async () => {
  const { context, page } = await open("links", { content: `<a id="out" href="https://other.example/x?y=1"><b> To others </b></a>
    <a id="in" href="/inside">In</a><a id="mail" href="mailto:a@b.example">Mail</a><a id="none">None</a>` });
  await page.evaluate(stay, "click");
  for (const id of ["out", "in", "mail", "none"]) await page.click(`#${id}`);
  assert.deepEqual(await told(page), [["Link Clicked", { href: "https://other.example/x?y=1", text: "To others" }]]);
  await context.close();
});

test("downloads: a click on a link to a file", async () => {
  const { context, page } = await open("downloads", { content: `<a id="list" href="/files/list.PDF?v=2">List</a>
    <a id="own" download href="/make">Make</a><a id="in" href="/inside.html">In</a>` });
  await page.evaluate(stay, "click");
  for (const id of ["list", "own", "in"]) await page.click(`#${id}`);
  assert.deepEqual(await told(page), [
    ["File Downloaded", { href: `${shop().origin}/files/list.PDF?v=2`, file: "list.PDF" }],
    ["File Downloaded", { href: `${shop().origin}/make`, file: "make" }],
  ]);
  await context.close();
});

test("forms: which was submitted, and nothing of what was written", async () => {
  const { context, page } = await open("forms", { content: `<form id="news" name="letter" action="/subscribe">
    <input name="id" value="secret"><input name="action" value="secret"><button>Go</button></form>` });
  await page.evaluate(stay, "submit");
  await page.click("button");
  const found = await told(page);
  assert.deepEqual(found, [["Form Submitted", { id: "news", name: "letter", action: "/subscribe" }]]);
  assert.ok(!JSON.stringify(events()).includes("secret"));
  await context.close();
});

test("scroll: each quarter of a page once", async () => {
  const { context, page } = await open("scroll", { content: '<svg width="1" height="4000"></svg>' });
  const scroll = async (to, percent) => {
    await page.evaluate((y) => scrollTo(0, y), to);
    if (percent) {
      await page.evaluate(() => tagway.flush());
      await until(() => events().some(({ properties }) => properties?.percent === percent), `${percent}`);
    }
  };
  await page.evaluate(() => tagway.on("track", () => setTimeout(tagway.flush)));
  await scroll(700, 25);
  await scroll(0);
  await scroll(9999, 100);
  await scroll(0);
  await scroll(1500);
  await page.evaluate(() => new Promise((done) => setTimeout(() => requestIdleCallback(done), 100)));
  const quarters = (await told(page)).map(([name, { percent }]) => [name, percent]);
  assert.deepEqual(quarters, [25, 50, 75, 100].map((percent) => ["Page Scrolled", percent]));
  await context.close();
});

test("vitals: one event when the page is left", async () => {
  const { context, page } = await open("vitals", { content: "<h1>Lamps</h1><button>Press</button>" });
  await page.waitForFunction(() => performance.getEntriesByName("first-contentful-paint").length);
  await page.click("button");
  await page.goto(`${shop().origin}/elsewhere`);
  const vitals = () => events().filter(({ event }) => event === "Web Vitals");
  await until(() => vitals().length, "the vitals");
  await open("alias").then(async ({ context: other, page: quiet }) => {
    await told(quiet);
    await other.close();
  });
  assert.equal(vitals().length, 1);
  const [{ properties }] = vitals();
  for (const name of ["ttfb", "fcp", "lcp"]) assert.ok(properties[name] > 0, `${name}: ${JSON.stringify(properties)}`);
  assert.equal(properties.cls ?? 0, 0);
  await context.close();
});

test("errors: what nobody caught, at most ten of a page", async () => {
  const { context, page } = await open("errors");
  await page.evaluate(() => {
    setTimeout(() => {
      throw new Error("thrown");
    });
    setTimeout(() => Promise.reject(new Error("refused")), 5);
    return new Promise((done) => setTimeout(done, 30));
  });
  await page.evaluate(() => {
    for (let i = 0; i < 20; i++) dispatchEvent(new ErrorEvent("error", { message: `again ${i}` }));
  });
  const messages = (await told(page)).map(([name, { message }]) => [name, message.replace("Uncaught Error: ", "")]);
  assert.equal(messages.length, 10);
  assert.deepEqual(messages.slice(0, 3), ["thrown", "refused", "again 0"].map((text) => ["Error Occurred", text]));
  await context.close();
});

test("alias: window.analytics after Segment's own snippet", async () => {
  const { snippet: how, before: early, after: later } = PAGES.segment;
  const { context, page, complaints } = await open("alias", { how, early });
  await page.waitForFunction(() => window.analytics.initialized);
  await page.evaluate(later);
  await page.waitForFunction(() => window.answered === 1);
  await page.evaluate(() => {
    analytics.page("Shop", "Lamps", { sort: "price" });
    analytics.identify({ plan: "free" });
    analytics.alias("u-new", "u-segment");
    window.got = [analytics.user().id(), analytics.user().traits()];
  });
  await told(page);
  const found = events().map(({ type, event, name, userId, groupId, previousId }) =>
    [type, event ?? name ?? groupId ?? previousId ?? null, userId ?? null]);
  assert.deepEqual(found.slice(0, -1), [
    ["page", "Lamps", null], ["identify", null, "u-segment"], ["group", "acme", "u-segment"],
    ["track", "Order Completed", "u-segment"], ["track", "left", "u-segment"], ["page", "Lamps", "u-segment"],
    ["identify", null, "u-segment"], ["alias", "u-segment", "u-new"],
  ]);
  assert.deepEqual(events().filter(({ type }) => type === "page")[1].properties, { category: "Shop", sort: "price" });
  assert.deepEqual(await page.evaluate(() => window.got),
    ["u-segment", { email: "a@b.example", plan: "free" }]);
  assert.deepEqual(complaints, []);
  await context.close();
});
