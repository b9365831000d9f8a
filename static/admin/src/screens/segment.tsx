// One segment: who is in it, by which rule, and has each destination got it?

import { useState } from "preact/hooks";
import { api, lines, parts, type Segment, type SegmentMember, type SegmentRun, type SegmentSync } from "../api";
import { count, date, duration, milliseconds, share } from "../format";
import { texts } from "../i18n";
import { useKeys } from "../keys";
import { useResource } from "../resource";
import { link } from "../router";
import type { ScreenProps } from "../routes";
import { can } from "../session";
import { Badge, Button, Card, Figure, Notice, Time } from "../ui/basics";
import { Empty, Fault, Loaded, Screen } from "../ui/page";
import { Reveal, useReveal } from "../ui/reveal";
import { Table } from "../ui/table";
import { attempt, toast } from "../ui/toast";
import { reason, spoken } from "../words";
import { RuleWords } from "../audience/rule";
import { standing, Trend } from "../audience/trend";

const t = texts({
  back: "Segments", lead: "Evaluated {schedule}, for {site}.", run: "Run now", running: "Running …", ran: "{n} {n|person|people}: {added} joined, {removed} left.", people: "People", joined: "Joined", left: "Left", at_last: "at the last run", last: "Last run", took: "took {time}", next: "Next run", by_group: "whole groups",
  trend: "Size over the last {n} runs", rule: "Who is in it", syncs: "Where it goes", no_syncs: "It is not sent anywhere. Add a [[sites.segments.sync]] to it in tagway.toml.", destination: "Destination", kind: "As", list: "a list", events: "events", has: "People there", left_out: "Left out", synced: "Complete since", state: "State", follows: "follows", drains: "empties its list", abandoned: "given up", waits: "not yet", removals: "{n} could not be removed",
  sample: "Some of the people", sample_note: "the first {n}", person: "Person", since: "Member since", nobody: "Nobody is in it", nobody_text: "As soon as somebody fits the rule, the next run takes them in.", set_aside: "The gateway stopped over this segment several times and has set it aside. Change its rule, or run it now.", uncounted: "Nothing was ever counted for {events}: is the name right?", counting: "Events of the past are being counted first: {share}. It is not evaluated until then.",
}, {
  back: "Segmente", lead: "Ausgewertet {schedule}, für {site}.", run: "Jetzt auswerten", running: "Läuft …", ran: "{n} {n|Person|Personen}: {added} kamen dazu, {removed} gingen.", people: "Personen", joined: "Dazugekommen", left: "Gegangen", at_last: "beim letzten Lauf", last: "Letzter Lauf", took: "dauerte {time}", next: "Nächster Lauf", by_group: "ganze Gruppen",
  trend: "Größe in den letzten {n} Läufen", rule: "Wer dazugehört", syncs: "Wohin es geht", no_syncs: "Es wird nirgendwohin gesendet. Füge ihm in der tagway.toml ein [[sites.segments.sync]] hinzu.", destination: "Ziel", kind: "Als", list: "Liste", events: "Ereignisse", has: "Personen dort", left_out: "Ausgelassen", synced: "Vollständig seit", state: "Zustand", follows: "folgt", drains: "leert seine Liste", abandoned: "aufgegeben", waits: "noch nicht", removals: "{n} ließen sich nicht entfernen",
  sample: "Einige der Personen", sample_note: "die ersten {n}", person: "Person", since: "Dabei seit", nobody: "Niemand gehört dazu", nobody_text: "Sobald jemand zur Regel passt, nimmt der nächste Lauf ihn auf.", set_aside: "Das Gateway ist über diesem Segment mehrmals gestürzt und hat es stillgelegt. Ändere die Regel, oder werte es jetzt aus.", uncounted: "Für {events} wurde nie etwas gezählt: Stimmt der Name?", counting: "Zuerst werden vergangene Ereignisse gezählt: {share}. Bis dahin wird es nicht ausgewertet.",
});

