// Replay: sends the events of a time to one destination once more.

import { useState } from "preact/hooks";
import { api, type Destination, type Page, type ReplayPlan } from "../api";
import { count, duration } from "../format";
import { texts } from "../i18n";
import { asProblem, useResource, type Resource } from "../resource";
import { link, param, setParams } from "../router";
import type { ScreenProps } from "../routes";
import { can, site } from "../session";
import { Button, Figure, LinkButton, Loading, Notice } from "../ui/basics";
import { Filters } from "../ui/filters";
import { Empty, faultText, Loaded, Screen } from "../ui/page";
import { vendor } from "../words";

const t = texts({
  title: "Replay", lead: "Sends what {site} received in a time to one destination once more, for example after a wrong setting.", where: "To which destination?", destination: "Destination", choose: "choose one", when: "Events of which time?", from: "From", to: "Until", hour: "Last hour", day: "Last 24 hours", week: "Last 7 days",
  what: "What would happen", wait_destination: "Choose a destination first.", wait_time: "Choose the time first.", again: "Sent again", again_note: "events that have ended there", dead: "Of these failed", dead_note: "they leave the failed ones", pending: "Left out", pending_note: "still on their way", nothing: "No event of this time has ended at {name}: there is nothing to send again.",
  repeats: "{vendor} {repeats}.", no_repeats: "{vendor} does not recognise repeated events: each counts twice.", age: "{vendor} takes events up to {age} old: older ones fail.", sure: "Start", word: "Type {name} to start", act: "Send {n} {n|event|events} again", admin: "Only an admin can start a replay. Send this page's link to one: it has all choices.",
  done: "{n} {n|event is|events are} on the way to {name}.", follow: "Watch the destination", empty: "There is no destination to send to", empty_text: "Add one to tagway.toml first.", to_destinations: "To the destinations",
}, {
  title: "Nachsenden", lead: "Sendet noch einmal, was {site} in einer Zeit empfing, an ein Ziel, zum Beispiel nach einer falschen Einstellung.", where: "An welches Ziel?", destination: "Ziel", choose: "wähle eines", when: "Ereignisse welcher Zeit?", from: "Von", to: "Bis", hour: "Letzte Stunde", day: "Letzte 24 Stunden", week: "Letzte 7 Tage",
  what: "Was geschehen würde", wait_destination: "Wähle zuerst ein Ziel.", wait_time: "Wähle zuerst die Zeit.", again: "Noch einmal gesendet", again_note: "Ereignisse, die dort erledigt sind", dead: "Davon gescheitert", dead_note: "sie verlassen die gescheiterten", pending: "Ausgelassen", pending_note: "noch unterwegs", nothing: "Kein Ereignis dieser Zeit ist bei {name} erledigt: Es gibt nichts nachzusenden.",
  repeats: "{vendor} {repeats}.", no_repeats: "{vendor} erkennt wiederholte Ereignisse nicht: Jedes zählt doppelt.", age: "{vendor} nimmt Ereignisse, die bis {age} alt sind: ältere scheitern.", sure: "Starten", word: "Tippe {name}, um zu starten", act: "{n} {n|Ereignis|Ereignisse} nachsenden", admin: "Nur ein Verwalter kann nachsenden. Schicke ihm den Link dieser Seite: Er enthält alles Gewählte.",
  done: "{n} {n|Ereignis ist|Ereignisse sind} unterwegs zu {name}.", follow: "Das Ziel beobachten", empty: "Es gibt kein Ziel, an das gesendet werden könnte", empty_text: "Füge zuerst eines in die tagway.toml ein.", to_destinations: "Zu den Zielen",
});

const HOUR_MS = 3_600_000;
const WINDOWS = [["hour", HOUR_MS], ["day", 24 * HOUR_MS], ["week", 7 * 24 * HOUR_MS]] as const;

export default function Replay(_: ScreenProps) {
  const name = site.value;
  const destinations = useResource(name || null, (signal) => api.get<Page<Destination>>("destinations", { site: name }, signal));
  return (
    <Screen title={t("title")} lead={t("lead", { site: name })}>
      <Loaded from={destinations}>
        {({ rows }) => {
          const own = rows.filter((it) => it.site === name);
          return own.length > 0 ? <Wizard destinations={own} /> : (
            <Empty icon="replay" title={t("empty")} action={<LinkButton href={link("destinations")}>{t("to_destinations")}</LinkButton>}>{t("empty_text")}</Empty>
          );
        }}
      </Loaded>
    </Screen>
  );
}

