// Alerts: what needs somebody now, what was, and who is told?

import { useState } from "preact/hooks";
import { api, type Alert, type AlertRule, type Page } from "../api";
import { foreign } from "../delivery/advice";
import { kindWords, limitWords } from "../delivery/measure";
import { duration } from "../format";
import { texts } from "../i18n";
import { asProblem, usePages, useResource } from "../resource";
import { link, param } from "../router";
import type { ScreenProps } from "../routes";
import { can } from "../session";
import { Badge, Button, Card, More, Notice, Tabs, Time } from "../ui/basics";
import { Empty, Fault, faultText, Loaded, Screen } from "../ui/page";
import { Table } from "../ui/table";
import { severity } from "../words";

const t = texts({
  title: "Alerts", lead: "What the gateway watches over by itself, and whom it tells.", now: "Now", past: "History", rules: "Rules", channels: "Channels", parts: "Parts", alert: "Alert", about: "About", since: "Since", lasted: "Lasted", ended: "Ended", urgency: "Urgency", told: "Told", seen: "seen by {name}", quiet: "Nothing is wrong", quiet_text: "No rule is broken. The rules say what is watched.", see_rules: "See the rules",
  no_past: "No alert has ended yet", no_past_text: "Alerts that are over are listed here.", rule: "Rule", when: "Fires when", goes: "Tells", off: "off", default: "default", file: "tagway.toml", source: "Set by", everywhere: "everything", nobody: "nobody", channel: "Channel", test: "Send a test", testing: "Sending …", arrived: "The test arrived.", failed: "The test did not arrive: {why}", last: "Last message", never: "none yet", used: "Used by", all_rules: "{n} {n|rule|rules}",
  no_channels: "Nobody is told yet", no_channels_text: "Add a channel to tagway.toml: a webhook, Slack, or e-mail. Until then alerts are only shown here.", error: "did not arrive", gateway: "the gateway",
}, {
  title: "Warnungen", lead: "Worüber das Gateway von selbst wacht, und wem es Bescheid gibt.", now: "Jetzt", past: "Verlauf", rules: "Regeln", channels: "Kanäle", parts: "Teile", alert: "Warnung", about: "Betrifft", since: "Seit", lasted: "Dauerte", ended: "Vorbei", urgency: "Dringlichkeit", told: "Gemeldet", seen: "gesehen von {name}", quiet: "Alles in Ordnung", quiet_text: "Keine Regel ist verletzt. Die Regeln sagen, worüber gewacht wird.", see_rules: "Zu den Regeln",
  no_past: "Noch keine Warnung ist vorbei", no_past_text: "Vergangene Warnungen stehen hier.", rule: "Regel", when: "Meldet sich", goes: "Meldet an", off: "aus", default: "Vorgabe", file: "tagway.toml", source: "Gesetzt durch", everywhere: "alles", nobody: "niemanden", channel: "Kanal", test: "Test senden", testing: "Sendet …", arrived: "Der Test kam an.", failed: "Der Test kam nicht an: {why}", last: "Letzte Nachricht", never: "noch keine", used: "Benutzt von", all_rules: "{n} {n|Regel|Regeln}",
  no_channels: "Noch erfährt niemand davon", no_channels_text: "Füge der tagway.toml einen Kanal hinzu: einen Webhook, Slack oder E-Mail. Bis dahin stehen Warnungen nur hier.", error: "kam nicht an", gateway: "das Gateway",
});

const TABS = ["now", "past", "rules", "channels"] as const;
const REFRESH_MS = 10_000;

export default function Alerts(_: ScreenProps) {
  const given = param("tab");
  const tab = TABS.find((it) => it === given) ?? "now";
  return (
    <Screen title={t("title")} lead={t("lead")}>
      <Tabs label={t("parts")} tabs={TABS.map((it) => ({ href: link("alerts", { tab: it === "now" ? null : it }), text: t(it), isCurrent: it === tab }))} />
      {tab === "now" ? <Now /> : tab === "past" ? <Past /> : <Watch tab={tab} />}
    </Screen>
  );
}

const about = (it: { site: string | null; destination: string | null }): string =>
  [it.site, it.destination].filter(Boolean).join(" / ") || t("gateway");

/** The words of an alert are the gateway's, which are English. */
const Title = ({ it }: { it: Alert }) => <span lang={foreign()}>{it.title}</span>;

const Severity = ({ code }: { code: Alert["severity"] }) => <Badge tone={code === "page" ? "bad" : "warn"}>{severity(code)}</Badge>;

function Now() {
  const answer = useResource("alerts", (signal) => api.get<Page<Alert>>("alerts", {}, signal), { every: REFRESH_MS });
  return (
    <Loaded from={answer}>
      {({ rows }) => {
        const firing = rows.filter((it) => it.state === "firing").sort((a, b) => Number(b.severity === "page") - Number(a.severity === "page"));
        return (
          <Card>
            {firing.length === 0 ? <Empty icon="check" title={t("quiet")} action={<a class="button" href={link("alerts", { tab: "rules" })}>{t("see_rules")}</a>}>{t("quiet_text")}</Empty> : (
              <Table caption={t("now")} rows={firing} rowKey={(it) => it.id} href={(it) => link(["alerts", it.id])}
                columns={[
                  { head: t("alert"), isWide: true, cell: (it) => <><Title it={it} />{it.acknowledged && <small class="block muted">{t("seen", { name: it.acknowledged.by })}</small>}</> },
                  { head: t("about"), cell: about },
                  { head: t("urgency"), cell: (it) => <Severity code={it.severity} /> },
                  { head: t("since"), isNumber: true, cell: (it) => <Time at={it.since} /> },
                  { head: t("told"), cell: (it) => <Told it={it} /> },
                ]} />
            )}
          </Card>
        );
      }}
    </Loaded>
  );
}

