// Where people are signed in, and the caller's own password.

import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { api, parts, type WebSession } from "../api";
import { texts } from "../i18n";
import { asProblem, useResource } from "../resource";
import { param, setParams } from "../router";
import { can, leave, me } from "../session";
import { Badge, Button, Card, Time } from "../ui/basics";
import { DialogTitle, openDialog } from "../ui/dialog";
import { faultText, Loaded } from "../ui/page";
import { Table } from "../ui/table";
import { attempt, toast } from "../ui/toast";

const t = texts({
  sessions: "Sign-ins", account: "Account", agent: "Browser", network: "Network", since: "Signed in", seen: "Last used", here: "this browser", end: "End", ended: "Signed out there.", everybody: "Of everybody", acts: "Actions",
  password: "Change my password", current: "The password until now", new: "The new password", hint: "At least 12 characters; a sentence is easier to remember than symbols.", save: "Save", saved: "The password is changed.", cancel: "Cancel",
}, {
  sessions: "Anmeldungen", account: "Konto", agent: "Browser", network: "Netz", since: "Angemeldet", seen: "Zuletzt benutzt", here: "dieser Browser", end: "Beenden", ended: "Dort abgemeldet.", everybody: "Von allen", acts: "Aktionen",
  password: "Mein Passwort ändern", current: "Das bisherige Passwort", new: "Das neue Passwort", hint: "Mindestens 12 Zeichen; ein Satz merkt sich leichter als Sonderzeichen.", save: "Speichern", saved: "Das Passwort ist geändert.", cancel: "Abbrechen",
});

const edition = signal(0);

export function PasswordButton() {
  if (me.value?.via !== "session" || !me.value.password_login) return null;
  return <Button icon="key" onClick={() => void openDialog((close) => <Password close={close} />)}>{t("password")}</Button>;
}

export function Sessions() {
  const isAll = can("admin") && param("all") === "true";
  const found = useResource(`sessions ${isAll} ${edition.value}`, (signal) => api.get<{ rows: WebSession[] }>("sessions", { all: isAll }, signal));
  const end = async (row: WebSession) => {
    if (row.current) return leave();
    if (await attempt(() => api.delete(parts("sessions", row.id)), t("ended"))) edition.value++;
  };
  return (
    <Loaded from={found}>
      {({ rows }) => (
        <Card title={t("sessions")} aside={can("admin") && (
          <label class="check"><input type="checkbox" checked={isAll} onChange={() => setParams({ all: !isAll })} />{t("everybody")}</label>
        )}>
          <Table caption={t("sessions")} rows={rows} rowKey={(row) => row.id} columns={[
            { head: t("account"), cell: (row) => <b>{row.account}</b> },
            { head: t("agent"), cell: (row) => <>{row.agent} {row.current && <Badge tone="good">{t("here")}</Badge>}</>, isWide: true },
            { head: t("network"), cell: (row) => <span class="mono">{row.network}</span> },
            { head: t("since"), cell: (row) => <Time at={row.created_at} /> },
            { head: t("seen"), cell: (row) => <Time at={row.seen_at} /> },
            { head: t("acts"), isActions: true, cell: (row) => <Button kind="quiet" aria-label={`${t("end")}: ${row.account}, ${row.agent}`} onClick={() => void end(row)}>{t("end")}</Button> },
          ]} />
        </Card>
      )}
    </Loaded>
  );
}

function Password({ close }: { close: () => void }) {
  const [current, setCurrent] = useState("");
  const [next, setNext] = useState("");
  const [fault, setFault] = useState("");
  const submit = async () => {
    try {
      await api.post("me/password", { current, new: next });
      toast(t("saved"));
      close();
    } catch (error) {
      setFault(faultText(asProblem(error)));
    }
  };
  return (
    <form onSubmit={(event) => { event.preventDefault(); void submit(); }}>
      <DialogTitle close={close}>{t("password")}</DialogTitle>
      <input class="sr" tabIndex={-1} aria-hidden="true" autocomplete="username" value={me.value?.name ?? ""} readOnly />
      <label class="field"><span>{t("current")}</span><input type="password" required autofocus autocomplete="current-password" value={current} onInput={(event) => setCurrent(event.currentTarget.value)} /></label>
      <label class="field"><span>{t("new")}</span><input type="password" required autocomplete="new-password" value={next} aria-describedby="new-hint new-fault" onInput={(event) => setNext(event.currentTarget.value)} /></label>
      <p id="new-hint" class="muted">{t("hint")}</p>
      <p id="new-fault" class="field-fault" role="alert">{fault}</p>
      <footer><Button onClick={close}>{t("cancel")}</Button><Button type="submit" kind="main">{t("save")}</Button></footer>
    </form>
  );
}
