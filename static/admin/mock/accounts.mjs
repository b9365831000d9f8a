// Accounts, sessions, tokens and the audit log of the stand-in.

import { randomBytes } from "node:crypto";
import { page, Refusal } from "./server.mjs";
import { iso } from "./shop.mjs";

const DAY = 86_400_000;
const PASSWORD = "correct horse battery";

export function accounts(state) {
  const now = Date.now();
  const ago = (days) => iso(now - days * DAY);
  const people = state.setup ? [] : [
    { id: 1, name: "ana", role: "admin", personal: true, sites: null, disabled: false, oidc: false, created_at: ago(210), seen_at: iso(now - 40_000) },
    { id: 2, name: "ben", role: "editor", personal: false, sites: ["shop"], disabled: false, oidc: true, created_at: ago(190), seen_at: ago(0.4) },
    { id: 3, name: "vera", role: "viewer", personal: false, sites: null, disabled: false, oidc: true, created_at: ago(88), seen_at: ago(6) },
    { id: 4, name: "agency-north", role: "editor", personal: false, sites: ["magazine"], disabled: true, oidc: false, created_at: ago(150), seen_at: ago(61) },
    { id: 5, name: "jonas", role: "viewer", personal: false, sites: ["shop"], disabled: false, oidc: false, created_at: ago(0.1), seen_at: null },
  ];
  let tokens = [
    { id: 1, name: "ci-deploy", role: "editor", personal: false, sites: null, author: "ana", created_at: ago(120), expires_at: iso(now + 9 * DAY), used_at: ago(0.02) },
    { id: 2, name: "warehouse-export", role: "viewer", personal: true, sites: ["shop"], author: "ana", created_at: ago(64), expires_at: iso(now + 300 * DAY), used_at: ago(1.2) },
    { id: 3, name: "old-dashboard", role: "viewer", personal: false, sites: null, author: "ben", created_at: ago(180), expires_at: null, used_at: null },
  ];
  let sessions = [
    { id: "9f2c41d07ab3e655", account: "ana", created_at: ago(0.3), seen_at: iso(now - 20_000), agent: "Chrome 143 on Windows", network: "192.0.2.0/24", current: true },
    { id: "1b77e02c94d0aa31", account: "ana", created_at: ago(2.1), seen_at: ago(1.9), agent: "Safari on iPhone", network: "198.51.100.0/24", current: false },
    { id: "c0ffee12ab34cd56", account: "ben", created_at: ago(0.6), seen_at: ago(0.4), agent: "Firefox 145 on Linux", network: "203.0.113.0/24", current: false },
  ];
  const history = [
    ["ben", "session", "destination.pause", "shop", "tiktok", { why: "New pixel: waiting for the id from the agency" }], ["ana", "session", "dead.retry", "shop", "meta", { count: 214, filter: { destination: "meta", reason: "rejected" } }],
    ["ana", "session", "personal.reveal", "shop", "events/shop/48112", null], ["ci-deploy", "token", "script.approve", "shop", "meta/fbevents.js", { hash: "sha256-pP0q…" }],
    ["ana", "session", "account.invite", null, "jonas", { role: "viewer", sites: ["shop"] }], ["vera", "session", "session.begin", null, null, { network: "192.0.2.0/24" }],
    ["ana", "file", "segment.run", "shop", "buyers-90d", null], ["ben", "session", "destination.test", "shop", "meta", { message_id: "test-81" }],
    ["ana", "session", "person.forget", "shop", "k…@…", { suppressed: 3, events: 41 }], ["unknown", "none", "session.begin", null, null, "401: wrong name or password"],
  ];
  if (!state.setup) {
    for (let index = 0; index < 140; index++) {
      const [actor, via, action, site, object, detail] = history[index % history.length];
      state.audit.push({ id: 880 - index, at: iso(now - (index + 1) * 47 * 60_000), actor, via, action, site, object, detail: detail && typeof detail === "object" ? JSON.stringify(detail) : detail });
    }
  }

  const described = (account) => ({
    name: account.name, role: account.role, personal: account.personal, sites: account.sites ?? null, via: "session", must_set_password: account.mustSet ?? false,
    proved_until: state.proved > Date.now() ? iso(state.proved) : null, oidc: state.oidc, password_login: state.hasPassword ?? true, version: "0.9.0", secure: false,
  });
  const open = (response, account) => {
    const cookie = randomBytes(16).toString("hex");
    state.sessions.set(cookie, account);
    response.setHeader("set-cookie", `tagway=${cookie}; HttpOnly; SameSite=Strict; Path=/`);
    return described(account);
  };
  const find = (rows, params) => rows.find((it) => it.id === Number(params.id)) ?? (() => { throw new Refusal(404, "not found"); })();
  const invitation = () => ({ link: `http://127.0.0.1:9090/#/login?code=${randomBytes(8).toString("hex")}`, expires_at: iso(Date.now() + 3 * DAY) });
  let tries = 0;

  return [
    ["POST", "session", "none", ({ body, response }) => {
      const account = people.find((it) => it.name === body.name && !it.disabled);
      if (++tries > 20) throw new Refusal(429, "too many tries; wait a minute");
      if (!account || body.password !== PASSWORD) throw new Refusal(401, "wrong name or password");
      return open(response, account);
    }],
    ["POST", "session/link", "none", ({ body, response }) => {
      if (!["first", "invited"].includes(body.code)) throw new Refusal(401, "the link is used up or too old");
      state.setup = false;
      return open(response, { name: body.code === "first" ? "admin" : "jonas", role: body.code === "first" ? "admin" : "viewer", personal: body.code === "first", mustSet: true });
    }],
    ["DELETE", "session", "self", ({ cookie, response }) => {
      state.sessions.delete(cookie);
      state.signedIn = false;
      response.setHeader("set-cookie", "tagway=; Max-Age=0; Path=/");
    }],
    ["GET", "me", "self", ({ account }) => described(account)],
    ["POST", "me/password", "self", ({ account, body }) => {
      if (String(body.new).length < 12) throw new Refusal(400, "the password needs 12 characters", { field: "new" });
      account.mustSet = false;
      if (body.name) account.name = body.name;
      return described(account);
    }],
    ["POST", "session/prove", "self", ({ account, body }) => {
      if (body.password !== PASSWORD) throw new Refusal(403, "wrong password");
      state.proved = Date.now() + 300_000;
      return described(account);
    }],
    ["GET", "accounts", "admin", () => ({ rows: people })],
    ["POST", "accounts", "admin+proof", ({ body, account }) => {
      if (!body.name) throw new Refusal(400, "the name is missing", { field: "name" });
      if (people.some((it) => it.name === body.name)) throw new Refusal(409, "there is an account of this name", { field: "name" });
      const row = { id: people.length + 1, name: body.name, role: body.role, personal: !!body.personal, sites: body.sites ?? null, disabled: false, oidc: false, created_at: iso(Date.now()), seen_at: null };
      people.push(row);
      state.log(account, "account.invite", null, body.name, { role: body.role });
      return { id: row.id, ...invitation() };
    }],
    ["PATCH", "accounts/{id}", "admin+proof", ({ params, body, account }) => {
      const row = find(people, params);
      const isLast = row.role === "admin" && people.filter((it) => it.role === "admin" && !it.disabled).length === 1;
      if (isLast && (body.disabled || (body.role && body.role !== "admin"))) throw new Refusal(409, "the last admin stays an admin");
      Object.assign(row, body);
      state.log(account, "account.change", null, row.name, body);
      return row;
    }],
    ["POST", "accounts/{id}/link", "admin+proof", ({ params, account }) => {
      state.log(account, "account.reset", null, find(people, params).name);
      return invitation();
    }],
    ["GET", "tokens", "admin", () => ({ rows: tokens })],
    ["POST", "tokens", "admin+proof", ({ body, account }) => {
      const id = Math.max(0, ...tokens.map((it) => it.id)) + 1;
      const days = body.expires_in_days;
      tokens.push({ id, name: body.name, role: body.role, personal: !!body.personal, sites: body.sites ?? null, author: account.name, created_at: iso(Date.now()), expires_at: days ? iso(Date.now() + days * DAY) : null, used_at: null });
      state.log(account, "token.make", null, body.name);
      return { id, token: `tagway_${randomBytes(24).toString("base64url")}` };
    }],
    ["DELETE", "tokens/{id}", "admin", ({ params, account }) => {
      const row = find(tokens, params);
      tokens = tokens.filter((it) => it !== row);
      state.log(account, "token.remove", null, row.name);
    }],
    ["GET", "sessions", "self", ({ query, account }) => ({ rows: sessions.filter((it) => query.get("all") === "true" || it.account === account.name) })],
    ["DELETE", "sessions/{id}", "self", ({ params }) => {
      sessions = sessions.filter((it) => it.id !== params.id);
    }],
    ["GET", "audit", "admin", ({ query }) => {
      const is = (name, value) => {
        const wanted = query.get(name);
        return !wanted || (wanted.endsWith(".*") ? `${value}.`.startsWith(wanted.slice(0, -1)) : value === wanted);
      };
      const rows = state.audit.filter((it) => is("actor", it.actor) && is("action", it.action) && is("site", it.site));
      const found = page(rows, query, (it) => it.id);
      return { ...found, chain: { ok: true, checked: found.rows.length, broken_at: null } };
    }],
    ["GET", "audit/check", "admin", ({ query }) => {
      const half = Math.floor(state.audit.length / 2);
      return query.get("after") ? { chain: { ok: true, checked: state.audit.length - half, broken_at: null }, next: null } : { chain: { ok: true, checked: half, broken_at: null }, next: half };
    }],
    ["GET", "audit/export", "admin", ({ response }) => {
      response.writeHead(200, { "content-type": "application/x-ndjson" });
      response.end(state.audit.map((it) => `${JSON.stringify(it)}\n`).join(""));
    }],
  ];
}
