// A shop that never closes: visitors, their events, and what becomes of these at each destination. The
// numbers come from a seeded generator, so that two runs show alike pages.

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** A generator of numbers in [0, 1) from a seed (mulberry32). */
export function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export const iso = (at) => new Date(at).toISOString().replace(/\.\d+Z/, "Z");

export const PRODUCTS = [
  ["p-101", "Floor lamp Linde", 189, "Lamps"], ["p-102", "Table lamp Birke", 79.9, "Lamps"], ["p-117", "Armchair Nord", 649, "Chairs"],
  ["p-120", "Wool blanket, grey", 119, "Textiles"], ["p-133", "Coffee table Esche", 329, "Tables"], ["p-140", "Set of four mugs", 44, "Kitchen"],
  ["p-155", "Shelf Kiefer, 180 cm", 219, "Shelves"], ["p-161", "Cushion, linen", 34.5, "Textiles"],
];

const NAMES = ["anna.berger", "j.lindqvist", "m.rossi", "sophie.k", "t.novak", "lena.maier", "p.dubois", "karim.h", "e.fischer", "w.kowalski", "nina.s", "o.brandt"];
const COUNTRIES = ["DE", "DE", "DE", "AT", "CH", "FR", "IT", "PL"];
const AGENTS = [
  "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
  "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36",
  "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
];

export const SITES = { shop: ["lindenhof.example", "www.lindenhof.example"], magazine: ["journal.lindenhof.example"] };

export const DESTINATIONS = [
  { site: "shop", destination: "ga4", vendor: "ga4", state: "running", consent: ["analytics"], ms: 48, age: 72 * 3600, credentials: "ok" },
  { site: "shop", destination: "meta", vendor: "meta", state: "running", consent: ["advertising"], ms: 132, age: 7 * 86400, credentials: "ok" },
  { site: "shop", destination: "google-ads", vendor: "google_ads", state: "running", consent: ["advertising"], ms: 96, age: 90 * 86400, credentials: "ok" },
  { site: "shop", destination: "klaviyo", vendor: "klaviyo", state: "retrying", reason: "The vendor answered 503 to the last 4 calls.", consent: ["marketing"], ms: 210, age: null, credentials: "ok" },
  { site: "shop", destination: "tiktok", vendor: "tiktok", state: "paused", reason: "paused by operator", consent: ["advertising"], ms: 140, age: 28 * 86400, credentials: "unknown" },
  { site: "shop", destination: "warehouse", vendor: "webhook", state: "running", consent: [], ms: 12, age: null, credentials: "ok" },
  { site: "magazine", destination: "plausible", vendor: "plausible", state: "running", consent: [], ms: 30, age: null, credentials: "ok" },
];

const KLAVIYO_SINCE = 24 * MINUTE;

export class Shop {
  constructor({ seed = 7, isEmpty = false, now = Date.now() } = {}) {
    this.random = random(seed);
    this.start = now;
    this.isEmpty = isEmpty;
    this.events = [];
    this.ring = [];
    this.watchers = new Set();
    this.seqs = { shop: 48_200, magazine: 9_100 };
    this.letters = [];
    this.letterId = 5_000;
    this.visitors = Array.from({ length: 40 }, (_, index) => this.visitor(index));
    this.paused = new Map([["shop/tiktok", { by: "ben", why: "New pixel: waiting for the id from the agency", at: iso(now - 26 * HOUR), until: null }]]);
    if (!isEmpty) this.history(now);
  }

  visitor(index) {
    const r = this.random;
    const isKnown = index % 3 === 0;
    return {
      id: Array.from({ length: 16 }, () => "0123456789abcdef"[Math.floor(r() * 16)]).join(""),
      email: isKnown ? `${NAMES[index % NAMES.length]}@mail.example` : null,
      user: isKnown ? `u-${10_400 + index}` : null,
      country: COUNTRIES[Math.floor(r() * COUNTRIES.length)],
      agent: AGENTS[Math.floor(r() * AGENTS.length)],
      ip: `203.0.113.${10 + index}`,
      consent: r() < 0.62 ? ["analytics", "marketing", "advertising"] : r() < 0.6 ? ["analytics"] : r() < 0.6 ? [] : null,
      bot: r() < 0.05 ? 90 : r() < 0.2 ? 15 : null,
      cart: [],
    };
  }