function Told({ it }: { it: Alert }) {
  if (it.notified.length === 0) return <span class="muted">{t("nobody")}</span>;
  return (
    <>
      {it.notified.map(({ channel, error }) => (
        <span key={channel} class="block"><span class="nowrap">{channel}</span>{error !== null && <> <Badge tone="warn">{t("error")}</Badge></>}</span>
      ))}
    </>
  );
}

function Past() {
  const pages = usePages<Alert>("alerts/past", (before, signal) => api.get("alerts", { before }, signal));
  const rows = pages.rows.filter((it) => it.resolved_at !== null);
  const lasted = (it: Alert) => (it.resolved_at === null ? "–" : duration((new Date(it.resolved_at).getTime() - new Date(it.since).getTime()) / 1000));
  return (
    <Card>
      {pages.fault ? <Fault fault={pages.fault} retry={pages.reload} />
        : rows.length > 0 ? (
          <Table caption={t("past")} rows={rows} rowKey={(it) => it.id} href={(it) => link(["alerts", it.id])}
            columns={[
              { head: t("alert"), isWide: true, cell: (it) => <Title it={it} /> },
              { head: t("about"), cell: about },
              { head: t("urgency"), isMinor: true, cell: (it) => <Severity code={it.severity} /> },
              { head: t("ended"), isNumber: true, cell: (it) => <Time at={it.resolved_at} /> },
              { head: t("lasted"), isNumber: true, cell: lasted },
            ]} />
        )
        : !pages.isLoading && <Empty icon="bell" title={t("no_past")}>{t("no_past_text")}</Empty>}
      <More more={pages.more} isLoading={pages.isLoading} />
    </Card>
  );
}

interface Rules {
  rows: AlertRule[];
  channels: string[];
}

function Watch({ tab }: { tab: "rules" | "channels" }) {
  const answer = useResource("alerts/rules", (signal) => api.get<Rules>("alerts/rules", {}, signal));
  return <Loaded from={answer}>{(it) => <Card>{tab === "rules" ? <RuleList rows={it.rows} /> : <Channels rules={it} />}</Card>}</Loaded>;
}

function RuleList({ rows }: { rows: AlertRule[] }) {
  return (
    <Table caption={t("rules")} rows={rows} rowKey={(it) => it.name}
      columns={[
        { head: t("rule"), cell: (it) => <>{kindWords(it.kind)} <code class="code">{it.name}</code></> },
        { head: t("when"), cell: (it) => (it.enabled ? limitWords(it.kind, it.limit, it.window_seconds) : <span class="muted">{t("off")}</span>) },
        ...(rows.some((it) => it.site) ? [{ head: t("about"), isMinor: true, cell: (it: AlertRule) => [it.site, it.destination].filter(Boolean).join(" / ") || <span class="muted">{t("everywhere")}</span> }] : []),
        { head: t("urgency"), cell: (it) => <Severity code={it.severity} /> },
        { head: t("goes"), cell: (it) => (it.channels.length > 0 ? it.channels.map((name) => <span key={name} class="block nowrap">{name}</span>) : <span class="muted">{t("nobody")}</span>) },
        { head: t("source"), cell: (it) => <span class="muted nowrap">{t(it.source)}</span> },
      ]} />
  );
}

function Channels({ rules }: { rules: Rules }) {
  const alerts = useResource("alerts", (signal) => api.get<Page<Alert>>("alerts", {}, signal));
  const [result, setResult] = useState<{ name: string; error: string | null } | null>(null);
  const [busy, setBusy] = useState<string | null>(null);
  const test = async (name: string) => {
    setBusy(name);
    setResult(null);
    try {
      const { error } = await api.post<{ error: string | null }>(`alerts/channels/${encodeURIComponent(name)}/test`);
      setResult({ name, error });
    } catch (error) {
      setResult({ name, error: faultText(asProblem(error)) });
    }
    setBusy(null);
  };
  const last = (name: string) => (alerts.data?.rows ?? []).flatMap((it) => it.notified).filter((it) => it.channel === name).sort((a, b) => (a.at < b.at ? 1 : -1))[0];
  if (rules.channels.length === 0) return <Empty icon="bell" title={t("no_channels")}>{t("no_channels_text")}</Empty>;
  return (
    <>
      <div role="status" class={result ? "notices" : undefined}>
        {result && <Notice tone={result.error === null ? "good" : "bad"}><b>{result.name}</b>: {result.error === null ? t("arrived") : t("failed", { why: result.error })}</Notice>}
      </div>
      <Table caption={t("channels")} rows={rules.channels} rowKey={(name) => name}
        columns={[
          { head: t("channel"), cell: (name) => <b>{name}</b> },
          { head: t("used"), cell: (name) => t("all_rules", { n: rules.rows.filter((it) => it.enabled && it.channels.includes(name)).length }) },
          { head: t("last"), cell: (name) => { const it = last(name); return it ? <><Time at={it.at} />{it.error !== null && <small class="block"><Badge tone="warn">{t("error")}</Badge> <span class="muted">{it.error}</span></small>}</> : <span class="muted">{t("never")}</span>; } },
          { head: t("test"), isActions: true, cell: (name) => can("editor") && <Button icon="send" disabled={busy !== null} onClick={() => void test(name)} aria-label={`${t("test")}: ${name}`}>{busy === name ? t("testing") : t("test")}</Button> },
        ]} />
    </>
  );
}
