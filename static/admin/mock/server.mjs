// A stand-in for the gateway, for development and for tests of the console: it serves the console under its
// real content security policy, and answers the API from a shop that never closes.
//
//   node mock/server.mjs [--port 9099] [--base /ops/tagway/] [--rate 3] [--signed-in] [--setup] [--empty] [--dist]
//
// Without --dist the console is built from its sources at each load of its page. The account is ana with the
// password "correct horse battery" (ben: editor, vera: viewer); its codes are "first" and "invited".

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import { accounts } from "./accounts.mjs";
import { delivery } from "./delivery.mjs";
import { events, walk } from "./events.mjs";
import { Shop } from "./shop.mjs";
import { system } from "./system.mjs";

export const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/** A refusal, as the gateway writes it. */
export class Refusal extends Error {
  constructor(status, title, members = {}) {
    super(title);
    this.status = status;
    this.body = { type: "about:blank", title, status, detail: title, ...members };
  }
}

const RANK = { viewer: 0, editor: 1, admin: 2 };
const TYPES = { html: "text/html; charset=utf-8", js: "text/javascript; charset=utf-8", css: "text/css; charset=utf-8", txt: "text/plain; charset=utf-8" };

/** Starts it; `routes` of a test come before its own. */
export async function start({
  port = 0, base = "/", rate = 0, signedIn = false, setup = false, oidc = false, isEmpty = false, role = "admin", personal = true, fromDist = false, routes = [],
} = {}) {
  const shop = new Shop({ isEmpty });
  const state = { shop, setup, oidc, signedIn, role, personal, sessions: new Map(), audit: [], proved: 0, isEmpty, streams: 0, broken: new Set() };
  const table = [...routes, ...accounts(state), ...events(state), ...delivery(state), ...system(state)].map(([method, pattern, needs, act]) => {
    const names = [];
    const expression = pattern.replace(/\{(\w+)\}/g, (_, name) => { names.push(name); return "([^/]+)"; });
    return { method, expression: new RegExp(`^${expression}$`), names, needs, act };
  });
  const built = fromDist ? null : (await import("../build.mjs")).bundle;
  let files = null;

  async function serveFile(path, response) {
    if (path === "" || !files) files = built ? (await built()).files : null;
    const name = path === "" ? "index.html" : path;
    if (name.includes("/") || name.includes("..")) throw new Refusal(404, "not found");
    const text = files ? files.get(name) : await readFile(fileURLToPath(new URL(`../dist/${name}`, import.meta.url))).catch(() => undefined);
    if (text === undefined) throw new Refusal(404, "not found");
    const isPage = !/\.[A-Z0-9]{8}\./.test(name);
    response.writeHead(200, {
      "content-type": TYPES[name.split(".").pop()] ?? "application/octet-stream",
      "cache-control": isPage ? "no-cache" : "public, max-age=31536000, immutable",
      "x-content-type-options": "nosniff",
      ...(isPage && { "content-security-policy": POLICY, "referrer-policy": "no-referrer", "cross-origin-opener-policy": "same-origin" }),
    });
    response.end(text);
  }

  async function answer(request, response, url, path) {
    const found = table.map((route) => ({ route, match: route.expression.exec(path) })).find(({ route, match }) => match && route.method === request.method);
    if (!found) throw new Refusal(404, "no such route");
    const { route, match } = found;
    const params = Object.fromEntries(route.names.map((name, index) => [name, decodeURIComponent(match[index + 1])]));
    const cookie = /(?:^|; )tagway=([^;]+)/.exec(request.headers.cookie ?? "")?.[1];
    const account = state.signedIn ? { name: "ana", role: state.role, personal: state.personal, cookie } : state.sessions.get(cookie) ?? null;
    if (route.needs !== "none" && !account) {
      throw new Refusal(401, "sign in first", { ...(state.setup && { setup: true }), ...(state.oidc && { oidc: true }) });
    }
    const [needed, proof] = route.needs.split("+");
    if (needed in RANK && RANK[account.role] < RANK[needed]) throw new Refusal(403, `this needs the role ${needed}`);
    if (proof === "proof" && Date.now() > state.proved) throw new Refusal(403, "prove again that it is you", { field: "proof" });
    const isRevealing = url.searchParams.get("reveal") === "true";
    if (isRevealing && !account?.personal) throw new Refusal(403, "this needs the right personal");
    let body = {};
    if (request.method !== "GET") {
      let text = "";
      for await (const chunk of request) text += chunk;
      body = text === "" ? {} : JSON.parse(text);
    }
    if (isRevealing) state.log(account, "personal.reveal", params.site ?? null, path);
    const result = await route.act({ params, query: url.searchParams, body, account, request, response, isMasked: !isRevealing, cookie });
    if (response.headersSent) return;
    if (result === undefined) return response.writeHead(204).end();
    response.writeHead(200, { "content-type": "application/json", "cache-control": "no-store" });
    response.end(JSON.stringify(result));
  }

  let lastRow = 900;
  state.log = (account, action, site = null, object = null, detail = null) => {
    state.audit.unshift({ id: ++lastRow, at: new Date().toISOString(), actor: account?.name ?? "–", via: "session", action, site, object, detail: detail && typeof detail === "object" ? JSON.stringify(detail) : detail });
  };

  const server = createServer((request, response) => {
    const url = new URL(request.url, "http://mock");
    const fail = (error) => {
      if (!(error instanceof Refusal)) console.error(error);
      if (response.headersSent) return response.destroy();
      const refusal = error instanceof Refusal ? error : new Refusal(500, "the stand-in failed", { detail: String(error) });
      response.writeHead(refusal.status, { "content-type": "application/problem+json" });
      response.end(JSON.stringify(refusal.body));
    };
    if (!url.pathname.startsWith(base)) {
      if (`${url.pathname}/` === base) return response.writeHead(308, { location: base }).end();
      return fail(new Refusal(404, "not found"));
    }
    const path = url.pathname.slice(base.length);
    (path.startsWith("api/v1/") ? answer(request, response, url, path.slice(7)) : serveFile(path, response)).catch(fail);
  });
  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  shop.open(rate);
  return {
    url: `http://127.0.0.1:${server.address().port}${base}`,
    state,
    shop,
    /** Lets the person with a traced browser buy something. */
    walk: (trace, site) => walk(shop, trace, site),
    /** Ends the streams, as a gateway that restarts. */
    breakStreams: () => state.broken.forEach((end) => end()),
    /** Sends so many events a second to whoever watches, with what becomes of them, from prepared lines. */
    flood: (perSecond) => flood(shop, perSecond),
    close: () => {
      shop.close();
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Every 20 ms a share of the events of a second; like the gateway, it says now and then that some were left out. */
function flood(shop, perSecond) {
  let sent = 0;
  let seq = 1_000_000;
  const timer = setInterval(() => {
    for (let index = 0; index < perSecond / 50; index++) {
      const at = new Date().toISOString();
      const common = { at, site: "shop", seq: ++seq, message_id: `flood-${seq}`, event: "Product Viewed" };
      shop.push({ what: "accepted", ...common, format: "segment", page: "/p/p-101", source: "sdk", visitor: "abcdef…", bot: 0.1, consent: ["analytics"], country: "DE" });
      for (const destination of ["ga4", "meta", "google-ads", "klaviyo", "tiktok", "warehouse"]) {
        shop.push({ what: "settled", ...common, destination, outcome: "delivered", reason: "", attempt: 1, milliseconds: 40 });
      }
      sent++;
    }
    if (sent % perSecond < perSecond / 50) shop.watchers.forEach((watcher) => watcher({ what: "missed", count: 1_024, site: "shop" }, null));
  }, 20);
  return { stop: () => clearInterval(timer), sent: () => sent };
}

/** A page of rows that have an id, newest first. */
export function page(rows, query, idOf, most = 50) {
  const before = Number(query.get("before") ?? Infinity);
  const limit = Math.min(Number(query.get("limit") ?? most), 200);
  const rest = rows.filter((it) => idOf(it) < before);
  const shown = rest.slice(0, limit);
  return { rows: shown, next: rest.length > limit ? idOf(shown.at(-1)) : null };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const has = (name) => process.argv.includes(`--${name}`);
  const value = (name, otherwise) => (has(name) ? process.argv[process.argv.indexOf(`--${name}`) + 1] : otherwise);
  const mock = await start({
    port: Number(value("port", 9099)), base: value("base", "/"), rate: Number(value("rate", 3)), signedIn: has("signed-in"), setup: has("setup"),
    oidc: has("oidc"), isEmpty: has("empty"), role: value("role", "admin"), fromDist: has("dist"),
  });
  console.log(`console   ${mock.url}`);
}
