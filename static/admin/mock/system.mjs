// Alerts, profiles, segments, scripts and settings of the stand-in.

import { groupBy } from "./delivery.mjs";
import { Refusal } from "./server.mjs";
import { canonical, iso } from "./shop.mjs";

const HOUR = 3_600_000;

export function system(state) {
  const { shop } = state;
  const now = Date.now();
  const ago = (hours) => iso(now - hours * HOUR);
  state.alerts = state.isEmpty ? [] : [
    { id: 31, rule: "dead-letters", kind: "dead_letters", acknowledged: null, site: "shop", destination: "meta", state: "firing", severity: "page", title: "Meta refuses orders", text: "38 events failed in the last hour; the limit is 10. The reply is: “Currency is invalid”.", link: "#/dead?site=shop&destination=meta", since: ago(0.7), resolved_at: null, value: 38, limit: 10, notified: [{ channel: "slack-marketing", at: ago(0.68), error: null }, { channel: "mail-ops", at: ago(0.68), error: null }] },
    { id: 30, rule: "backlog-age", kind: "backlog_age", acknowledged: null, site: "shop", destination: "klaviyo", state: "firing", severity: "ticket", title: "Klaviyo is behind", text: "The oldest event waits for 24 minutes; the limit is 15.", link: "#/destinations/shop/klaviyo", since: ago(0.2), resolved_at: null, value: 1440, limit: 900, notified: [{ channel: "slack-marketing", at: ago(0.19), error: "404 no_team" }] },
    { id: 27, rule: "no-traffic", kind: "no_traffic", acknowledged: { by: "ben", at: ago(49.6), note: "The shop's host moved; DNS is on its way." }, site: "magazine", destination: null, state: "resolved", severity: "page", title: "No events of magazine", text: "No event came for 30 minutes.", link: "#/live?site=magazine", since: ago(50), resolved_at: ago(48.5), value: 0, limit: 1, notified: [{ channel: "mail-ops", at: ago(50), error: null }] },
  ];
  const rules = [
    ["delivery_rate", 0.95, 900, "page"], ["no_traffic", 20, 1_800, "page"], ["dead_letters", 10, 3_600, "page"], ["backlog_age", 900, 300, "ticket"],
    ["consent_skips", 0.6, 3_600, "ticket"], ["segment_late", 1, 3_600, "ticket"], ["certificate", 14, 86_400, "ticket"], ["disk", 0.05, 300, "page"],
  ].map(([kind, limit, window_seconds, severity], index) => ({ name: kind.replace("_", "-"), kind, site: null, destination: null, limit, window_seconds, for_seconds: 300, severity, channels: ["slack-marketing", "mail-ops"], enabled: kind !== "consent_skips", source: index === 2 ? "file" : "default" }));

  const trend = (size, growth) => Array.from({ length: 30 }, (_, index) => ({ at_ms: now - (30 - index) * 24 * HOUR, size: Math.round(size * (1 - growth + (growth * index) / 29) + ((index * 37) % 11)) }));
  const ran = (hours, size) => ({ at_ms: now - hours * HOUR, size, added: 214, removed: 61, took_ms: 840 });
  const sync = (segment, destination, rest) => ({ site: "shop", segment, destination, kind: "list", stand: "follows", list: null, added: 0, removed: 0, left_out: {}, not_removed: {}, stuck: 0, synced_ms: now - 0.3 * HOUR, problem: null, ...rest });
  const segments = state.isEmpty ? [] : [
    { site: "shop", name: "buyers-90d", by: "user", schedule: "every 30m", where: { all: [{ event: "Order Completed", within: "90d", count: ">= 1" }, { consent: "marketing" }] }, destinations: ["meta", "klaviyo"], is_running: false, members: 18_204, ran: ran(0.4, 18_204), due_ms: now + 0.1 * HOUR, counting: null, is_set_aside: false, uncounted: [], trend: trend(18_204, 0.22),
      syncs: [sync("buyers-90d", "meta", { list: "120210001", size: 17_940, added: 214, removed: 61, left_out: { no_identifier: 264 } }), sync("buyers-90d", "klaviyo", { list: "Xy12Za", size: 18_010, synced_ms: null, problem: "the destination asks for a later try" })] },
    { site: "shop", name: "cart-abandoners", by: "user", schedule: "every 15m", where: { all: [{ event: "Product Added", within: "2d" }, { not: { event: "Order Completed", within: "2d" } }] }, destinations: ["klaviyo"], is_running: false, members: 2_310, ran: ran(9, 2_310), due_ms: now - 8 * HOUR, counting: null, is_set_aside: false, uncounted: [], trend: trend(2_310, -0.1), syncs: [sync("cart-abandoners", "klaviyo", { size: 2_310 })] },
    { site: "shop", name: "lamp-lovers", by: "user", schedule: "every 6h", where: { any: [{ event: "Product Viewed", where: { category: { "=": "Lamps" } }, count: ">= 3", within: "30d" }, { trait: "interests", contains: "lamps" }] }, destinations: [], is_running: false, members: 941, ran: ran(5.8, 941), due_ms: now + 0.2 * HOUR, counting: { is_filled: false, share: 0.64, since_ms: now - 700 * HOUR }, is_set_aside: false, uncounted: [], trend: trend(941, 0.5), syncs: [] },
  ];
  const member = (it, isMasked) => ({ profile: numberOf(it), member: true, since: ago(24 * 3), user_id: it.user && (isMasked ? `${it.user.slice(0, 3)}…` : it.user), traits: it.email ? { email: isMasked ? `${it.email[0]}…@…` : it.email } : {} });

  const hash = (text) => `sha256-${Buffer.from(text.repeat(4)).toString("base64").slice(0, 43)}=`;
  let scripts = state.isEmpty ? [] : [
    { site: "shop", vendor: "meta", script: "fbevents.js", state: "pending", served: { hash: hash("served-1"), bytes: 214_310, age_seconds: 12 * 86_400 }, pending: { hash: hash("waits-1"), bytes: 215_004, age_seconds: 5 * 3_600 } },
    { site: "shop", vendor: "ga4", script: "gtag/js?id=G-LINDENHOF", state: "pinned", served: { hash: hash("served-2"), bytes: 371_200, age_seconds: 3 * 86_400 }, pending: null },
    { site: null, vendor: "klaviyo", script: "https://static.klaviyo.com/onsite/js/klaviyo.js", state: "open", served: { hash: hash("served-3"), bytes: 61_044, age_seconds: 420 }, pending: null },
    { site: null, vendor: "tiktok", script: "https://analytics.tiktok.com/i18n/pixel/events.js", state: "stale", served: { hash: hash("served-4"), bytes: 98_111, age_seconds: 8_200 }, pending: null },
  ];

  // A profile is named by its number: an address of the console holds no personal data.
  const numberOf = (it) => 4_000 + shop.visitors.indexOf(it);
  const namesOf = (it, isMasked) => [
    it.user && { kind: "user", value: isMasked ? `${it.user.slice(0, 3)}…` : it.user }, it.email && { kind: "email", value: isMasked ? `${it.email[0]}…@…` : it.email },
    { kind: "visitor", value: isMasked ? `${it.id.slice(0, 6)}…` : it.id },
  ].filter(Boolean);
  const ofVisitor = (it) => shop.events.filter((event) => event.visitor === it);
  const segmentsOf = (it) => (it.email ? ["buyers-90d"] : []);
  const profile = (it, isMasked) => ({ id: numberOf(it), names: namesOf(it, isMasked), last_seen_at: iso(ofVisitor(it).at(-1)?.at ?? now), events: ofVisitor(it).length, segments: segmentsOf(it) });
  const person = ({ id, profile: number }) => shop.visitors.find((it) => (number === undefined ? [it.id, it.user, it.email].includes(id) : numberOf(it) === number)) ?? (() => { throw new Refusal(404, "nobody has this id"); })();
  const activity = (it) => Object.fromEntries([...groupBy(ofVisitor(it), (event) => event.event)].map(([event, all]) => [event, {
    count: all.length, first: iso(all[0].at), last: iso(all.at(-1).at), sum: all.reduce((sum, { properties }) => sum + (properties.total ?? properties.value ?? 0), 0),
  }]));
  const details = (it, isMasked) => {
    const names = namesOf(it, isMasked);
    return {
      profile: numberOf(it), kind: "profile", user_id: names.find(({ kind }) => kind === "user")?.value ?? null, identities: names.map((name) => ({ ...name, rank: 2 })), rank: 2,
      traits: it.email ? { email: names.find(({ kind }) => kind === "email").value, plan: isMasked ? "…" : "newsletter" } : {}, trait_ranks: {}, first_seen: ago(700), last_seen: iso(ofVisitor(it).at(-1)?.at ?? now),
      touches: { first: { at: ago(700), campaign: { source: "google", medium: "cpc", name: "Lamps, autumn" }, click_ids: { gclid: isMasked ? "Cj0K…" : "Cj0KCQiA" } }, last: { at: ago(20), referrer: "https://www.google.com/" } },
      device: { type: "mobile", os: "iOS", browser: "Safari" }, place: { country: it.country }, consent: it.consent ? Object.fromEntries(["analytics", "marketing", "advertising"].map((name) => [name, it.consent.includes(name)])) : {},
      group_id: null, activity: activity(it), segments: segmentsOf(it), days: [],
    };
  };

  const settings = [
    ["data_dir", "data", "default", null, "The folder of the journal, the profiles, the generated site secrets and the admin token."], ["listen.http", "0.0.0.0:8080", "file", 4, "plain HTTP/1.1"], ["listen.https", "0.0.0.0:8443", "file", 5, "TLS 1.2 and 1.3, HTTP/1.1 and HTTP/2; needs [[tls.certificates]]"],
    ["listen.admin", "127.0.0.1:9090", "default", null, "health, metrics and API; never expose it to the internet"], ["journal.retain", "30d", "file", 12, "settled events are kept for this time, for replay"], ["journal.max_bytes", "80GiB", "environment", null, "limit of events and dead letters on the disk"],
    ["journal.retain_dead", "30d", "default", null, "dead letters are kept for this time, for operators"], ["egress.connect_timeout", "5s", "default", null, "for a connection to be established, TLS included"],
    ["sites[shop].hosts", ["lindenhof.example", "www.lindenhof.example"], "file", 20, "The host names of the site."], ["sites[shop].server_token", "set", "environment", null, "The secret with which a server speaks for the site's visitors."],
    ["sites[shop].destinations[meta].pixel_id", "1234567890", "file", 41, "The id of the pixel."], ["sites[shop].destinations[meta].access_token", "set", "file", 42, "The token of the Conversions API."], ["sites[shop].destinations[tiktok].access_token", "not set", "default", null, "The token of the Events API."],
  ].map(([path, value, source, line, doc]) => ({ path, value, source, file: source === "default" ? null : "/etc/tagway/tagway.toml", line, variable: source === "environment" ? `TAGWAY_${path.split(".").at(-1).toUpperCase()}` : null, secret: value === "set" || value === "not set", restart: path.startsWith("listen") || path === "data_dir", doc }));

  return [
    ["GET", "alerts", "viewer", () => ({ rows: state.alerts, next: null })],
    ["GET", "alerts/rules", "viewer", () => ({ rows: rules, channels: state.isEmpty ? [] : ["slack-marketing", "mail-ops"] })],
    ["GET", "alerts/{id}", "viewer", ({ params }) => state.alerts.find((it) => it.id === Number(params.id)) ?? (() => { throw new Refusal(404, "no such alert"); })()],
    ["POST", "alerts/channels/{name}/test", "editor", ({ params }) => {
      const error = params.name === "slack-marketing" ? "the channel answered 404 no_team" : null;
      return { sent: error === null, error };
    }],
    ["POST", "alerts/{id}/acknowledge", "editor", ({ params, body, account }) => {
      const alert = state.alerts.find((it) => it.id === Number(params.id));
      if (!alert) throw new Refusal(404, "no such alert");
      alert.acknowledged = { by: account.name, at: iso(Date.now()), note: body.note ?? null };
      return alert;
    }],
    ["GET", "segments", "viewer", ({ query }) => segments.filter((it) => !query.get("site") || it.site === query.get("site"))],
    ["GET", "segments/{site}/{segment}", "viewer", ({ params }) => segments.find((it) => it.name === params.segment) ?? (() => { throw new Refusal(404, "no such segment"); })()],
    ["POST", "segments/run", "editor", ({ body, account }) => {
      state.log(account, "segments.run", body.site, body.segment);
      const found = segments.find((it) => it.name === body.segment);
      found.members += 12;
      found.ran = { at_ms: Date.now(), took_ms: 620, size: found.members, added: 17, removed: 5 };
      found.due_ms = Date.now() + 0.5 * HOUR;
      return found.ran;
    }],
    ["GET", "segments/{site}/{segment}/members", "viewer", ({ params, response, isMasked }) => {
      response.writeHead(200, { "content-type": "application/x-ndjson" });
      const found = segments.find((it) => it.name === params.segment);
      response.end(found ? shop.visitors.filter((it) => it.email).map((it) => `${JSON.stringify(member(it, isMasked))}\n`).join("") : "");
    }],
    ["GET", "scripts", "viewer", () => scripts],
    ["GET", "scripts/diff", "viewer", () => (scripts[0]?.pending ? { served: scripts[0].served, pending: scripts[0].pending, cut: false, diff: "--- served\n+++ pending\n@@ -1204,6 +1204,8 @@\n   function send(event) {\n-    var version = \"2.9.214\";\n+    var version = \"2.9.215\";\n+    if (event.data && event.data.currency) event.data.currency = event.data.currency.toUpperCase();\n     queue.push(event);\n   }\n" } : (() => { throw new Refusal(409, "no version of this script waits"); })())],
    ["POST", "scripts/approve", "editor", ({ body, account }) => {
      scripts = scripts.map((it) => (it.script === body.script ? { ...it, state: "pinned", served: it.pending, pending: null } : it));
      state.log(account, "scripts.approve", body.site, `${body.vendor}/${body.script}`);
      return { site: body.site, vendor: body.vendor, script: body.script, served: body.hash };
    }],
    ["GET", "settings/effective", "viewer", ({ query }) => ({ rows: settings.filter((it) => it.path.startsWith(query.get("path") ?? "")) })],
    ["GET", "warnings", "viewer", () => ({ rows: state.isEmpty ? [] : [{ place: "sites[shop].destinations[klaviyo]", text: "list_id is not set; members are only added as profiles" }] })],
    ["GET", "sites/{site}/profiles", "viewer", ({ query, isMasked }) => {
      const q = (query.get("q") ?? "").toLowerCase();
      const found = shop.visitors.filter((it) => !q || [it.id, it.user, it.email].some((name) => name?.toLowerCase().startsWith(q)));
      const from = Number(query.get("after") ?? 0);
      const limit = Number(query.get("limit") ?? 25);
      return { rows: state.isEmpty ? [] : found.slice(from, from + limit).map((it) => profile(it, isMasked)), next: !state.isEmpty && from + limit < found.length ? from + limit : null };
    }],
    ["POST", "profiles", "viewer", ({ body, isMasked }) => ({ profiles: [details(person(body), isMasked)] })],
    ["POST", "export", "admin+proof", ({ body }) => ({ held: ofVisitor(person(body)).slice(-20).map((event) => ({ kind: "event", event: canonical(event, false) })), next: null })],
    ["POST", "forget", "admin+proof", ({ body, account }) => {
      state.log(account, "forget", body.site, "k…@…");
      return body.undo ? { site: body.site, lifted: 2 } : { site: body.site, suppressed: 2, erased: { profiles: 1, events: 14, parked: 0, dead: 0 } };
    }],
  ];
}
