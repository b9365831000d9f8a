// Destinations, dead letters, replay and the overview of a site of the stand-in.

import { Refusal } from "./server.mjs";
import { canonical, DESTINATIONS, endpoint, iso, mapped, random, SITES } from "./shop.mjs";

const STEPS = { "1h": 60, "6h": 300, "24h": 900, "7d": 7_200, "30d": 28_800 };
const SPANS = { "1h": 3_600, "6h": 21_600, "24h": 86_400, "7d": 604_800, "30d": 2_592_000 };

/** What a destination counted since the gateway was installed, beyond the events that the stand-in keeps. */
const BEFORE = {
  ga4: [1_204_310, 371_204, 12], meta: [811_042, 763_940, 214], "google-ads": [38_204, 1_537_410, 3], klaviyo: [402_771, 1_172_340, 14],
  tiktok: [603_400, 901_220, 0], warehouse: [1_575_533, 0, 41], plausible: [244_810, 0, 0],
};

/** The items by a key. */
export function groupBy(items, keyOf) {
  const groups = new Map();
  for (const it of items) groups.set(keyOf(it), [...(groups.get(keyOf(it)) ?? []), it]);
  return groups;
}

/** The end of a sentence about the vendor. */
const REPEATS = {
  meta: "recognises repetitions by the event id, within 48 hours of each other", ga4: "recognises orders by their transaction_id, and counts every other event again",
  webhook: "gets the same webhook-id again",
};

