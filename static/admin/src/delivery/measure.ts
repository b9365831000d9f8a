// The words and units of alert rules.

import { count, duration, share } from "../format";
import { texts } from "../i18n";
import { spoken } from "../words";

const kinds = texts({
  delivery_rate: "Few events arrive", no_traffic: "No events come in", dead_letters: "Events fail", backlog_age: "Events wait too long", consent_skips: "Hardly any consent", segment_late: "A segment is overdue", certificate: "A certificate ends soon", disk: "The disk fills up", rule_health: "A tracking rule breaks",
}, {
  delivery_rate: "Wenige Ereignisse kommen an", no_traffic: "Keine Ereignisse kommen", dead_letters: "Ereignisse scheitern", backlog_age: "Ereignisse warten zu lange", consent_skips: "Kaum Einwilligungen", segment_late: "Ein Segment ist überfällig", certificate: "Ein Zertifikat läuft ab", disk: "Die Platte wird voll", rule_health: "Eine Tracking-Regel bricht",
});

const t = texts({
  below: "less than {value}", above: "more than {value}", during: "{limit} in {time}", days: "{n} {n|day|days}", events: "{n} {n|event|events}", free: "{value} free", none_of: "none in {time}, where {n} are usual",
}, {
  below: "weniger als {value}", above: "mehr als {value}", during: "{limit} in {time}", days: "{n} {n|Tag|Tage}", events: "{n} {n|Ereignis|Ereignisse}", free: "{value} frei", none_of: "keines in {time}, wo {n} üblich sind",
});

export function kindWords(code: string): string {
  const word = kinds(code as Parameters<typeof kinds>[0]);
  return word === code ? spoken(code) : word;
}

/** A value in the unit of the kind. */
export function measured(kind: string, value: number): string {
  if (kind === "delivery_rate" || kind === "consent_skips") return share(value);
  if (kind === "disk") return t("free", { value: share(value) });
  if (kind === "backlog_age" || kind === "segment_late") return duration(value);
  if (kind === "certificate") return t("days", { n: Math.max(0, Math.floor(value)) });
  if (kind === "dead_letters" || kind === "no_traffic") return t("events", { n: Math.round(value) });
  return count(value);
}

const BELOW = ["delivery_rate", "certificate", "disk"];
/** The kinds that are counted over a time; the others have a value at any moment. */
const FLOWS = ["delivery_rate", "dead_letters", "consent_skips"];

/** The limit in words: "less than 90 % in 15 minutes". */
export function limitWords(kind: string, value: number, seconds: number): string {
  const time = duration(seconds);
  if (kind === "no_traffic") return t("none_of", { n: Math.round(value), time });
  const limit = t(BELOW.includes(kind) ? "below" : "above", { value: measured(kind, value) });
  return FLOWS.includes(kind) ? t("during", { limit, time }) : limit;
}
