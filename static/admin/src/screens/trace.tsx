// Trace: what do I, with this browser or phone, cause?

import type { ComponentType } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { api, parts, type Trace, type TraceAnswer } from "../api";
import { count, duration, now } from "../format";
import { texts } from "../i18n";
import { FeedRow } from "../live/feedlist";
import { gather } from "../live/rows";
import { asProblem, useResource } from "../resource";
import { go, link, param } from "../router";
import type { ScreenProps } from "../routes";
import { can, site } from "../session";
import { Badge, Button, Card, CodeBlock, Loading, Notice, Outward, Time } from "../ui/basics";
import { Empty, Fault, faultText, Loaded, Screen } from "../ui/page";
import { Table } from "../ui/table";
import { attempt } from "../ui/toast";

const t = texts({
  title: "Trace", lead: "Follow one browser through {site}: every event, with the complete requests to the vendors and their replies.", start: "Trace my browser", phone: "Open this link in the browser that you want to follow, or scan the code with a phone. Then use the shop as a customer would.", link: "Link", open: "Open it here", code: "Code with the link, for a phone",
  known: "Follow a known visitor", known_text: "By user id, anonymous id or e-mail address, without a link.", known_field: "Visitor", follow: "Follow", running: "Running traces", ends: "Ends", visitor: "Visitor", by_link: "whoever opens the link", none: "No trace runs", none_text: "A trace lasts 30 minutes. Nothing is slowed down by it, and nobody else's events are in it.",
  back: "Traces", waiting: "Waiting for the first event of this browser …", left: "ends in {time}", over: "The trace is over. What it found stays until it is deleted.", end: "End the trace", ended: "The trace is deleted.", events: "Events of this browser", found: "Events", missed: "{n} {n|entry|entries} left out: a trace keeps at most 1 MiB.", count: "{n} {n|event|events}", viewer: "Traces need the role of an editor.",
}, {
  title: "Spur", lead: "Folge einem Browser durch {site}: jedes Ereignis, mit den vollständigen Anfragen an die Anbieter und ihren Antworten.", start: "Meinen Browser verfolgen", phone: "Öffne diesen Link in dem Browser, dem du folgen willst, oder scanne den Code mit einem Telefon. Dann benutze den Shop wie eine Kundin.", link: "Link", open: "Hier öffnen", code: "Code mit dem Link, für ein Telefon",
  known: "Einem bekannten Besucher folgen", known_text: "Nach User-ID, Anonymous-ID oder E-Mail-Adresse, ohne Link.", known_field: "Besucher", follow: "Folgen", running: "Laufende Spuren", ends: "Endet", visitor: "Besucher", by_link: "wer den Link öffnet", none: "Keine Spur läuft", none_text: "Eine Spur dauert 30 Minuten. Sie bremst nichts, und Ereignisse anderer sind nicht darin.",
  back: "Spuren", waiting: "Wartet auf das erste Ereignis dieses Browsers …", left: "endet in {time}", over: "Die Spur ist zu Ende. Was sie fand, bleibt, bis sie gelöscht wird.", end: "Spur beenden", ended: "Die Spur ist gelöscht.", events: "Ereignisse dieses Browsers", found: "Ereignisse", missed: "{n} {n|Eintrag|Einträge} ausgelassen: Eine Spur behält höchstens 1 MiB.", count: "{n} {n|Ereignis|Ereignisse}", viewer: "Spuren brauchen die Rolle eines Bearbeiters.",
});

const REFRESH_MS = 1_500;

export default function TraceScreen({ params }: ScreenProps) {
  if (!can("editor")) return <Screen title={t("title")}><Empty icon="trace" title={t("viewer")} /></Screen>;
  return params["id"] ? <One key={params["id"]} id={params["id"]} /> : <List />;
}

