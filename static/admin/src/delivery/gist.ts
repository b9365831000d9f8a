// The sentence of a vendor's reply that says the most.

import type { Json } from "../api";

/** The members in which vendors put it, the most telling first. */
const NAMES = ["error_user_msg", "error_user_title", "error_description", "detail", "message", "title", "error", "reason", "description"];

/** The levels and members that are looked through. */
const DEPTH = 6;
const MEMBERS = 50;

function find(value: Json, name: string, depth: number): string | null {
  if (value === null || typeof value !== "object" || depth > DEPTH) return null;
  if (!Array.isArray(value)) {
    const own = value[name];
    if (typeof own === "string" && own.trim() !== "") return own;
  }
  for (const it of Object.values(value).slice(0, MEMBERS)) {
    const found = find(it, name, depth + 1);
    if (found !== null) return found;
  }
  return null;
}

/** Returns the sentence of a reply; a reply that is no JSON is its own. */
export function gist(reply: string): string {
  let value: Json;
  try {
    value = JSON.parse(reply) as Json;
  } catch {
    return reply;
  }
  for (const name of NAMES) {
    const found = find(value, name, 0);
    if (found !== null) return found;
  }
  return reply;
}
