// The tokens by which programs use the API.

import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { api, parts, type ApiToken } from "../api";
import { texts } from "../i18n";
import { asProblem, useResource } from "../resource";
import { Button, Card, CodeBlock, Time } from "../ui/basics";
import { confirmAct, DialogTitle, openDialog } from "../ui/dialog";
import { Empty, faultText, Loaded } from "../ui/page";
import { Table } from "../ui/table";
import { attempt } from "../ui/toast";
import { role } from "../words";
import { NO_RIGHTS, RightsFields, sitesText, type Rights } from "./rights";

const t = texts({
  create: "New token", create_title: "New token for a program", name: "Name", name_hint: "What uses it, such as ci-deploy", expires: "Valid for", days: "{n} days", forever: "until it is deleted", make: "Make the token", made: "The token {name}", made_text: "Copy it now: it is never shown again.", token: "Token", done: "Done", cancel: "Cancel",
  tokens: "Tokens", role: "Role", sites: "Sites", author: "Made by", used: "Last used", never: "never", ends: "Valid until", no_end: "no end", delete: "Delete", delete_title: "Delete the token {name}?", delete_text: "The program that uses it is refused from the next call on. It was last used: {used}.", deleted: "The token is deleted.", acts: "Actions", empty: "No tokens", empty_text: "Programs such as a deployment or the command line on another machine use the API with a token of their own.",
}, {
  create: "Neues Token", create_title: "Neues Token für ein Programm", name: "Name", name_hint: "Was es benutzt, etwa ci-deploy", expires: "Gültig für", days: "{n} Tage", forever: "bis es gelöscht wird", make: "Token machen", made: "Das Token {name}", made_text: "Kopiere es jetzt: Es wird nie wieder gezeigt.", token: "Token", done: "Fertig", cancel: "Abbrechen",
  tokens: "Token", role: "Rolle", sites: "Sites", author: "Gemacht von", used: "Zuletzt benutzt", never: "nie", ends: "Gültig bis", no_end: "kein Ende", delete: "Löschen", delete_title: "Das Token {name} löschen?", delete_text: "Das Programm, das es benutzt, wird ab dem nächsten Aufruf abgewiesen. Zuletzt benutzt: {used}.", deleted: "Das Token ist gelöscht.", acts: "Aktionen", empty: "Keine Token", empty_text: "Programme wie ein Deployment oder die Kommandozeile auf einem anderen Rechner benutzen die API mit einem eigenen Token.",
});

const edition = signal(0);

export function TokenButton() {
  return <Button kind="main" icon="plus" onClick={() => void openDialog((close) => <Create close={close} />)}>{t("create")}</Button>;
}

export function Tokens() {
  const found = useResource(`tokens ${edition.value}`, (signal) => api.get<{ rows: ApiToken[] }>("tokens", {}, signal));
  const remove = async (row: ApiToken) => {
    const used = row.used_at ? <Time at={row.used_at} /> : t("never");
    const [before, after] = t("delete_text", { used: "\n" }).split("\n");
    const isConfirmed = await confirmAct({ title: t("delete_title", { name: row.name }), body: <p>{before}{used}{after}</p>, act: t("delete"), isDanger: true });
    if (isConfirmed && await attempt(() => api.delete(parts("tokens", row.id)), t("deleted"))) edition.value++;
  };
  return (
    <Loaded from={found}>
      {({ rows }) => (
        <Card>
          {rows.length === 0 ? <Empty icon="key" title={t("empty")}>{t("empty_text")}</Empty> : (
            <Table caption={t("tokens")} rows={rows} rowKey={(row) => row.id} columns={[
              { head: t("name"), cell: (row) => <b>{row.name}</b> },
              { head: t("role"), cell: (row) => role(row.role) },
              { head: t("sites"), cell: (row) => sitesText(row.sites) },
              { head: t("author"), cell: (row) => row.author, isMinor: true },
              { head: t("used"), cell: (row) => (row.used_at ? <Time at={row.used_at} /> : t("never")) },
              { head: t("ends"), cell: (row) => (row.expires_at ? <Time at={row.expires_at} /> : t("no_end")) },
              { head: t("acts"), isActions: true, cell: (row) => <Button kind="quiet" aria-label={`${t("delete")}: ${row.name}`} onClick={() => void remove(row)}>{t("delete")}</Button> },
            ]} />
          )}
        </Card>
      )}
    </Loaded>
  );
}

const DAYS = [30, 90, 365];

function Create({ close }: { close: () => void }) {
  const [name, setName] = useState("");
  const [days, setDays] = useState("90");
  const [rights, setRights] = useState<Rights>(NO_RIGHTS);
  const [token, setToken] = useState("");
  const [fault, setFault] = useState("");
  const submit = async () => {
    try {
      const answer = await api.post<{ token: string }>("tokens", { name: name.trim(), ...rights, ...(days && { expires_in_days: Number(days) }) });
      setToken(answer.token);
      edition.value++;
    } catch (error) {
      setFault(faultText(asProblem(error)));
    }
  };
  if (token) {
    return (
      <div class="stack">
        <DialogTitle close={close}>{t("made", { name })}</DialogTitle>
        <p class="dialog-text">{t("made_text")}</p>
        <CodeBlock label={t("token")} text={token} />
        <footer><Button kind="main" onClick={close}>{t("done")}</Button></footer>
      </div>
    );
  }
  return (
    <form onSubmit={(event) => { event.preventDefault(); void submit(); }}>
      <DialogTitle close={close}>{t("create_title")}</DialogTitle>
      <label class="field"><span>{t("name")}</span>
        <input required autofocus value={name} placeholder={t("name_hint")} autocomplete="off" autocapitalize="none" spellcheck={false} onInput={(event) => setName(event.currentTarget.value)} />
      </label>
      <RightsFields rights={rights} set={setRights} />
      <label class="field"><span>{t("expires")}</span>
        <select value={days} onChange={(event) => setDays(event.currentTarget.value)}>
          {DAYS.map((it) => <option key={it} value={it}>{t("days", { n: it })}</option>)}
          <option value="">{t("forever")}</option>
        </select>
      </label>
      <p class="field-fault" role="alert">{fault}</p>
      <footer><Button onClick={close}>{t("cancel")}</Button><Button type="submit" kind="main">{t("make")}</Button></footer>
    </form>
  );
}
