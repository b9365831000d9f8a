// Dead letters: what failed for good, and what may be done about it?

import { api, type DeadGroup, type DeadLetter, type Destination, type Page } from "../api";
import { count } from "../format";
import { texts } from "../i18n";
import { useKeys } from "../keys";
import { usePages, useResource } from "../resource";
import { link, param } from "../router";
import type { ScreenProps } from "../routes";
import { can, site } from "../session";
import { Button, Card, CodeBlock, Figure, LinkButton, More, Notice, Reason, Time } from "../ui/basics";
import { Filters, type Filter } from "../ui/filters";
import { JsonView, parsed } from "../ui/json";
import { Empty, Fault, Loaded, Screen } from "../ui/page";
import { Table } from "../ui/table";
import { reason } from "../words";
import { actOnAll, type DeadFilter } from "../delivery/deadacts";
import { gist } from "../delivery/gist";

const t = texts({
  title: "Failed events", lead: "What the destinations of {site} refused for good. Nothing here is tried again unless you say so.", why: "Why", destination: "Destination", events: "Events", first: "First", last: "Last", total: "{n} {n|event|events} in {groups} {groups|group|groups}",
  bounded: "There are more than could be counted: narrow the filters to see all.", reason: "Reason", event: "Event", search: "Search", search_hint: "words of the reply, an event's id", from: "From", to: "Until",
  empty: "Nothing failed", empty_text: "When a destination refuses an event for good, it lands here with the vendor's reply, grouped by its reason.", none: "Nothing matches", none_text: "No failed event fits these filters.", to_destinations: "Look at the destinations",
  retry: "Retry all", drop: "Drop all", group: "{destination}: {reason}", back: "All groups", reply: "Reply of the vendor", no_reply: "The vendor did not reply.", status: "Status", letters: "The events", at: "Failed", tries: "Tries", detail: "Particulars", id: "Id", count: "Failed this way", since: "since", latest: "the last",
}, {
  title: "Gescheiterte Ereignisse", lead: "Was die Ziele von {site} endgültig ablehnten. Nichts hiervon wird ohne dein Zutun noch einmal versucht.", why: "Warum", destination: "Ziel", events: "Ereignisse", first: "Zuerst", last: "Zuletzt", total: "{n} {n|Ereignis|Ereignisse} in {groups} {groups|Gruppe|Gruppen}",
  bounded: "Es sind mehr, als gezählt werden konnten: grenze sie mit den Filtern ein, um alle zu sehen.", reason: "Grund", event: "Ereignis", search: "Suche", search_hint: "Wörter der Antwort, Kennung eines Ereignisses", from: "Von", to: "Bis",
  empty: "Nichts ist gescheitert", empty_text: "Lehnt ein Ziel ein Ereignis endgültig ab, landet es hier mit der Antwort des Anbieters, nach Gründen gruppiert.", none: "Nichts passt", none_text: "Kein gescheitertes Ereignis passt zu diesen Filtern.", to_destinations: "Zu den Zielen",
  retry: "Alle neu versuchen", drop: "Alle verwerfen", group: "{destination}: {reason}", back: "Alle Gruppen", reply: "Antwort des Anbieters", no_reply: "Der Anbieter hat nicht geantwortet.", status: "Status", letters: "Die Ereignisse", at: "Gescheitert", tries: "Versuche", detail: "Näheres", id: "Nummer", count: "So gescheitert", since: "seit", latest: "das letzte",
});

interface Groups {
  rows: DeadGroup[];
  total: number;
  bounded: boolean;
}

const NAMES = ["destination", "reason", "event", "q", "from", "to", "reply"] as const;
const PAGE = 50;

/** The filter that the address has. */
function filterOf(name: string): DeadFilter {
  const filter: DeadFilter = { site: name };
  for (const key of NAMES) {
    const value = param(key);
    if (value) filter[key] = value;
  }
  return filter;
}

export default function Dead(_: ScreenProps) {
  const filter = filterOf(site.value);
  const key = site.value && JSON.stringify(filter);
  // The groups do not know the reply as a filter: one group is found among those of its reason.
  const { reply, ...wide } = filter;
  const groups = useResource(key || null, (signal) => api.get<Groups>("dead/groups", { ...wide }, signal));
  return param("view") === "letters"
    ? <Group filter={filter} groups={groups.data} reload={groups.reload} />
    : (
      <Screen title={t("title")} lead={t("lead", { site: site.value })} actions={groups.data && <Acts filter={wide} groups={groups.data} done={groups.reload} />}>
        <FilterBar groups={groups.data?.rows ?? []} />
        <Loaded from={groups}>{(all) => <GroupList groups={all} hasFilter={Object.keys(wide).length > 1} />}</Loaded>
      </Screen>
    );
}

function FilterBar({ groups }: { groups: DeadGroup[] }) {
  const destinations = useResource(site.value, (signal) => api.get<Page<Destination>>("destinations", { site: site.value }, signal));
  const names = destinations.data?.rows.filter((it) => it.site === site.value).map((it) => it.destination) ?? [];
  const reasons = [...new Set(groups.map((it) => it.reason))].sort();
  const filters: Filter[] = [
    { name: "q", label: t("search"), kind: "search", placeholder: t("search_hint") },
    { name: "destination", label: t("destination"), kind: "select", options: names.map((it) => [it, it] as const) },
    { name: "reason", label: t("reason"), kind: "select", options: reasons.map((it) => [it, reason(it)] as const) },
    { name: "event", label: t("event"), kind: "text" },
    { name: "from", label: t("from"), kind: "time" },
    { name: "to", label: t("to"), kind: "time" },
  ];
  return <Filters filters={filters} />;
}

