// Pages that are rendered before anybody opens them, and pages that come back whole, in a Chromium that nobody
// steers: what steers one switches both off.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { gatewayOf, pageOf, stage, until } from "./sites.mjs";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const SITES = {
  paged: 'auto = ["page", "history"]',
  once: 'auto = ["page"]\nrestored = false',
  shims: 'auto = []\nshims = ["ga4", "meta"]',
};
const { shop, events } = stage(SITES);

/** Serves the pages, by path [site, content, early], and leaves a browser to itself at the first of them. */
async function visit(pages, isDone) {
  const bodies = await Promise.all(Object.entries(pages).map(async ([path, [site, content, early]]) => {
    const page = await pageOf(shop(), site, { content, early })("/page");
    // The rules and the notes are no matter of the page's policy.
    return [path, { ...page, headers: { "content-type": page.headers["content-type"] } }];
  }));
  const served = new Map(bodies);
  const notes = [];
  shop().own = (pathname) => {
    if (pathname.startsWith("/note/")) {
      notes.push(pathname.slice(6));
      return Promise.resolve({ headers: {}, body: "" });
    }
    // Once all have been rendered that are going to be.
    if (pathname === "/ready") return Promise.resolve({ headers: {}, body: notes.filter((note) => note.endsWith("true")).length > 1 ? "yes" : "" });
    return Promise.resolve(served.get(pathname) ?? { headers: { "content-type": "text/plain" }, body: "" });
  };
  const profile = await mkdtemp(join(tmpdir(), "tagway-lifecycle-"));
  const browser = spawn(CHROMIUM, ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-component-update", `--user-data-dir=${profile}`,
    "--user-agent=Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    shop().origin + Object.keys(pages)[0]], { stdio: "ignore" });
  try {
    await until(() => isDone(notes), () => `${notes} ${JSON.stringify(events())}`);
  } finally {
    const isGone = new Promise((resolve) => browser.once("exit", resolve));
    browser.kill();
    await isGone;
    await rm(profile, { recursive: true, force: true, maxRetries: 9 });
  }
}

const ahead = (...urls) => `<script type="speculationrules">{"prerender":[{"source":"list","urls":${JSON.stringify(urls)},"eagerness":"immediate"}]}</script>`;
const paths = (type = "page") => events().filter((it) => it.type === type).map(({ context }) => context.page.path);
const nameOf = ({ event, type }) => event ?? type;
const script = (code) => `<script nonce="n">${code}</script>`;
const hasEvent = (name) => events().some(({ event }) => event === name);
/** Goes to /b when it is rendered. */
const THEN_B = script(`const go = setInterval(async () => {
  if (!(await (await fetch("/ready")).text())) return;
  clearInterval(go);
  location.href = "/b";
}, 300);`);

test("a page that was rendered in advance counts when it is opened, and never before", async () => {
  const inner = (name) => ["paged", script(`fetch("/note/${name}-" + document.prerendering);
    tagway.track("Inline", { at: Date.now(), name: "${name}" });
    document.addEventListener("prerenderingchange", () => { fetch("/note/${name}-open");
      setTimeout(() => tagway.track("Opened", { at: Date.now() }), 1000); });
    const late = setInterval(() => { if (tagway.loaded) { clearInterval(late); tagway.track("Loaded", { name: "${name}" }); } }, 20);`)];
  await visit({ "/a": ["paged", ahead("/b", "/never") + THEN_B], "/b": inner("b"), "/never": inner("never") },
    (notes) => notes.includes("b-true") && notes.includes("never-true") && notes.includes("b-open") && hasEvent("Opened"));
  assert.deepEqual(paths().sort(), ["/a", "/b"]);
  const tracks = events().filter(({ type }) => type === "track").map((it) => `${it.event} ${it.context.page.path}`).sort();
  assert.deepEqual(tracks, ["Inline /b", "Loaded /b", "Opened /b"]);
  const [inline] = events().filter(({ event }) => event === "Inline");
  assert.ok(Date.parse(inline.timestamp) > inline.properties.at, "it was said when the page was opened");
});

test("shims wait as well", async () => {
  const calls = `gtag("config", "G-SHOP1"); gtag("event", "sign_up"); fbq("init", "1"); fbq("track", "Lead");`;
  const early = `window.dataLayer = []; function gtag() { dataLayer.push(arguments); }
    window.fbq = window._fbq = function () { fbq.callMethod ? fbq.callMethod(...arguments) : fbq.queue.push(arguments); };
    fbq.queue = []; fbq.loaded = true; fbq.version = "2.0"; ${calls}`;
  const opened = script(`fetch("/note/" + document.prerendering); document.addEventListener("prerenderingchange", () => {
    fetch("/note/open"); setTimeout(() => gtag("event", "opened"), 1000); });`);
  await visit({ "/a": ["shims", ahead("/b", "/never") + THEN_B], "/b": ["shims", opened, early], "/never": ["shims", opened, early] },
    (notes) => notes.includes("true") && notes.includes("open") && hasEvent("opened"));
  assert.deepEqual(paths(), ["/b"]);
  assert.deepEqual(events().map(nameOf).sort(), ["Lead", "Signed Up", "opened", "page"].sort());
});

const returning = script(`addEventListener("pageshow", ({ persisted }) => {
  fetch("/note/" + persisted);
  if (!persisted) setTimeout(() => { location.href = "/b"; }, 2500);
  else setTimeout(() => tagway.track("Restored"), 1000);
});`);
const back = script(`tagway.consent({ analytics: false }); setTimeout(() => history.back(), 2500);`);

test("a page that comes back whole is a page view, with what was chosen meanwhile", async () => {
  await visit({ "/a": ["paged", returning, "tagway.consent({ analytics: true });"], "/b": ["paged", back] },
    (notes) => notes.includes("true") && hasEvent("Restored"));
  assert.deepEqual(paths(), ["/a", "/b", "/a"]);
  const choices = events().filter(({ type }) => type === "page").map(({ context }) => context.consent?.categoryPreferences.analytics);
  assert.deepEqual(choices, [true, false, false]);
});

test("a page that comes back whole is no page view where the site says so", async () => {
  await visit({ "/a": ["once", returning], "/b": ["once", back] },
    (notes) => notes.includes("true") && hasEvent("Restored"));
  assert.deepEqual(paths(), ["/a", "/b"]);
});
