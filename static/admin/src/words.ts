// The words for outcomes, states, reasons, vendors and roles. Codes stay beside them, small.

import { texts } from "./i18n";

export type Tone = "good" | "quiet" | "warn" | "bad" | "wait" | "info";

const t = texts({
  delivered: "sent", sent: "sent", skipped: "skipped", dead: "failed", retry: "will try again", pending: "on its way", held: "held",
  waiting: "waits to try again", before_destination: "before this destination", settled: "done", accepted: "received",
  running: "running", retrying: "having trouble", paused: "paused", stopped: "stopped", waiting_state: "waiting", starting: "starting",
  failing: "failing", throttled_state: "slowed down", blocked: "blocked", draining: "stopping", broken: "failing", unauthorised: "credentials refused",
  viewer: "Viewer", editor: "Editor", admin: "Admin",
  firing: "firing", resolved: "resolved", page: "urgent", ticket: "can wait",
}, {
  delivered: "gesendet", sent: "gesendet", skipped: "übersprungen", dead: "gescheitert", retry: "neuer Versuch folgt", pending: "unterwegs", held: "zurückgehalten",
  waiting: "wartet auf neuen Versuch", before_destination: "vor diesem Ziel", settled: "erledigt", accepted: "empfangen",
  running: "läuft", retrying: "hat Probleme", paused: "pausiert", stopped: "angehalten", waiting_state: "wartet", starting: "startet",
  failing: "scheitert", throttled_state: "gedrosselt", blocked: "blockiert", draining: "hält an", broken: "scheitert", unauthorised: "Zugangsdaten abgelehnt",
  viewer: "Leser", editor: "Bearbeiter", admin: "Verwalter",
  firing: "aktiv", resolved: "behoben", page: "dringend", ticket: "kann warten",
});

const OUTCOMES = {
  delivered: "good", sent: "good", skipped: "quiet", dead: "bad", retry: "warn", pending: "wait", held: "wait",
  waiting: "warn", before_destination: "quiet", settled: "quiet", accepted: "info",
} as const satisfies Record<string, Tone>;

/** The word and the tone of an outcome. */
export function outcome(code: string): { word: string; tone: Tone } {
  return code in OUTCOMES
    ? { word: t(code as keyof typeof OUTCOMES), tone: OUTCOMES[code as keyof typeof OUTCOMES] }
    : { word: spoken(code), tone: "quiet" };
}

const STATES = {
  running: ["running", "good"], retrying: ["retrying", "warn"], paused: ["paused", "wait"], stopped: ["stopped", "bad"],
  waiting: ["waiting_state", "wait"], starting: ["starting", "quiet"], failing: ["failing", "bad"],
  throttled: ["throttled_state", "warn"], blocked: ["blocked", "bad"], draining: ["draining", "quiet"],
  broken: ["broken", "bad"], unauthorised: ["unauthorised", "bad"],
} as const satisfies Record<string, readonly [string, Tone]>;

/** The word and the tone of a destination's state. */
export function state(code: string): { word: string; tone: Tone } {
  const found = code in STATES ? STATES[code as keyof typeof STATES] : null;
  return found ? { word: t(found[0]), tone: found[1] } : { word: spoken(code), tone: "quiet" };
}

export const role = (code: "viewer" | "editor" | "admin"): string => t(code);
export const alertState = (code: "firing" | "resolved"): { word: string; tone: Tone } =>
  ({ word: t(code), tone: code === "firing" ? "bad" : "good" });
export const severity = (code: "page" | "ticket"): string => t(code);

