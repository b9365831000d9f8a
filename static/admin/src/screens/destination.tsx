// One destination: does it get its events, does it recognise the people in them, and how is it set up?

import { useState } from "preact/hooks";
import { api, parts, type DestinationAnswer } from "../api";
import { count, duration, exact } from "../format";
import { texts } from "../i18n";
import { useKeys } from "../keys";
import { useResource } from "../resource";
import { link, param } from "../router";
import type { ScreenProps } from "../routes";
import { can } from "../session";
import { Badge, Button, Card, CodeBlock, Facts, Notice, StateBadge, Tabs, Time } from "../ui/basics";
import { Loaded, Screen } from "../ui/page";
import { reason, vendor } from "../words";
import { pause, resume, sendTest } from "../delivery/acts";
import { Health } from "../delivery/health";
import { Quality } from "../delivery/quality";

const t = texts({
  back: "Destinations", lead: "{vendor}, for the site {site}.", pause: "Pause", resume: "Resume", test: "Send a test event", health: "Delivery", quality: "Match quality", setup: "Settings", parts: "Parts",
  paused: "Paused by {by}", since: "since", until: "until {at}", waits: "{n} {n|event waits|events wait} on the disk.", expires: "The oldest is too old for {vendor} at {at}.", expired: "The oldest is too old for {vendor} already.",
  refused: "{vendor} refuses the credentials. Check the key in tagway.toml; the events wait meanwhile.", tested: "The test event is on its way.", follow: "See what becomes of it",
  credentials: "Credentials", ok: "accepted", no: "refused", unknown: "not tried yet", consent: "Sent only with consent to", always: "no consent needed", mapping: "Changed on the way", yes: "yes, by a mapping", as_is: "no, as the page reports them",
  age: "Takes events up to", any_age: "any age", age_value: "{n} old", repeats: "Repeated events", repeats_value: "{vendor} {repeats}", limit: "Calls a second", no_limit: "no limit", waits_until: "asked to wait until {at}", toml: "In tagway.toml",
  toml_none: "This destination is not in a file.", toml_hint: "Secrets are not shown. Changes to the file count after the next reload.", facts: "Set up as",
}, {
  back: "Ziele", lead: "{vendor}, für die Site {site}.", pause: "Pausieren", resume: "Fortsetzen", test: "Testereignis senden", health: "Zustellung", quality: "Wiedererkennung", setup: "Einstellungen", parts: "Teile",
  paused: "Pausiert von {by}", since: "seit", until: "bis {at}", waits: "{n} {n|Ereignis wartet|Ereignisse warten} auf der Platte.", expires: "Das älteste ist für {vendor} ab {at} zu alt.", expired: "Das älteste ist für {vendor} schon zu alt.",
  refused: "{vendor} lehnt die Zugangsdaten ab. Prüfe den Schlüssel in der tagway.toml; die Ereignisse warten so lange.", tested: "Das Testereignis ist unterwegs.", follow: "Sieh, was daraus wird",
  credentials: "Zugangsdaten", ok: "angenommen", no: "abgelehnt", unknown: "noch nicht versucht", consent: "Nur mit Einwilligung in", always: "keine Einwilligung nötig", mapping: "Unterwegs geändert", yes: "ja, durch eine Zuordnung", as_is: "nein, wie die Seite sie meldet",
  age: "Nimmt Ereignisse bis", any_age: "jedes Alter", age_value: "{n} alt", repeats: "Wiederholte Ereignisse", repeats_value: "{vendor} {repeats}", limit: "Aufrufe pro Sekunde", no_limit: "keine Grenze", waits_until: "bat um Geduld bis {at}", toml: "In der tagway.toml",
  toml_none: "Dieses Ziel steht in keiner Datei.", toml_hint: "Geheimnisse werden nicht gezeigt. Änderungen an der Datei gelten nach dem nächsten Neuladen.", facts: "So eingerichtet",
});

const REFRESH_MS = 5_000;

