// Live: what happens right now, and what becomes of it?

import { computed } from "@preact/signals";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { api, type Ledger } from "../api";
import { decimal } from "../format";
import { texts } from "../i18n";
import { useKeys } from "../keys";
import { Feed, type FeedState } from "../live/feed";
import { FeedRow, source, SOURCES } from "../live/feedlist";
import type { Row } from "../live/rows";
import { useResource } from "../resource";
import { link, param, setParams } from "../router";
import type { ScreenProps } from "../routes";
import { can, site } from "../session";
import { Badge, Button, LinkButton } from "../ui/basics";
import { Filters } from "../ui/filters";
import { Empty, faultText, Screen } from "../ui/page";
import { outcome, type Tone } from "../words";

const t = texts({
  title: "Live", lead: "Every event of {site} as it arrives, and what becomes of it at each destination.", pause: "Pause", resume: "Go on", clear: "Clear", waiting: "{n} new", rate: "{n} a second", shown: "{n} {n|event|events}",
  connecting: "connecting", live: "live", paused: "paused", hidden: "sleeping while this tab is hidden", broken: "connection lost, tries again", missed: "{n} {n|entry|entries} left out: this page was too slow", passed: "{n} {n|event|events} passed too fast to be shown",
  event: "Event", event_hint: "Order*, !page", destination: "Destination", outcome: "What became of it", visitor: "Visitor", visitor_hint: "id, or its start", source: "Comes from", reason: "Reason", reason_hint: "consent_denied",
  empty: "Waiting for the next event", empty_text: "Open a page of the site, or buy something in the shop: it shows up here within a second.", empty_filtered: "Nothing that passes the filters yet.", last: "Show the last 200", trace: "Trace my browser",
  open: "Open the event", only: "Only this visitor", not: "Without {event}", key_pause: "Pause, or go on", key_clear: "Clear the list", key_close: "Close the event", events: "Events", paused_open: "Paused while an event is open.",
}, {
  title: "Live", lead: "Jedes Ereignis von {site}, sobald es eintrifft, und was an jedem Ziel daraus wird.", pause: "Pause", resume: "Weiter", clear: "Leeren", waiting: "{n} neu", rate: "{n} pro Sekunde", shown: "{n} {n|Ereignis|Ereignisse}",
  connecting: "verbindet", live: "live", paused: "angehalten", hidden: "ruht, solange dieser Tab verdeckt ist", broken: "Verbindung verloren, neuer Versuch", missed: "{n} {n|Eintrag|Einträge} ausgelassen: diese Seite war zu langsam", passed: "{n} {n|Ereignis war|Ereignisse waren} zu schnell, um gezeigt zu werden",
  event: "Ereignis", event_hint: "Order*, !page", destination: "Ziel", outcome: "Was daraus wurde", visitor: "Besucher", visitor_hint: "Kennung oder ihr Anfang", source: "Kommt von", reason: "Grund", reason_hint: "consent_denied",
  empty: "Wartet auf das nächste Ereignis", empty_text: "Öffne eine Seite der Site, oder kaufe etwas im Shop: Es erscheint hier binnen einer Sekunde.", empty_filtered: "Noch nichts, das durch die Filter passt.", last: "Die letzten 200 zeigen", trace: "Meinen Browser verfolgen",
  open: "Ereignis öffnen", only: "Nur dieser Besucher", not: "Ohne {event}", key_pause: "Anhalten, oder weiter", key_clear: "Liste leeren", key_close: "Ereignis schließen", events: "Ereignisse", paused_open: "Angehalten, solange ein Ereignis offen ist.",
});

/** The recent events that a page starts with. */
const BACKLOG = 200;

const FILTERS = ["event", "destination", "outcome", "reason", "visitor", "source"] as const;

const TONES: Record<FeedState, Tone> = { connecting: "wait", live: "good", paused: "warn", hidden: "quiet", broken: "bad" };

