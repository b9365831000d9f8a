// The rule of a segment in words; what has no words is shown as it is written.

import type { ComponentChildren } from "preact";
import type { Json } from "../api";
import { duration } from "../format";
import { texts } from "../i18n";

const t = texts({
  all: "All of these", any: "At least one of these", not: "Not", did: "did {event}", never: "never did {event}", within: "within {time}", count: "{test} times", sum: "with a sum {test}", first: "the first time {test}", last: "the last time {test}", where: "where {field} {test}",
  trait: "{name} {test}", identity: "has the name “{name}”", granted: "agreed to {name}", denied: "refused {name}", unasked: "was not asked about {name}", device: "device: {name} {test}", place: "place: {name} {test}", campaign: "campaign ({touch}): {name} {test}", seen_first: "first seen {test}", seen_last: "last seen {test}", first_touch: "first", last_touch: "last",
  "=": "is {value}", "!=": "is not {value}", "<": "below {value}", "<=": "at most {value}", ">": "above {value}", ">=": "at least {value}", in: "is one of {value}", contains: "contains {value}", starts_with: "begins with {value}", ends_with: "ends with {value}", exists: "is known", missing: "is not known", before: "longer ago than {value}", after: "at most {value} ago", before_date: "before {value}", after_date: "since {value}", and: " and ", quoted: "“{text}”",
}, {
  all: "All das", any: "Mindestens eines davon", not: "Nicht", did: "tat {event}", never: "tat nie {event}", within: "(letzte {time})", count: "{test} Mal", sum: "mit einer Summe {test}", first: "das erste Mal {test}", last: "das letzte Mal {test}", where: "wobei {field} {test}",
  trait: "{name} {test}", identity: "hat den Namen „{name}“", granted: "stimmte {name} zu", denied: "lehnte {name} ab", unasked: "wurde nicht nach {name} gefragt", device: "Gerät: {name} {test}", place: "Ort: {name} {test}", campaign: "Kampagne ({touch}): {name} {test}", seen_first: "zuerst gesehen {test}", seen_last: "zuletzt gesehen {test}", first_touch: "erste", last_touch: "letzte",
  "=": "ist {value}", "!=": "ist nicht {value}", "<": "unter {value}", "<=": "höchstens {value}", ">": "über {value}", ">=": "mindestens {value}", in: "ist eines von {value}", contains: "enthält {value}", starts_with: "beginnt mit {value}", ends_with: "endet mit {value}", exists: "ist bekannt", missing: "ist nicht bekannt", before: "länger her als {value}", after: "höchstens {value} her", before_date: "vor {value}", after_date: "seit {value}", and: " und ", quoted: "„{text}“",
});

type Condition = Record<string, Json>;

const TESTS = ["=", "!=", "<", "<=", ">", ">=", "in", "contains", "starts_with", "ends_with", "before", "after"] as const;

const written = (value: Json): string =>
  Array.isArray(value) ? value.map(written).join(", ") : typeof value === "string" ? t("quoted", { text: value }) : JSON.stringify(value);

const isTable = (value: Json | undefined): value is Condition => !!value && typeof value === "object" && !Array.isArray(value);

const SECONDS: Record<string, number> = { s: 1, m: 60, h: 3_600, d: 86_400, w: 604_800 };

/** A length of time such as "7d" in words; anything else, such as a date, as it is written. */
function span(value: Json | undefined): string {
  const [, number, unit = ""] = /^(\d+)([smhdw])$/.exec(String(value)) ?? [];
  const size = SECONDS[unit];
  return number && size ? duration(Number(number) * size) : String(value);
}

/** The comparisons of a condition; a time such as "7d" is written without quotes. */
function tests(it: Condition): string {
  const found: string[] = TESTS.filter((name) => it[name] !== undefined).map((name) => {
    const value = it[name] ?? null;
    if (name !== "before" && name !== "after") return t(name, { value: written(value) });
    const time = span(value);
    return t(time === value ? `${name}_date` : name, { value: time });
  });
  if (it["exists"] !== undefined) found.push(t(it["exists"] === false ? "missing" : "exists"));
  return found.join(t("and"));
}

/** A comparison that is written as a text, such as ">= 2". */
function compared(value: Json): string {
  const [, operator = "=", rest = ""] = /^\s*(<=|>=|!=|<|>|=)?\s*(.*)$/.exec(String(value)) ?? [];
  const name = TESTS.find((it) => it === operator) ?? "=";
  return name === "=" ? rest : t(name as ">=", { value: rest });
}

function eventWords(it: Condition): string {
  const event = t("quoted", { text: String(it["event"]) });
  if (it["never"] === true) return [t("never", { event }), it["within"] ? t("within", { time: span(it["within"]) }) : ""].filter(Boolean).join(" ");
  const words = [t("did", { event })];
  const times = it["count"];
  if (times !== undefined && !/^>=\s*1$/.test(String(times))) words.push(t("count", { test: compared(times) }));
  if (it["sum"] !== undefined) words.push(t("sum", { test: compared(it["sum"]) }));
  for (const name of ["first", "last"] as const) {
    const value = it[name];
    if (isTable(value)) words.push(t(name, { test: tests(value) }));
  }
  if (it["within"] !== undefined) words.push(t("within", { time: span(it["within"]) }));
  const where = it["where"];
  if (isTable(where)) {
    words.push(Object.entries(where).map(([field, value]) => t("where", { field, test: isTable(value) ? tests(value) : t("=", { value: written(value) }) })).join(t("and")));
  }
  return words.join(" ");
}

/** The words of one condition; null if it is of another kind. */
function words(it: Condition): string | null {
  const name = (key: string) => String(it[key]);
  if (it["event"] !== undefined) return eventWords(it);
  if (it["trait"] !== undefined) return t("trait", { name: name("trait"), test: tests(it) });
  if (it["identity"] !== undefined) return t("identity", { name: name("identity") });
  if (it["consent"] !== undefined) return t(it["exists"] === false ? "unasked" : it["="] === false ? "denied" : "granted", { name: name("consent") });
  if (it["device"] !== undefined) return t("device", { name: name("device"), test: tests(it) });
  if (it["place"] !== undefined) return t("place", { name: name("place"), test: tests(it) });
  if (it["campaign"] !== undefined) return t("campaign", { name: name("campaign"), touch: t(it["touch"] === "first" ? "first_touch" : "last_touch"), test: tests(it) });
  if (it["seen"] !== undefined) return t(it["seen"] === "first" ? "seen_first" : "seen_last", { test: tests(it) });
  return null;
}

/** A rule within rules; deeper ones are shown as they are written. */
const DEPTH = 8;

export function RuleWords({ rule, depth = 0 }: { rule: Json; depth?: number }) {
  if (!isTable(rule) || depth > DEPTH) return <code>{JSON.stringify(rule)}</code>;
  for (const name of ["all", "any"] as const) {
    const list = rule[name];
    if (Array.isArray(list)) {
      return <Group title={t(name)}>{list.map((it, index) => <li key={index}><RuleWords rule={it} depth={depth + 1} /></li>)}</Group>;
    }
  }
  if (rule["not"] !== undefined) return <Group title={t("not")}><li><RuleWords rule={rule["not"]} depth={depth + 1} /></li></Group>;
  const text = words(rule);
  return text === null ? <code>{JSON.stringify(rule)}</code> : <span>{text}</span>;
}

const Group = ({ title, children }: { title: string; children: ComponentChildren }) => (
  <div class="rule"><b>{title}</b><ul>{children}</ul></div>
);
