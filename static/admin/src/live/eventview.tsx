// One event with its fates: in a row of the feed, in a trace and on its own page.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { api, parts, type Called, type EventAnswer, type Json, type Rehearsal } from "../api";
import { milliseconds } from "../format";
import { texts } from "../i18n";
import { asProblem, useResource } from "../resource";
import { link } from "../router";
import { me } from "../session";
import { Badge, Button, Copy, Loading, OutcomeBadge, Reason, Time } from "../ui/basics";
import { JsonView, parsed } from "../ui/json";
import { Fault, Loaded } from "../ui/page";
import { useReveal } from "../ui/reveal";
import { outcome, type Tone } from "../words";
import { changedPaths } from "./changes";
import type { Fate } from "./rows";

const t = texts({
  event: "The event", masked: "Personal data is hidden.", reveal: "Show it", reveal_note: "Looking at it is noted in the audit log.", attempt: "attempt {n}", until: "waits until", dropped: "Left out", request: "Request", reply: "Reply", no_reply: "no reply",
  calls: "{n} {n|call|calls} to the vendor", last_call: "The last call", letter: "Open the failed event", nowhere: "No destination has it yet.", due: "next try",
  would_skip: "would be skipped", would_send: "would be sent", would_die: "would fail", would_hold: "would be held", would_retry: "would be tried again", would_pause: "would wait: the credentials are refused", mapped: "After the mapping", curl: "Copy as cURL", show: "Show what each vendor would get", before: "before it was sent again: {word}",
}, {
  event: "Das Ereignis", masked: "Personenbezogene Daten sind verborgen.", reveal: "Zeigen", reveal_note: "Ein Blick darauf wird im Protokoll vermerkt.", attempt: "Versuch {n}", until: "wartet bis", dropped: "Weggelassen", request: "Anfrage", reply: "Antwort", no_reply: "keine Antwort",
  calls: "{n} {n|Anruf|Anrufe} beim Anbieter", last_call: "Der letzte Anruf", letter: "Das gescheiterte Ereignis öffnen", nowhere: "Noch hat es kein Ziel.", due: "nächster Versuch",
  would_skip: "würde übersprungen", would_send: "würde gesendet", would_die: "würde scheitern", would_hold: "würde zurückgehalten", would_retry: "würde erneut versucht", would_pause: "würde warten: Zugangsdaten abgelehnt", mapped: "Nach der Abbildung", curl: "Als cURL kopieren", show: "Zeigen, was jeder Anbieter bekäme", before: "bevor es erneut gesendet wurde: {word}",
});

/** The canonical event; hidden data is shown to those who may ask for it. */
export function CanonicalEvent({ event, reveal }: { event: Json; reveal: (() => void) | null }) {
  return (
    <>
      <JsonView value={event} label={t("event")} open={3} />
      {reveal && (
        <p class="masked">
          <small class="muted">{t("masked")} {t("reveal_note")}</small> <Button kind="quiet" icon="eye" onClick={reveal}>{t("reveal")}</Button>
        </p>
      )}
    </>
  );
}

/** Loads an event; the second value shows its personal data, and is null if there is no right or no need to. */
export function useEvent(site: string, seq: number | string) {
  const { isShown, toggle } = useReveal(`${site}/${seq}`);
  const found = useResource(`${site}/${seq}/${isShown}`, (signal) =>
    api.get<EventAnswer>(parts("events", site, seq), { reveal: isShown }, signal));
  return [found, me.value?.personal && !isShown ? toggle : null] as const;
}

/** The state of one destination in a line: word, reason, time. */
export function FateLine({ fate, children }: {
  fate: Pick<Fate, "destination" | "outcome" | "reason" | "detail" | "attempt" | "milliseconds" | "until">; children?: ComponentChildren;
}) {
  return (
    <div class="fate-line">
      <b>{fate.destination}</b>
      <OutcomeBadge code={fate.outcome} />
      {fate.reason && <Reason code={fate.reason} />}
      <span class="fate-facts">
        {fate.milliseconds !== null && <span>{milliseconds(fate.milliseconds)}</span>}
        {fate.attempt !== null && fate.attempt > 1 && <span>{t("attempt", { n: fate.attempt })}</span>}
        {fate.until && <span>{t("until")} <Time at={fate.until} clock /></span>}
        {children}
      </span>
      {fate.detail && <p class="muted">{fate.detail}</p>}
    </div>
  );
}

/** A call as the feed tells it. */
export function Calls({ calls }: { calls: readonly Called[] }) {
  if (calls.length === 0) return null;
  return (
    <details class="calls">
      <summary>{t("calls", { n: calls.length })}</summary>
      {calls.map((it) => (
        <div class="call" key={`${it.at}${it.milliseconds}`}>
          <p><Time at={it.at} clock /> <code>{it.request}</code></p>
          <Exchange request={it.body} status={it.status ?? null} reply={it.reply} />
        </div>
      ))}
    </details>
  );
}

/** What was asked and what was answered, side by side. */
function Exchange({ request, status, reply }: { request: string; status: number | null; reply: string }) {
  return (
    <div class="exchange">
      <JsonView value={parsed(request)} label={t("request")} open={4} />
      <JsonView value={parsed(reply)} label={`${t("reply")} · ${status ?? t("no_reply")}`} open={4} />
    </div>
  );
}

