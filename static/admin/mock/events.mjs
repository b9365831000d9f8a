// Events of the stand-in: the live feed, single events, traces, rehearsals.

import { randomBytes } from "node:crypto";
import { Refusal } from "./server.mjs";
import { canonical, DESTINATIONS, endpoint, iso, mapped, SITES } from "./shop.mjs";

/** A list of globs: those with `!` exclude. */
function globs(text) {
  if (!text) return () => true;
  const all = text.split(",").map((it) => it.trim()).filter(Boolean);
  const expression = (glob) => new RegExp(`^${glob.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*")}$`, "i");
  const not = all.filter((it) => it.startsWith("!")).map((it) => expression(it.slice(1)));
  const yes = all.filter((it) => !it.startsWith("!")).map(expression);
  return (name) => !not.some((it) => it.test(name)) && (yes.length === 0 || yes.some((it) => it.test(name)));
}

function filter(query) {
  const event = globs(query.get("event"));
  const is = (name, value) => !query.get(name) || query.get(name) === value;
  return (happening, record) => happening.what === "missed" || is("site", happening.site)
    && (happening.what === "accepted" || is("destination", happening.destination))
    // With a wish for outcomes there are only outcomes.
    && (happening.what === "settled" || !(query.get("outcome") || query.get("reason")))
    && event(happening.event ?? record?.event ?? "")
    && (happening.what !== "settled" || is("outcome", happening.outcome))
    && (happening.what !== "settled" || is("reason", happening.reason))
    && is("source", record?.source)
    && (!query.get("visitor") || record?.visitor.id.startsWith(query.get("visitor").replace("…", "")) || record?.visitor.user === query.get("visitor"));
}

