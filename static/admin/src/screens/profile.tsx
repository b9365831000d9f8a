// One profile: what is known about this person, and since when?

import { useState } from "preact/hooks";
import { api, send, type Json, type Person } from "../api";
import { count, decimal } from "../format";
import { texts } from "../i18n";
import { useResource } from "../resource";
import { link } from "../router";
import type { ScreenProps } from "../routes";
import { can } from "../session";
import { Badge, Button, Card, Facts, Figure, LinkButton, Notice, Time } from "../ui/basics";
import { Empty, Loaded, Screen } from "../ui/page";
import { Reveal, useReveal } from "../ui/reveal";
import { Table } from "../ui/table";
import { attempt } from "../ui/toast";
import { spoken } from "../words";
import { kindOf } from "../audience/names";
import { exportPerson, forgetPerson, type Forgotten } from "../audience/rights";

const t = texts({
  title: "Person {id}", back: "Profiles", lead: "A visitor of {site}.", export: "Export", forget: "Forget", first: "First seen", last: "Last seen", events: "Events", names: "Names", names_text: "By any of these the person is recognised.", kind: "Kind", value: "Value", traits: "Traits", no_traits: "Nothing was said about this person with identify.",
  activity: "Activity", event: "Event", times: "Times", sum: "Sum", no_activity: "No events are counted.", origin: "How they came", first_touch: "first visit", last_touch: "last visit", direct: "No campaign or other page led here.", device: "Device and place", nothing: "unknown", consent: "Consent", granted: "granted", denied: "denied", unasked: "Not asked yet.",
  segments: "Segments", gone: "This person is forgotten", gone_text: "Erased: {profiles} {profiles|profile|profiles}, {events} {events|event|events}, {dead} {dead|failed event|failed events}. {names} {names|name is|names are} refused from now on. What vendors hold has to be erased there.", undo: "Accept this person's events again", undone: "Events of this person are accepted again; what was erased stays so.",
}, {
  title: "Person {id}", back: "Profile", lead: "Jemand, der {site} besucht.", export: "Exportieren", forget: "Vergessen", first: "Zuerst gesehen", last: "Zuletzt gesehen", events: "Ereignisse", names: "Namen", names_text: "An jedem davon wird die Person erkannt.", kind: "Art", value: "Wert", traits: "Eigenschaften", no_traits: "Mit identify wurde nichts über diese Person gesagt.",
  activity: "Aktivität", event: "Ereignis", times: "Anzahl", sum: "Summe", no_activity: "Keine Ereignisse gezählt.", origin: "Woher sie kam", first_touch: "erster Besuch", last_touch: "letzter Besuch", direct: "Keine Kampagne oder andere Seite führte hierher.", device: "Gerät und Ort", nothing: "unbekannt", consent: "Einwilligung", granted: "erteilt", denied: "verweigert", unasked: "Noch nicht gefragt.",
  segments: "Segmente", gone: "Diese Person ist vergessen", gone_text: "Gelöscht: {profiles} {profiles|Profil|Profile}, {events} {events|Ereignis|Ereignisse}, {dead} {dead|gescheitertes Ereignis|gescheiterte Ereignisse}. {names} {names|Name wird|Namen werden} von nun an abgewiesen. Was Anbieter haben, muss dort gelöscht werden.", undo: "Ereignisse dieser Person wieder annehmen", undone: "Ereignisse dieser Person werden wieder angenommen; Gelöschtes bleibt gelöscht.",
});

export default function ProfileScreen({ params: { site = "", id = "" } }: ScreenProps) {
  const reveal = useReveal(`${site}/${id}`);
  const [forgotten, setForgotten] = useState<Forgotten | null>(null);
  const [busy, setBusy] = useState<number | null>(null);
  const profile = Number(id);
  const answer = useResource(forgotten ? null : `${site}/${id}/${reveal.isShown}`, async (signal) => {
    const response = await send("POST", "profiles", { body: { site, profile }, query: { reveal: reveal.isShown }, signal });
    const { profiles } = await response.json() as { profiles: Person[] };
    return profiles;
  });
  const person = answer.data?.[0];
  const save = async () => {
    setBusy(0);
    await attempt(() => exportPerson(site, profile, setBusy));
    setBusy(null);
  };
  const forget = async () => person && setForgotten(await forgetPerson(site, profile, person, reveal.isShown));
  return (
    <Screen title={t("title", { id })} lead={t("lead", { site })} back={{ href: link("profiles", { site }), text: t("back") }}
      actions={person && !forgotten && (
        <>
          <Reveal of={reveal} />
          {can("admin") && <Button icon="download" disabled={busy !== null} onClick={() => void save()}>{t("export")}{busy ? ` ${count(busy)}` : ""}</Button>}
          {can("admin") && <Button icon="clear" onClick={() => void forget()}>{t("forget")}…</Button>}
        </>
      )}>
      {forgotten ? <Gone site={site} it={forgotten} /> : (
        <Loaded from={answer}>
          {([it]) => (it ? <Known it={it} site={site} /> : <Empty icon="person" title={t("nothing")} action={<LinkButton href={link("profiles", { site })}>{t("back")}</LinkButton>} />)}
        </Loaded>
      )}
    </Screen>
  );
}

