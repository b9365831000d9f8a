// The acts on a destination: each says in numbers what it will do.

import { useState } from "preact/hooks";
import { api, Problem, type Destination } from "../api";
import { duration, exact } from "../format";
import { texts } from "../i18n";
import { asProblem } from "../resource";
import { Button, Notice } from "../ui/basics";
import { confirmAct, DialogTitle, openDialog } from "../ui/dialog";
import { faultText } from "../ui/page";
import { attempt, toast } from "../ui/toast";
import { vendor } from "../words";

const t = texts({
  pause: "Pause {name}", pause_text: "From now on events for {name} wait on the disk. Nothing is lost, and the other destinations go on.", waiting: "{n} {n|event waits|events wait} already.",
  limit: "{vendor} takes events up to {age} old: resume before, or they fail.", no_limit: "{vendor} takes events of any age.", expires: "The oldest that waits now is too old at {at}.", why: "Reason, for your colleagues and the alerts", why_hint: "for example: the agency checks the pixel", until: "Resume by itself",
  never: "no, I resume it", hour: "in an hour", morning: "tomorrow at 8:00", custom: "at a time", at: "Time", cancel: "Cancel", act: "Pause", past: "This time is over.", paused: "{name} is paused.", resumed: "{name} gets its events again.",
  resume: "Resume {name}", resume_text: "{n} {n|event has|events have} waited and {n|is|are} sent now, oldest first.", resume_none: "No events have waited.", resume_act: "Resume", test: "Send a test event to {name}", test_text: "One event with made-up data goes to {name} alone: the other destinations skip it, and no profile changes. {vendor} counts it like any other.", test_act: "Send",
}, {
  pause: "{name} pausieren", pause_text: "Von jetzt an warten die Ereignisse für {name} auf der Platte. Nichts geht verloren, und die anderen Ziele laufen weiter.", waiting: "{n} {n|Ereignis wartet|Ereignisse warten} schon.",
  limit: "{vendor} nimmt Ereignisse, die bis {age} alt sind: setze es vorher fort, sonst scheitern sie.", no_limit: "{vendor} nimmt Ereignisse jedes Alters.", expires: "Das älteste wartende ist ab {at} zu alt.", why: "Grund, für deine Kollegen und die Warnungen", why_hint: "zum Beispiel: die Agentur prüft das Pixel", until: "Von selbst fortsetzen",
  never: "nein, ich setze es fort", hour: "in einer Stunde", morning: "morgen um 8:00", custom: "zu einer Zeit", at: "Zeit", cancel: "Abbrechen", act: "Pausieren", past: "Diese Zeit ist vorbei.", paused: "{name} ist pausiert.", resumed: "{name} bekommt wieder seine Ereignisse.",
  resume: "{name} fortsetzen", resume_text: "{n} {n|Ereignis hat|Ereignisse haben} gewartet und {n|wird|werden} jetzt gesendet, das älteste zuerst.", resume_none: "Keine Ereignisse haben gewartet.", resume_act: "Fortsetzen", test: "Testereignis an {name} senden", test_text: "Ein Ereignis mit erfundenen Daten geht allein an {name}: Die anderen Ziele überspringen es, und kein Profil ändert sich. {vendor} zählt es wie jedes andere.", test_act: "Senden",
});

const HOUR_MS = 3_600_000;
const MORNING_HOUR = 8;
/** The longest reason that the gateway takes. */
const WHY_CHARACTERS = 500;

const named = (it: Destination) => ({ site: it.site, destination: it.destination });

/** Asks for the reason and pauses. */
export function pause(it: Destination): Promise<void> {
  return openDialog((close) => <Pause it={it} close={close} />);
}

type End = "never" | "hour" | "morning" | "custom";

function endOf(end: End, custom: string): Date | null {
  if (end === "never") return null;
  if (end === "hour") return new Date(Date.now() + HOUR_MS);
  if (end === "custom") return new Date(custom);
  const morning = new Date();
  morning.setDate(morning.getDate() + 1);
  morning.setHours(MORNING_HOUR, 0, 0, 0);
  return morning;
}

function Pause({ it, close }: { it: Destination; close: () => void }) {
  const [why, setWhy] = useState("");
  const [end, setEnd] = useState<End>("never");
  const [custom, setCustom] = useState("");
  const [fault, setFault] = useState<Problem | string | null>(null);
  const name = it.destination;
  const submit = async () => {
    const until = endOf(end, custom);
    if (until !== null && !(until.getTime() > Date.now())) return setFault(t("past"));
    try {
      await api.post("destinations/pause", { ...named(it), why: why.trim(), ...(until && { until: until.toISOString() }) });
      toast(t("paused", { name }));
      close();
    } catch (error) {
      setFault(asProblem(error));
    }
  };
  return (
    <form onSubmit={(event) => { event.preventDefault(); void submit(); }}>
      <DialogTitle close={close}>{t("pause", { name })}</DialogTitle>
      <p class="dialog-text">{t("pause_text", { name })} {it.ledger.pending > 0 && t("waiting", { n: it.ledger.pending })}</p>
      <Notice tone={it.age_limit_seconds === null ? "quiet" : "warn"}>
        {it.age_limit_seconds === null ? t("no_limit", { vendor: vendor(it.vendor) }) : t("limit", { vendor: vendor(it.vendor), age: duration(it.age_limit_seconds) })}
        {it.oldest_expires_at && <> {t("expires", { at: exact(it.oldest_expires_at) })}</>}
      </Notice>
      <label class="field"><span>{t("why")}</span>
        <input value={why} maxLength={WHY_CHARACTERS} placeholder={t("why_hint")} autofocus onInput={(event) => setWhy(event.currentTarget.value)} />
      </label>
      <fieldset class="choices">
        <legend>{t("until")}</legend>
        {(["never", "hour", "morning", "custom"] as const).map((value) => (
          <label key={value} class="check"><input type="radio" name="end" checked={end === value} onChange={() => setEnd(value)} />{t(value)}</label>
        ))}
      </fieldset>
      {end === "custom" && (
        <label class="field"><span>{t("at")}</span>
          <input type="datetime-local" required value={custom} aria-describedby="pause-fault" onInput={(event) => setCustom(event.currentTarget.value)} />
        </label>
      )}
      <p id="pause-fault" class="field-fault" role="alert">{typeof fault === "string" ? fault : fault && faultText(fault)}</p>
      <footer>
        <Button onClick={close}>{t("cancel")}</Button>
        <Button type="submit" kind="main">{t("act")}</Button>
      </footer>
    </form>
  );
}

/** Says how many events wait, and resumes. */
export async function resume(it: Destination): Promise<void> {
  const name = it.destination;
  const waiting = it.ledger.pending;
  const isSure = await confirmAct({ title: t("resume", { name }), body: waiting > 0 ? t("resume_text", { n: waiting }) : t("resume_none"), act: t("resume_act") });
  if (isSure) await attempt(() => api.post("destinations/resume", named(it)), t("resumed", { name }));
}

/** Sends a test event; its number in the site, or null. */
export async function sendTest(it: Destination): Promise<number | null> {
  const name = it.destination;
  const isSure = await confirmAct({ title: t("test", { name }), body: t("test_text", { name, vendor: vendor(it.vendor) }), act: t("test_act") });
  let seq: number | null = null;
  if (isSure) await attempt(async () => { seq = (await api.post<{ seq: number }>("destinations/test", named(it))).seq; });
  return seq;
}
