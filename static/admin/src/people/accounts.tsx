// The accounts of people.

import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { api, parts, type Account, type Invitation } from "../api";
import { exact } from "../format";
import { texts } from "../i18n";
import { asProblem, useResource } from "../resource";
import { Badge, Button, Card, CodeBlock, Time } from "../ui/basics";
import { DialogTitle, openDialog } from "../ui/dialog";
import { faultText, Loaded } from "../ui/page";
import { Table } from "../ui/table";
import { attempt } from "../ui/toast";
import { role } from "../words";
import { NO_RIGHTS, personalText, RightsFields, sitesText, type Rights } from "./rights";

const t = texts({
  invite: "Invite", invite_title: "Invite somebody", name: "Name", name_hint: "The name for signing in", create: "Make the link", link_title: "The link for {name}", link_text: "Send it on a way that you trust: whoever opens it first signs in as {name}. It is shown only now, and valid until {until}.", link: "Link", done: "Done",
  accounts: "Accounts", role: "Role", sites: "Sites", personal: "Personal data", seen: "Last here", never: "never yet", state: "State", active: "active", invited: "invited", disabled: "disabled", edit: "Change", edit_title: "Change {name}", save: "Save", saved: "Saved.", again: "New link", again_text: "for a forgotten password", disable: "Disabled: may not sign in", by_company: "company account", acts: "Actions", cancel: "Cancel",
}, {
  invite: "Einladen", invite_title: "Jemanden einladen", name: "Name", name_hint: "Der Name zum Anmelden", create: "Link machen", link_title: "Der Link für {name}", link_text: "Schicke ihn auf einem Weg, dem du traust: Wer ihn zuerst öffnet, ist als {name} angemeldet. Er wird nur jetzt gezeigt und gilt bis {until}.", link: "Link", done: "Fertig",
  accounts: "Konten", role: "Rolle", sites: "Sites", personal: "Personenbezogene Daten", seen: "Zuletzt hier", never: "noch nie", state: "Zustand", active: "aktiv", invited: "eingeladen", disabled: "gesperrt", edit: "Ändern", edit_title: "{name} ändern", save: "Speichern", saved: "Gespeichert.", again: "Neuer Link", again_text: "für ein vergessenes Passwort", disable: "Gesperrt: darf sich nicht anmelden", by_company: "Firmenkonto", acts: "Aktionen", cancel: "Abbrechen",
});

/** Rises when the list is no longer what it was. */
const edition = signal(0);

export function InviteButton() {
  const open = () => openDialog((close) => <Invite close={close} />);
  return <Button kind="main" icon="plus" onClick={() => void open()}>{t("invite")}</Button>;
}

export function Accounts() {
  const found = useResource(`accounts ${edition.value}`, (signal) => api.get<{ rows: Account[] }>("accounts", {}, signal));
  const again = (row: Account) => attempt(async () => {
    const invitation = await api.post<Invitation>(`${parts("accounts", row.id)}/link`);
    void openDialog((close) => <ShownLink name={row.name} invitation={invitation} close={close} />);
  });
  return (
    <Loaded from={found}>
      {({ rows }) => (
        <Card>
          <Table caption={t("accounts")} rows={rows} rowKey={(row) => row.id} columns={[
            { head: t("name"), cell: (row) => <><b>{row.name}</b>{row.oidc && <small class="muted"> {t("by_company")}</small>}</> },
            { head: t("role"), cell: (row) => role(row.role) },
            { head: t("sites"), cell: (row) => sitesText(row.sites) },
            { head: t("personal"), cell: (row) => personalText(row.personal), isMinor: true },
            { head: t("state"), cell: (row) => <State row={row} /> },
            { head: t("seen"), cell: (row) => (row.seen_at ? <Time at={row.seen_at} /> : t("never")) },
            {
              head: t("acts"), isActions: true, cell: (row) => (
                <>
                  <Button kind="quiet" aria-label={`${t("edit")}: ${row.name}`} onClick={() => void openDialog((close) => <Edit row={row} close={close} />)}>{t("edit")}</Button>
                  <Button kind="quiet" aria-label={`${t("again")}: ${row.name}`} title={t("again_text")} onClick={() => void again(row)}>{t("again")}</Button>
                </>
              ),
            },
          ]} />
        </Card>
      )}
    </Loaded>
  );
}

function State({ row }: { row: Account }) {
  if (row.disabled) return <Badge tone="quiet">{t("disabled")}</Badge>;
  return row.seen_at ? <Badge tone="good">{t("active")}</Badge> : <Badge tone="wait">{t("invited")}</Badge>;
}

function Invite({ close }: { close: () => void }) {
  const [name, setName] = useState("");
  const [rights, setRights] = useState<Rights>(NO_RIGHTS);
  const [fault, setFault] = useState("");
  const [invitation, setInvitation] = useState<Invitation | null>(null);
  if (invitation) return <ShownLink name={name} invitation={invitation} close={close} />;
  const submit = async () => {
    try {
      setInvitation(await api.post<Invitation>("accounts", { name: name.trim(), ...rights }));
      edition.value++;
    } catch (error) {
      setFault(faultText(asProblem(error)));
    }
  };
  return (
    <form onSubmit={(event) => { event.preventDefault(); void submit(); }}>
      <DialogTitle close={close}>{t("invite_title")}</DialogTitle>
      <label class="field"><span>{t("name")}</span>
        <input required autofocus value={name} placeholder={t("name_hint")} autocomplete="off" autocapitalize="none" spellcheck={false} aria-describedby="invite-fault"
          onInput={(event) => setName(event.currentTarget.value)} />
      </label>
      <RightsFields rights={rights} set={setRights} />
      <p id="invite-fault" class="field-fault" role="alert">{fault}</p>
      <footer><Button onClick={close}>{t("cancel")}</Button><Button type="submit" kind="main">{t("create")}</Button></footer>
    </form>
  );
}

function ShownLink({ name, invitation, close }: { name: string; invitation: Invitation; close: () => void }) {
  return (
    <div class="stack">
      <DialogTitle close={close}>{t("link_title", { name })}</DialogTitle>
      <p class="dialog-text">{t("link_text", { name, until: exact(invitation.expires_at) })}</p>
      <CodeBlock label={t("link")} text={invitation.link} />
      <footer><Button kind="main" onClick={close}>{t("done")}</Button></footer>
    </div>
  );
}

function Edit({ row, close }: { row: Account; close: () => void }) {
  const [rights, setRights] = useState<Rights>({ role: row.role, personal: row.personal, sites: row.sites });
  const [isDisabled, setDisabled] = useState(row.disabled);
  const [fault, setFault] = useState("");
  const submit = async () => {
    try {
      await api.patch(parts("accounts", row.id), { ...rights, disabled: isDisabled });
      edition.value++;
      close();
    } catch (error) {
      setFault(faultText(asProblem(error)));
    }
  };
  return (
    <form onSubmit={(event) => { event.preventDefault(); void submit(); }}>
      <DialogTitle close={close}>{t("edit_title", { name: row.name })}</DialogTitle>
      <RightsFields rights={rights} set={setRights} />
      <label class="check"><input type="checkbox" checked={isDisabled} onChange={() => setDisabled(!isDisabled)} />{t("disable")}</label>
      <p class="field-fault" role="alert">{fault}</p>
      <footer><Button onClick={close}>{t("cancel")}</Button><Button type="submit" kind="main">{t("save")}</Button></footer>
    </form>
  );
}
