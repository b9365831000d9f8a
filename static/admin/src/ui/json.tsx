// A value of JSON as a tree that folds. Everything in it is text.

import type { Json } from "../api";
import { texts } from "../i18n";
import { Copy } from "./basics";

const t = texts({
  members: "{n} {n|member|members}", items: "{n} {n|item|items}", cut: "{n} more", copy: "Copy as JSON",
}, {
  members: "{n} {n|Feld|Felder}", items: "{n} {n|Eintrag|Einträge}", cut: "{n} weitere", copy: "Als JSON kopieren",
});

/** The members that one level shows: a page stays usable with whatever an event contains. */
const MEMBERS = 200;
const DEPTH = 24;

/** A value with its heading and a way to copy it. `open` levels are open at first. */
export function JsonView({ value, label, open = 2, marked }: {
  value: Json; label: string; open?: number;
  /** The paths that are pointed out, such as "properties.total". */
  marked?: ReadonlySet<string> | undefined;
}) {
  return (
    <figure class="codeblock json">
      <figcaption>{label}<Copy text={JSON.stringify(value, null, 2)} label={t("copy")} /></figcaption>
      <div class="tree" tabIndex={0} role="region" aria-label={label}><Node value={value} open={open} path="" marked={marked} depth={0} /></div>
    </figure>
  );
}

interface NodeProps {
  value: Json;
  open: number;
  path: string;
  name?: string;
  marked?: ReadonlySet<string> | undefined;
  depth: number;
}

function Node({ value, open, path, name, marked, depth }: NodeProps) {
  const label = name !== undefined && <span class="name">{name}</span>;
  const mark = marked?.has(path) ? "leaf marked" : "leaf";
  if (value === null || typeof value !== "object") return <div class={mark}>{label}<Leaf value={value} /></div>;
  const isList = Array.isArray(value);
  const entries: [string, Json][] = isList ? value.map((it, index) => [String(index), it]) : Object.entries(value);
  if (entries.length === 0 || depth > DEPTH) return <div class={mark}>{label}<span class="muted">{isList ? "[ ]" : "{ }"}</span></div>;
  const children = (
    <div class="members">
      {entries.slice(0, MEMBERS).map(([key, it]) => (
        <Node key={key} name={key} value={it} open={open - 1} path={path ? `${path}.${key}` : key} marked={marked} depth={depth + 1} />
      ))}
      {entries.length > MEMBERS && <div class="leaf muted">{t("cut", { n: entries.length - MEMBERS })}</div>}
    </div>
  );
  if (name === undefined) return children;
  return (
    <details open={open > 0}>
      <summary>{label}<span class="muted">{t(isList ? "items" : "members", { n: entries.length })}</span></summary>
      {children}
    </details>
  );
}

function Leaf({ value }: { value: string | number | boolean | null }) {
  const kind = value === null ? "null" : typeof value;
  return <span class={`leaf-value ${kind}`}>{value === null ? "null" : String(value)}</span>;
}

/** Parses a text of JSON; what is no JSON stays a text. */
export function parsed(text: string): Json {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return text;
  }
}
