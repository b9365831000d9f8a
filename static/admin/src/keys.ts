// The keyboard: keys of the whole console and of the screen in view. Lists mark their rows with `data-row`.

import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

export interface KeyBinding {
  /** One key, or two after each other: "g l". */
  keys: string;
  text: () => string;
  run: () => void;
}

/** The keys of the screen in view, for the help. */
export const screenKeys = signal<KeyBinding[]>([]);
/** The keys that work everywhere; set at the start. */
export const globalKeys = signal<KeyBinding[]>([]);

/** Binds keys for as long as a component is in view. */
export function useKeys(keys: KeyBinding[]): void {
  const latest = useRef(keys);
  latest.current = keys;
  const signature = keys.map((it) => it.keys).join();
  useEffect(() => {
    // What they do changes with each rendering; what they are does not.
    const bound = latest.current.map((key, index): KeyBinding => ({
      keys: key.keys,
      text: () => latest.current[index]?.text() ?? "",
      run: () => latest.current[index]?.run(),
    }));
    screenKeys.value = [...screenKeys.value, ...bound];
    return () => {
      screenKeys.value = screenKeys.value.filter((it) => !bound.includes(it));
    };
  }, [signature]);
}

const SEQUENCE_MS = 1_200;
let before = "";
let beforeAt = 0;

const isTyping = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

/** Moves the focus along the rows of the list in view. */
export function step(by: 1 | -1): void {
  const rows = [...document.querySelectorAll<HTMLElement>("main [data-row]")].filter((it) => it.checkVisibility());
  const index = rows.findIndex((it) => it === document.activeElement || it.contains(document.activeElement));
  const next = rows[index < 0 ? (by > 0 ? 0 : rows.length - 1) : index + by];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && isTyping(event.target)) {
    (event.target as HTMLElement).blur();
    return;
  }
  if (isTyping(event.target) || document.querySelector("dialog[open]")) return;
  const pressed = event.key === " " ? "Space" : event.key;
  const pair = Date.now() - beforeAt < SEQUENCE_MS ? `${before} ${pressed}` : "";
  before = pressed;
  beforeAt = Date.now();
  const all = [...screenKeys.value, ...globalKeys.value];
  const found = all.find((it) => it.keys === pair) ?? all.find((it) => it.keys === pressed);
  if (!found) return;
  event.preventDefault();
  before = "";
  found.run();
});
