// The delivery of a destination: what became of its events, how fast, and why not.

import { api, parts, type Destination, type OutcomeRow, type Series } from "../api";
import { count, milliseconds, part, short } from "../format";
import { texts } from "../i18n";
import { useResource } from "../resource";
import { link, param } from "../router";
import { Badge, Card, CodeBlock, Figure, Reason, Time } from "../ui/basics";
import { Meter, StackedBars, type Stack } from "../ui/charts";
import { JsonView, parsed } from "../ui/json";
import { Empty, Loaded } from "../ui/page";
import { Table } from "../ui/table";
import { outcome, reason, spoken, type Tone } from "../words";
import { gist } from "./gist";

const t = texts({
  sent: "Sent", skipped: "Skipped", failed: "Failed", waiting: "Waiting", held: "Held for consent", oldest: "oldest", none: "nothing waits", time: "Typical time", slowest: "slowest 1 %: {time}", calls: "of {n} {n|call|calls}", all_time: "since the start",
  over_time: "Over time", range: "Range", "1h": "1 hour", "6h": "6 hours", "24h": "24 hours", "7d": "7 days", "30d": "30 days", became: "What became of the events", outcome: "Outcome", events: "Events", share: "Share",
  quiet: "No event came in this time", quiet_text: "Choose a longer range, or send a test event.", last_error: "The last error", no_error: "No error since the start.", reply: "Reply of the vendor", status: "Status {status}", no_reply: "no reply", see_dead: "See what failed",
}, {
  sent: "Gesendet", skipped: "Übersprungen", failed: "Gescheitert", waiting: "Wartend", held: "Zurückgehalten", oldest: "ältestes", none: "nichts wartet", time: "Übliche Dauer", slowest: "langsamstes 1 %: {time}", calls: "aus {n} {n|Aufruf|Aufrufen}", all_time: "seit Beginn",
  over_time: "Im Verlauf", range: "Zeitraum", "1h": "1 Stunde", "6h": "6 Stunden", "24h": "24 Stunden", "7d": "7 Tage", "30d": "30 Tage", became: "Was aus den Ereignissen wurde", outcome: "Ausgang", events: "Ereignisse", share: "Anteil",
  quiet: "In dieser Zeit kam kein Ereignis", quiet_text: "Wähle einen längeren Zeitraum, oder sende ein Testereignis.", last_error: "Der letzte Fehler", no_error: "Kein Fehler seit dem Start.", reply: "Antwort des Anbieters", status: "Status {status}", no_reply: "keine Antwort", see_dead: "Ansehen, was scheiterte",
});

const RANGES = ["1h", "6h", "24h", "7d", "30d"] as const;
type Range = (typeof RANGES)[number];

const MEASURES: readonly [measure: string, tone: Tone][] = [["delivered", "good"], ["skipped", "quiet"], ["dead", "bad"]];

export function Health({ it }: { it: Destination }) {
  const given = param("range");
  const range: Range = RANGES.find((name) => name === given) ?? "24h";
  const { ledger, latency } = it;
  return (
    <>
      <Card>
        <div class="figures">
          <Figure label={t("sent")} value={short(ledger.delivered)} note={t("all_time")} />
          <Figure label={t("skipped")} value={short(ledger.skipped)} note={t("all_time")} />
          <Figure label={t("failed")} value={short(ledger.dead)} tone={ledger.dead > 0 ? "bad" : undefined} href={ledger.dead > 0 ? link("dead", { site: it.site, destination: it.destination }) : undefined} note={ledger.dead > 0 && t("see_dead")} />
          <Figure label={t("waiting")} value={short(ledger.pending)} tone={ledger.pending > 0 ? "wait" : undefined} note={it.oldest_pending_at ? <>{t("oldest")} <Time at={it.oldest_pending_at} /></> : t("none")} />
          {ledger.held > 0 && <Figure label={t("held")} value={short(ledger.held)} />}
          <Figure label={t("time")} value={latency ? milliseconds(latency.p50_ms) : "–"} note={latency && <>{t("slowest", { time: milliseconds(latency.p99_ms) })}, {t("calls", { n: latency.count })}</>} />
        </div>
      </Card>
      <OverTime it={it} range={range} />
      <div class="grid halves">
        <Became it={it} range={range} />
        <LastError it={it} />
      </div>
    </>
  );
}

