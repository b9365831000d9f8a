// Home: does everything that came in also get out?

import { api, parts, type Series, type SiteOverview } from "../api";
import { count, decimal, short } from "../format";
import { texts } from "../i18n";
import { useResource } from "../resource";
import { link } from "../router";
import type { ScreenProps } from "../routes";
import { site } from "../session";
import { Badge, Card, CodeBlock, Figure, LinkButton, Notice, StateBadge, Time } from "../ui/basics";
import { ShareBar, StackedBars, type Stack } from "../ui/charts";
import { Empty, Loaded, Screen } from "../ui/page";
import { Table } from "../ui/table";
import { outcome, severity, vendor, type Tone } from "../words";

const t = texts({
  title: "Home", lead: "What came in from {hosts}, and what became of it.", live: "Watch live", a_minute: "Events a minute", sent: "Sent", failed: "Failed", waiting: "On its way",
  oldest: "oldest", no_oldest: "nothing waits", balance: "Every delivery is accounted for", balance_note: "Each event is counted once for each destination.", unbalanced: "The numbers do not add up", day: "The last 24 hours", everywhere: "all destinations together", destinations: "Destinations", destination: "Destination", state: "State",
  pending: "Waiting", dead: "Failed", segments: "Segments", segment: "Segment", size: "People", ran: "Last run", late: "late", on_time: "on time", scripts: "{n} {n|vendor script waits|vendor scripts wait} for your approval", look: "Look at it",
  ready: "The gateway takes no traffic: {reasons}", steps: "Three steps to the first event", step1: "Put the snippet into your pages", step1_text: "Before the first script of the page. It is the only change that your pages need.", step2: "Open a page of the site", step2_text: "The event shows up here by itself, within a second.", step2_wait: "Waiting for the first event …",
  step3: "Connect a destination", step3_text: "Name a vendor in tagway.toml, for example Google Analytics or Meta; the gateway reads it at the next reload.", snippet: "Snippet", warnings: "{n} {n|remark|remarks} about the configuration", since: "since", no_site: "There is no site to see", no_site_text: "Either tagway.toml names none, or your account may see none: an admin can change that.",
}, {
  title: "Start", lead: "Was von {hosts} kam, und was daraus wurde.", live: "Live ansehen", a_minute: "Ereignisse pro Minute", sent: "Gesendet", failed: "Gescheitert", waiting: "Unterwegs",
  oldest: "ältestes", no_oldest: "nichts wartet", balance: "Jede Zustellung ist verbucht", balance_note: "Jedes Ereignis zählt für jedes Ziel einmal.", unbalanced: "Die Zahlen gehen nicht auf", day: "Die letzten 24 Stunden", everywhere: "alle Ziele zusammen", destinations: "Ziele", destination: "Ziel", state: "Zustand",
  pending: "Wartend", dead: "Gescheitert", segments: "Segmente", segment: "Segment", size: "Personen", ran: "Letzter Lauf", late: "überfällig", on_time: "pünktlich", scripts: "{n} {n|Anbieterskript wartet|Anbieterskripte warten} auf deine Freigabe", look: "Ansehen",
  ready: "Das Gateway nimmt nichts an: {reasons}", steps: "Drei Schritte zum ersten Ereignis", step1: "Setze das Snippet in deine Seiten", step1_text: "Vor das erste Skript der Seite. Mehr musst du an deinen Seiten nicht ändern.", step2: "Öffne eine Seite der Site", step2_text: "Das Ereignis erscheint hier von selbst, binnen einer Sekunde.", step2_wait: "Wartet auf das erste Ereignis …",
  step3: "Verbinde ein Ziel", step3_text: "Nenne einen Anbieter in der tagway.toml, etwa Google Analytics oder Meta; das Gateway liest sie beim nächsten Neuladen.", snippet: "Snippet", warnings: "{n} {n|Hinweis|Hinweise} zur Konfiguration", since: "seit", no_site: "Hier ist keine Site zu sehen", no_site_text: "Entweder nennt die tagway.toml keine, oder dein Konto darf keine sehen: Das kann ein Verwalter ändern.",
});

const REFRESH_MS = 10_000;

export default function Home(_: ScreenProps) {
  const name = site.value;
  const overview = useResource(name || null, (signal) => api.get<SiteOverview>(`${parts("sites", name)}/overview`, {}, signal), { every: REFRESH_MS });
  if (!name) return <Screen title={t("title")}><Empty title={t("no_site")}>{t("no_site_text")}</Empty></Screen>;
  return <Loaded from={overview}>{(it) => (it.has_events ? <Running it={it} /> : <Beginning it={it} />)}</Loaded>;
}

/** The hosts of the site; a site for all hosts has its own name only. */
const names = (it: SiteOverview) => it.hosts.filter((host) => host !== "*").join(", ") || it.site;

const problems = (row: SiteOverview["destinations"][number]) => (row.state === "running" ? 0 : 1);