/** The fates of an event as the feed knows them, each with its calls. */
export function Fates({ fates }: { fates: readonly Fate[] }) {
  return (
    <ul class="fates">
      {fates.map((it) => (
        <li key={it.destination}>
          <FateLine fate={it} />
          {it.dropped.length > 0 && <p class="muted"><small>{t("dropped")}: {it.dropped.join("; ")}</small></p>}
          <Calls calls={it.calls} />
        </li>
      ))}
    </ul>
  );
}

/** The fates of an event as the journal knows them. */
export function Outcomes({ answer }: { answer: EventAnswer }) {
  if (answer.destinations.length === 0) return <p class="muted">{t("nowhere")}</p>;
  return (
    <ul class="fates">
      {answer.destinations.map((it) => (
        <li key={it.destination}>
          <FateLine fate={{
            destination: it.destination, outcome: it.outcome, reason: it.reason ?? "", detail: it.detail ?? null, attempt: it.attempts ?? null, milliseconds: null,
            until: it.outcome === "held" ? it.due_at ?? null : null,
          }}>{it.at && <Time at={it.at} />}</FateLine>
          <p class="fate-facts">
            {it.due_at && it.outcome !== "held" && <span>{t("due")} <Time at={it.due_at} /></span>}
            {it.state_reason && it.outcome !== "delivered" && it.outcome !== "skipped" && <span>{it.state_reason}</span>}
            {it.before && <span>{t("before", { word: outcome(it.before.outcome).word })}</span>}
            {it.dead_letter !== undefined && <a href={link(["dead", it.dead_letter])}>{t("letter")}</a>}
          </p>
          {it.last_call && (
            <details class="calls">
              <summary>{t("last_call")}</summary>
              <div class="call"><LastCall {...it.last_call} /></div>
            </details>
          )}
        </li>
      ))}
    </ul>
  );
}

/** A kept call: its request is method and address, and below them the body. */
export function LastCall({ at, request, status, reply }: { at: string; request: string; status: number | null; reply: string }) {
  const [head = "", ...body] = request.split(/\r?\n\r?\n/);
  return (
    <>
      <p><Time at={at} /> <code>{head}</code></p>
      <Exchange request={body.join("\n\n")} status={status} reply={reply} />
    </>
  );
}

const WOULD = {
  sent: ["would_send", "good"], skipped: ["would_skip", "quiet"], dead: ["would_die", "bad"], held: ["would_hold", "wait"], retry: ["would_retry", "warn"], paused: ["would_pause", "warn"],
} as const satisfies Record<string, readonly [string, Tone]>;

/** A text in the quotes of a shell. */
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/** The request as a command; its secrets are redacted already. */
function curl({ method, url, headers, body }: { method: string; url: string; headers: Record<string, string>; body: string }): string {
  const fields = Object.entries(headers).map(([name, value]) => `-H ${quoted(`${name}: ${value}`)}`);
  return ["curl", "-X", method, quoted(url), ...fields, "--data-raw", quoted(body)].join(" ");
}

function Would({ code }: { code: string }) {
  const found = code in WOULD ? WOULD[code as keyof typeof WOULD] : null;
  return found ? <Badge tone={found[1]}>{t(found[0])}</Badge> : <OutcomeBadge code={code} />;
}

/** The event as it would be sent now, for each destination: before and after the mapping, and the request. */
export function Rehearse({ site, seq, event, isOpen = false }: {
  site: string; seq: number;
  /** The event before the mapping. */
  event: Json | null; isOpen?: boolean;
}) {
  const [isAsked, setAsked] = useState(isOpen);
  const found = useResource(isAsked ? `${site}/${seq}` : null, () => api.post<Rehearsal>("rehearse", { site, seq }));
  if (!isAsked) return <Button icon="play" onClick={() => setAsked(true)}>{t("show")}</Button>;
  return (
    <Loaded from={found}>
      {(answer) => (
        <ul class="fates">
          {answer.destinations.map((it) => (
            <li key={it.destination}>
              <div class="fate-line">
                <b>{it.destination}</b><Would code={it.outcome} />
                {it.reason && <Reason code={it.reason} />}
                {it.detail && <p class="muted">{it.detail}</p>}
              </div>
              {it.problems.map((row) => <p key={row.place} class="warned"><code>{row.place}</code> {row.problem}</p>)}
              {it.dropped.length > 0 && <p class="muted"><small>{t("dropped")}: {it.dropped.join("; ")}</small></p>}
              {it.request && (
                <details class="calls">
                  <summary><code>{it.request.method} {it.request.url}</code></summary>
                  <p class="curl"><Copy text={curl(it.request)} label={t("curl")} /></p>
                  <div class="call exchange">
                    {it.mapped !== null && <JsonView value={it.mapped} label={t("mapped")} open={3} marked={event === null ? undefined : changedPaths(event, it.mapped)} />}
                    <JsonView value={parsed(it.request.body)} label={t("request")} open={4} />
                  </div>
                </details>
              )}
            </li>
          ))}
        </ul>
      )}
    </Loaded>
  );
}

/** The inside of a row: the event at the left, its fates at the right. */
export function RowDetail({ site, seq, fates }: { site: string; seq: number; fates: readonly Fate[] }) {
  const [found, reveal] = useEvent(site, seq);
  return (
    <div class="row-detail">
      <div>
        {found.data ? <CanonicalEvent event={found.data.event} reveal={reveal} />
          : found.fault ? <Fault fault={asProblem(found.fault)} retry={found.reload} /> : <Loading />}
      </div>
      <div>
        {fates.length > 0 ? <Fates fates={fates} /> : found.data && <Outcomes answer={found.data} />}
        <Rehearse site={site} seq={seq} event={found.data?.event ?? null} />
      </div>
    </div>
  );
}
