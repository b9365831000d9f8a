// Segments: how many people does each have, and is it fresh?

import { api, type Segment } from "../api";
import { count } from "../format";
import { texts } from "../i18n";
import { useResource } from "../resource";
import { link } from "../router";
import type { ScreenProps } from "../routes";
import { site } from "../session";
import { Badge, Card, CodeBlock, Time } from "../ui/basics";
import { Empty, Loaded, Screen } from "../ui/page";
import { Table } from "../ui/table";
import { standing, Trend } from "../audience/trend";

const t = texts({
  title: "Segments", lead: "Groups of people of {site}, and where they are sent.", segment: "Segment", state: "State", trend: "Trend", people: "People", run: "Last run", next: "Next", goes: "Sent to", nowhere: "nowhere", empty: "{site} has no segments yet",
  empty_text: "A segment is a rule that selects people, such as those with a full cart and no order. Add one to the section of the site in tagway.toml.", toml: "For tagway.toml",
}, {
  title: "Segmente", lead: "Gruppen von Personen von {site}, und wohin sie gehen.", segment: "Segment", state: "Zustand", trend: "Verlauf", people: "Personen", run: "Letzter Lauf", next: "Nächster", goes: "Gesendet an", nowhere: "niemanden", empty: "{site} hat noch keine Segmente",
  empty_text: "Ein Segment ist eine Regel, die Personen auswählt, etwa alle mit vollem Warenkorb und ohne Bestellung. Füge eines in den Abschnitt der Site in der tagway.toml ein.", toml: "Für die tagway.toml",
});

const EXAMPLE = `[[sites.segments]]
name = "cart_abandoners"
every = "24h"
where = { all = [
    { event = "Product Added", within = "7d" },
    { not = { event = "Order Completed", within = "7d" } },
] }
[[sites.segments.sync]]
destination = "meta"
audience = "Cart abandoners"`;

const REFRESH_MS = 15_000;

export default function Segments(_: ScreenProps) {
  const name = site.value;
  const answer = useResource(name || null, (signal) => api.get<Segment[]>("segments", { site: name }, signal), { every: REFRESH_MS });
  return (
    <Screen title={t("title")} lead={t("lead", { site: name })}>
      <Loaded from={answer}>
        {(rows) => (
          <Card>
            {rows.length === 0 ? <Empty icon="segments" title={t("empty", { site: name })}><p>{t("empty_text")}</p><div class="first-destination"><CodeBlock label={t("toml")} text={EXAMPLE} /></div></Empty> : (
              <Table caption={t("title")} rows={rows} rowKey={(it) => it.name} href={(it) => link(["segments", it.site, it.name])}
                columns={[
                  { head: t("segment"), cell: (it) => it.name },
                  { head: t("state"), cell: (it) => { const [word, tone] = standing(it); return <Badge tone={tone}>{word}</Badge>; } },
                  { head: t("trend"), isMinor: true, cell: (it) => <span class="spark"><Trend of={it} height={24} bare /></span> },
                  { head: t("people"), isNumber: true, cell: (it) => count(it.members) },
                  { head: t("run"), isNumber: true, cell: (it) => <Time at={it.ran && new Date(it.ran.at_ms).toISOString()} /> },
                  { head: t("next"), isNumber: true, isMinor: true, cell: (it) => <Time at={it.due_ms === null ? null : new Date(it.due_ms).toISOString()} /> },
                  { head: t("goes"), cell: (it) => (it.destinations.length > 0 ? it.destinations.join(", ") : <span class="muted">{t("nowhere")}</span>) },
                ]} />
            )}
          </Card>
        )}
      </Loaded>
    </Screen>
  );
}
