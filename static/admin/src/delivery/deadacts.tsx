// Retrying and dropping dead letters: the number comes first, and later ones are never touched.

import { useEffect, useRef, useState } from "preact/hooks";
import { api, Problem } from "../api";
import { texts } from "../i18n";
import { asProblem } from "../resource";
import { Button, Loading, Notice } from "../ui/basics";
import { DialogTitle, openDialog } from "../ui/dialog";
import { faultText } from "../ui/page";
import { toast } from "../ui/toast";
import { exact } from "../format";
import { reason } from "../words";

const t = texts({
  retry: "Retry failed events", drop: "Drop failed events", will_retry: "{n} {n|event is|events are} sent again. What fails again comes back here with its new reply.", will_drop: "{n} {n|event is|events are} deleted for good: {n|it|they} cannot be sent any more.", none: "No event fits any more: others may have acted meanwhile.",
  later: "Events that fail from now on are not among them.", which: "These:", site: "site {site}", destination: "destination {destination}", reason: "reason: {reason}", event: "event {event}", q: "with “{q}”", from: "from {at}", to: "until {at}", reply: "with this reply", no_reply: "without a reply", act_retry: "Send {n} again", act_drop: "Delete {n}",
  cancel: "Cancel", retried: "{n} {n|event is|events are} sent again.", dropped: "{n} {n|event was|events were} deleted.",
}, {
  retry: "Gescheiterte neu versuchen", drop: "Gescheiterte verwerfen", will_retry: "{n} {n|Ereignis wird|Ereignisse werden} noch einmal gesendet. Was wieder scheitert, kommt mit der neuen Antwort hierher zurück.", will_drop: "{n} {n|Ereignis wird|Ereignisse werden} endgültig gelöscht und {n|kann|können} nicht mehr gesendet werden.", none: "Kein Ereignis passt mehr: Andere waren wohl schneller.",
  later: "Ereignisse, die erst jetzt scheitern, sind nicht darunter.", which: "Diese:", site: "Site {site}", destination: "Ziel {destination}", reason: "Grund: {reason}", event: "Ereignis {event}", q: "mit „{q}“", from: "ab {at}", to: "bis {at}", reply: "mit dieser Antwort", no_reply: "ohne Antwort", act_retry: "{n} neu senden", act_drop: "{n} löschen",
  cancel: "Abbrechen", retried: "{n} {n|Ereignis wird|Ereignisse werden} noch einmal gesendet.", dropped: "{n} {n|Ereignis wurde|Ereignisse wurden} gelöscht.",
});

export interface DeadFilter {
  site: string;
  destination?: string;
  reason?: string;
  event?: string;
  q?: string;
  reply?: string;
  from?: string;
  to?: string;
}

type Act = "retry" | "drop";

interface Selection {
  /** The selection as the API takes it. */
  body: Record<string, unknown>;
  /** Its words, for people. */
  words: string[];
  /** The number, if it is known without asking. */
  count: number | null;
}

/** Acts on all letters that a filter finds, none later than the last that was seen. */
export function actOnAll(act: Act, filter: DeadFilter, last: number): Promise<boolean> {
  const words = [
    t("site", { site: filter.site }),
    filter.destination && t("destination", { destination: filter.destination }),
    filter.reason && t("reason", { reason: reason(filter.reason) }),
    filter.reply !== undefined && t(filter.reply === "" ? "no_reply" : "reply"),
    filter.event && t("event", { event: filter.event }),
    filter.q && t("q", { q: filter.q }),
    filter.from && t("from", { at: exact(filter.from) }),
    filter.to && t("to", { at: exact(filter.to) }),
  ].filter((it): it is string => !!it);
  return open(act, { body: { filter, until_id: last }, words, count: null });
}

/** Acts on one letter. */
export const actOnOne = (act: Act, id: number): Promise<boolean> => open(act, { body: { ids: [id] }, words: [], count: 1 });

async function open(act: Act, selection: Selection): Promise<boolean> {
  let isDone = false;
  await openDialog((close) => <Ask act={act} selection={selection} close={close} done={() => { isDone = true; close(); }} />);
  return isDone;
}

function Ask({ act, selection, close, done }: { act: Act; selection: Selection; close: () => void; done: () => void }) {
  const [planned, setPlanned] = useState(selection.count);
  const [fault, setFault] = useState<Problem | null>(null);
  const [isBusy, setBusy] = useState(false);
  const path = `dead/${act}`;
  useEffect(() => {
    if (selection.count !== null) return;
    api.post<{ count: number }>(path, { ...selection.body, plan: true }).then(
      (answer) => setPlanned(answer.count),
      (error: unknown) => setFault(asProblem(error)),
    );
  }, []);
  const form = useRef<HTMLFormElement>(null);
  useEffect(() => {
    // The button could not take the focus before; the one that deletes does not take it by itself.
    if (planned && act === "retry") form.current?.querySelector<HTMLElement>("[type=submit]")?.focus();
  }, [planned]);
  const submit = async () => {
    setBusy(true);
    try {
      const { count } = await api.post<{ count: number }>(path, selection.count === null ? { ...selection.body, plan: false } : selection.body);
      toast(t(act === "retry" ? "retried" : "dropped", { n: count }));
      done();
    } catch (error) {
      setFault(asProblem(error));
      setBusy(false);
    }
  };
  const isReady = planned !== null && planned > 0 && !isBusy;
  return (
    <form ref={form} onSubmit={(event) => { event.preventDefault(); if (isReady) void submit(); }}>
      <DialogTitle close={close}>{t(act)}</DialogTitle>
      {selection.words.length > 0 && <p class="dialog-text">{t("which")} {selection.words.join(", ")}.</p>}
      <div role="status">
        {planned === null && !fault && <Loading />}
        {planned === 0 && <Notice tone="quiet">{t("none")}</Notice>}
        {planned !== null && planned > 0 && (
          <Notice tone={act === "drop" ? "bad" : "info"}>
            {t(act === "drop" ? "will_drop" : "will_retry", { n: planned })}{selection.count === null && <> {t("later")}</>}
          </Notice>
        )}
      </div>
      <p class="field-fault" role="alert">{fault && faultText(fault)}</p>
      <footer>
        <Button onClick={close}>{t("cancel")}</Button>
        <Button type="submit" kind={act === "drop" ? "danger" : "main"} disabled={!isReady}>{t(act === "drop" ? "act_drop" : "act_retry", { n: planned ?? 0 })}</Button>
      </footer>
    </form>
  );
}
