// Dialogs: the browser's own, which keeps the focus inside and closes on Escape.

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { api, Problem, refusals, type Me } from "../api";
import { texts } from "../i18n";
import { me } from "../session";
import { asProblem } from "../resource";
import { Button, LinkButton } from "./basics";
import { faultText } from "./page";

const t = texts({
  close: "Close", cancel: "Cancel", prove: "Confirm that it is you", prove_text: "This changes who may do what, or concerns personal data. Enter your password again; it then counts for five minutes.",
  password: "Password", confirm: "Confirm", wrong: "The password is wrong.", company: "Sign in again", company_text: "This changes who may do what, or concerns personal data. Sign in again with your company account; it then counts for five minutes.",
}, {
  close: "Schließen", cancel: "Abbrechen", prove: "Bestätige, dass du es bist", prove_text: "Das ändert, wer was darf, oder betrifft personenbezogene Daten. Gib dein Passwort noch einmal ein; es gilt dann fünf Minuten.",
  password: "Passwort", confirm: "Bestätigen", wrong: "Das Passwort ist falsch.", company: "Neu anmelden", company_text: "Das ändert, wer was darf, oder betrifft personenbezogene Daten. Melde dich mit deinem Firmenkonto neu an; es gilt dann fünf Minuten.",
});

interface Open {
  id: number;
  render: (close: () => void) => ComponentChildren;
  closed: () => void;
}

const stack = signal<Open[]>([]);
let last = 0;

/** Opens a dialog; the promise ends when it is closed. */
export function openDialog(render: (close: () => void) => ComponentChildren): Promise<void> {
  return new Promise((closed) => {
    stack.value = [...stack.value, { id: ++last, render, closed }];
  });
}

/** The dialogs that are open. */
export function Dialogs() {
  return <>{stack.value.map((it) => <Modal key={it.id} open={it} />)}</>;
}

function Modal({ open }: { open: Open }) {
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => element.current?.showModal(), []);
  const closed = () => {
    stack.value = stack.value.filter((it) => it !== open);
    open.closed();
  };
  const close = () => element.current?.close();
  // A click beside it closes what is read only: what was typed, or is shown once, is not lost by a slip.
  const beside = (event: MouseEvent) => {
    if (event.target === element.current && !element.current?.querySelector("form, .codeblock")) close();
  };
  return (
    <dialog
      ref={element} class="dialog" onClose={closed} aria-labelledby={`dialog-${open.id}`}
      onClick={beside}
    >
      <div class="dialog-body" data-dialog={open.id}>{open.render(close)}</div>
    </dialog>
  );
}

/** The heading of a dialog, by which it is named. */
export function DialogTitle({ children, close }: { children: ComponentChildren; close: () => void }) {
  const element = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    const id = element.current?.closest("[data-dialog]")?.getAttribute("data-dialog");
    if (element.current && id) element.current.id = `dialog-${id}`;
  }, []);
  return (
    <header class="dialog-head">
      <h2 ref={element}>{children}</h2>
      <Button kind="quiet" icon="clear" only onClick={close}>{t("close")}</Button>
    </header>
  );
}

export interface Confirmation {
  title: string;
  /** What it will do, in numbers. */
  body: ComponentChildren;
  act: string;
  isDanger?: boolean;
  /** A word that has to be typed first. */
  word?: { label: string; value: string };
}

/** Asks before an act; true if it was confirmed. */
export async function confirmAct(confirmation: Confirmation): Promise<boolean> {
  let isConfirmed = false;
  await openDialog((close) => (
    <Confirm {...confirmation} close={close} done={() => { isConfirmed = true; close(); }} />
  ));
  return isConfirmed;
}

function Confirm({ title, body, act, isDanger, word, close, done }: Confirmation & { close: () => void; done: () => void }) {
  const [typed, setTyped] = useState("");
  const isReady = !word || typed === word.value;
  return (
    <form onSubmit={(event) => { event.preventDefault(); if (isReady) done(); }}>
      <DialogTitle close={close}>{title}</DialogTitle>
      <div class="dialog-text">{body}</div>
      {word && (
        <label class="field"><span>{word.label}</span>
          <input value={typed} autofocus onInput={(event) => setTyped(event.currentTarget.value)} autocomplete="off" spellcheck={false} />
        </label>
      )}
      <footer>
        <Button onClick={close}>{t("cancel")}</Button>
        <Button type="submit" kind={isDanger ? "danger" : "main"} autofocus={!word && !isDanger} disabled={!isReady}>{act}</Button>
      </footer>
    </form>
  );
}

refusals.prove = async () => {
  let isProven = false;
  await openDialog((close) => <Proof close={close} done={() => { isProven = true; close(); }} />);
  return isProven;
};

function Proof({ close, done }: { close: () => void; done: () => void }) {
  return me.value?.password_login === false ? <ProofByCompany close={close} /> : <ProofByPassword close={close} done={done} />;
}

/** Accounts without a password prove it where they have one. */
function ProofByCompany({ close }: { close: () => void }) {
  return (
    <div class="stack">
      <DialogTitle close={close}>{t("prove")}</DialogTitle>
      <p class="dialog-text">{t("company_text")}</p>
      <footer><Button onClick={close}>{t("cancel")}</Button><LinkButton kind="main" href="api/v1/session/oidc">{t("company")}</LinkButton></footer>
    </div>
  );
}

function ProofByPassword({ close, done }: { close: () => void; done: () => void }) {
  const [password, setPassword] = useState("");
  const [fault, setFault] = useState<Problem | null>(null);
  const prove = async () => {
    try {
      me.value = await api.post<Me>("session/prove", { password });
      done();
    } catch (error) {
      setFault(asProblem(error));
    }
  };
  return (
    <form onSubmit={(event) => { event.preventDefault(); void prove(); }}>
      <DialogTitle close={close}>{t("prove")}</DialogTitle>
      <p class="dialog-text">{t("prove_text")}</p>
      <input class="sr" tabIndex={-1} aria-hidden="true" autocomplete="username" value={me.value?.name ?? ""} readOnly />
      <label class="field"><span>{t("password")}</span>
        <input type="password" required autocomplete="current-password" value={password} aria-invalid={!!fault}
          aria-describedby="proof-fault" onInput={(event) => { setPassword(event.currentTarget.value); setFault(null); }} />
      </label>
      <p id="proof-fault" class="field-fault" role="alert">{fault && (fault.status === 401 || fault.status === 403 ? t("wrong") : faultText(fault))}</p>
      <footer>
        <Button onClick={close}>{t("cancel")}</Button>
        <Button type="submit" kind="main">{t("confirm")}</Button>
      </footer>
    </form>
  );
}
