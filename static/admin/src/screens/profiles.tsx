// Profiles: who is this person? A search by any name that they have.

import { api, parts, type ProfileRow } from "../api";
import { count } from "../format";
import { texts } from "../i18n";
import { usePages } from "../resource";
import { link, param } from "../router";
import type { ScreenProps } from "../routes";
import { site } from "../session";
import { Card, LinkButton, More, Time } from "../ui/basics";
import { Filters } from "../ui/filters";
import { Empty, Fault, Screen } from "../ui/page";
import { Reveal, useReveal } from "../ui/reveal";
import { Table } from "../ui/table";
import { Names } from "../audience/names";

const t = texts({
  title: "Profiles", lead: "What {site} knows about its visitors. Personal data is masked until you ask for it.", search: "Search", hint: "user id, e-mail address, visitor id, or the beginning of an id", person: "Person", seen: "Last seen", events: "Events", segments: "Segments",
  none: "Nobody has this name", none_text: "A whole e-mail address finds a person, or a user id or visitor id or the beginning of one. People without any event have no profile.", empty: "No profiles yet", empty_text: "The first visitor of {site} makes the first profile, a second after the event.", live: "Watch live",
}, {
  title: "Profile", lead: "Was {site} über Besucher weiß. Personendaten sind verborgen, bis du danach fragst.", search: "Suche", hint: "Benutzerkennung, E-Mail-Adresse, Besucherkennung, oder der Anfang einer Kennung", person: "Person", seen: "Zuletzt gesehen", events: "Ereignisse", segments: "Segmente",
  none: "Niemand hat diesen Namen", none_text: "Eine ganze E-Mail-Adresse findet eine Person, ebenso eine Benutzer- oder Besucherkennung oder der Anfang davon. Wer kein Ereignis hat, hat kein Profil.", empty: "Noch keine Profile", empty_text: "Der erste Besucher von {site} ergibt das erste Profil, eine Sekunde nach dem Ereignis.", live: "Live ansehen",
});

export default function Profiles(_: ScreenProps) {
  const name = site.value;
  const q = param("q");
  const reveal = useReveal(`${name} ${q}`);
  const path = `${parts("sites", name)}/profiles`;
  const pages = usePages<ProfileRow>(name ? JSON.stringify([name, q, reveal.isShown]) : null, (after, signal) => api.get(path, { q, after, reveal: reveal.isShown }, signal));
  return (
    <Screen title={t("title")} lead={t("lead", { site: name })} actions={<Reveal of={reveal} />}>
      <Filters filters={[{ name: "q", label: t("search"), kind: "search", placeholder: t("hint") }]} />
      <Card>
        {pages.fault ? <Fault fault={pages.fault} retry={pages.reload} />
          : pages.rows.length > 0 ? (
            <Table caption={t("title")} rows={pages.rows} rowKey={(it) => it.id} href={(it) => link(["profiles", name, it.id])}
              columns={[
                { head: t("person"), isWide: true, cell: (it) => <Names names={it.names} id={it.id} /> },
                { head: t("segments"), isMinor: true, cell: (it) => <span class="tags">{it.segments.map((segment) => <span key={segment} class="tag">{segment}</span>)}</span> },
                { head: t("events"), isNumber: true, cell: (it) => count(it.events) },
                { head: t("seen"), isNumber: true, cell: (it) => <Time at={it.last_seen_at} /> },
              ]} />
          )
          : !pages.isLoading && (q
            ? <Empty icon="search" title={t("none")}>{t("none_text")}</Empty>
            : <Empty icon="person" title={t("empty")} action={<LinkButton href={link("live", { site: name })} icon="live">{t("live")}</LinkButton>}>{t("empty_text", { site: name })}</Empty>)}
        <More more={pages.more} isLoading={pages.isLoading} />
      </Card>
    </Screen>
  );
}
