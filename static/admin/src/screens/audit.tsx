// Audit: who did what, and is the record whole?

import { useState } from "preact/hooks";
import { api, type AuditChain, type AuditPage, type AuditRow, type Json } from "../api";
import { texts } from "../i18n";
import { usePages } from "../resource";
import { param } from "../router";
import type { ScreenProps } from "../routes";
import { sites } from "../session";
import { Badge, Button, Card, Loading, More, Time } from "../ui/basics";
import { Filters } from "../ui/filters";
import { Icon } from "../ui/icons";
import { JsonView, parsed } from "../ui/json";
import { Empty, Fault, Screen } from "../ui/page";
import { attempt } from "../ui/toast";
import { spoken } from "../words";

const t = texts({
  title: "Audit", lead: "Every change, every look at personal data and every sign-in. Each entry carries a hash of the one before, so that none can be altered or removed unseen.", actor: "Who", action: "What", site: "Site", whole: "{n} {n|entry|entries} checked: the chain is whole", broken: "The chain is broken at entry {id}",
  check: "Check the whole chain", checking: "checking", export: "Download", rows: "Entries", via: "by {way}", session: "the console", token: "an API token", file: "the command line", empty: "No entries", empty_text: "Nothing passes the filters.", detail: "Details", search: "A name, such as ana", nobody: "nobody",
  "account.*": "Accounts", "console.*": "Login links", "dead.*": "Failed events", "destination.*": "Destinations", "event.*": "Test events", "password.*": "Passwords", "person.*": "People: export, forget", "personal.*": "Looks at personal data", "replay.*": "Replays", "script.*": "Vendor scripts", "segment.*": "Segments", "session.*": "Sign-ins", "token.*": "API tokens", "trace.*": "Traces",
  "account.invite": "invited", "account.change": "changed the account", "account.reset": "made a new link for", "console.link": "made a login link", "dead.retry": "sent failed events again:", "dead.drop": "dropped failed events:", "destination.pause": "paused", "destination.resume": "resumed", "destination.test": "sent a test event to", "event.send": "sent an event", "password.change": "changed the own password",
  "person.export": "exported a person:", "person.forget": "forgot a person:", "personal.reveal": "looked at personal data in", replay: "sent events again:", "script.approve": "approved the script", "segment.run": "ran the segment", "segment.forget": "forgot the list of the segment", "session.begin": "signed in", "session.end": "signed out", "session.prove": "confirmed the password", "session.revoke": "ended a sign-in of", "token.make": "made the token", "token.remove": "deleted the token", "trace.start": "started the trace", "trace.end": "ended the trace",
}, {
  title: "Protokoll", lead: "Jede Änderung, jeder Blick auf personenbezogene Daten und jede Anmeldung. Jeder Eintrag trägt einen Hash des vorigen, sodass keiner unbemerkt geändert oder entfernt werden kann.", actor: "Wer", action: "Was", site: "Site", whole: "{n} {n|Eintrag|Einträge} geprüft: die Kette ist vollständig", broken: "Die Kette bricht bei Eintrag {id}",
  check: "Die ganze Kette prüfen", checking: "prüft", export: "Herunterladen", rows: "Einträge", via: "über {way}", session: "die Konsole", token: "ein API-Token", file: "die Kommandozeile", empty: "Keine Einträge", empty_text: "Nichts passt durch die Filter.", detail: "Einzelheiten", search: "Ein Name, etwa ana", nobody: "niemand",
  "account.*": "Konten", "console.*": "Anmeldelinks", "dead.*": "Gescheiterte Ereignisse", "destination.*": "Ziele", "event.*": "Testereignisse", "password.*": "Passwörter", "person.*": "Personen: Export, Vergessen", "personal.*": "Blicke auf Personendaten", "replay.*": "Erneutes Senden", "script.*": "Anbieterskripte", "segment.*": "Segmente", "session.*": "Anmeldungen", "token.*": "API-Token", "trace.*": "Spuren",
  "account.invite": "lud ein:", "account.change": "änderte das Konto", "account.reset": "machte einen neuen Link für", "console.link": "machte einen Anmeldelink", "dead.retry": "sandte Gescheitertes erneut:", "dead.drop": "verwarf Gescheitertes:", "destination.pause": "pausierte", "destination.resume": "setzte fort:", "destination.test": "sandte ein Testereignis an", "event.send": "sandte ein Ereignis", "password.change": "änderte das eigene Passwort",
  "person.export": "exportierte eine Person:", "person.forget": "vergaß eine Person:", "personal.reveal": "sah personenbezogene Daten in", replay: "sandte Ereignisse erneut:", "script.approve": "gab das Skript frei:", "segment.run": "ließ das Segment laufen:", "segment.forget": "vergaß die Liste des Segments", "session.begin": "meldete sich an", "session.end": "meldete sich ab", "session.prove": "bestätigte das Passwort", "session.revoke": "beendete eine Anmeldung von", "token.make": "machte das Token", "token.remove": "löschte das Token", "trace.start": "begann die Spur", "trace.end": "beendete die Spur",
});