const REFRESH_MS = 10_000;
/** The members that are read of what may be millions. */
const SAMPLE = 10;

const iso = (ms: number | null | undefined): string | null => (ms === null || ms === undefined ? null : new Date(ms).toISOString());

export default function SegmentScreen({ params: { site = "", name = "" } }: ScreenProps) {
  const path = parts("segments", site, name);
  const answer = useResource(path, (signal) => api.get<Segment>(path, {}, signal), { every: REFRESH_MS });
  const reveal = useReveal(path);
  const [isBusy, setBusy] = useState(false);
  const it = answer.data;
  const run = async () => {
    setBusy(true);
    await attempt(async () => {
      const { size, added, removed } = await api.post<SegmentRun>("segments/run", { site, segment: name });
      toast(t("ran", { n: size, added, removed }));
    });
    setBusy(false);
    answer.reload();
  };
  const isOpen = can("editor") && it !== null;
  useKeys(isOpen ? [{ keys: "r", text: () => t("run"), run: () => void run() }] : []);
  const [word, tone] = it ? standing(it) : ["", "quiet" as const];
  return (
    <Screen title={name} back={{ href: link("segments", { site }), text: t("back") }}
      lead={it && <><Badge tone={tone}>{word}</Badge> <span class="after">{t("lead", { schedule: it.schedule, site })}</span></>}
      actions={(
        <>
          <Reveal of={reveal} />
          {isOpen && <Button kind="main" icon="replay" disabled={isBusy || it.is_running} onClick={() => void run()}>{isBusy ? t("running") : t("run")}</Button>}
        </>
      )}>
      <Loaded from={answer}>
        {(segment) => (
          <>
            <Notices it={segment} />
            <Size it={segment} />
            <div class="grid">
              <Card title={t("rule")} aside={segment.by === "group" && t("by_group")}><RuleWords rule={segment.where} /></Card>
              <Sample path={path} isShown={reveal.isShown} site={site} version={segment.ran?.at_ms ?? 0} />
            </div>
            <Syncs it={segment} />
          </>
        )}
      </Loaded>
    </Screen>
  );
}

function Notices({ it }: { it: Segment }) {
  const rows = [
    it.is_set_aside && <Notice key="aside" tone="bad">{t("set_aside")}</Notice>,
    it.uncounted.length > 0 && <Notice key="uncounted" tone="warn">{t("uncounted", { events: it.uncounted.join(", ") })}</Notice>,
    it.counting && !it.counting.is_filled && <Notice key="counting" tone="info">{t("counting", { share: share(it.counting.share) })}</Notice>,
  ].filter(Boolean);
  return rows.length > 0 ? <div class="notices">{rows}</div> : null;
}

function Size({ it }: { it: Segment }) {
  const { ran } = it;
  const took = ran && (ran.took_ms < 1000 ? milliseconds(ran.took_ms) : duration(ran.took_ms / 1000));
  return (
    <Card>
      <div class="figures">
        <Figure label={t("people")} value={count(it.members)} />
        <Figure label={t("joined")} value={ran ? `+${count(ran.added)}` : "–"} note={t("at_last")} />
        <Figure label={t("left")} value={ran ? `−${count(ran.removed)}` : "–"} note={t("at_last")} />
        <Figure label={t("last")} value={<Time at={iso(ran?.at_ms)} />} note={took && t("took", { time: took })} />
        <Figure label={t("next")} value={<Time at={iso(it.due_ms)} />} />
      </div>
      {it.trend.length > 1 && (
        <figure class="trend">
          <figcaption class="muted">{t("trend", { n: it.trend.length })}</figcaption>
          <Trend of={it} height={72} />
          <div class="ends muted"><span>{count(it.trend[0]?.size ?? 0)} · {date(it.trend[0]?.at_ms ?? 0)}</span><span>{count(it.trend.at(-1)?.size ?? 0)} · {date(it.trend.at(-1)?.at_ms ?? 0)}</span></div>
        </figure>
      )}
    </Card>
  );
}