export default function DestinationScreen({ params: { site = "", destination = "" } }: ScreenProps) {
  const path = parts("destinations", site, destination);
  const answer = useResource(path, (signal) => api.get<DestinationAnswer>(path, {}, signal), { every: REFRESH_MS });
  const [tested, setTested] = useState<number | null>(null);
  const it = answer.data;
  const tab = param("tab") || "health";
  const isOpen = can("editor") && it !== null;
  const act = {
    pause: () => it && void pause(it).then(answer.reload),
    resume: () => it && void resume(it).then(answer.reload),
    test: () => it && void sendTest(it).then((seq) => { if (seq !== null) setTested(seq); answer.reload(); }),
  };
  useKeys(isOpen ? [
    { keys: "p", text: () => t(it.paused ? "resume" : "pause"), run: it.paused ? act.resume : act.pause },
    { keys: "t", text: () => t("test"), run: act.test },
  ] : []);
  const here = (name: string) => link(["destinations", site, destination], { tab: name === "health" ? null : name });
  return (
    <Screen title={destination} back={{ href: link("destinations", { site }), text: t("back") }}
      lead={it && <><StateBadge code={it.state} /> <span class="after">{t("lead", { vendor: vendor(it.vendor), site })}</span></>}
      actions={isOpen && (
        <>
          <Button icon="send" onClick={act.test} disabled={!!it.paused}>{t("test")}</Button>
          {it.paused
            ? <Button kind="main" icon="play" onClick={act.resume}>{t("resume")}</Button>
            : <Button icon="pause" onClick={act.pause}>{t("pause")}</Button>}
        </>
      )}>
      <Loaded from={answer}>
        {(it) => (
          <>
            <Notices it={it} tested={tested} />
            <Tabs label={t("parts")} tabs={(["health", "quality", "setup"] as const).map((name) => ({ href: here(name), text: t(name), isCurrent: tab === name }))} />
            {tab === "quality" ? <Quality it={it} /> : tab === "setup" ? <Setup it={it} /> : <Health it={it} />}
          </>
        )}
      </Loaded>
    </Screen>
  );
}

function Notices({ it, tested }: { it: DestinationAnswer; tested: number | null }) {
  const name = vendor(it.vendor);
  const old = it.oldest_expires_at;
  const isLate = old !== null && new Date(old).getTime() < Date.now();
  const expiry = old !== null && it.ledger.pending > 0 && (isLate ? t("expired", { vendor: name }) : t("expires", { vendor: name, at: exact(old) }));
  const isAny = tested !== null || it.paused !== null || it.credentials === "refused" || it.reason !== null;
  return (
    <div class={isAny ? "notices" : undefined} role="status">
      {tested !== null && <Notice tone="good" action={<a class="nowrap" href={link(["sites", it.site, "events", tested])}>{t("follow")}</a>}>{t("tested")}</Notice>}
      {it.paused && (
        <Notice tone="wait">
          <b>{t("paused", { by: it.paused.by })}</b>{it.paused.at && <> <small class="muted">{t("since")} <Time at={it.paused.at} /></small></>}
          {it.paused.until && <> <small class="muted">{t("until", { at: exact(it.paused.until) })}</small></>}
          {it.paused.why && <><br />{it.paused.why}</>}
          <br /><span class="muted">{t("waits", { n: it.ledger.pending })} {expiry}</span>
        </Notice>
      )}
      {!it.paused && it.credentials === "refused" && <Notice tone="bad">{t("refused", { vendor: name })}</Notice>}
      {!it.paused && it.credentials !== "refused" && it.reason && (
        <Notice tone="warn">{it.reason} <span class="muted">{t("waits", { n: it.ledger.pending })} {expiry}</span></Notice>
      )}
    </div>
  );
}

function Setup({ it }: { it: DestinationAnswer }) {
  const name = vendor(it.vendor);
  const CREDENTIALS = { ok: ["good", t("ok")], refused: ["bad", t("no")], unknown: ["quiet", t("unknown")] } as const;
  const [tone, word] = CREDENTIALS[it.credentials];
  const { throttle } = it;
  return (
    <div class="grid">
      <Card title={t("facts")}>
        <Facts rows={[
          [t("credentials"), <Badge key="c" tone={tone}>{word}</Badge>],
          [t("consent"), it.consent.length > 0 ? <span key="o" class="tags">{it.consent.map((category) => <span key={category} class="tag">{category}</span>)}</span> : t("always")],
          [t("mapping"), it.mapping ? t("yes") : t("as_is")],
          [t("age"), it.age_limit_seconds === null ? t("any_age") : t("age_value", { n: duration(it.age_limit_seconds) })],
          it.repeats !== "" && [t("repeats"), <span key="r" lang="en">{t("repeats_value", { vendor: name, repeats: it.repeats })}</span>],
          [t("limit"), throttle?.calls_per_second ? count(throttle.calls_per_second) : t("no_limit")],
          !!throttle?.waits_until && [reason("rate_limited"), t("waits_until", { at: exact(throttle.waits_until) })],
        ]} />
      </Card>
      <Card title={t("toml")} aside={t("toml_hint")}>
        {it.toml === null ? <p class="muted">{t("toml_none")}</p> : <CodeBlock label={t("toml")} text={it.toml} />}
      </Card>
    </div>
  );
}