export default function Live(_: ScreenProps) {
  const feed = useMemo(() => new Feed(BACKLOG), []);
  const [open, setOpen] = useState<string | null>(null);
  // A pause that an open row began ends with it.
  const isOurs = useRef(false);
  const query: Record<string, string> = { site: site.value };
  for (const name of FILTERS) query[name] = param(name);
  const key = JSON.stringify(query);
  useEffect(() => {
    setOpen(null);
    feed.watch(query);
    return () => feed.stop();
  }, [key]);

  const isPaused = feed.state.value === "paused";
  const toggle = (row: Row) => {
    const isOpening = open !== row.id;
    setOpen(isOpening ? row.id : null);
    if (isOpening && !isPaused) {
      feed.pause();
      isOurs.current = true;
    } else if (!isOpening && isOurs.current) {
      feed.resume();
      isOurs.current = false;
    }
  };
  const pause = () => {
    if (isPaused) feed.resume();
    else feed.pause();
    isOurs.current = false;
  };
  const clear = () => {
    setOpen(null);
    feed.clear();
  };
  useKeys([
    { keys: "p", text: () => t("key_pause"), run: pause },
    { keys: "c", text: () => t("key_clear"), run: clear },
    { keys: "Escape", text: () => t("key_close"), run: () => { const row = feed.rows.value.find((it) => it.id === open); if (row) toggle(row); } },
  ]);

  return (
    <Screen title={t("title")} lead={t("lead", { site: site.value })} actions={
      <>
        <Button icon={isPaused ? "play" : "pause"} aria-pressed={isPaused} onClick={pause}>
          {isPaused ? t("resume") : t("pause")}{feed.waiting.value > 0 && <b class="count">{t("waiting", { n: feed.waiting.value })}</b>}
        </Button>
        <Button icon="clear" onClick={clear}>{t("clear")}</Button>
        {can("editor") && <LinkButton icon="trace" href={link("trace", { site: site.value })}>{t("trace")}</LinkButton>}
      </>
    }>
      <LiveFilters />
      <Status feed={feed} isOpen={open !== null && isOurs.current} />
      <List feed={feed} open={open} toggle={toggle} isFiltered={FILTERS.some((name) => query[name])} />
    </Screen>
  );
}

function LiveFilters() {
  const ledger = useResource("ledger", (signal) => api.get<(Ledger & { site: string; destination: string })[]>("ledger", {}, signal));
  const destinations = (ledger.data ?? []).filter((it) => it.site === site.value).map((it) => [it.destination, it.destination] as const);
  const outcomes = ["delivered", "skipped", "dead", "retry"].map((it) => [it, outcome(it).word] as const);
  return (
    <Filters filters={[
      { name: "event", label: t("event"), kind: "search", placeholder: t("event_hint") },
      { name: "destination", label: t("destination"), kind: "select", options: destinations },
      { name: "outcome", label: t("outcome"), kind: "select", options: outcomes },
      { name: "reason", label: t("reason"), placeholder: t("reason_hint") },
      { name: "visitor", label: t("visitor"), placeholder: t("visitor_hint") },
      { name: "source", label: t("source"), kind: "select", options: SOURCES.map((it) => [it, source(it)] as const) },
    ]} />
  );
}

function Status({ feed, isOpen }: { feed: Feed; isOpen: boolean }) {
  const state = feed.state.value;
  return (
    <div class="feed-status">
      <span role="status"><Badge tone={TONES[state]}>{isOpen && state === "paused" ? t("paused_open") : t(state)}</Badge></span>
      {state === "live" && <span>{t("rate", { n: decimal(feed.rate.value) })}</span>}
      <span>{t("shown", { n: feed.rows.value.length })}</span>
      {feed.passed.value > 0 && <span class="warned">{t("passed", { n: feed.passed.value })}</span>}
      {feed.missed.value > 0 && <span class="warned">{t("missed", { n: feed.missed.value })}</span>}
      {feed.fault.value && <span class="warned">{faultText(feed.fault.value)}</span>}
    </div>
  );
}

function List({ feed, open, toggle, isFiltered }: { feed: Feed; open: string | null; toggle: (row: Row) => void; isFiltered: boolean }) {
  const [only, outcomeWanted, reasonWanted] = [param("destination"), param("outcome"), param("reason")];
  // With a filter by outcome, the event's arrival alone is nothing to show.
  const rows = useMemo(() => computed(() => feed.rows.value.filter((row) => {
    if (!outcomeWanted && !reasonWanted) return true;
    row.version.value;
    return [...row.fates.values()].some((it) => (!only || it.destination === only)
      && (!outcomeWanted || it.outcome === outcomeWanted) && (!reasonWanted || it.reason === reasonWanted));
  })), [feed, only, outcomeWanted, reasonWanted]);
  if (rows.value.length === 0) {
    return (
      <Empty icon="live" title={t("empty")} action={<Button onClick={() => feed.again()}>{t("last")}</Button>}>
        {isFiltered ? t("empty_filtered") : t("empty_text")}
      </Empty>
    );
  }
  return (
    <ol class="feed card" aria-label={t("events")}>
      {rows.value.map((row) => <FeedRow key={row.id} row={row} isOpen={open === row.id} toggle={toggle} only={only} actions={actions} />)}
    </ol>
  );
}

const actions = (row: Row) => (
  <>
    <LinkButton icon="external" href={link(["sites", row.site, "events", row.seq])}>{t("open")}</LinkButton>
    {row.accepted?.visitor && <Button icon="filter" onClick={() => setParams({ visitor: row.accepted?.visitor })}>{t("only")}</Button>}
    <Button icon="clear" onClick={() => setParams({ event: [param("event"), `!${row.event}`].filter(Boolean).join(", ") })}>{t("not", { event: row.event })}</Button>
  </>
);