export function delivery(state) {
  const { shop } = state;
  const find = (site, destination) => DESTINATIONS.find((it) => it.site === site && it.destination === destination)
    ?? (() => { throw new Refusal(404, "no such destination"); })();
  const ofSite = (site) => {
    if (!(site in SITES)) throw new Refusal(404, "no such site");
    return DESTINATIONS.filter((it) => it.site === site);
  };

  const ledger = ({ site, destination }) => {
    const [delivered, skipped, dead] = state.isEmpty ? [0, 0, 0] : BEFORE[destination];
    const sums = { accepted: 0, delivered, skipped, dead: state.isEmpty ? 0 : Math.max(dead, 0), pending: 0, held: 0 };
    if (destination === "tiktok" && !state.isEmpty) sums.pending = 6_204;
    sums.dead = shop.letters.filter((it) => it.site === site && it.destination === destination).length;
    for (const event of shop.events) {
      if (event.site !== site) continue;
      const { outcome } = event.outcomes.get(destination);
      if (outcome === "waiting" || outcome === "pending") sums.pending++;
      else if (outcome !== "dead") sums[outcome]++;
    }
    sums.accepted = sums.delivered + sums.skipped + sums.dead + sums.pending + sums.held;
    return sums;
  };
  const stateOf = (row) => (shop.paused.has(`${row.site}/${row.destination}`) ? "paused" : row.state === "paused" ? "running" : row.state);
  const oldest = (row) => (ledger(row).pending === 0 ? null : iso(Date.now() - (stateOf(row) === "paused" ? 26 * 3_600_000 : 24 * 60_000)));

  const skips = ({ site, destination }) => {
    const counts = new Map();
    for (const event of shop.events) {
      const fate = event.site === site && event.outcomes.get(destination);
      if (fate && fate.outcome === "skipped") counts.set(fate.reason, (counts.get(fate.reason) ?? 0) + 1);
    }
    return [...counts].map(([reason, count]) => ({ reason, count: count * 37, text: "" })).sort((a, b) => b.count - a.count);
  };

  const detail = (row) => {
    const last = shop.letters.filter((it) => it.site === row.site && it.destination === row.destination).at(-1);
    return {
      site: row.site, destination: row.destination, vendor: row.vendor, state: stateOf(row), reason: stateOf(row) === row.state ? row.reason ?? null : null,
      paused: shop.paused.get(`${row.site}/${row.destination}`) ?? null, ledger: ledger(row), oldest_pending_at: oldest(row),
      latency: state.isEmpty ? null : { p50_ms: row.ms, p99_ms: Math.round(row.ms * 5.4), count: 9_204 },
      oldest_expires_at: oldest(row) && row.age ? iso(Date.parse(oldest(row)) + row.age * 1000) : null,
      last_error: row.destination === "klaviyo" ? { at: iso(Date.now() - 50_000), status: 503, reason: "vendor_error", reply: "{\"errors\":[{\"status\":503,\"title\":\"Service temporarily unavailable\"}]}" }
        : last ? { at: last.at, status: last.status ?? null, reason: last.reason, reply: last.reply } : null,
      credentials: row.credentials, mode: "server", counted_since: iso(shop.start - 86_400_000 * 3), repeats: REPEATS[row.vendor] ?? "",
      throttle: row.vendor === "klaviyo" ? { calls_per_second: 20, waits_until: null } : null, skip_reasons: skips(row), age_limit_seconds: row.age, mapping: row.destination === "meta", consent: row.consent,
      toml: `[[sites.destinations]]\nname = "${row.destination}"\nvendor = "${row.vendor}"\nconsent = ${JSON.stringify(row.consent)}\n[sites.destinations.settings]\n${row.vendor === "meta" ? 'pixel_id = "1234567890"\naccess_token = "set"\n' : 'api_key = "set"\n'}`,
    };
  };

  const matching = (query) => shop.letters.filter((it) => {
    const is = (name) => !query[name] || it[name] === query[name];
    return is("site") && is("destination") && is("reason") && is("event") && (query.reply === undefined || it.reply === query.reply)
      && (!query.q || `${it.detail} ${it.reply} ${it.message_id}`.toLowerCase().includes(query.q.toLowerCase()))
      && (!query.from || it.at >= query.from) && (!query.to || it.at < query.to);
  });
  const chosen = (body) => (body.ids ? shop.letters.filter((it) => body.ids.includes(it.id))
    : body.filter ? matching(body.filter).filter((it) => it.id <= body.until_id) : matching(body));
  const remove = (letters) => { shop.letters = shop.letters.filter((it) => !letters.includes(it)); };
  const bare = ({ record: _, status: __, reply: ___, ...row }) => row;

  const act = (name) => ({ body, account }) => {
    const letters = chosen(body);
    if (body.plan) return { count: letters.length };
    state.log(account, `dead.${name}`, letters[0]?.site ?? null, letters[0]?.destination ?? null, { count: letters.length });
    remove(letters);
    return { count: letters.length };
  };

  return [
    ["GET", "sites", "viewer", ({ account }) => Object.keys(SITES).filter((it) => !account.sites || account.sites.includes(it))],
    ["GET", "ledger", "viewer", () => DESTINATIONS.map((row) => ({ site: row.site, destination: row.destination, ...ledger(row), state: stateOf(row), reason: row.reason ?? null }))],
    ["GET", "sites/{site}/overview", "viewer", ({ params }) => {
      const rows = ofSite(params.site);
      const sums = { accepted: 0, delivered: 0, skipped: 0, dead: 0, pending: 0, held: 0 };
      const destinations = state.isEmpty ? [] : rows.map((row) => {
        const own = ledger(row);
        for (const name of Object.keys(sums)) sums[name] += own[name];
        return { destination: row.destination, vendor: row.vendor, state: stateOf(row), reason: row.reason ?? null, pending: own.pending, dead: own.dead, oldest_pending_at: oldest(row) };
      });
      const isShop = params.site === "shop" && !state.isEmpty;
      return {
        site: params.site, hosts: SITES[params.site], ...sums, balanced: true, oldest_pending_at: isShop ? iso(Date.now() - 26 * 3_600_000) : null,
        events_per_minute: state.isEmpty ? 0 : isShop ? 8.4 : 1.3, destinations,
        segments: isShop ? [{ segment: "buyers-90d", late: false, last_run_at: iso(Date.now() - 1_400_000), size: 18_204 }, { segment: "cart-abandoners", late: true, last_run_at: iso(Date.now() - 9 * 3_600_000), size: 2_310 }] : [],
        scripts_waiting: isShop ? 1 : 0, readiness: [], warnings: isShop ? ["destinations.klaviyo: list_id is not set; members are only added as profiles"] : [],
        alerts: isShop ? state.alerts.filter((it) => it.state === "firing") : [], has_events: !state.isEmpty,
        snippet: `<script src="https://${SITES[params.site][0]}/tw.js" async></script>`,
      };
    }],
    ["GET", "sites/{site}/series", "viewer", ({ params, query }) => {
      const range = query.get("range") ?? "24h";
      const step = STEPS[range] ?? 900;
      const length = (SPANS[range] ?? 86_400) / step;
      const end = Math.floor(Date.now() / 1000 / step) * step;
      const from = end - length * step;
      const measure = query.get("measure");
      const base = { accepted: 1, delivered: 0.61, skipped: 0.31, dead: 0.012, held: 0.01, pending: 0.02 }[measure] ?? 1;
      const points = (weight, seed) => Array.from({ length }, (_, index) => {
        if (state.isEmpty) return 0;
        const at = from + index * step;
        const hour = (at / 3_600) % 24;
        const daily = 0.35 + 0.65 * Math.max(0, Math.sin(((hour - 5) / 24) * Math.PI * 2 - 0.4) * 0.5 + 0.5);
        const noise = 0.82 + random(seed + at)() * 0.36;
        const burst = measure === "dead" && index > length - 12 ? 7 : 1;
        return Math.round(weight * base * daily * noise * (step / 60) * 9 * burst);
      });
      const wanted = ofSite(params.site).filter((it) => !query.get("destination") || it.destination === query.get("destination"));
      return {
        step_seconds: step, from: iso(from * 1000),
        series: measure === "accepted" ? [{ destination: null, points: points(1, 3) }] : wanted.map((it, index) => ({ destination: it.destination, points: points(it.destination === "google-ads" && measure === "delivered" ? 0.04 : 1, index + 11) })),
      };
    }],
    ["GET", "sites/{site}/outcomes", "viewer", ({ params }) => ({
      rows: ofSite(params.site).flatMap((row) => [
        { destination: row.destination, outcome: "delivered", reason: null, text: null, count: state.isEmpty ? 0 : Math.round(ledger(row).delivered / 200) },
        ...skips(row).map((it) => ({ destination: row.destination, outcome: "skipped", reason: it.reason, text: "", count: it.count })),
        ...[...groupBy(shop.letters.filter((it) => it.site === row.site && it.destination === row.destination), (it) => it.reason)]
          .map(([reason, letters]) => ({ destination: row.destination, outcome: "dead", reason, text: "", count: letters.length })),
      ]),
    })],
    ["GET", "destinations", "viewer", ({ query }) => ({ rows: state.isEmpty ? [] : DESTINATIONS.filter((it) => !query.get("site") || it.site === query.get("site")).map(detail), next: null })],
    ["GET", "destinations/{site}/{destination}", "viewer", ({ params }) => detail(find(params.site, params.destination))],
    ["GET", "destinations/{site}/{destination}/match-quality", "viewer", ({ params }) => {
      find(params.site, params.destination);
      const key = (name, label, share, weight, raise) => ({ key: name, label, share, events: Math.round(share * 2_000), weight, raise });
      if (state.isEmpty) return { days: 7, events: 0, sampled: 0, measured_at: iso(Date.now()), keys: [], dedupe: { share: null, raise: null }, consent: { granted: 0, denied: 0, unknown: 0 }, score: null, score_text: "" };
      return {
        days: 7, events: 2_000, sampled: 2_000, measured_at: iso(Date.now() - 200_000), score: 6.4, score_text: "Fair: the vendor misses some people",
        keys: [
          key("email", "E-mail address", 0.34, "high", "Send `email` with identify, after the login and at the checkout: 66 % of events have none"), key("phone", "Telephone number", 0.06, "high", "Send `phone` with identify: 94 % of events have none"),
          key("external_id", "Your own user id", 0.38, "medium", "Call identify with your own user id: 62 % of events have none"), key("ip", "IP address", 0.98, "medium", null), key("user_agent", "Browser's name", 0.99, "medium", null),
          key("fbp", "Browser id (_fbp)", 0.72, "medium", "The gateway sets it as soon as the visitor agrees: 28 % of events have none"), key("fbc", "Click id (_fbc)", 0.18, "medium", null),
          key("city", "City", 0.12, "low", "Send `address` with identify: 88 % of events have none"),
        ],
        dedupe: { share: 0.93, raise: "The vendor recognises repetitions by the event id, within 48 hours of each other: send that with every event that the page reports as well" },
        consent: { granted: 1_240, denied: 480, unknown: 280 },
      };
    }],
    ["POST", "destinations/pause", "editor", ({ body, account }) => {
      find(body.site, body.destination);
      shop.paused.set(`${body.site}/${body.destination}`, { by: account.name, why: body.why ?? "", at: iso(Date.now()), until: body.until ?? null });
      state.log(account, "destinations.pause", body.site, body.destination, { why: body.why });
      return {};
    }],
    ["POST", "destinations/resume", "editor", ({ body, account }) => {
      find(body.site, body.destination);
      shop.paused.delete(`${body.site}/${body.destination}`);
      state.log(account, "destinations.resume", body.site, body.destination);
      return {};
    }],
    ["POST", "destinations/test", "editor", ({ body, account }) => {
      find(body.site, body.destination);
      const record = shop.act(Date.now(), body.site, 0.5);
      for (const name of record.outcomes.keys()) if (name !== body.destination) record.outcomes.set(name, { outcome: "skipped", reason: "switched_off" });
      shop.record(record);
      state.log(account, "destinations.test", body.site, body.destination);
      return { seq: record.seq, message_id: record.message_id };
    }],
    ["GET", "dead/groups", "viewer", ({ query }) => {
      const groups = new Map();
      const letters = matching(Object.fromEntries(query));
      for (const it of letters) {
        const key = [it.site, it.destination, it.reason, it.reply].join("\n");
        const group = groups.get(key) ?? { site: it.site, destination: it.destination, reason: it.reason, reply: it.reply, status: it.status ?? null, count: 0, first_at: it.at, last_at: it.at, last_id: it.id, sample_id: it.id };
        group.count++;
        if (it.at < group.first_at) group.first_at = it.at;
        if (it.at > group.last_at) [group.last_at, group.sample_id] = [it.at, it.id];
        group.last_id = Math.max(group.last_id, it.id);
        groups.set(key, group);
      }
      return { rows: [...groups.values()].sort((a, b) => b.count - a.count), total: letters.length, bounded: false };
    }],
    ["GET", "dead", "viewer", ({ query }) => matching(Object.fromEntries(query)).filter((it) => it.id < Number(query.get("before") ?? Infinity))
      .sort((a, b) => b.id - a.id).slice(0, Number(query.get("limit") ?? 100)).map(bare)],
    ["GET", "dead/{id}", "viewer", ({ params, isMasked }) => {
      const letter = shop.letters.find((it) => it.id === Number(params.id));
      if (!letter) throw new Refusal(404, "no such dead letter; it may have been retried or dropped");
      return {
        ...bare(letter), body: canonical(letter.record, isMasked),
        last_call: { at: letter.at, request: `POST ${endpoint(letter.destination)}\n\n${JSON.stringify(mapped(letter.record, letter.destination), null, 2)}`, status: letter.status ?? null, reply: letter.reply },
      };
    }],
    ["POST", "dead/retry", "editor", act("retry")],
    ["POST", "dead/drop", "editor", act("drop")],
    ["POST", "replay", "editor", ({ body, account }) => {
      const events = shop.events.filter((it) => it.site === body.site && it.at >= Date.parse(body.from) && it.at < Date.parse(body.to));
      if (Date.parse(body.from) >= Date.parse(body.to)) throw new Refusal(400, "from must be before to", { field: "from" });
      if (body.plan) return { count: events.length, dead: Math.min(4, events.length), pending: 2, repeats: REPEATS[find(body.site, body.destination).vendor] ?? "" };
      if (account.role !== "admin") throw new Refusal(403, "this needs the role admin");
      state.log(account, "replay", body.site, body.destination, { count: events.length });
      return { count: events.length };
    }],
  ];
}