function OverTime({ it, range }: { it: Destination; range: Range }) {
  const path = `${parts("sites", it.site)}/series`;
  const series = useResource(`${path}/${it.destination}/${range}`, (signal) =>
    Promise.all(MEASURES.map(([measure]) => api.get<Series>(path, { measure, range, destination: it.destination }, signal))));
  const ranges = (
    <nav class="choice" aria-label={t("range")}>
      {RANGES.map((name) => (
        <a key={name} href={link(["destinations", it.site, it.destination], { range: name === "24h" ? null : name })} aria-current={name === range ? "true" : undefined}>{t(name)}</a>
      ))}
    </nav>
  );
  return (
    <Card title={t("over_time")} aside={ranges}>
      <Loaded from={series}>
        {(all) => {
          const stacks = all.map(({ series }, index): Stack => {
            const [measure = "", tone = "quiet"] = MEASURES[index] ?? [];
            return { name: outcome(measure).word, tone, points: series[0]?.points ?? [] };
          });
          const [first] = all;
          return first && <StackedBars label={t("over_time")} stacks={stacks} from={first.from} step={first.step_seconds} />;
        }}
      </Loaded>
    </Card>
  );
}

function Became({ it, range }: { it: Destination; range: Range }) {
  const path = `${parts("sites", it.site)}/outcomes`;
  const answer = useResource(`${path}/${range}`, (signal) => api.get<{ rows: OutcomeRow[] }>(path, { range }, signal));
  return (
    <Card title={t("became")} aside={t(range)}>
      <Loaded from={answer}>
        {({ rows }) => {
          const own = rows.filter((row) => row.destination === it.destination && row.count > 0).sort((a, b) => b.count - a.count);
          const sum = own.reduce((all, row) => all + row.count, 0);
          if (sum === 0) return <Empty icon="send" title={t("quiet")}>{t("quiet_text")}</Empty>;
          return (
            <Table caption={t("became")} rows={own} rowKey={(row) => `${row.outcome}/${row.reason}`}
              columns={[
                { head: t("outcome"), isWide: true, cell: (row) => <Outcome row={row} /> },
                { head: t("events"), isNumber: true, cell: (row) => count(row.count) },
                { head: t("share"), isNumber: true, cell: (row) => <Portion value={row.count} of={sum} tone={outcome(row.outcome).tone} /> },
              ]} />
          );
        }}
      </Loaded>
    </Card>
  );
}

function Outcome({ row }: { row: OutcomeRow }) {
  const { word, tone } = outcome(row.outcome);
  if (!row.reason) return <Badge tone={tone}>{word}</Badge>;
  // The words of this console come before the sentence of the gateway, which is English.
  const own = reason(row.reason);
  const why = own === spoken(row.reason) && row.text ? row.text : own;
  return <><span class={`badge wrap ${tone}`}>{word}: {why}</span><code class="code">{row.reason}</code></>;
}

function Portion({ value, of, tone }: { value: number; of: number; tone: Tone }) {
  const text = part(value, of);
  return <span class="portion">{text}<Meter value={value / of} tone={tone} label={text} /></span>;
}

function LastError({ it }: { it: Destination }) {
  const error = it.last_error;
  if (!error) return <Card title={t("last_error")}><p class="muted">{t("no_error")}</p></Card>;
  const reply = parsed(error.reply);
  return (
    <Card title={t("last_error")} aside={<Time at={error.at} />}>
      <div class="stack">
        {gist(error.reply) !== error.reply && <p><b>{gist(error.reply)}</b></p>}
        <p>{error.reason && <Reason code={error.reason} />} <span class="muted nowrap">{error.status === null ? t("no_reply") : t("status", { status: String(error.status) })}</span></p>
        {error.reply !== "" && (typeof reply === "object" ? <JsonView label={t("reply")} value={reply} open={4} /> : <CodeBlock label={t("reply")} text={error.reply} />)}
      </div>
    </Card>
  );
}
