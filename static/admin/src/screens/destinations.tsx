// Destinations: does each of them get its events?

import { useState } from "preact/hooks";
import { api, parts, type Destination, type Page, type Series } from "../api";
import { count, milliseconds } from "../format";
import { texts } from "../i18n";
import { useResource } from "../resource";
import { link } from "../router";
import type { ScreenProps } from "../routes";
import { site } from "../session";
import { Card, CodeBlock, StateBadge, Time } from "../ui/basics";
import { Sparkline } from "../ui/charts";
import { Empty, Loaded, Screen } from "../ui/page";
import { Table } from "../ui/table";
import { vendor } from "../words";

const t = texts({
  title: "Destinations", lead: "The vendors that get the events of {site}, and how that goes.", destination: "Destination", state: "State", day: "Sent, last 24 hours", sent: "Sent",
  skipped: "Skipped", failed: "Failed", waiting: "Waiting", oldest: "oldest", time: "Typical time", empty: "No destination gets events of {site} yet",
  empty_text: "Add one to the file tagway.toml, in the section of the site. The gateway reads it at the next reload.", vendor: "Vendor", toml: "For tagway.toml",
}, {
  title: "Ziele", lead: "Die Anbieter, die Ereignisse von {site} bekommen, und wie das gelingt.", destination: "Ziel", state: "Zustand", day: "Gesendet, letzte 24 Stunden", sent: "Gesendet",
  skipped: "Übersprungen", failed: "Gescheitert", waiting: "Wartend", oldest: "ältestes", time: "Übliche Dauer", empty: "Noch bekommt kein Ziel Ereignisse von {site}",
  empty_text: "Füge eines in die Datei tagway.toml ein, in den Abschnitt der Site. Das Gateway liest sie beim nächsten Neuladen.", vendor: "Anbieter", toml: "Für die tagway.toml",
});

const REFRESH_MS = 10_000;

/** The states that need no look, last. */
const rank = (it: Destination): number => (it.state === "running" ? (it.credentials === "refused" ? 0 : 2) : it.state === "paused" ? 1 : 0);

export default function Destinations(_: ScreenProps) {
  const name = site.value;
  const answer = useResource(name || null, (signal) => api.get<Page<Destination>>("destinations", { site: name }, signal), { every: REFRESH_MS });
  const series = useResource(name || null, (signal) => api.get<Series>(`${parts("sites", name)}/series`, { measure: "delivered", range: "24h" }, signal));
  return (
    <Screen title={t("title")} lead={t("lead", { site: name })}>
      <Loaded from={answer}>
        {({ rows }) => {
          // The gateway lists the destinations of all sites that the caller sees.
          const shown = rows.filter((it) => it.site === name).sort((a, b) => rank(a) - rank(b));
          return shown.length > 0 ? <Card><List rows={shown} series={series.data} /></Card> : <First name={name} />;
        }}
      </Loaded>
    </Screen>
  );
}

function List({ rows, series }: { rows: Destination[]; series: Series | null }) {
  const points = (row: Destination) => series?.series.find((it) => it.destination === row.destination)?.points;
  return (
    <Table caption={t("title")} rows={rows} rowKey={(row) => `${row.site}/${row.destination}`} href={(row) => link(["destinations", row.site, row.destination])}
      columns={[
        { head: t("destination"), cell: (row) => <>{row.destination}{vendor(row.vendor).toLowerCase() !== row.destination && <small class="block plain muted">{vendor(row.vendor)}</small>}</> },
        { head: t("state"), cell: (row) => <><StateBadge code={row.credentials === "refused" && row.state === "running" ? "unauthorised" : row.state} />{row.state === "running" ? null : <small class="block muted">{row.paused?.why || row.reason}</small>}</> },
        { head: t("day"), isMinor: true, cell: (row) => { const own = points(row); return own && series ? <span class="spark"><Sparkline points={own} from={series.from} step={series.step_seconds} label={t("day")} tone="good" height={24} bare /></span> : null; } },
        { head: t("sent"), isNumber: true, cell: (row) => count(row.ledger.delivered) },
        { head: t("skipped"), isNumber: true, cell: (row) => count(row.ledger.skipped) },
        { head: t("failed"), isNumber: true, cell: (row) => (row.ledger.dead > 0 ? <a href={link("dead", { site: row.site, destination: row.destination })}>{count(row.ledger.dead)}</a> : count(0)) },
        { head: t("waiting"), isNumber: true, cell: (row) => <>{count(row.ledger.pending + row.ledger.held)}{row.oldest_pending_at && <small class="block muted">{t("oldest")} <Time at={row.oldest_pending_at} /></small>}</> },
        { head: t("time"), isNumber: true, isMinor: true, cell: (row) => (row.latency ? milliseconds(row.latency.p50_ms) : "–") },
      ]} />
  );
}

/** The least that the vendors need; secrets stay in the environment. */
const SECTIONS: readonly [vendor: string, consent: string | null, settings: readonly string[]][] = [
  ["ga4", "analytics", ['measurement_id = "G-ABC123"', 'api_secret = "${GA4_SECRET}"']],
  ["meta", "advertising", ['pixel_id = "1234567890"', 'access_token = "${META_TOKEN}"']],
  ["mixpanel", "analytics", ['project_token = "${MIXPANEL_TOKEN}"']],
  ["amplitude", "analytics", ['api_key = "${AMPLITUDE_KEY}"']],
  ["klaviyo", "marketing", ['api_key = "${KLAVIYO_KEY}"']],
  ["webhook", null, ['url = "https://crm.example/in"', 'secret = "${HOOK_SECRET}"']],
];

function First({ name }: { name: string }) {
  const [chosen, choose] = useState("ga4");
  const [, consent, settings] = SECTIONS.find(([it]) => it === chosen) ?? [chosen, null, []];
  const toml = [
    "[[sites.destinations]]", `name = "${chosen}"`, `vendor = "${chosen}"`, ...(consent ? [`consent = ["${consent}"]`] : []),
    "[sites.destinations.settings]", ...settings,
  ].join("\n");
  return (
    <Card>
      <Empty icon="send" title={t("empty", { site: name })}>
        <p>{t("empty_text")}</p>
        <div class="first-destination">
          <label class="field"><span>{t("vendor")}</span>
            <select value={chosen} onChange={(event) => choose(event.currentTarget.value)}>
              {SECTIONS.map(([it]) => <option key={it} value={it}>{vendor(it)}</option>)}
            </select>
          </label>
          <CodeBlock label={t("toml")} text={toml} />
        </div>
      </Empty>
    </Card>
  );
}
