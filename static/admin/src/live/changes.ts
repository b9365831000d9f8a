// The difference between an event before and after the mapping.

import type { Json } from "../api";

/** How deep two values are compared; below, they differ as a whole. */
const DEPTH = 12;

/** The paths in `after` whose values are not those of `before`. */
export function changedPaths(before: Json, after: Json): Set<string> {
  const found = new Set<string>();
  compare(before, after, "", DEPTH, found);
  return found;
}

const isMap = (value: Json | undefined): value is { [name: string]: Json } | Json[] => value !== null && typeof value === "object";

function compare(before: Json | undefined, after: Json, path: string, depth: number, found: Set<string>): void {
  if (!isMap(after) || !isMap(before) || depth === 0) {
    if (JSON.stringify(before) !== JSON.stringify(after)) mark(after, path, found);
    return;
  }
  for (const [name, value] of Object.entries(after)) {
    compare((before as Record<string, Json>)[name], value, path ? `${path}.${name}` : name, depth - 1, found);
  }
}

/** Marks the leaves of a value that is new as a whole. */
function mark(value: Json, path: string, found: Set<string>): void {
  if (!isMap(value)) {
    found.add(path);
    return;
  }
  for (const [name, it] of Object.entries(value)) mark(it, path ? `${path}.${name}` : name, found);
}
