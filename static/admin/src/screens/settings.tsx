// Settings: which value is in force, and where does it come from?

import { useState } from "preact/hooks";
import { api, type Json, type SettingRow } from "../api";
import { Advice } from "../delivery/advice";
import { count } from "../format";
import { texts } from "../i18n";
import { useResource } from "../resource";
import { link, param } from "../router";
import type { ScreenProps } from "../routes";
import { Badge, Copy, Notice } from "../ui/basics";
import { Filters } from "../ui/filters";
import { Icon } from "../ui/icons";
import { Empty, Loaded, Screen } from "../ui/page";

const t = texts({
  title: "Settings", lead: "What is in force now, and where each value comes from. Values are changed in tagway.toml, not here.", search: "Search", hint: "a setting, a value, a word of its meaning", source: "Set by", default: "default", file: "file", environment: "environment", remarks: "Remarks", none: "No setting fits", none_text: "No name, value or meaning has these words.",
  set: "set", not_set: "not set", no_value: "no value", restart: "counts after a restart", all: "All settings", found: "{n} {n|setting|settings}, {own} of them set by you", general: "General", own: "{n} set by you", copy: "Copy the name",
}, {
  title: "Einstellungen", lead: "Was jetzt gilt, und woher jeder Wert kommt. Geändert wird in der tagway.toml, nicht hier.", search: "Suche", hint: "eine Einstellung, ein Wert, ein Wort der Bedeutung", source: "Gesetzt durch", default: "Vorgabe", file: "Datei", environment: "Umgebung", remarks: "Hinweise", none: "Keine Einstellung passt", none_text: "Kein Name, Wert oder Sinn hat diese Wörter.",
  set: "gesetzt", not_set: "nicht gesetzt", no_value: "kein Wert", restart: "gilt nach einem Neustart", all: "Alle Einstellungen", found: "{n} {n|Einstellung|Einstellungen}, davon {own} von dir gesetzt", general: "Allgemein", own: "{n} von dir gesetzt", copy: "Namen kopieren",
});

interface Section {
  path: string;
  rows: SettingRow[];
}

/** The table of a setting, and its name in it: `sites[0].name` is `name` of `sites[0]`. */
function split(path: string): [table: string, name: string] {
  const at = path.lastIndexOf(".");
  return at < 0 ? ["", path] : [path.slice(0, at), path.slice(at + 1)];
}

function sections(rows: readonly SettingRow[]): Section[] {
  const found = new Map<string, SettingRow[]>();
  for (const row of rows) {
    const [table] = split(row.path);
    const own = found.get(table);
    if (own) own.push(row);
    else found.set(table, [row]);
  }
  return [...found].map(([path, rows]) => ({ path, rows }));
}

/** Returns the function that names the things within which a table is: "shop / meta" of `sites[0].destinations[1]`. */
function naming(rows: readonly SettingRow[]): (path: string) => string {
  const names = new Map<string, string>();
  for (const { path, value } of rows) {
    const [table, name] = split(path);
    if (name === "name" && table.endsWith("]") && typeof value === "string") names.set(table, value);
  }
  return (path) => {
    const parts = path.split(".");
    return parts.map((_, index) => names.get(parts.slice(0, index + 1).join("."))).filter(Boolean).join(" / ");
  };
}

/** A value as the file writes it. */
const written = (value: Json): string => (typeof value === "string" ? value : JSON.stringify(value));

const isOwn = (row: SettingRow): boolean => row.source !== "default";