function Wizard({ destinations }: { destinations: Destination[] }) {
  const chosen = destinations.find((it) => it.destination === param("destination")) ?? null;
  const from = param("from");
  const to = param("to");
  const [result, setResult] = useState<number | null>(null);
  const isComplete = chosen !== null && from !== "" && to !== "";
  const selection = { site: site.value, destination: chosen?.destination ?? "", from, to };
  const key = isComplete ? JSON.stringify(selection) : null;
  const plan = useResource(key, () => api.post<ReplayPlan>("replay", { ...selection, plan: true }));
  if (result !== null && chosen) return <Done count={result} it={chosen} />;
  return (
    <ol class="steps">
      <li class="card">
        <h2>{t("where")}</h2>
        <label class="field narrow"><span>{t("destination")}</span>
          <select value={chosen?.destination ?? ""} onChange={(event) => setParams({ destination: event.currentTarget.value })}>
            <option value="">{t("choose")}</option>
            {destinations.map((it) => <option key={it.destination} value={it.destination}>{it.destination}</option>)}
          </select>
        </label>
      </li>
      <li class="card">
        <h2>{t("when")}</h2>
        <div class="actions">
          {WINDOWS.map(([word, span]) => (
            <Button key={word} onClick={() => setParams({ from: new Date(Date.now() - span).toISOString(), to: new Date().toISOString() })}>{t(word)}</Button>
          ))}
        </div>
        <Filters filters={[{ name: "from", label: t("from"), kind: "time", any: null }, { name: "to", label: t("to"), kind: "time", any: null }]} />
      </li>
      <li class="card">
        <h2>{t("what")}</h2>
        <div role="status" class="stack">
          {!chosen ? <p class="muted">{t("wait_destination")}</p> : !isComplete ? <p class="muted">{t("wait_time")}</p> : <Plan plan={plan} it={chosen} from={from} />}
        </div>
      </li>
      {isComplete && plan.data && plan.data.count > 0 && chosen && (
        <li class="card"><h2>{t("sure")}</h2><Start count={plan.data.count} it={chosen} selection={selection} done={setResult} /></li>
      )}
    </ol>
  );
}

function Plan({ plan, it, from }: { plan: Resource<ReplayPlan>; it: Destination; from: string }) {
  if (plan.fault) return <p class="field-fault" role="alert">{faultText(plan.fault)}</p>;
  if (!plan.data) return <Loading />;
  const { count: again, dead, pending, repeats } = plan.data;
  const name = vendor(it.vendor);
  const isOld = it.age_limit_seconds !== null && new Date(from).getTime() < Date.now() - it.age_limit_seconds * 1000;
  if (again === 0) return <p>{t("nothing", { name: it.destination })}</p>;
  return (
    <>
      <div class="figures">
        <Figure label={t("again")} value={count(again)} note={t("again_note")} />
        <Figure label={t("dead")} value={count(dead)} note={t("dead_note")} />
        <Figure label={t("pending")} value={count(pending)} note={t("pending_note")} />
      </div>
      <Notice tone={repeats ? "info" : "warn"}>{repeats ? <span lang="en">{t("repeats", { vendor: name, repeats })}</span> : t("no_repeats", { vendor: name })}</Notice>
      {isOld && it.age_limit_seconds !== null && <Notice tone="warn">{t("age", { vendor: name, age: duration(it.age_limit_seconds) })}</Notice>}
    </>
  );
}

function Start({ count: events, it, selection, done }: {
  count: number; it: Destination; selection: Record<string, string>; done: (count: number) => void;
}) {
  const [typed, setTyped] = useState("");
  const [isBusy, setBusy] = useState(false);
  const [fault, setFault] = useState("");
  if (!can("admin")) return <Notice tone="quiet">{t("admin")}</Notice>;
  const isReady = typed === it.destination && !isBusy;
  const submit = async () => {
    setBusy(true);
    try {
      done((await api.post<ReplayPlan>("replay", { ...selection, plan: false })).count);
    } catch (error) {
      setFault(faultText(asProblem(error)));
      setBusy(false);
    }
  };
  return (
    <form class="stack narrow" onSubmit={(event) => { event.preventDefault(); if (isReady) void submit(); }}>
      <label class="field"><span>{t("word", { name: it.destination })}</span>
        <input value={typed} autocomplete="off" spellcheck={false} aria-describedby="replay-fault" onInput={(event) => setTyped(event.currentTarget.value)} />
      </label>
      <p id="replay-fault" class="field-fault" role="alert">{fault}</p>
      <p><Button type="submit" kind="main" icon="replay" disabled={!isReady}>{t("act", { n: events })}</Button></p>
    </form>
  );
}

function Done({ count: events, it }: { count: number; it: Destination }) {
  return (
    <div role="status">
      <Empty icon="check" title={t("done", { n: events, name: it.destination })} action={<LinkButton kind="main" href={link(["destinations", it.site, it.destination])}>{t("follow")}</LinkButton>} />
    </div>
  );
}