const KINDS = [
  "account.*", "console.*", "dead.*", "destination.*", "event.*", "password.*", "person.*", "personal.*", "replay.*", "script.*", "segment.*", "session.*", "token.*", "trace.*",
] as const;

const LIMIT = 50;

/** The words for an action; an unknown one is its code as words. */
const act = (action: string): string => {
  const word = t(action as "replay");
  return word === action ? spoken(action.replace(".", ": ")) : word;
};

const way = (via: string): string => (via === "session" || via === "token" || via === "file" ? t(via) : via);

export default function Audit(_: ScreenProps) {
  const query = { actor: param("actor"), action: param("action"), site: param("of") };
  const found = usePages<AuditRow, AuditPage>(JSON.stringify(query), (before, signal) =>
    api.get<AuditPage>("audit", { ...query, before, limit: LIMIT }, signal));
  return (
    <Screen title={t("title")} lead={t("lead")} actions={
      <a class="button plain" href="api/v1/audit/export" download="tagway-audit.ndjson"><Icon name="download" />{t("export")}</a>
    }>
      {found.first && <Chain shown={found.first.chain} />}
      <Filters filters={[
        { name: "actor", label: t("actor"), kind: "search", placeholder: t("search") },
        { name: "action", label: t("action"), kind: "select", options: KINDS.map((it) => [it, t(it)] as const) },
        { name: "of", label: t("site"), kind: "select", options: sites.value.map((it) => [it, it] as const) },
      ]} />
      {found.fault && found.rows.length === 0 ? <Fault fault={found.fault} retry={found.reload} />
        : found.rows.length > 0 ? (
          <Card>
            <ol class="audit" aria-label={t("rows")}>{found.rows.map((row) => <Entry key={row.id} row={row} />)}</ol>
            <More more={found.more} isLoading={found.isLoading} />
          </Card>
        )
        : found.isLoading ? <Loading />
        : <Empty icon="audit" title={t("empty")} action={found.more && <More more={found.more} isLoading={false} />}>{t("empty_text")}</Empty>}
    </Screen>
  );
}

/** The check of the rows in view; on demand of all, some thousand at a time. */
function Chain({ shown }: { shown: AuditChain }) {
  const [whole, setWhole] = useState<AuditChain | null>(null);
  const [isBusy, setBusy] = useState(false);
  const check = async () => {
    setBusy(true);
    await attempt(async () => {
      let after: number | null = null;
      let checked = 0;
      do {
        const answer: { chain: AuditChain; next: number | null } = await api.get("audit/check", { after });
        checked += answer.chain.checked;
        setWhole({ ...answer.chain, checked });
        after = answer.chain.ok ? answer.next : null;
      } while (after !== null);
    });
    setBusy(false);
  };
  const chain = whole ?? shown;
  return (
    <p class="chain" role="status">
      <Badge tone={chain.ok ? "good" : "bad"}>{chain.ok ? t("whole", { n: chain.checked }) : t("broken", { id: String(chain.broken_at ?? "?") })}</Badge>
      {isBusy ? <span class="muted">{t("checking")}</span> : <Button kind="quiet" onClick={() => void check()}>{t("check")}</Button>}
    </p>
  );
}

/** A detail that is more than a line of text. */
const structured = (detail: string | null): Json => {
  const value = detail === null ? null : parsed(detail);
  return value !== null && typeof value === "object" ? value : null;
};

function Entry({ row }: { row: AuditRow }) {
  const [isOpen, setOpen] = useState(false);
  const detail = structured(row.detail);
  const line = (
    <>
      <Time at={row.at} />
      <span class="said">
        <b>{row.actor || t("nobody")}</b> {act(row.action)} {row.object && <span class="object">{row.object}</span>}
        {row.detail !== null && detail === null && <small class="muted"> · {row.detail}</small>}
      </span>
      <small class="muted">{row.site && <>{row.site} · </>}{t("via", { way: way(row.via) })}</small>
      <code class="code">{row.action}</code>
    </>
  );
  return (
    <li>
      {detail === null ? <div class="line">{line}</div> : (
        <>
          <button type="button" class="line" data-row aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>{line}</button>
          {isOpen && <JsonView value={detail} label={t("detail")} />}
        </>
      )}
    </li>
  );
}