const reasons = texts({
  ambiguous_timeout: "no reply, may have arrived", anonymous: "nobody known to send it for", behind_another: "waits for an earlier event",
  consent_denied: "no consent", consent_unknown: "consent not known", daily_quota_exceeded: "the vendor's daily quota is used up",
  event_too_large: "too large for the vendor", endpoint_gone: "the address is gone", forbidden: "the vendor forbids it", forgotten: "the person was forgotten",
  in_the_future: "dated in the future", invalid_api_key: "wrong API key", invalid_event: "the vendor finds it invalid", invalid_record: "a field is invalid",
  missing_currency: "no currency", missing_event_source_url: "no page address", missing_items: "no products", missing_transaction_id: "no order number",
  missing_user_agent: "no browser named", missing_value: "no amount", no_counterpart: "the vendor has no such event", no_groups: "the vendor has no groups",
  no_identity: "no id that the vendor accepts", no_identifier: "nothing to match the person by", not_selected: "not meant for this destination", nothing_to_say: "nothing in it for this vendor",
  page_delivers: "the page sends it itself", pages_off: "page views are not sent", passed_on: "passed on as it came", rate_limited: "the vendor asks to slow down",
  refused: "refused by the vendor", rejected: "rejected by the vendor", switched_off: "switched off for this event", throttled: "the vendor throttles it",
  timeout: "no answer in time", too_large: "too large for the vendor", too_old: "too old for the vendor", traits_ride_on_events: "goes with the next event",
  unauthorised: "credentials refused", unknown_pixel: "unknown pixel", unmappable: "cannot be expressed for this vendor", unmatchable_user: "nothing to match the person by",
  unreachable: "the vendor cannot be reached", vendor_error: "an error at the vendor", untold: "no use for it here", silenced: "the vendor ignores this person",
  identity: "waits for the person's identity", consent: "waits for the person's choice", many_faults: "too many faults in one batch", poison: "the event broke the sender",
}, {
  ambiguous_timeout: "keine Antwort, vielleicht angekommen", anonymous: "niemand bekannt", behind_another: "wartet auf ein früheres Ereignis",
  consent_denied: "keine Einwilligung", consent_unknown: "Einwilligung unbekannt", daily_quota_exceeded: "Tageskontingent des Anbieters verbraucht",
  event_too_large: "zu groß für den Anbieter", endpoint_gone: "die Adresse gibt es nicht mehr", forbidden: "der Anbieter verbietet es", forgotten: "die Person wurde vergessen",
  in_the_future: "Zeit liegt in der Zukunft", invalid_api_key: "falscher API-Schlüssel", invalid_event: "für den Anbieter ungültig", invalid_record: "ein Feld ist ungültig",
  missing_currency: "keine Währung", missing_event_source_url: "keine Adresse der Seite", missing_items: "keine Produkte", missing_transaction_id: "keine Bestellnummer",
  missing_user_agent: "kein Browser genannt", missing_value: "kein Betrag", no_counterpart: "der Anbieter kennt kein solches Ereignis", no_groups: "der Anbieter kennt keine Gruppen",
  no_identity: "keine Kennung, die der Anbieter nimmt", no_identifier: "nichts, woran die Person erkannt würde", not_selected: "nicht für dieses Ziel bestimmt", nothing_to_say: "nichts für diesen Anbieter darin",
  page_delivers: "die Seite sendet es selbst", pages_off: "Seitenaufrufe werden nicht gesendet", passed_on: "unverändert weitergereicht", rate_limited: "der Anbieter bittet um Geduld",
  refused: "vom Anbieter abgelehnt", rejected: "vom Anbieter zurückgewiesen", switched_off: "für dieses Ereignis abgeschaltet", throttled: "vom Anbieter gedrosselt",
  timeout: "keine Antwort in der Zeit", too_large: "zu groß für den Anbieter", too_old: "zu alt für den Anbieter", traits_ride_on_events: "geht mit dem nächsten Ereignis",
  unauthorised: "Zugangsdaten abgelehnt", unknown_pixel: "unbekanntes Pixel", unmappable: "für diesen Anbieter nicht ausdrückbar", unmatchable_user: "nichts, woran die Person erkannt würde",
  unreachable: "der Anbieter ist nicht erreichbar", vendor_error: "ein Fehler beim Anbieter", untold: "hier ohne Nutzen", silenced: "der Anbieter übergeht diese Person",
  identity: "wartet auf die Identität der Person", consent: "wartet auf die Wahl der Person", many_faults: "zu viele Fehler in einer Sendung", poison: "das Ereignis brachte den Sender zu Fall",
});

/** The words of a reason's code; of an unknown one, the code as words. */
export function reason(code: string): string {
  const word = reasons(code as Parameters<typeof reasons>[0]);
  return word === code ? spoken(code) : word;
}

const VENDORS: Record<string, string> = {
  ga4: "Google Analytics 4", google_ads: "Google Ads", meta: "Meta", tiktok: "TikTok", mixpanel: "Mixpanel", amplitude: "Amplitude", posthog: "PostHog",
  intercom: "Intercom", drift: "Drift", klaviyo: "Klaviyo", segment: "Segment", snowplow: "Snowplow", rudderstack: "RudderStack", matomo: "Matomo",
  plausible: "Plausible", umami: "Umami", jitsu: "Jitsu", webhook: "Webhook", forward: "Forward", console: "Log",
};

export const vendor = (code: string): string => VENDORS[code] ?? code;

/** A code as words. */
export const spoken = (code: string): string => code.replaceAll("_", " ");
