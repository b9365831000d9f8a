// The way in: by a link with a code, by name and password, or by the company's accounts.

import { useEffect, useState } from "preact/hooks";
import { api, Problem, type Me } from "../api";
import { texts } from "../i18n";
import { asProblem } from "../resource";
import { go, param, place } from "../router";
import type { ScreenProps } from "../routes";
import { door, me, welcome } from "../session";
import { Button, CodeBlock, LinkButton, Loading, Notice } from "../ui/basics";
import { faultText } from "../ui/page";
import { Brand, Preferences } from "../ui/preferences";

const t = texts({
  title: "Sign in", name: "Name", password: "Password", enter: "Sign in", oidc: "Sign in with your company account", or: "or",
  setup: "Set up the console", setup_text: "There is no account yet. On the machine of the gateway, run this command and open the link that it prints. It is valid for ten minutes and makes you the first admin.",
  command: "Command", link_used: "This link is used up or too old.", link_cure: "Ask for a new one: whoever invited you can make it, or run this command on the machine of the gateway.",
  choose: "Choose your password", choose_text: "Welcome, {name}. With a password you can come back without a link.", again: "The password once more", save: "Save and continue",
  differ: "The two are not the same.", short: "At least 12 characters.", hint: "At least 12 characters; a sentence is easier to remember than symbols.", plain: "This page is not encrypted. Passwords are only accepted over HTTPS, or on the machine itself.",
}, {
  title: "Anmelden", name: "Name", password: "Passwort", enter: "Anmelden", oidc: "Mit dem Firmenkonto anmelden", or: "oder",
  setup: "Konsole einrichten", setup_text: "Noch gibt es kein Konto. Führe auf dem Rechner des Gateways diesen Befehl aus und öffne den Link, den er ausgibt. Er gilt zehn Minuten und macht dich zum ersten Verwalter.",
  command: "Befehl", link_used: "Dieser Link ist verbraucht oder zu alt.", link_cure: "Bitte um einen neuen: Wer dich eingeladen hat, kann ihn machen, oder führe diesen Befehl auf dem Rechner des Gateways aus.",
  choose: "Wähle dein Passwort", choose_text: "Willkommen, {name}. Mit einem Passwort kommst du ohne Link zurück.", again: "Das Passwort noch einmal", save: "Speichern und weiter",
  differ: "Die beiden sind nicht gleich.", short: "Mindestens 12 Zeichen.", hint: "Mindestens 12 Zeichen; ein Satz merkt sich leichter als Sonderzeichen.", plain: "Diese Seite ist nicht verschlüsselt. Passwörter gelten nur über HTTPS oder auf dem Rechner selbst.",
});

const COMMAND = "tagway console login";

export default function Login(_: ScreenProps) {
  useEffect(() => {
    document.title = `${t("title")} · Tagway`;
  });
  return (
    <div class="door-card">
      <div class="door-brand">
        <Brand size={32} />
        Tagway
      </div>
      <Step />
      <Preferences />
    </div>
  );
}

function Step() {
  const code = place.value.path === "login" ? param("code") : "";
  if (me.value?.must_set_password) return <ChoosePassword name={me.value.name} />;
  if (code) return <ByLink code={code} />;
  if (door.value.setup) return <Setup />;
  return <ByPassword />;
}

function Setup() {
  return (
    <>
      <h1>{t("setup")}</h1>
      <p>{t("setup_text")}</p>
      <CodeBlock label={t("command")} text={COMMAND} />
    </>
  );
}