  /** One of the next things that somebody does in the shop. */
  act(at, site = this.random() < 0.86 ? "shop" : "magazine", wish = null) {
    const r = this.random;
    const visitor = this.visitors[Math.floor(r() * this.visitors.length)];
    const [id, name, price, category] = PRODUCTS[Math.floor(r() * PRODUCTS.length)];
    const product = { product_id: id, name, price, category, quantity: 1 };
    const roll = wish ?? (site === "magazine" ? 0 : r());
    let event = "page", page = site === "shop" ? ["/", "/lamps", "/chairs", "/sale"][Math.floor(r() * 4)] : ["/", "/stories/oak", "/stories/light"][Math.floor(r() * 3)], properties = {};
    if (roll > 0.4) [event, page, properties] = ["Product Viewed", `/p/${id}`, product];
    if (roll > 0.7) [event, page, properties] = ["Product Added", `/p/${id}`, { ...product, cart_id: `c-${visitor.id.slice(0, 6)}` }];
    if (roll > 0.84) [event, page, properties] = ["Checkout Started", "/checkout", { value: price, currency: "EUR", products: [product] }];
    if (roll > 0.91) [event, page, properties] = ["Order Completed", "/checkout/done", { order_id: `L-${20_000 + this.seqs.shop % 9000}`, total: Math.round((price + 4.9) * 100) / 100, shipping: 4.9, currency: "EUR", products: [product] }];
    if (roll > 0.97 && visitor.email) [event, page, properties] = ["identify", "/account", {}];
    const source = event === "Order Completed" && r() < 0.3 ? "server" : r() < 0.7 ? "sdk" : r() < 0.7 ? "shim" : "vendor_tag";
    return this.accept({ site, event, page, properties, visitor, source, at });
  }

  accept({ site, event, page, properties, visitor, source, at }) {
    const seq = ++this.seqs[site];
    const host = SITES[site][0];
    const record = {
      site, seq, event, page, source, visitor, at, properties,
      message_id: `${seq.toString(36)}-${Math.floor(this.random() * 1e12).toString(36)}`,
      url: `https://${host}${page}`,
      outcomes: new Map(),
    };
    this.events.push(record);
    if (this.events.length > 5_000) this.events.shift();
    for (const row of DESTINATIONS) {
      if (row.site === site) record.outcomes.set(row.destination, this.fate(record, row));
    }
    return record;
  }

  /** What becomes of an event at a destination. */
  fate(record, row) {
    const { event, visitor } = record;
    const r = this.random();
    const ms = Math.round(row.ms * (0.6 + this.random() * this.random() * 5));
    const attempt = 1;
    if (this.paused.has(`${row.site}/${row.destination}`)) return { outcome: "pending", state: "paused" };
    if (row.consent.length > 0) {
      if (visitor.consent === null) {
        return record.at > Date.now() - 5 * MINUTE
          ? { outcome: "held", awaits: "consent", needs: row.consent, until: record.at + 30 * MINUTE }
          : { outcome: "skipped", reason: "consent_unknown" };
      }
      if (!row.consent.every((it) => visitor.consent.includes(it))) return { outcome: "skipped", reason: "consent_denied" };
    }
    if (row.destination === "google-ads" && event !== "Order Completed") return { outcome: "skipped", reason: "not_selected" };
    if (row.destination === "ga4" && event === "identify") return { outcome: "skipped", reason: "traits_ride_on_events" };
    if (row.destination === "klaviyo") {
      if (!visitor.email) return { outcome: "skipped", reason: "no_identity" };
      if (record.at > Date.now() - KLAVIYO_SINCE) return { outcome: "waiting", reason: "vendor_error", detail: "503 Service Unavailable", attempts: 3, due_at: record.at + 8 * MINUTE, status: 503, reply: "{\"errors\":[{\"status\":503,\"title\":\"Service temporarily unavailable\"}]}", milliseconds: ms };
    }
    if (row.destination === "meta") {
      if (event === "identify") return { outcome: "skipped", reason: "no_counterpart" };
      if (event === "Order Completed" && r < 0.24) return { outcome: "dead", reason: "rejected", detail: "The parameter value of custom_data is invalid: currency must be an ISO 4217 code", status: 400, milliseconds: ms, attempt, reply: "{\"error\":{\"message\":\"Invalid parameter\",\"type\":\"OAuthException\",\"code\":100,\"error_subcode\":2804019,\"error_user_title\":\"Currency is invalid\",\"error_user_msg\":\"Your purchase event does not include a valid currency.\"}}" };
      if (r < 0.012) return { outcome: "dead", reason: "unmatchable_user", detail: "No parameter of user_data could be matched", status: 400, milliseconds: ms, attempt, reply: "{\"error\":{\"message\":\"Invalid parameter\",\"type\":\"OAuthException\",\"code\":100,\"error_user_title\":\"Insufficient customer information parameters\"}}" };
    }
    if (row.destination === "warehouse" && r < 0.02) return { outcome: "dead", reason: "too_large", detail: "413 Payload Too Large", status: 413, milliseconds: ms, attempt, reply: "Request Entity Too Large" };
    return { outcome: "delivered", milliseconds: ms, attempt, status: 200, reply: row.vendor === "meta" ? "{\"events_received\":1,\"messages\":[],\"fbtrace_id\":\"AbC1dE2f\"}" : row.vendor === "ga4" ? "" : "{\"ok\":true}" };
  }

