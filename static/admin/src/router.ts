// The address: `#/path?query`. It has the whole state of a screen, so that a copied link shows the same.

import { computed, signal } from "@preact/signals";

export interface Place {
  path: string;
  query: URLSearchParams;
}

function read(): Place {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  return { path, query: new URLSearchParams(query) };
}

export const place = signal<Place>(read());
export const path = computed(() => place.value.path);

addEventListener("hashchange", () => {
  place.value = read();
});

export type Query = Record<string, string | number | boolean | null | undefined>;

/** Returns a link in the console; empty values of the query are left out. */
export function link(segments: string | readonly (string | number)[], query: Query = {}): string {
  const path = typeof segments === "string"
    ? segments
    : segments.map((it) => encodeURIComponent(it)).join("/");
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "" && value !== false) search.set(name, String(value));
  }
  const text = search.toString();
  return `#/${path}${text && `?${text}`}`;
}

/** Goes to a link; `replace` leaves no entry to go back to. */
export function go(href: string, { replace = false } = {}): void {
  if (replace) history.replaceState(null, "", href);
  else history.pushState(null, "", href);
  place.value = read();
}

/** Returns a value of the query, empty if it is absent. */
export const param = (name: string): string => place.value.query.get(name) ?? "";

/** Changes values of the query. Text that is typed replaces the entry, a choice adds one. */
export function setParams(changes: Query, options: { replace?: boolean } = {}): void {
  const query: Query = Object.fromEntries(place.value.query);
  go(link(place.value.path, { ...query, ...changes }), options);
}

/** Matches a path with a pattern such as `sites/:site/events/:seq?`; null if it does not. */
export function match(pattern: string, path: string): Record<string, string> | null {
  const wanted = pattern.split("/");
  const given = path === "" ? [] : path.split("/");
  const found: Record<string, string> = {};
  if (given.length > wanted.length || (pattern === "" && given.length > 0)) return null;
  for (const [index, part] of wanted.entries()) {
    const value = given[index];
    if (part.startsWith(":")) {
      if (value === undefined || value === "") {
        if (!part.endsWith("?")) return null;
      } else {
        found[part.replace(/^:|\?$/g, "")] = decode(value);
      }
    } else if (part !== (value ?? "")) {
      return null;
    }
  }
  return found;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
