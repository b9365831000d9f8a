// Numbers, shares, sizes, times: as the language writes them.

import { computed, signal } from "@preact/signals";
import { locale } from "./i18n";

/** The present, as relative times show it. */
export const now = signal(Date.now());
setInterval(() => {
  if (!document.hidden) now.value = Date.now();
}, 5_000);
addEventListener("visibilitychange", () => {
  now.value = Date.now();
});

const whole = computed(() => new Intl.NumberFormat(locale.value, { maximumFractionDigits: 0 }));
const precise = computed(() => new Intl.NumberFormat(locale.value, { maximumFractionDigits: 1 }));
const compact = computed(() => new Intl.NumberFormat(locale.value, { notation: "compact", maximumFractionDigits: 1 }));
const percent = computed(() => new Intl.NumberFormat(locale.value, { style: "percent", maximumFractionDigits: 1 }));

export const count = (value: number): string => whole.value.format(value);
export const decimal = (value: number): string => precise.value.format(value);
/** A short form of large numbers: 12.3K. */
export const short = (value: number): string => (Math.abs(value) < 10_000 ? precise : compact).value.format(value);
export const share = (value: number): string => percent.value.format(value);

/** A share of a whole that says neither 0 % nor 100 % where that is not so. */
export function part(value: number, of: number): string {
  if (of === 0) return "–";
  const rounded = Math.round((value / of) * 1000) / 1000;
  if (rounded === 0 && value > 0) return `< ${share(0.001)}`;
  if (rounded === 1 && value < of) return `> ${share(0.999)}`;
  return share(value / of);
}

export const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

const exactly = computed(() => new Intl.DateTimeFormat(locale.value, { dateStyle: "medium", timeStyle: "long" }));
const clock = computed(() => new Intl.DateTimeFormat(locale.value, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }));
const brief = computed(() => new Intl.DateTimeFormat(locale.value, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" }));
const day = computed(() => new Intl.DateTimeFormat(locale.value, { day: "numeric", month: "short", year: "numeric" }));
const relatives = computed(() => new Intl.RelativeTimeFormat(locale.value, { numeric: "auto", style: "long" }));

/** Date, time and zone. */
export const exact = (at: string | number): string => exactly.value.format(new Date(at));
/** The time of day with seconds. */
export const timeOfDay = (at: string | number): string => clock.value.format(new Date(at));
/** Day, month, hour and minute; of another year, the year instead of the time. */
export const moment = (at: string | number): string => {
  const then = new Date(at);
  return (then.getFullYear() === new Date(now.value).getFullYear() ? brief : day).value.format(then);
};
export const date = (at: string | number): string => day.value.format(new Date(at));

const UNITS: readonly [Intl.RelativeTimeFormatUnit & ("day" | "hour" | "minute" | "second"), number][] = [
  ["day", 86_400], ["hour", 3_600], ["minute", 60], ["second", 1],
];

const DAY_MS = 86_400_000;

/** Returns true within a day of the present, where a relative time says more than a date. */
export const isNear = (at: string | number): boolean => Math.abs(new Date(at).getTime() - now.value) < DAY_MS;

/** Relative to the present: "3 minutes ago". */
export function relative(at: string | number): string {
  const seconds = Math.round((new Date(at).getTime() - now.value) / 1000);
  if (Math.abs(seconds) < 5) return relatives.value.format(0, "second");
  const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? ["second", 1];
  return relatives.value.format(Math.trunc(seconds / size), unit);
}

/** A length of time in its greatest unit: "3 hours". */
export function duration(seconds: number): string {
  if (seconds > 0 && seconds < 1) return milliseconds(seconds * 1000);
  const [unit, size] = UNITS.find(([, size]) => seconds >= size) ?? ["second", 1];
  return new Intl.NumberFormat(locale.value, { style: "unit", unit, unitDisplay: "long", maximumFractionDigits: 1 })
    .format(seconds / size);
}

export const milliseconds = (value: number): string =>
  new Intl.NumberFormat(locale.value, { style: "unit", unit: "millisecond", maximumFractionDigits: 0 }).format(value);