  history(now) {
    for (let at = now - 2 * HOUR; at < now; at += 4_000 + this.random() * 9_000) this.record(this.act(at), at, false);
    // Dead letters of the last days, of more kinds than a short history has.
    for (let index = 0; index < 90; index++) {
      const at = now - this.random() * 6 * DAY;
      const record = this.act(at, "shop", 0.95);
      record.outcomes.set("meta", { ...this.fate({ ...record, visitor: { ...record.visitor, consent: ["advertising"] } }, DESTINATIONS[1]) });
      if (record.outcomes.get("meta").outcome === "dead") this.bury(record, "meta", record.outcomes.get("meta"), at);
    }
    for (let index = 0; index < 14; index++) {
      const at = now - 3 * DAY + index * MINUTE;
      const record = this.act(at, "shop", 0.5);
      const fate = { outcome: "dead", reason: "unauthorised", detail: "401 Unauthorized", status: 401, attempt: 1, milliseconds: 80, reply: "{\"errors\":[{\"status\":401,\"title\":\"Incorrect authentication credentials.\"}]}" };
      record.outcomes.set("klaviyo", fate);
      this.bury(record, "klaviyo", fate, at);
    }
    this.ring = this.ring.slice(-500);
    this.renumber();
  }

  /** Numbers what was made up out of its order by its time, as a journal does. */
  renumber() {
    this.events.sort((a, b) => a.at - b.at);
    const first = {};
    for (const it of this.events) first[it.site] = Math.min(first[it.site] ?? Infinity, it.seq);
    for (const it of this.events) it.seq = first[it.site]++;
    for (const [happening, record] of this.ring) {
      if (happening.seqs) happening.seqs = [record.seq];
      else happening.seq = record.seq;
    }
    this.letters.sort((a, b) => (a.at < b.at ? -1 : 1));
    this.letters.forEach((it, index) => {
      it.id = 5_001 + index;
      it.seq = it.record.seq;
      it.record.outcomes.get(it.destination).dead_letter = it.id;
    });
  }

  bury(record, destination, fate, at) {
    fate.dead_letter = ++this.letterId;
    this.letters.push({
      id: this.letterId, site: record.site, destination, at: iso(at), seq: record.seq, event: record.event, message_id: record.message_id,
      reason: fate.reason, detail: fate.detail, attempts: fate.attempt ?? 1, record, status: fate.status, reply: fate.reply,
    });
  }

  /** Tells the watchers of an event and its fates. */
  record(record, at = Date.now(), isLive = true) {
    const { site, seq, message_id, event, page, source, visitor } = record;
    const later = (ms, happening) => {
      if (!isLive) return this.push(happening(at + ms));
      this.timers ??= new Set();
      const timer = setTimeout(() => { this.timers.delete(timer); this.push(happening(Date.now())); }, ms);
      this.timers.add(timer);
    };
    this.push({
      what: "accepted", at: iso(at), site, seq, message_id, event, format: source === "sdk" ? "segment" : "segment", page, source,
      visitor: `${visitor.id.slice(0, 6)}…`, bot: visitor.bot, consent: visitor.consent, country: visitor.country,
    }, record);
    for (const [destination, fate] of record.outcomes) {
      const common = { site, destination, seq };
      if (fate.outcome === "pending") continue;
      if (fate.outcome === "held") {
        later(5, (now) => ({ what: "held", at: iso(now), ...common, awaits: fate.awaits, needs: fate.needs, until: iso(fate.until) }));
        continue;
      }
      const outcome = fate.outcome === "waiting" ? "retry" : fate.outcome;
      if (fate.milliseconds !== undefined) {
        later(fate.milliseconds, (now) => ({
          what: "called", at: iso(now), site, destination, seqs: [seq], request: `POST ${endpoint(destination)}`, body: JSON.stringify(mapped(record, destination)),
          status: fate.status, reply: fate.reply, milliseconds: fate.milliseconds,
        }));
      }
      if (outcome === "dead" && isLive) this.bury(record, destination, fate, Date.now());
      else if (outcome === "dead" && !fate.dead_letter) this.bury(record, destination, fate, at);
      later((fate.milliseconds ?? 4) + 1, (now) => ({
        what: "settled", at: iso(now), ...common, message_id, event, outcome, reason: fate.reason ?? "", ...(fate.detail && { detail: fate.detail }),
        ...(destination === "meta" && outcome === "delivered" && event === "Order Completed" && { dropped: ["properties.shipping: the vendor has no such field"] }),
        attempt: fate.attempts ?? fate.attempt ?? 1, milliseconds: fate.milliseconds ?? null,
      }));
    }
  }