function Gone({ site, it }: { site: string; it: Forgotten }) {
  const undo = () => void attempt(() => api.post("forget", { site, id: it.name, undo: true }), t("undone"));
  return (
    <Card>
      <div role="status">
        <Empty icon="check" title={t("gone")} action={it.name === null ? <LinkButton href={link("profiles", { site })}>{t("back")}</LinkButton> : <Button onClick={undo}>{t("undo")}</Button>}>
          {t("gone_text", { profiles: it.erased.profiles, events: it.erased.events, dead: it.erased.dead, names: it.suppressed })}
        </Empty>
      </div>
    </Card>
  );
}

/** A value in one line: what is nested is written out. */
const inline = (value: Json): string =>
  value === null ? "–" : typeof value === "object" ? JSON.stringify(value) : typeof value === "number" ? decimal(value) : String(value);

const isFull = (value: Json | undefined): boolean => !!value && typeof value === "object" && Object.keys(value).length > 0;

function Known({ it, site }: { it: Person; site: string }) {
  const traits = Object.entries(it.traits);
  const activity = Object.entries(it.activity).map(([event, tally]) => ({ event, ...tally })).sort((a, b) => b.count - a.count);
  const consent = Object.entries(it.consent);
  const places = [...Object.entries(it.device), ...Object.entries(it.place)];
  const touches = ([["first", "first_touch"], ["last", "last_touch"]] as const).filter(([name]) => isFull(it.touches[name]));
  return (
    <>
      <Card>
        <div class="figures">
          <Figure label={t("events")} value={count(activity.reduce((sum, row) => sum + row.count, 0))} />
          <Figure label={t("first")} value={<Time at={it.first_seen} />} />
          <Figure label={t("last")} value={<Time at={it.last_seen} />} />
        </div>
      </Card>
      <div class="grid">
        <Card title={t("names")} aside={t("names_text")}>
          <Facts rows={it.identities.map((name) => [kindOf(name.kind), <span key={name.value} class="mono">{name.value}</span>] as const)} />
        </Card>
        <Card title={t("traits")}>
          {traits.length > 0 ? <Facts rows={traits.map(([name, value]) => [name, inline(value)] as const)} /> : <p class="muted">{t("no_traits")}</p>}
        </Card>
      </div>
      <Card title={t("activity")}>
        {activity.length > 0 ? (
          <Table caption={t("activity")} rows={activity} rowKey={(row) => row.event}
            columns={[
              { head: t("event"), isWide: true, cell: (row) => row.event },
              { head: t("times"), isNumber: true, cell: (row) => count(row.count) },
              { head: t("sum"), isNumber: true, cell: (row) => (row.sum ? decimal(row.sum) : "–") },
              { head: t("first"), isNumber: true, isMinor: true, cell: (row) => <Time at={row.first} /> },
              { head: t("last"), isNumber: true, cell: (row) => <Time at={row.last} /> },
            ]} />
        ) : <p class="muted">{t("no_activity")}</p>}
      </Card>
      <div class="grid">
        <Card title={t("consent")}>
          {consent.length > 0
            ? <Facts rows={consent.map(([category, value]) => [spoken(category), <Badge key={category} tone={value ? "good" : "quiet"}>{t(value ? "granted" : "denied")}</Badge>] as const)} />
            : <p class="muted">{t("unasked")}</p>}
        </Card>
        <Card title={t("device")}>
          {places.length > 0 ? <Facts rows={places.map(([name, value]) => [spoken(name), inline(value)] as const)} /> : <p class="muted">{t("nothing")}</p>}
        </Card>
        <Card title={t("origin")}>
          {touches.length > 0
            ? <div class="stack">{touches.map(([name, word]) => <Touch key={name} name={t(word)} value={it.touches[name] ?? null} />)}</div>
            : <p class="muted">{t("direct")}</p>}
        </Card>
        {it.segments && (
          <Card title={t("segments")}>
            {it.segments.length > 0 ? <p class="tags">{it.segments.map((segment) => <a key={segment} class="tag" href={link(["segments", site, segment])}>{segment}</a>)}</p> : <Notice tone="quiet">–</Notice>}
          </Card>
        )}
      </div>
    </>
  );
}

function Touch({ name, value }: { name: string; value: Json }) {
  const rows: [string, string][] = [];
  const collect = (from: Json, path: string) => {
    if (from && typeof from === "object" && !Array.isArray(from)) for (const [key, it] of Object.entries(from)) collect(it, path ? `${path} ${spoken(key)}` : spoken(key));
    else if (from !== null) rows.push([path, inline(from)]);
  };
  const { at, ...rest } = (value ?? {}) as Record<string, Json>;
  collect(rest, "");
  return (
    <div>
      <h3>{name} <small class="muted"><Time at={typeof at === "string" ? at : null} /></small></h3>
      <Facts rows={rows} />
    </div>
  );
}