function Running({ it }: { it: SiteOverview }) {
  const destinations = [...it.destinations].sort((a, b) => problems(b) - problems(a));
  return (
    <Screen title={t("title")} lead={t("lead", { hosts: names(it) })}
      actions={<LinkButton href={link("live", { site: it.site })} icon="live" kind="main">{t("live")}</LinkButton>}>
      <Notices it={it} />
      <Card>
        <div class="figures">
          <Figure label={t("a_minute")} value={decimal(it.events_per_minute)} />
          <Figure label={t("sent")} value={short(it.delivered)} />
          <Figure label={t("waiting")} value={short(it.pending + it.held)} href={link("destinations", { site: it.site })} tone={it.pending > 0 ? "wait" : undefined}
            note={it.oldest_pending_at ? <>{t("oldest")} <Time at={it.oldest_pending_at} /></> : t("no_oldest")} />
          <Figure label={t("failed")} value={short(it.dead)} href={link("dead", { site: it.site })} tone={it.dead > 0 ? "bad" : undefined} />
        </div>
      </Card>
      <Day name={it.site} />
      <Card title={it.balanced ? t("balance") : t("unbalanced")} aside={t("balance_note")}>
        <ShareBar label={t("balance")} parts={[
          { label: outcome("delivered").word, tone: "good", value: it.delivered },
          { label: outcome("skipped").word, tone: "quiet", value: it.skipped },
          { label: outcome("dead").word, tone: "bad", value: it.dead, href: link("dead", { site: it.site }) },
          { label: outcome("pending").word, tone: "wait", value: it.pending },
          { label: outcome("held").word, tone: "info", value: it.held },
        ]} />
      </Card>
      <div class="grid">
        <Card title={t("destinations")}>
          <Table caption={t("destinations")} rows={destinations} rowKey={(row) => row.destination} href={(row) => link(["destinations", it.site, row.destination])}
            columns={[
              { head: t("destination"), cell: (row) => <>{row.destination} {vendor(row.vendor).toLowerCase() !== row.destination && <small class="muted">{vendor(row.vendor)}</small>}</> },
              { head: t("state"), cell: (row) => <StateBadge code={row.state} /> },
              { head: t("pending"), isNumber: true, cell: (row) => count(row.pending) },
              { head: t("dead"), isNumber: true, cell: (row) => count(row.dead) },
            ]} />
        </Card>
        {it.segments.length > 0 && (
          <Card title={t("segments")}>
            <Table caption={t("segments")} rows={it.segments} rowKey={(row) => row.segment} href={(row) => link(["segments", it.site, row.segment])}
              columns={[
                { head: t("segment"), cell: (row) => row.segment },
                { head: t("state"), cell: (row) => <Badge tone={row.late ? "warn" : "good"}>{row.late ? t("late") : t("on_time")}</Badge> },
                { head: t("ran"), cell: (row) => <Time at={row.last_run_at} /> },
                { head: t("size"), isNumber: true, cell: (row) => count(row.size) },
              ]} />
          </Card>
        )}
      </div>
    </Screen>
  );
}

function Notices({ it }: { it: SiteOverview }) {
  const rows = [
    it.readiness.length > 0 && <Notice key="ready" tone="bad">{t("ready", { reasons: it.readiness.join(", ") })}</Notice>,
    ...it.alerts.map((alert) => (
      <Notice key={alert.id} tone={alert.severity === "page" ? "bad" : "warn"} action={/^#\//.test(alert.link) && <a class="nowrap" href={alert.link}>{t("look")}</a>}>
        <b>{alert.title}</b> <small class="muted">{severity(alert.severity)}, {t("since")} <Time at={alert.since} /></small><br />{alert.text}
      </Notice>
    )),
    it.scripts_waiting > 0 && <Notice key="scripts" tone="info" action={<a class="nowrap" href={link("scripts")}>{t("look")}</a>}>{t("scripts", { n: it.scripts_waiting })}</Notice>,
    it.warnings.length > 0 && (
      <Notice key="warnings" tone="quiet" action={<a class="nowrap" href={link("settings")}>{t("look")}</a>}>{t("warnings", { n: it.warnings.length })}</Notice>
    ),
  ].filter(Boolean);
  return rows.length > 0 ? <div class="notices">{rows}</div> : null;
}

const MEASURES: readonly [measure: string, tone: Tone][] = [["delivered", "good"], ["skipped", "quiet"], ["dead", "bad"]];

function Day({ name }: { name: string }) {
  const series = useResource(name, (signal) =>
    Promise.all(MEASURES.map(([measure]) => api.get<Series>(`${parts("sites", name)}/series`, { measure, range: "24h" }, signal))));
  return (
    <Card title={t("day")} aside={t("everywhere")}>
      <Loaded from={series}>
        {(all) => {
          const stacks = all.map(({ series }, index): Stack => {
            const [measure = "", tone = "quiet"] = MEASURES[index] ?? [];
            const length = Math.max(0, ...series.map((it) => it.points.length));
            const points = Array.from({ length }, (_, at) => series.reduce((sum, it) => sum + (it.points[at] ?? 0), 0));
            return { name: outcome(measure).word, tone, points };
          });
          const [first] = all;
          return first && <StackedBars label={t("day")} stacks={stacks} from={first.from} step={first.step_seconds} />;
        }}
      </Loaded>
    </Card>
  );
}

const EXAMPLE = `[[sites.destinations]]
name = "ga4"
vendor = "ga4"

[sites.destinations.settings]
measurement_id = "G-XXXXXXX"
api_secret = "\${GA4_API_SECRET}"`;

function Beginning({ it }: { it: SiteOverview }) {
  return (
    <Screen title={t("steps")} lead={names(it)}>
      <ol class="steps">
        <li class="card"><h2>{t("step1")}</h2><p class="muted">{t("step1_text")}</p><CodeBlock label={t("snippet")} text={it.snippet} /></li>
        <li class="card"><h2>{t("step2")}</h2><p class="muted">{t("step2_text")}</p><p class="pulse" role="status">{t("step2_wait")}</p>
          <p><LinkButton href={link("live", { site: it.site })} icon="live">{t("live")}</LinkButton></p></li>
        <li class="card"><h2>{t("step3")}</h2><p class="muted">{t("step3_text")}</p>
          {it.destinations.length > 0 ? <p class="tags">{it.destinations.map((row) => <span key={row.destination} class="tag">{row.destination}</span>)}</p> : <CodeBlock label="tagway.toml" text={EXAMPLE} />}</li>
      </ol>
    </Screen>
  );
}
