// Events: what came in before, and where is the one that I look for?

import { useState } from "preact/hooks";
import { api, parts, type EventAnswer, type EventRow, type Page } from "../api";
import { source, SOURCES } from "../live/feedlist";
import { texts } from "../i18n";
import { asProblem, usePages } from "../resource";
import { go, link, param } from "../router";
import type { ScreenProps } from "../routes";
import { site } from "../session";
import { Button, Card, Loading, More, Time } from "../ui/basics";
import { Filters } from "../ui/filters";
import { Empty, Fault, faultText, Screen } from "../ui/page";
import { Table } from "../ui/table";
import { outcome } from "../words";

const t = texts({
  title: "Events", lead: "What {site} received, newest first. Events are kept for the time that journal.retain says.", event: "Event", event_hint: "Order*, !page", source: "Comes from", outcome: "What became of it",
  when: "Received", page: "Page", visitor: "Visitor", number: "Number", find: "Find by message id", find_hint: "Message id", go: "Find", empty: "No event here", empty_text: "Either nothing came in yet, or nothing passes the filters.", live: "Watch live", none_yet: "Nothing passes the filters in the newest events", older: "Search the older ones",
}, {
  title: "Ereignisse", lead: "Was {site} empfing, Neuestes zuerst. Ereignisse werden so lange aufbewahrt, wie journal.retain sagt.", event: "Ereignis", event_hint: "Order*, !page", source: "Kommt von", outcome: "Was daraus wurde",
  when: "Empfangen", page: "Seite", visitor: "Besucher", number: "Nummer", find: "Nach der Message-ID suchen", find_hint: "Message-ID", go: "Suchen", empty: "Hier ist kein Ereignis", empty_text: "Entweder kam noch nichts, oder nichts passt durch die Filter.", live: "Live ansehen", none_yet: "In den neuesten Ereignissen passt nichts durch die Filter", older: "In den älteren suchen",
});

const LIMIT = 50;

export default function Events({ params }: ScreenProps) {
  const name = params["site"] ?? site.value;
  const query = { event: param("event"), source: param("source"), outcome: param("outcome") };
  const found = usePages<EventRow>(name ? JSON.stringify([name, query]) : null, (before, signal) =>
    api.get<Page<EventRow>>(parts("events", name), { ...query, before, limit: LIMIT }, signal));
  return (
    <Screen title={t("title")} lead={t("lead", { site: name })} actions={<Find name={name} />}>
      <Filters filters={[
        { name: "event", label: t("event"), kind: "search", placeholder: t("event_hint") },
        { name: "source", label: t("source"), kind: "select", options: SOURCES.map((it) => [it, source(it)] as const) },
        { name: "outcome", label: t("outcome"), kind: "select", options: ["delivered", "skipped", "dead", "held", "pending"].map((it) => [it, outcome(it).word] as const) },
      ]} />
      {found.fault ? <Fault fault={found.fault} retry={found.reload} />
        : found.rows.length > 0 ? (
          <Card>
            <Table caption={t("title")} rows={found.rows} rowKey={(row) => row.seq} href={(row) => link(["sites", name, "events", row.seq])} columns={[
              { head: t("event"), cell: (row) => row.event },
              { head: t("when"), cell: (row) => <Time at={row.received_at} /> },
              { head: t("page"), cell: (row) => row.page ?? "", isWide: true },
              { head: t("visitor"), cell: (row) => <span class="mono">{row.visitor}</span> },
              { head: t("source"), cell: (row) => (row.source ? source(row.source) : "") },
              { head: t("number"), cell: (row) => row.seq, isNumber: true, isMinor: true },
            ]} />
            <More more={found.more} isLoading={found.isLoading} />
          </Card>
        )
        : found.isLoading ? <Loading />
        : found.more ? <Empty icon="search" title={t("none_yet")} action={<Button onClick={found.more}>{t("older")}</Button>} />
        : <Empty icon="events" title={t("empty")} action={<a class="button main" href={link("live", { site: name })}>{t("live")}</a>}>{t("empty_text")}</Empty>}
    </Screen>
  );
}

function Find({ name }: { name: string }) {
  const [id, setId] = useState("");
  const [fault, setFault] = useState("");
  const find = async () => {
    try {
      const { seq } = await api.get<EventAnswer>(parts("events", name), { message_id: id.trim() });
      go(link(["sites", name, "events", seq]));
    } catch (error) {
      setFault(faultText(asProblem(error)));
    }
  };
  return (
    <form class="find" onSubmit={(event) => { event.preventDefault(); if (id.trim()) void find(); }}>
      <label><span class="sr">{t("find")}</span>
        <input type="text" list={undefined} placeholder={t("find_hint")} value={id} spellcheck={false} autocomplete="off" aria-describedby="find-fault"
          onInput={(event) => { setId(event.currentTarget.value); setFault(""); }} />
      </label>
      <Button type="submit">{t("go")}</Button>
      <p id="find-fault" class="field-fault" role="alert">{fault}</p>
    </form>
  );
}
