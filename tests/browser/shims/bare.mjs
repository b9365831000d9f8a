// A page with the script as the gateway composes it, over a server that only takes down what is sent: what a shim
// does in the page, call by call, without the gateway.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { after, before } from "node:test";
import { chromium } from "playwright-core";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const DEADLINE_MS = Number(process.env.DEADLINE_MS ?? 20_000);
const dist = (name) => readFileSync(new URL(`../../../static/sdk/dist/${name}.js`, import.meta.url), "utf8");
const once1 = (name, script) => `if(!tagway.loaded.${name}){tagway.loaded.${name}=1;${script}}\n`;

/** What the vendors' shims share, by vendor, in the order in which it comes: as crates/vendors/src say. */
const NEEDS = { segment: ["stub", "state"], mixpanel: ["stub", "state"], amplitude: ["stub", "state"], posthog: ["stub", "state"],
  ga4: ["stub", "state"], meta: ["stub", "state"], intercom: ["stub", "state", "chat"], drift: ["stub", "chat"] };

/** /tw.js with the shims of these vendors: crates/pages/src/script/compose.rs. */
export function composed(vendors, settings = {}) {
  const shared = [...new Set(vendors.flatMap((vendor) => NEEDS[vendor]))];
  return `if(!(window.tagway&&window.tagway.loaded)){(window.tagway=window.tagway||{}).settings=${JSON.stringify(settings)};` +
    `${dist("parts/base")}${dist("core")}${dist("parts/restored")}}\n` +
    shared.map((name) => once1(name, dist(`shared/${name}`))).join("") +
    vendors.map((name) => once1(name, dist(`shims/${name}`))).join("");
}

export async function until(isSo, what) {
  const deadline = Date.now() + DEADLINE_MS;
  while (!(await isSo())) {
    assert.ok(Date.now() < deadline, typeof what === "function" ? what() : what);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Pages with the shim of a vendor. */
export function bare(vendor) {
  let server, browser, origin, own;
  /** Pages that earlier tests are done with: a new one costs more than the test. */
  const idle = [];
  /** What the pages of each test have sent, by the number in their endpoint: a page that is left sends as well. */
  const sent = [];
  let messages = [];
  /** How often a messenger's own script was asked for. */
  let asked = 0;
  before(async () => {
    server = createServer(async (request, response) => {
      const { pathname } = new URL(request.url, "http://shop");
      if (pathname === "/blank") return response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>Blank</title>");
      let body = "";
      for await (const chunk of request) body += chunk;
      if (request.method === "POST") {
        const { batch } = JSON.parse(body);
        const status = own.status ?? 200;
        if (status < 300) sent[Number(pathname.match(/^\/n(\d+)\//)[1])].push(...batch);
        return response.writeHead(status, { "content-type": "application/json" }).end('{"success":true}');
      }
      const isReal = /^\/(widget|include)\//.test(pathname);
        if (isReal) asked += 1;
        const [type, text] = pathname === "/tw.js" ? ["text/javascript", own.script] : isReal ? ["text/javascript", own.real] : ["text/html", own.html];
      response.writeHead(200, { "content-type": `${type}; charset=utf-8`, "cache-control": "no-store" }).end(text);
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

  /** The context of a page, whose `close` keeps both for another test, with nothing stored and nothing open. */
  const reusable = (page) => {
    const context = page.context();
    const close = async () => {
      page.removeAllListeners();
      for (const other of context.pages()) if (other !== page) await other.close();
      await page.goto(`${origin}/blank`);
      await page.evaluate(() => [localStorage, sessionStorage].forEach((it) => it.clear()));
      await context.clearCookies();
      idle.push(page);
    };
    return new Proxy(context, { get: (it, name) => (name === "close" ? close : typeof it[name] === "function" ? it[name].bind(it) : it[name]) });
  };

  /**
   * A page whose head has the code `before` the script and the code `after` it, which is how a snippet that comes
   * late meets it. Gives the page, the messages that were sent, and what the page complained of.
   */
  async function open({ before = "", after: late = "", body = "", settings, context, status, real = "", src = "/tw.js", path = "/" } = {}) {
    if (!context) {
      messages = [];
      sent.push(messages);
    }
    asked = 0;
    own = {
      status,
      real,
      script: composed([vendor].flat(), { endpoint: `${origin}/n${sent.length - 1}`, ...settings }),
      html: `<!doctype html><html lang="en"><head><title>Lamps</title><link rel="icon" href="data:,"><script>${before}</script>
        <script src="${src}"></script><script>${late}</script></head><body>${body}</body></html>`,
    };
    const page = context ? await context.newPage() : (idle.pop() ?? (await (await browser.newContext()).newPage()));
    context ??= reusable(page);
    const errors = [];
    const warnings = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (line) => {
      if (line.type() === "error") errors.push(line.text());
      if (line.type() === "warning") warnings.push(line.text());
    });
    await page.goto(origin + path);
    /** All that was said has been sent by then. */
    const settled = async () => {
      const name = `Settled ${Math.random()}`;
      await page.evaluate((it) => { tagway.track(it); tagway.flush(); }, name);
      await until(() => messages.some(({ event }) => event === name), () => `settled: ${JSON.stringify(messages)} ${errors}`);
      return messages.filter(({ event }) => !String(event).startsWith("Settled"));
    };
    return { page, context, errors, warnings, settled, origin, asked: () => asked };
  }
  return { open };
}

let turn = 0;
/**
 * The places of the snippet, before and after the script, that a row is tested at: the one that it needs, or the two
 * in turn. ORDERS=all tests every row at both, which takes twice as long.
 */
export const places = (only) => {
  if (only) return [only].flat();
  return process.env.ORDERS === "all" ? ["before", "after"] : [["before", "after", "after", "before"][turn++ % 4]];
};

/** The members of `found` that `expected` has. */
export const like = (found, expected) => {
  if (Array.isArray(expected)) return Array.isArray(found) ? found.map((it, i) => (i in expected ? like(it, expected[i]) : it)) : found;
  if (expected && typeof expected === "object" && found && typeof found === "object") {
    return Object.fromEntries(Object.keys(expected).map((key) => [key, like(found[key], expected[key])]));
  }
  return found;
};
