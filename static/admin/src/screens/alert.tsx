// One alert: what is wrong, since when, and has somebody taken it?

import { useState } from "preact/hooks";
import { api, type Alert, type AlertRule, type Page } from "../api";
import { foreign } from "../delivery/advice";
import { kindWords, limitWords, measured } from "../delivery/measure";
import { texts } from "../i18n";
import { useKeys } from "../keys";
import { useResource } from "../resource";
import { link } from "../router";
import type { ScreenProps } from "../routes";
import { can } from "../session";
import { Badge, Button, Card, Facts, LinkButton, Notice, Time } from "../ui/basics";
import { DialogTitle, openDialog } from "../ui/dialog";
import { Loaded, Screen } from "../ui/page";
import { Table } from "../ui/table";
import { attempt } from "../ui/toast";
import { alertState, severity } from "../words";

const t = texts({
  back: "Alerts", alert: "Alert", look: "Look at the cause", take: "I take care of it", taken: "{name} takes care of it", note: "Note for the others", note_hint: "for example: asked the agency", cancel: "Cancel", save: "Take it", done: "The others see that you take care of it.", take_text: "Reminders of this alert end. It stays here until its cause is over.",
  state: "State", urgency: "Urgency", since: "Since", ended: "Ended", about: "About", value: "Measured", limit: "Fires", rule: "Rule", told: "Who was told", channel: "Channel", at: "When", result: "Result", arrived: "arrived", nobody: "Nobody: the rule has no channel.", gateway: "the gateway",
}, {
  back: "Warnungen", alert: "Warnung", look: "Zur Ursache", take: "Ich kümmere mich", taken: "{name} kümmert sich", note: "Notiz für die anderen", note_hint: "zum Beispiel: Agentur gefragt", cancel: "Abbrechen", save: "Übernehmen", done: "Die anderen sehen, dass du dich kümmerst.", take_text: "Erinnerungen an diese Warnung enden. Sie bleibt hier, bis die Ursache vorbei ist.",
  state: "Zustand", urgency: "Dringlichkeit", since: "Seit", ended: "Vorbei", about: "Betrifft", value: "Gemessen", limit: "Meldet sich", rule: "Regel", told: "Wer es erfuhr", channel: "Kanal", at: "Wann", result: "Ergebnis", arrived: "kam an", nobody: "Niemand: Die Regel hat keinen Kanal.", gateway: "das Gateway",
});

const REFRESH_MS = 10_000;
/** The longest note that the gateway takes. */
const NOTE_CHARACTERS = 500;

export default function AlertScreen({ params: { id = "" } }: ScreenProps) {
  const path = `alerts/${encodeURIComponent(id)}`;
  const answer = useResource(path, (signal) => api.get<Alert>(path, {}, signal), { every: REFRESH_MS });
  const it = answer.data;
  const take = () => void openDialog((close) => <Take path={path} close={close} done={answer.reload} />);
  const isOpen = it !== null && it.state === "firing" && !it.acknowledged && can("editor");
  useKeys(isOpen ? [{ keys: "c", text: () => t("take"), run: take }] : []);
  return (
    <Screen title={it?.title ?? t("alert")} back={{ href: link("alerts"), text: t("back") }} lead={it && <span lang={foreign()}>{it.text}</span>}
      actions={it && (
        <>
          {isOpen && <Button icon="check" onClick={take}>{t("take")}</Button>}
          {/^#\//.test(it.link) && <LinkButton kind="main" href={it.link}>{t("look")}</LinkButton>}
        </>
      )}>
      <Loaded from={answer}>
        {(alert) => (
          <>
            <div role="status" class={alert.acknowledged ? "notices" : undefined}>
              {alert.acknowledged && (
                <Notice tone="good"><b>{t("taken", { name: alert.acknowledged.by })}</b> <small class="muted"><Time at={alert.acknowledged.at} /></small>{alert.acknowledged.note && <><br />{alert.acknowledged.note}</>}</Notice>
              )}
            </div>
            <div class="grid"><About it={alert} /><Told it={alert} /></div>
          </>
        )}
      </Loaded>
    </Screen>
  );
}

function About({ it }: { it: Alert }) {
  const { word, tone } = alertState(it.state);
  const rules = useResource("alerts/rules", (signal) => api.get<Page<AlertRule>>("alerts/rules", {}, signal));
  const rule = rules.data?.rows.find((row) => row.name === it.rule);
  return (
    <Card title={kindWords(it.kind)}>
      <Facts rows={[
        [t("state"), <Badge key="s" tone={tone}>{word}</Badge>],
        [t("urgency"), severity(it.severity)],
        [t("about"), [it.site, it.destination].filter(Boolean).join(" / ") || t("gateway")],
        [t("since"), <Time key="t" at={it.since} />],
        it.resolved_at !== null && [t("ended"), <Time key="e" at={it.resolved_at} />],
        [t("value"), <b key="v">{measured(it.kind, it.value)}</b>],
        !!rule && [t("limit"), limitWords(it.kind, it.limit, rule.window_seconds)],
        [t("rule"), <a key="r" class="mono" href={link("alerts", { tab: "rules" })}>{it.rule}</a>],
      ]} />
    </Card>
  );
}

function Told({ it }: { it: Alert }) {
  return (
    <Card title={t("told")}>
      {it.notified.length === 0 ? <p class="muted">{t("nobody")}</p> : (
        <Table caption={t("told")} rows={it.notified} rowKey={(row) => row.channel}
          columns={[
            { head: t("channel"), cell: (row) => row.channel },
            { head: t("at"), cell: (row) => <Time at={row.at} /> },
            { head: t("result"), isWide: true, cell: (row) => (row.error === null ? <Badge tone="good">{t("arrived")}</Badge> : <Badge tone="bad">{row.error}</Badge>) },
          ]} />
      )}
    </Card>
  );
}

function Take({ path, close, done }: { path: string; close: () => void; done: () => void }) {
  const [note, setNote] = useState("");
  const submit = async () => {
    if (!await attempt(() => api.post(`${path}/acknowledge`, note.trim() ? { note: note.trim() } : {}), t("done"))) return;
    close();
    done();
  };
  return (
    <form onSubmit={(event) => { event.preventDefault(); void submit(); }}>
      <DialogTitle close={close}>{t("take")}</DialogTitle>
      <p class="dialog-text">{t("take_text")}</p>
      <label class="field"><span>{t("note")}</span>
        <input value={note} maxLength={NOTE_CHARACTERS} placeholder={t("note_hint")} autofocus onInput={(event) => setNote(event.currentTarget.value)} />
      </label>
      <footer>
        <Button onClick={close}>{t("cancel")}</Button>
        <Button type="submit" kind="main">{t("save")}</Button>
      </footer>
    </form>
  );
}
