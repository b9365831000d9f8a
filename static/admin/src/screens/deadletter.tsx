// One dead letter: what was sent, and what did the vendor answer?

import { api, type DeadLetterDetails } from "../api";
import { count } from "../format";
import { texts } from "../i18n";
import { useKeys } from "../keys";
import { useResource } from "../resource";
import { go, link } from "../router";
import type { ScreenProps } from "../routes";
import { can } from "../session";
import { Button, Card, CodeBlock, Facts, LinkButton, Notice, Reason, Time } from "../ui/basics";
import { JsonView, parsed } from "../ui/json";
import { Loaded, Screen } from "../ui/page";
import { Reveal, useReveal } from "../ui/reveal";
import { actOnOne } from "../delivery/deadacts";
import { gist } from "../delivery/gist";
import { reason } from "../words";

const t = texts({
  title: "Failed: {event}", event: "event", back: "Failed events", retry: "Retry", drop: "Drop", detail: "Particulars", at: "Failed", reason: "Reason", tries: "Tries", site: "Site", id: "Id of the event", destination: "Destination", status: "Status",
  request: "Request", request_body: "Body of the request", reply: "Reply of the vendor", no_call: "It failed before a call: the vendor has not seen it.", no_reply: "The vendor did not reply.", last_call: "The last try", body: "The event", full: "All of the event", removed: "Its destination is not in the configuration any more: it cannot be retried.",
}, {
  title: "Gescheitert: {event}", event: "Ereignis", back: "Gescheiterte Ereignisse", retry: "Neu versuchen", drop: "Verwerfen", detail: "Näheres", at: "Gescheitert", reason: "Grund", tries: "Versuche", site: "Site", id: "Kennung des Ereignisses", destination: "Ziel", status: "Status",
  request: "Anfrage", request_body: "Inhalt der Anfrage", reply: "Antwort des Anbieters", no_call: "Es scheiterte vor einem Aufruf: Der Anbieter hat es nicht gesehen.", no_reply: "Der Anbieter hat nicht geantwortet.", last_call: "Der letzte Versuch", body: "Das Ereignis", full: "Das ganze Ereignis", removed: "Sein Ziel steht nicht mehr in der Konfiguration: Es kann nicht neu versucht werden.",
});

/** A longer reply is no sentence. */
const GIST = 200;

export default function DeadLetterScreen({ params: { id = "" } }: ScreenProps) {
  const reveal = useReveal(id);
  const answer = useResource(`${id}/${reveal.isShown}`, (signal) => api.get<DeadLetterDetails>(`dead/${encodeURIComponent(id)}`, { reveal: reveal.isShown }, signal));
  const it = answer.data;
  const back = link("dead", { site: it?.site });
  const said = it?.last_call ? gist(it.last_call.reply) : "";
  const act = (what: "retry" | "drop") => it && void actOnOne(what, it.id).then((isDone) => isDone && go(back, { replace: true }));
  const isOpen = can("editor") && it !== null;
  useKeys(isOpen ? [{ keys: "r", text: () => t("retry"), run: () => act("retry") }, { keys: "x", text: () => t("drop"), run: () => act("drop") }] : []);
  return (
    <Screen title={it ? t("title", { event: it.event ?? t("event") }) : t("back")} back={{ href: back, text: t("back") }} lead={it && [it.destination, reason(it.reason)].filter(Boolean).join(": ") + (said && said.length < GIST ? `. ${said}` : "")}
      actions={(
        <>
          <Reveal of={reveal} />
          {isOpen && it.destination && <Button kind="main" icon="replay" onClick={() => act("retry")}>{t("retry")}</Button>}
          {isOpen && <Button icon="clear" onClick={() => act("drop")}>{t("drop")}</Button>}
        </>
      )}>
      <Loaded from={answer}>{(letter) => <Letter it={letter} />}</Loaded>
    </Screen>
  );
}

function Letter({ it }: { it: DeadLetterDetails }) {
  return (
    <>
      <Card>
        {!it.destination && <div class="notices"><Notice tone="warn">{t("removed")}</Notice></div>}
        <Facts rows={[
          [t("reason"), <Reason key="r" code={it.reason} />],
          it.detail !== "" && [t("detail"), it.detail],
          it.site !== null && it.destination !== null && [t("destination"), <a key="d" href={link(["destinations", it.site, it.destination])}>{it.destination}</a>],
          [t("at"), <Time key="t" at={it.at} />],
          [t("tries"), count(it.attempts)],
          it.message_id !== null && [t("id"), <span key="m" class="mono">{it.message_id}</span>],
        ]} />
      </Card>
      <div class="grid">
        <Card title={t("last_call")} aside={it.last_call && <Time at={it.last_call.at} />}><Call it={it} /></Card>
        <Card title={t("body")} aside={it.site && <LinkButton kind="quiet" icon="events" href={link(["sites", it.site, "events", it.seq])}>{t("full")}</LinkButton>}>
          <JsonView label={t("body")} value={it.body} open={3} />
        </Card>
      </div>
    </>
  );
}

function Call({ it }: { it: DeadLetterDetails }) {
  const call = it.last_call;
  if (!call) return <p class="muted">{t("no_call")}</p>;
  // The head of the request, an empty line, its body.
  const [head = "", ...rest] = call.request.split("\n\n");
  const body = parsed(rest.join("\n\n"));
  const reply = parsed(call.reply);
  return (
    <div class="stack">
      {call.reply === "" ? <p class="muted">{t("no_reply")}</p>
        : typeof reply === "object" && reply !== null ? <JsonView label={`${t("reply")}${call.status === null ? "" : `, ${t("status")} ${call.status}`}`} value={reply} open={4} />
        : <CodeBlock label={`${t("reply")}${call.status === null ? "" : `, ${t("status")} ${call.status}`}`} text={call.reply} />}
      <CodeBlock label={t("request")} text={head} />
      {body !== "" && (typeof body === "object" && body !== null ? <JsonView label={t("request_body")} value={body} open={5} /> : <CodeBlock label={t("request_body")} text={String(body)} />)}
    </div>
  );
}
