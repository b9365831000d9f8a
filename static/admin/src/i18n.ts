// The languages of the console: each file of a screen has its own table, with the same keys in English and
// German. The compiler holds the keys and the names in braces of both alike.
//
// `{n}` is replaced by the value of that name, numbers as the language writes them; `{n|event|events}` by the
// form for the number n.

import { computed, effect, signal } from "@preact/signals";
import { stored, store } from "./storage";

export type Language = "en" | "de";

export const LANGUAGES: readonly [Language, string][] = [["en", "English"], ["de", "Deutsch"]];

function preferred(): Language {
  const chosen = stored("language");
  if (chosen === "en" || chosen === "de") return chosen;
  return navigator.languages.find((it) => /^(en|de)\b/.test(it))?.startsWith("de") ? "de" : "en";
}

export const language = signal<Language>(preferred());

/** The language with its region, as numbers and dates are written. */
export const locale = computed(() =>
  navigator.languages.find((it) => it.startsWith(language.value)) ?? language.value);

effect(() => {
  document.documentElement.lang = language.value;
});

export function setLanguage(value: Language): void {
  language.value = value;
  store("language", value);
}

type Name<N extends string> = N extends `${infer Before}|${string}` ? Before : N;
type Names<S> = S extends `${string}{${infer N}}${infer Rest}` ? Name<N> | Names<Rest> : never;
type Same<E, D> = {
  [K in keyof E]: K extends keyof D ? (Names<D[K]> extends Names<E[K]> ? string : never) : string;
} & { [K in Exclude<keyof D, keyof E>]: never };

export type Value = string | number;
type Values<S> = [Names<S>] extends [never] ? [] : [values: Record<Names<S>, Value>];
export type Text<E> = <K extends keyof E & string>(key: K, ...values: Values<E[K]>) => string;

/** Returns the function that gives the texts of a table in the language that is chosen. */
export function texts<const E extends Record<string, string>, const D extends Record<string, string>>(
  en: E,
  de: D & Same<E, D>,
): Text<E> {
  const tables: Record<Language, Record<string, string>> = { en, de };
  return (key, ...[values]) => fill(tables[language.value][key] ?? key, values ?? {});
}

/** Returns the text of a pair in the language that is chosen. */
export const pick = (pair: { en: string; de: string }): string => pair[language.value];

const plurals = computed(() => new Intl.PluralRules(locale.value));
const numbers = computed(() => new Intl.NumberFormat(locale.value));

function fill(text: string, values: Record<string, Value>): string {
  return text.replace(/\{(\w+)(?:\|([^|}]*)\|([^}]*))?\}/g, (whole, name: string, one?: string, other?: string) => {
    const value = values[name];
    if (value === undefined) return whole;
    if (one !== undefined) return (plurals.value.select(Number(value)) === "one" ? one : other) ?? "";
    return typeof value === "number" ? numbers.value.format(value) : value;
  });
}