function ByLink({ code }: { code: string }) {
  const [fault, setFault] = useState<Problem | null>(null);
  useEffect(() => {
    api.post<Me>("session/link", { code }).then(
      async (answer) => {
        // The code is used up: it does not belong into the history.
        const next = param("next");
        go(/^[a-z]+$/.test(next) ? `#/${next}` : "#/", { replace: true });
        await welcome(answer);
      },
      (error: unknown) => setFault(asProblem(error)),
    );
  }, [code]);
  if (!fault) return <Loading />;
  return (
    <>
      <h1>{t("title")}</h1>
      <Notice tone="warn">{fault.status === 401 || fault.status === 404 || fault.status === 410 ? t("link_used") : faultText(fault)}</Notice>
      <p>{t("link_cure")}</p>
      <CodeBlock label={t("command")} text={COMMAND} />
      <LinkButton href="#/">{t("title")}</LinkButton>
    </>
  );
}

function ByPassword() {
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [fault, setFault] = useState<Problem | null>(null);
  const [isBusy, setBusy] = useState(false);
  const isPlain = location.protocol === "http:" && !/^(localhost|127\.|\[::1\])/.test(location.hostname);
  const submit = async () => {
    setBusy(true);
    setFault(null);
    try {
      await welcome(await api.post<Me>("session", { name, password }));
    } catch (error) {
      setFault(asProblem(error));
      setPassword("");
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      <h1>{t("title")}</h1>
      {isPlain && <Notice tone="warn">{t("plain")}</Notice>}
      {door.value.oidc && <><LinkButton href="api/v1/session/oidc" kind="main">{t("oidc")}</LinkButton><p class="or">{t("or")}</p></>}
      <form class="stack" onSubmit={(event) => { event.preventDefault(); void submit(); }}>
        <label class="field"><span>{t("name")}</span>
          <input required autocomplete="username" autofocus value={name} spellcheck={false} autocapitalize="none" onInput={(event) => setName(event.currentTarget.value)} />
        </label>
        <label class="field"><span>{t("password")}</span>
          <input type="password" required autocomplete="current-password" value={password} aria-describedby="login-fault" aria-invalid={!!fault}
            onInput={(event) => setPassword(event.currentTarget.value)} />
        </label>
        <p id="login-fault" class="field-fault" role="alert">{fault && faultText(fault)}</p>
        <Button type="submit" kind={door.value.oidc ? "plain" : "main"} disabled={isBusy}>{t("enter")}</Button>
      </form>
    </>
  );
}

/** What the gateway asks of a password. */
const LEAST_CHARACTERS = 12;

function ChoosePassword({ name }: { name: string }) {
  const [chosen, setChosen] = useState(name);
  const [first, setFirst] = useState("");
  const [second, setSecond] = useState("");
  const [text, setText] = useState("");
  const submit = async () => {
    if (first.length < LEAST_CHARACTERS) return setText(t("short"));
    if (first !== second) return setText(t("differ"));
    try {
      await api.post("me/password", { new: first, ...(chosen.trim() !== name && { name: chosen.trim() }) });
      await welcome(await api.get<Me>("me"));
    } catch (error) {
      setText(faultText(asProblem(error)));
    }
  };
  return (
    <>
      <h1>{t("choose")}</h1>
      <p>{t("choose_text", { name })}</p>
      <form class="stack" onSubmit={(event) => { event.preventDefault(); void submit(); }}>
        <label class="field"><span>{t("name")}</span>
          <input required autocomplete="username" value={chosen} spellcheck={false} autocapitalize="none" onInput={(event) => setChosen(event.currentTarget.value)} />
        </label>
        <label class="field"><span>{t("password")}</span>
          <input type="password" required autofocus autocomplete="new-password" value={first} aria-describedby="password-hint password-fault" onInput={(event) => setFirst(event.currentTarget.value)} />
        </label>
        <p id="password-hint" class="muted">{t("hint")}</p>
        <label class="field"><span>{t("again")}</span>
          <input type="password" required autocomplete="new-password" value={second} aria-describedby="password-fault" onInput={(event) => setSecond(event.currentTarget.value)} />
        </label>
        <p id="password-fault" class="field-fault" role="alert">{text}</p>
        <Button type="submit" kind="main">{t("save")}</Button>
      </form>
    </>
  );
}