export function events(state) {
  const { shop } = state;
  const traces = new Map();
  const described = ({ happenings, ...rest }) => ({ ...rest, events: new Set(happenings.map((it) => it.seq ?? it.seqs[0])).size });
  const find = (site, seq) => shop.find(site, Number(seq)) ?? (() => { throw new Refusal(404, "no such event; it may be older than journal.retain"); })();

  const answer = (record, isMasked) => ({
    site: record.site, seq: record.seq, received_at: iso(record.at), event: canonical(record, isMasked),
    destinations: [...record.outcomes].map(([destination, fate]) => {
      const row = DESTINATIONS.find((it) => it.site === record.site && it.destination === destination);
      const call = fate.status !== undefined && fate.outcome !== "delivered"
        ? { at: iso(record.at + 900), request: `POST ${endpoint(destination)}\n\n${JSON.stringify(mapped(record, destination), null, 2)}`, status: fate.status, reply: fate.reply } : null;
      return {
        destination, outcome: fate.outcome, state: shop.paused.has(`${record.site}/${destination}`) ? "paused" : row.state, state_reason: row.reason ?? null,
        ...(fate.reason && { reason: fate.reason }), ...(fate.detail && { detail: fate.detail }), attempts: fate.attempts ?? fate.attempt ?? 0,
        ...(fate.due_at && { due_at: iso(fate.due_at) }), ...(["delivered", "skipped", "dead"].includes(fate.outcome) && { at: iso(record.at + 1000) }),
        ...(fate.dead_letter && { dead_letter: fate.dead_letter }), ...(call && { last_call: call }), ...(fate.until && { due_at: iso(fate.until) }),
      };
    }),
  });

  return [
    ["GET", "tail", "viewer", ({ query, request, response }) => {
      const matches = filter(query);
      response.writeHead(200, { "content-type": "application/x-ndjson", "cache-control": "no-store" });
      const backlog = Math.min(500, Number(query.get("backlog") ?? 0));
      const old = shop.ring.filter(([happening, record]) => matches(happening, record)).slice(-backlog);
      if (backlog > 0) response.write(old.map(([it]) => `${JSON.stringify(it)}\n`).join(""));
      response.write('{"what":"live"}\n');
      const watcher = (happening, record) => matches(happening, record) && response.write(`${JSON.stringify(happening)}\n`);
      shop.watchers.add(watcher);
      state.streams++;
      const end = () => response.end();
      state.broken.add(end);
      response.on("finish", () => { shop.watchers.delete(watcher); });
      const heartbeat = setInterval(() => response.write("\n"), 5_000);
      request.on("close", () => {
        clearInterval(heartbeat);
        shop.watchers.delete(watcher);
        state.broken.delete(end);
        state.streams--;
      });
      return new Promise((resolve) => request.on("close", resolve));
    }],
    ["GET", "events/{site}", "viewer", ({ params, query, isMasked }) => {
      if (!(params.site in SITES)) throw new Refusal(404, "no such site");
      const wanted = query.get("message_id");
      if (wanted) {
        const found = shop.events.findLast((it) => it.site === params.site && it.message_id === wanted);
        if (!found) throw new Refusal(404, "no event has this message id");
        return answer(found, isMasked);
      }
      const event = globs(query.get("event"));
      const before = Number(query.get("before") ?? Infinity);
      const limit = Number(query.get("limit") ?? 50);
      const rows = shop.events.filter((it) => it.site === params.site && it.seq < before && event(it.event)
        && (!query.get("source") || it.source === query.get("source"))
        && (!query.get("outcome") || [...it.outcomes.values()].some((fate) => fate.outcome === query.get("outcome"))))
        .sort((a, b) => b.seq - a.seq);
      return {
        rows: rows.slice(0, limit).map((it) => ({ seq: it.seq, received_at: iso(it.at), event: it.event, message_id: it.message_id, visitor: isMasked ? `${it.visitor.id.slice(0, 6)}…` : it.visitor.email ?? it.visitor.id, source: it.source, page: it.page })),
        next: rows.length > limit ? rows[limit - 1].seq : null,
      };
    }],
    ["GET", "events/{site}/{seq}", "viewer", ({ params, isMasked }) => answer(find(params.site, params.seq), isMasked)],
    ["POST", "traces", "editor", ({ body, account }) => {
      if (traces.size >= 20) throw new Refusal(429, "20 traces are open; end one first");
      const id = randomBytes(6).toString("hex");
      const trace = { id, site: body.site, link: body.visitor ? null : `https://${SITES[body.site]?.[0]}/?tw_trace=${randomBytes(12).toString("base64url")}`, missed: 0, expires_at: iso(Date.now() + 1_800_000), visitor: body.visitor ?? null, happenings: [] };
      traces.set(id, trace);
      state.log(account, "traces.create", body.site, id);
      // Its browser: the visitor does a few things in the shop.
      const matches = (record) => (body.visitor ? record?.visitor.id.startsWith(body.visitor.replace("…", "")) : record?.trace === id);
      shop.watchers.add((happening, record) => matches(record) && trace.happenings.push(happening));
      if (!body.visitor && !state.isEmpty && state.walk !== false) walk(shop, id, body.site);
      return described(trace);
    }],
    ["GET", "traces", "editor", () => ({ rows: [...traces.values()].map(described) })],
    ["GET", "traces/{id}", "editor", ({ params }) => {
      const trace = traces.get(params.id);
      if (!trace) throw new Refusal(404, "no such trace");
      return { ...described(trace), happenings: trace.happenings };
    }],
    ["DELETE", "traces/{id}", "editor", ({ params }) => {
      traces.delete(params.id);
      return { id: params.id };
    }],
    ["POST", "rehearse", "viewer", ({ body }) => {
      const record = find(body.site, body.seq);
      return {
        destinations: [...record.outcomes].filter(([it]) => !body.destinations || body.destinations.includes(it)).map(([destination, fate]) => {
          const isSkipped = fate.outcome === "skipped";
          return {
            destination, outcome: isSkipped ? "skipped" : "sent", reason: isSkipped ? fate.reason : null, detail: null, problems: [],
            mapped: isSkipped ? null : after(record, destination), dropped: destination === "meta" && !isSkipped ? ["properties.shipping: the vendor has no such field"] : [],
            request: isSkipped ? null : { method: "POST", url: endpoint(destination), headers: { "content-type": "application/json", authorization: "[redacted]" }, body: JSON.stringify(mapped(record, destination)) },
          };
        }),
        left_out: 0,
      };
    }],
  ];
}

/** The event after the mapping of the destination: Meta's has rules. */
function after(record, destination) {
  const event = canonical(record, true);
  if (destination !== "meta" || !event.properties) return event;
  const { shipping: _, ...properties } = event.properties;
  return { ...event, properties: { ...properties, content_category: "furniture" } };
}

/** What the person with the traced browser does: looks at a lamp and buys it. */
export function walk(shop, trace, site) {
  const steps = [0.2, 0.5, 0.75, 0.88, 0.95];
  const visitor = shop.visitors[0];
  visitor.consent = ["analytics", "marketing", "advertising"];
  steps.forEach((wish, index) => {
    const timer = setTimeout(() => {
      const record = shop.act(Date.now(), site, wish);
      record.visitor = visitor;
      record.trace = trace;
      for (const [destination] of record.outcomes) {
        record.outcomes.set(destination, shop.fate(record, DESTINATIONS.find((it) => it.site === site && it.destination === destination)));
      }
      shop.record(record);
    }, 400 + index * 700);
    (shop.timers ??= new Set()).add(timer);
  });
}