function stand(it: SegmentSync): [word: string, tone: "good" | "warn" | "bad" | "wait"] {
  if (it.problem) return [it.problem, "bad"];
  if (it.stand === "drains") return [t("drains"), "wait"];
  if (it.stand === "abandoned") return [t("abandoned"), "bad"];
  return it.synced_ms === null ? [t("waits"), "wait"] : [t("follows"), "good"];
}

function Syncs({ it }: { it: Segment }) {
  return (
    <Card title={t("syncs")}>
      {it.syncs.length === 0 ? <p class="muted">{t("no_syncs")}</p> : (
        <Table caption={t("syncs")} rows={it.syncs} rowKey={(sync) => `${sync.destination}/${sync.kind}`} href={(sync) => link(["destinations", it.site, sync.destination])}
          columns={[
            { head: t("destination"), cell: (sync) => sync.destination },
            { head: t("state"), cell: (sync) => { const [word, tone] = stand(sync); return <Badge tone={tone}>{word}</Badge>; } },
            { head: t("kind"), cell: (sync) => <><span class="nowrap">{sync.kind === "list" ? t("list") : t("events")}</span> {sync.list && <code class="code">{sync.list}</code>}</> },
            { head: t("has"), isNumber: true, cell: (sync) => count(sync.size) },
            { head: t("left_out"), cell: (sync) => <LeftOut it={sync} /> },
            { head: t("synced"), isNumber: true, cell: (sync) => <Time at={iso(sync.synced_ms)} /> },
          ]} />
      )}
    </Card>
  );
}

function LeftOut({ it }: { it: SegmentSync }) {
  const rows = Object.entries(it.left_out).filter(([, people]) => people > 0);
  if (rows.length === 0 && it.stuck === 0) return <span class="muted">–</span>;
  return (
    <>
      {rows.map(([code, people]) => <span key={code} class="block">{count(people)}: {reason(code)}</span>)}
      {it.stuck > 0 && <span class="block">{t("removals", { n: it.stuck })}</span>}
    </>
  );
}

/** Reads the beginning of what may be long. */
async function sample(path: string, reveal: boolean, signal: AbortSignal): Promise<SegmentMember[]> {
  const enough = new AbortController();
  signal.addEventListener("abort", () => enough.abort());
  const found: SegmentMember[] = [];
  for await (const rows of lines<SegmentMember>(`${path}/members`, { reveal }, enough.signal)) {
    found.push(...rows.filter((row) => !row.error));
    if (found.length >= SAMPLE) break;
  }
  enough.abort();
  return found.slice(0, SAMPLE);
}

function Sample({ path, isShown, site, version }: { path: string; isShown: boolean; site: string; version: number }) {
  const members = useResource(`${path}/${isShown}/${version}`, (signal) => sample(path, isShown, signal));
  const rows = members.data ?? [];
  return (
    <Card title={t("sample")} aside={rows.length > 0 && t("sample_note", { n: rows.length })}>
      {members.fault?.status === 403 ? <Fault fault={members.fault} /> : (
        <Loaded from={members}>
          {() => (rows.length === 0 ? <Empty icon="people" title={t("nobody")}>{t("nobody_text")}</Empty> : (
            <Table caption={t("sample")} rows={rows} rowKey={(row) => row.profile} href={(row) => link(["profiles", site, row.profile])}
              columns={[
                { head: t("person"), isWide: true, cell: (row) => <Member it={row} /> },
                { head: t("since"), isNumber: true, cell: (row) => <Time at={row.since} /> },
              ]} />
          ))}
        </Loaded>
      )}
    </Card>
  );
}

function Member({ it }: { it: SegmentMember }) {
  const email = it.traits?.["email"];
  const names = [it.user_id, typeof email === "string" ? email : null].filter(Boolean);
  return <>{names.length > 0 ? names.join(" · ") : spoken(String(it.profile))}</>;
}
