// What the core asks of the page: where the gateway is, what page it is, whether it is seen, and copies of
// what callers hand over. It comes before the core.
import type { Properties } from "../api";

const { settings } = window.tagway;
const d = document;

// What a page of the site shows in an <iframe> is a part of it, and no page of its own to the visitor.
if (frameElement && frameElement.tagName !== "FRAME") settings.page = settings.restored = false;

settings.endpoint ||= new URL((d.currentScript as HTMLScriptElement | null)?.src || location.href).origin;

/** Members of one call, and levels of them: a request has room for not many more, and nobody reads deeper. */
const MAX_MEMBERS = 5e3;
const MAX_LEVELS = 20;

let room: number;

const read = (holder: any, key: PropertyKey, path: unknown[]): any => {
  try {
    let value = holder[key];
    if (value?.toJSON) value = value.toJSON();
    if (typeof value === "bigint") return value + "";
    if (!value || typeof value !== "object") return typeof value === "function" ? undefined : value;
    // Nodes and windows lead to all of the page.
    if (path.includes(value) || path[MAX_LEVELS] || value instanceof EventTarget) return;
    path = [...path, value];
    // A map becomes its pairs, a set its values.
    if (value instanceof Map || value instanceof Set) value = [...value];
    const isList = Array.isArray(value);
    const result: any = isList ? [] : {};
    for (const name of Object.keys(value)) {
      if (room-- <= 0) break;
      // The place of a sparse array may be any number.
      if (!isList || +name < MAX_MEMBERS) result[name] = read(value, name, path);
    }
    return result;
  } catch {}
};

// Callers go on to use their objects, so a message says what they were at the call. A member that cannot be
// read, or is no data, is left out alone: it must not stop the messages that follow.
settings.copy = (...values) => {
  room = MAX_MEMBERS;
  return JSON.parse(JSON.stringify(read([values], 0, [])));
};

settings.here = (): Properties => {
  const { pathname: path, search, href: url } = location;
  return { path, referrer: d.referrer, search, title: d.title, url };
};

settings.whenSeen = (call) =>
  (d as any).prerendering ? d.addEventListener("prerenderingchange", call) : call();
