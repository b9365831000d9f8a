// The rows of a feed: each a button that opens the event in place.

import type { ComponentChildren } from "preact";
import { count } from "../format";
import { texts } from "../i18n";
import { Time } from "../ui/basics";
import { Icon } from "../ui/icons";
import { outcome, reason } from "../words";
import { RowDetail } from "./eventview";
import type { Fate, Row } from "./rows";

const t = texts({
  no_choice: "consent not known", none: "no consent", granted: "consent: {list}", bot: "bot {score}", chip: "{destination}: {word}",
  sdk: "SDK", shim: "shim", vendor_tag: "vendor's tag", api: "API", pixel: "pixel", server: "server", segment: "segment", rule: "rule",
}, {
  no_choice: "Einwilligung unbekannt", none: "keine Einwilligung", granted: "Einwilligung: {list}", bot: "Bot {score}", chip: "{destination}: {word}",
  sdk: "SDK", shim: "Shim", vendor_tag: "Anbieter-Tag", api: "API", pixel: "Pixel", server: "Server", segment: "Segment", rule: "Regel",
});

export const SOURCES = ["sdk", "shim", "vendor_tag", "api", "pixel", "server", "segment", "rule"] as const;

/** The word for where an event came from. */
export const source = (code: string): string => (SOURCES.find((it) => it === code) ? t(code as (typeof SOURCES)[number]) : code);

const GLYPHS: Record<string, string> = { delivered: "✓", skipped: "–", dead: "✕", retry: "↻", held: "…", calling: "→" };

/** From which score on a sender is worth pointing out as a program. */
const BOT = 50;

function Chip({ fate }: { fate: Fate }) {
  const { word, tone } = outcome(fate.outcome);
  const text = fate.reason ? `${word}, ${reason(fate.reason)}` : word;
  return (
    <span class={`chip ${tone}`} title={t("chip", { destination: fate.destination, word: text })}>
      <span aria-hidden="true">{GLYPHS[fate.outcome] ?? "·"}</span>{fate.destination}<span class="sr">: {text}</span>
    </span>
  );
}

function Consent({ list }: { list: string[] | null | undefined }) {
  if (list === undefined) return <span />;
  const text = list === null ? t("no_choice") : list.length > 0 ? t("granted", { list: list.join(", ") }) : t("none");
  const [kind, glyph] = list === null ? ["unknown", "?"] : list.length > 0 ? ["given", "✓"] : ["", "–"];
  return <span class={`consent ${kind}`} title={text}><span aria-hidden="true">{glyph}</span><span class="sr">{text}</span></span>;
}

export function FeedRow({ row, isOpen, toggle, only, actions }: {
  row: Row; isOpen: boolean; toggle: (row: Row) => void;
  /** The only destination that the filter shows. */
  only?: string;
  actions?: ((row: Row) => ComponentChildren) | undefined;
}) {
  const { accepted } = row;
  row.version.value;
  const fates = [...row.fates.values()].filter((it) => !only || it.destination === only).sort((a, b) => (a.destination < b.destination ? -1 : 1));
  const id = `event-${row.id}`;
  return (
    <li class={`feed-row ${isOpen ? "open" : ""}`}>
      <button type="button" data-row aria-expanded={isOpen} aria-controls={isOpen ? id : undefined} onClick={() => toggle(row)}>
        <span class="at"><Time at={row.at} clock /></span>
        <span class="event">{row.event}</span>
        <span class="page">{accepted?.page}</span>
        <span class="who">{accepted?.visitor}{accepted?.country && <small> {accepted.country}</small>}</span>
        <span class="from">
          {accepted?.source && source(accepted.source)}
          {accepted?.bot !== undefined && accepted.bot !== null && accepted.bot >= BOT && <em class="bot">{t("bot", { score: count(accepted.bot) })}</em>}
        </span>
        <Consent list={accepted?.consent} />
        <span class="chips">{fates.map((it) => <Chip key={it.destination} fate={it} />)}</span>
        <span class="turn"><Icon name="right" size={14} /></span>
      </button>
      {isOpen && (
        <div id={id} class="feed-open">
          {actions && <div class="feed-actions">{actions(row)}</div>}
          <RowDetail site={row.site} seq={row.seq} fates={fates} />
        </div>
      )}
    </li>
  );
}
