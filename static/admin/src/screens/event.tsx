// Event: what is in it, what became of it, and what would become of it now?

import { texts } from "../i18n";
import { CanonicalEvent, Outcomes, Rehearse, useEvent } from "../live/eventview";
import { link } from "../router";
import type { ScreenProps } from "../routes";
import { Card, Copy, LinkButton, Time } from "../ui/basics";
import { Fault, Loaded, Screen } from "../ui/page";
import type { EventAnswer, Json } from "../api";
import { can } from "../session";

const t = texts({
  title: "Event {seq}", back: "Events", received: "Received", at_destinations: "At the destinations", now: "As it would be sent now", now_text: "The code that sends, without sending.", replay: "Send it again", older: "Older", newer: "Newer", neighbours: "Events before and after", message: "Copy the message id",
  gone: "Events are kept for the time that journal.retain says. This one is older, or was never there.",
}, {
  title: "Ereignis {seq}", back: "Ereignisse", received: "Empfangen", at_destinations: "An den Zielen", now: "So würde es jetzt gesendet", now_text: "Der Code, der sendet, ohne zu senden.", replay: "Erneut senden", older: "Älter", newer: "Neuer", neighbours: "Ereignisse davor und danach", message: "Message-ID kopieren",
  gone: "Ereignisse werden so lange aufbewahrt, wie journal.retain sagt. Dieses ist älter, oder es gab es nie.",
});

const member = (event: Json, name: string): string => {
  const value = event !== null && typeof event === "object" && !Array.isArray(event) ? event[name] : null;
  return typeof value === "string" ? value : "";
};

export default function Event({ params }: ScreenProps) {
  const { site = "", seq = "" } = params;
  const [found, reveal] = useEvent(site, seq);
  const back = { href: link("events", { site }), text: t("back") };
  if (found.fault && !found.data) {
    return <Screen title={t("title", { seq })} back={back}><Fault fault={found.fault} retry={found.reload} />{found.fault.status === 404 && <p class="muted center">{t("gone")}</p>}</Screen>;
  }
  return <Loaded from={found}>{(answer) => <Found answer={answer} reveal={reveal} back={back} />}</Loaded>;
}

function Found({ answer, reveal, back }: { answer: EventAnswer; reveal: (() => void) | null; back: { href: string; text: string } }) {
  const { site, seq, event } = answer;
  const name = member(event, "event") || member(event, "type");
  return (
    <Screen title={name || t("title", { seq: String(seq) })} back={back} lead={<>{t("received")} <Time at={answer.received_at} /> · {site} · <span class="mono">{seq}</span></>}
      actions={
        <>
          <Copy text={member(event, "messageId")} label={t("message")} />
          {can("editor") && <LinkButton icon="replay" href={link("replay", { site })}>{t("replay")}</LinkButton>}
          <nav class="neighbours" aria-label={t("neighbours")}>
            <a class="button" href={link(["sites", site, "events", seq - 1])}>{t("older")}</a>
            <a class="button" href={link(["sites", site, "events", seq + 1])}>{t("newer")}</a>
          </nav>
        </>
      }>
      <div class="grid halves">
        <Card title={t("at_destinations")}><Outcomes answer={answer} /></Card>
        <div class="stack"><CanonicalEvent event={event} reveal={reveal} /></div>
      </div>
      <Card title={t("now")} aside={t("now_text")}><Rehearse key={`${site}/${seq}`} site={site} seq={seq} event={event} isOpen /></Card>
    </Screen>
  );
}