function List() {
  const traces = useResource("traces", (signal) => api.get<{ rows: Trace[] }>("traces", {}, signal));
  const [visitor, setVisitor] = useState(param("visitor"));
  const start = (of: string | null) => attempt(async () => {
    const trace = await api.post<Trace>("traces", { site: site.value, ...(of && { visitor: of }) });
    go(link(["trace", trace.id]));
  });
  return (
    <Screen title={t("title")} lead={t("lead", { site: site.value })} actions={<Button kind="main" icon="trace" onClick={() => void start(null)}>{t("start")}</Button>}>
      <Loaded from={traces}>
        {({ rows }) => rows.length > 0 ? (
          <Card title={t("running")}>
            <Table caption={t("running")} rows={rows} rowKey={(row) => row.id} href={(row) => link(["trace", row.id])} columns={[
              { head: t("title"), cell: (row) => <span class="mono">{row.id}</span> },
              { head: t("visitor"), cell: (row) => row.visitor ?? t("by_link"), isWide: true },
              { head: t("ends"), cell: (row) => <Time at={row.expires_at} /> },
              { head: t("found"), cell: (row) => count(row.events), isNumber: true },
            ]} />
          </Card>
        ) : <Card><Empty icon="trace" title={t("none")}>{t("none_text")}</Empty></Card>}
      </Loaded>
      <Card title={t("known")} aside={t("known_text")}>
        <form class="find" onSubmit={(event) => { event.preventDefault(); if (visitor.trim()) void start(visitor.trim()); }}>
          <label><span class="sr">{t("known_field")}</span>
            <input type="text" list={undefined} value={visitor} placeholder={t("known_field")} autocomplete="off" spellcheck={false} onInput={(event) => setVisitor(event.currentTarget.value)} />
          </label>
          <Button type="submit">{t("follow")}</Button>
        </form>
      </Card>
    </Screen>
  );
}

function One({ id }: { id: string }) {
  const found = useResource(id, (signal) => api.get<TraceAnswer>(parts("traces", id), {}, signal), { every: REFRESH_MS });
  const [open, setOpen] = useState<string | null>(null);
  const rows = useMemo(() => gather(found.data?.happenings ?? []), [found.data]);
  const back = { href: link("trace"), text: t("back") };
  if (found.fault && !found.data) return <Screen title={t("title")} back={back}><Fault fault={found.fault} /></Screen>;
  if (!found.data) return <Loading />;
  const trace = found.data;
  const seconds = (new Date(trace.expires_at).getTime() - now.value) / 1000;
  const end = () => attempt(async () => {
    await api.delete(parts("traces", id));
    go(link("trace"));
  }, t("ended"));
  return (
    <Screen title={t("title")} back={back} actions={<Button icon="stop" onClick={() => void end()}>{t("end")}</Button>}
      lead={<><Badge tone={seconds > 0 ? "good" : "quiet"}>{seconds > 0 ? t("left", { time: duration(Math.max(60, Math.round(seconds / 60) * 60)) }) : t("over")}</Badge> · {t("count", { n: rows.length })}</>}>
      {found.fault && <Notice tone="warn">{faultText(asProblem(found.fault))}</Notice>}
      {trace.missed > 0 && <Notice tone="warn">{t("missed", { n: trace.missed })}</Notice>}
      {trace.link && rows.length === 0 && (
        <Card>
          <div class="trace-start">
            <Qr text={trace.link} />
            <div>
              <p>{t("phone")}</p>
              <CodeBlock label={t("link")} text={trace.link} />
              <Outward href={trace.link}>{t("open")}</Outward>
              <p class="pulse" role="status">{t("waiting")}</p>
            </div>
          </div>
        </Card>
      )}
      {!trace.link && rows.length === 0 && <Card><p class="pulse" role="status">{t("waiting")}</p></Card>}
      {rows.length > 0 && (
        <ol class="feed card" aria-label={t("events")}>
          {rows.map((row) => <FeedRow key={row.id} row={row} isOpen={open === row.id} toggle={() => setOpen(open === row.id ? null : row.id)} />)}
        </ol>
      )}
    </Screen>
  );
}

/** The code that phones read; its library is loaded with it. */
function Qr({ text }: { text: string }) {
  const [Code, setCode] = useState<ComponentType<{ text: string; label: string }> | null>(null);
  useEffect(() => {
    void import("../live/qr").then(({ QrCode }) => setCode(() => QrCode));
  }, []);
  return Code ? <Code text={text} label={t("code")} /> : <Loading />;
}