  push(happening, record = null) {
    const found = record ?? this.find(happening.site, happening.seq ?? happening.seqs?.[0]);
    this.ring.push([happening, found]);
    if (this.ring.length > 600) this.ring.splice(0, this.ring.length - 500);
    for (const watcher of this.watchers) watcher(happening, found);
  }

  find(site, seq) {
    for (let index = this.events.length - 1; index >= 0; index--) {
      const it = this.events[index];
      if (it.seq === seq && it.site === site) return it;
    }
    return null;
  }

  /** Lets visitors act, `rate` events a second, until it is stopped. */
  open(rate) {
    if (this.isEmpty || rate === 0) return;
    const tick = rate > 50 ? 20 : 1000 / rate;
    const each = rate > 50 ? Math.round(rate / 50) : 1;
    this.timer = setInterval(() => {
      for (let index = 0; index < each; index++) this.record(this.act(Date.now()));
    }, tick);
  }

  close() {
    clearInterval(this.timer);
    for (const timer of this.timers ?? []) clearTimeout(timer);
  }
}

export function endpoint(destination) {
  return {
    ga4: "https://region1.google-analytics.com/mp/collect?measurement_id=G-LINDENHOF&api_secret=[redacted]",
    meta: "https://graph.facebook.com/v25.0/1234567890/events",
    "google-ads": "https://googleads.googleapis.com/v21/customers/1112223333:uploadClickConversions",
    klaviyo: "https://a.klaviyo.com/api/events",
    tiktok: "https://business-api.tiktok.com/open_api/v1.3/event/track/",
    warehouse: "https://events.lindenhof.example/hook",
    plausible: "https://plausible.io/api/event",
  }[destination];
}

const hash = (text) => `${[...text].reduce((sum, it) => (sum * 31 + it.charCodeAt(0)) >>> 0, 7).toString(16).padStart(8, "0")}…`;

/** The event as the vendor gets it. */
export function mapped(record, destination) {
  const { event, properties, visitor, url, at, message_id } = record;
  const seconds = Math.floor(at / 1000);
  if (destination === "ga4") {
    const names = { page: "page_view", "Product Viewed": "view_item", "Product Added": "add_to_cart", "Checkout Started": "begin_checkout", "Order Completed": "purchase" };
    return { client_id: `${visitor.id.slice(0, 9)}.${seconds}`, timestamp_micros: at * 1000, events: [{ name: names[event] ?? event, params: { page_location: url, ...(properties.total && { value: properties.total, currency: "EUR", transaction_id: properties.order_id }), ...(properties.product_id && { items: [{ item_id: properties.product_id, item_name: properties.name, price: properties.price, quantity: 1 }] }) } }] };
  }
  if (destination === "meta") {
    const names = { page: "PageView", "Product Viewed": "ViewContent", "Product Added": "AddToCart", "Checkout Started": "InitiateCheckout", "Order Completed": "Purchase" };
    return { data: [{ event_name: names[event] ?? event, event_time: seconds, event_id: message_id, action_source: "website", event_source_url: url, user_data: { ...(visitor.email && { em: [hash(visitor.email)] }), external_id: [hash(visitor.id)], client_ip_address: "203.0.113.0/24", client_user_agent: visitor.agent }, custom_data: { ...(properties.total && { value: properties.total, currency: "EUR", order_id: properties.order_id }), content_type: "product", content_ids: [properties.product_id ?? properties.products?.[0]?.product_id].filter(Boolean) } }] };
  }
  return canonical(record, true);
}

/** The event as the gateway keeps it; personal data is masked unless it is asked for. */
export function canonical(record, isMasked) {
  const { event, properties, visitor, url, page, at, message_id, source } = record;
  const isTrack = !["page", "identify"].includes(event);
  const email = visitor.email && (isMasked ? `${visitor.email[0]}…@…` : visitor.email);
  return {
    type: isTrack ? "track" : event,
    ...(isTrack && { event }),
    messageId: message_id,
    anonymousId: isMasked ? `${visitor.id.slice(0, 6)}…` : visitor.id,
    ...(visitor.user && { userId: isMasked ? `${visitor.user.slice(0, 3)}…` : visitor.user }),
    timestamp: new Date(at).toISOString(),
    ...(event === "identify" ? { traits: { email, plan: "newsletter" } } : { properties }),
    context: {
      page: { url, path: page, title: "Lindenhof", referrer: "https://www.google.com/" },
      ...(email && { traits: { email } }),
      locale: "de-DE",
      consent: { categoryPreferences: Object.fromEntries(["analytics", "marketing", "advertising"].map((it) => [it, visitor.consent?.includes(it) ?? null])) },
    },
    facts: { ip: isMasked ? visitor.ip.replace(/\d+$/, "0/24") : visitor.ip, userAgent: visitor.agent, country: visitor.country, botScore: visitor.bot, source },
  };
}