function Acts({ filter, groups, done }: { filter: DeadFilter; groups: Groups; done: () => void }) {
  const last = Math.max(0, ...groups.rows.map((it) => it.last_id));
  const isOpen = can("editor") && groups.total > 0;
  const act = (what: "retry" | "drop") => void actOnAll(what, filter, last).then((isDone) => isDone && done());
  useKeys(isOpen ? [{ keys: "r", text: () => t("retry"), run: () => act("retry") }] : []);
  if (!isOpen) return null;
  return (
    <>
      <Button icon="replay" onClick={() => act("retry")}>{t("retry")}…</Button>
      <Button icon="clear" onClick={() => act("drop")}>{t("drop")}…</Button>
    </>
  );
}

/** The screen of one group. */
const groupLink = (it: DeadGroup): string =>
  link("dead", { site: it.site, destination: it.destination, reason: it.reason, reply: it.reply, event: param("event"), q: param("q"), from: param("from"), to: param("to"), view: "letters" });

function GroupList({ groups, hasFilter }: { groups: Groups; hasFilter: boolean }) {
  if (groups.rows.length === 0) {
    return (
      <Card>
        {hasFilter
          ? <Empty icon="search" title={t("none")}>{t("none_text")}</Empty>
          : <Empty icon="check" title={t("empty")} action={<LinkButton href={link("destinations", { site: site.value })}>{t("to_destinations")}</LinkButton>}>{t("empty_text")}</Empty>}
      </Card>
    );
  }
  return (
    <>
      {groups.bounded && <div class="notices"><Notice tone="warn">{t("bounded")}</Notice></div>}
      <Card>
        <p class="muted count-line" role="status">{t("total", { n: groups.total, groups: groups.rows.length })}</p>
        <Table caption={t("title")} rows={groups.rows} rowKey={(it) => `${it.destination}/${it.reason}/${it.status}/${it.reply}`} href={groupLink}
          columns={[
            { head: t("why"), isWide: true, cell: (it) => <><Reason code={it.reason} />{it.reply && <small class="excerpt">{gist(it.reply)}</small>}</> },
            { head: t("destination"), cell: (it) => it.destination },
            { head: t("events"), isNumber: true, cell: (it) => count(it.count) },
            { head: t("first"), isNumber: true, isMinor: true, cell: (it) => <Time at={it.first_at} /> },
            { head: t("last"), isNumber: true, cell: (it) => <Time at={it.last_at} /> },
          ]} />
      </Card>
    </>
  );
}

function Group({ filter, groups, reload }: { filter: DeadFilter; groups: Groups | null; reload: () => void }) {
  const key = JSON.stringify(filter);
  const letters = usePages<DeadLetter>(key, async (before, signal) => {
    const rows = await api.get<DeadLetter[]>("dead", { ...filter, before, limit: PAGE }, signal);
    return { rows, next: rows.length === PAGE ? rows.at(-1)?.id ?? null : null };
  });
  const found = groups?.rows.find((it) => it.destination === filter.destination && it.reason === filter.reason && it.reply === (filter.reply ?? ""));
  const { view: _, reply: __, ...kept } = { ...Object.fromEntries(NAMES.map((name) => [name, param(name)])), view: "" } as Record<string, string>;
  const reply = parsed(filter.reply ?? "");
  // Letters without a reply are a group as well: an act on it must not reach the groups with one.
  const exactly: DeadFilter = { ...filter, reply: filter.reply ?? "" };
  const own: Groups | null = found ? { rows: [found], total: found.count, bounded: false } : null;
  return (
    <Screen title={t("group", { destination: filter.destination ?? "", reason: reason(filter.reason ?? "") })}
      back={{ href: link("dead", { site: filter.site, ...kept, destination: null, reason: null }), text: t("back") }}
      actions={own && <Acts filter={exactly} groups={own} done={() => { reload(); letters.reload(); }} />}>
      {found && (
        <Card>
          <div class="quality">
            <Figure label={t("count")} value={count(found.count)} tone="bad" note={<>{t("since")} <Time at={found.first_at} />, {t("latest")} <Time at={found.last_at} /></>} />
            <div class="stack">
              <p>{gist(found.reply) !== found.reply && <b>{gist(found.reply)}</b>} {found.status !== null && <span class="muted nowrap">{t("status")} {found.status}</span>}</p>
              {found.reply === "" ? <p class="muted">{t("no_reply")}</p>
                : typeof reply === "object" ? <JsonView label={t("reply")} value={reply} open={4} /> : <CodeBlock label={t("reply")} text={found.reply} />}
            </div>
          </div>
        </Card>
      )}
      <Card title={t("letters")}>
        {letters.fault ? <Fault fault={letters.fault} retry={letters.reload} />
          : !letters.isLoading && letters.rows.length === 0 ? <Empty icon="check" title={t("none")}>{t("none_text")}</Empty>
          : letters.rows.length > 0 && (
            <Table caption={t("letters")} rows={letters.rows} rowKey={(it) => it.id} href={(it) => link(["dead", it.id], { site: it.site })}
              columns={[
                { head: t("event"), cell: (it) => it.event ?? <span class="muted">–</span> },
                { head: t("at"), cell: (it) => <Time at={it.at} /> },
                { head: t("detail"), isWide: true, isMinor: true, cell: (it) => it.detail },
                { head: t("tries"), isNumber: true, cell: (it) => count(it.attempts) },
                { head: t("id"), isNumber: true, isMinor: true, cell: (it) => <span class="muted">{it.id}</span> },
              ]} />
          )}
        <More more={letters.more} isLoading={letters.isLoading} />
      </Card>
    </Screen>
  );
}