export default function Settings(_: ScreenProps) {
  const path = param("path");
  const answer = useResource(`settings/${path}`, (signal) => api.get<{ rows: SettingRow[] }>("settings/effective", { path }, signal));
  const warnings = useResource("warnings", (signal) => api.get<{ rows: { place: string; text: string }[] }>("warnings", {}, signal));
  return (
    <Screen title={path || t("title")} lead={t("lead")} {...(path && { back: { href: link("settings"), text: t("all") } })}>
      {!path && warnings.data && warnings.data.rows.length > 0 && (
        <section class="notices" aria-label={t("remarks")}>
          {warnings.data.rows.map((it) => (
            <Notice key={`${it.place}/${it.text}`} tone="warn"><code class="muted">{it.place}</code><br /><Advice text={it.text} /></Notice>
          ))}
        </section>
      )}
      <Filters filters={[
        { name: "q", label: t("search"), kind: "search", placeholder: t("hint") },
        { name: "source", label: t("source"), kind: "select", options: (["file", "environment", "default"] as const).map((it) => [it, t(it)] as const) },
      ]} />
      <Loaded from={answer}>{({ rows }) => <Tree rows={rows} hasPath={path !== ""} />}</Loaded>
    </Screen>
  );
}

/** The tables that are open without asking: more would hide what else there is. */
const OPEN = 3;

function Tree({ rows, hasPath }: { rows: SettingRow[]; hasPath: boolean }) {
  const words = param("q").toLowerCase().split(/\s+/).filter(Boolean);
  const source = param("source");
  const nameOf = naming(rows);
  const shown = rows.filter((row) => {
    const text = `${row.path} ${nameOf(row.path)} ${written(row.value)} ${row.doc}`.toLowerCase();
    return (!source || row.source === source) && words.every((word) => text.includes(word));
  });
  if (shown.length === 0) return <Empty icon="search" title={t("none")}>{t("none_text")}</Empty>;
  const tables = sections(shown);
  const isNarrow = words.length > 0 || hasPath || tables.length <= OPEN;
  return (
    <>
      <p class="muted count-line" role="status">{t("found", { n: shown.length, own: shown.filter(isOwn).length })}</p>
      <div class="settings">
        {tables.map((it) => <Table key={`${it.path}/${isNarrow}`} section={it} name={nameOf(it.path)} isOpen={isNarrow || it.rows.some(isOwn)} />)}
      </div>
    </>
  );
}

function Table({ section: { path, rows }, name, isOpen: isOpenAtFirst }: { section: Section; name: string; isOpen: boolean }) {
  const [isOpen, setOpen] = useState(isOpenAtFirst);
  const own = rows.filter(isOwn).length;
  return (
    <details class="card" open={isOpen} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary data-row><Icon name="right" /><h2>{path || t("general")}</h2>{name && <b>{name}</b>}<span class="muted">{count(rows.length)}{own > 0 && <> · {t("own", { n: own })}</>}</span></summary>
      {isOpen && <dl>{rows.map((row) => <Row key={row.path} row={row} />)}</dl>}
    </details>
  );
}

function Row({ row }: { row: SettingRow }) {
  const [, name] = split(row.path);
  return (
    <div class={isOwn(row) ? "own" : undefined}>
      <dt><a href={link("settings", { path: row.path })}>{name}</a><Copy text={row.path} label={t("copy")} /></dt>
      <dd>
        <Value row={row} />
        <span class="from"><Source row={row} />{row.restart && <small class="muted">{t("restart")}</small>}</span>
        <small class="muted doc"><Advice text={row.doc} /></small>
      </dd>
    </div>
  );
}

function Value({ row }: { row: SettingRow }) {
  if (row.secret) return <Badge tone={row.value === "set" ? "good" : "quiet"}>{row.value === "set" ? t("set") : t("not_set")}</Badge>;
  if (row.value === null || row.value === "") return <span class="muted">{t("no_value")}</span>;
  return <code class="value">{written(row.value)}</code>;
}

/** The source, with the place where it can be changed. */
function Source({ row }: { row: SettingRow }) {
  if (row.source === "default") return <small class="muted">{t("default")}</small>;
  const place = row.file && `${row.file.split("/").at(-1)}${row.line === null ? "" : `:${row.line}`}`;
  return (
    <>
      <span class="tag" title={row.file ?? undefined}>{t(row.source)}</span>
      {row.variable && <code class="muted">{row.variable}</code>}
      {place && <code class="muted">{place}</code>}
    </>
  );
}
