// Match quality: can the vendor recognise the people of the events, and what would help most?

import { api, parts, type Destination, type MatchQuality } from "../api";
import { count, decimal, share } from "../format";
import { texts } from "../i18n";
import { useResource } from "../resource";
import { Badge, Card, Figure, Notice, Time } from "../ui/basics";
import { Meter, ShareBar } from "../ui/charts";
import { Empty, Loaded } from "../ui/page";
import { Table } from "../ui/table";
import { spoken, vendor, type Tone } from "../words";
import { Advice } from "./advice";

const t = texts({
  score: "Match quality", of_ten: "{score} of 10", good: "{vendor} can match most events to people.", fair: "{vendor} misses some people.", poor: "{vendor} can match few events to people.", sample: "The newest {n} events of the last {days} {days|day|days}, measured",
  most: "This would help most", keys: "What the events say about people", key: "Known by", known: "Events with it", weight: "How much it helps", high: "a lot", medium: "some", low: "a little", raise: "How to get more", enough: "enough", dedupe: "Counted once", dedupe_text: "Share of the events that {vendor} recognises if the page reports them as well.",
  dedupe_none: "{vendor} does not have to recognise repeated events here.", consent: "Consent of the visitors", granted: "granted", denied: "denied", unknown: "not asked yet", none: "No events in the last {days} {days|day|days}", none_text: "As soon as {vendor} gets events, this shows how well it can match them.",
}, {
  score: "Wiedererkennung", of_ten: "{score} von 10", good: "{vendor} kann die meisten Ereignisse Personen zuordnen.", fair: "{vendor} verfehlt einige Personen.", poor: "{vendor} kann wenige Ereignisse Personen zuordnen.", sample: "Die neuesten {n} Ereignisse aus {days} {days|Tag|Tagen}, gemessen",
  most: "Das würde am meisten helfen", keys: "Was die Ereignisse über Personen sagen", key: "Bekannt durch", known: "Ereignisse damit", weight: "Wie sehr es hilft", high: "sehr", medium: "etwas", low: "wenig", raise: "So werden es mehr", enough: "genug", dedupe: "Einmal gezählt", dedupe_text: "Anteil der Ereignisse, die {vendor} erkennt, wenn die Seite sie auch meldet.",
  dedupe_none: "{vendor} muss hier keine wiederholten Ereignisse erkennen.", consent: "Einwilligung der Besucher", granted: "erteilt", denied: "verweigert", unknown: "noch nicht gefragt", none: "Keine Ereignisse in {days} {days|Tag|Tagen}", none_text: "Sobald {vendor} Ereignisse bekommt, siehst du hier, wie gut es sie zuordnen kann.",
});

const labels = texts({
  email: "E-mail address", phone: "Telephone number", external_id: "Your own user id", user_id: "Your own user id", ip: "IP address", user_agent: "Browser's name", fbp: "Browser id (_fbp)", fbc: "Click on an ad (_fbc)",
  client_id: "Browser", device_id: "Browser or device", anonymous_id: "Browser or device", first_name: "First name", last_name: "Last name", city: "City", state: "State", postal_code: "Postal code", country: "Country", birthday: "Date of birth", gender: "Gender",
}, {
  email: "E-Mail-Adresse", phone: "Telefonnummer", external_id: "Deine eigene Kennung", user_id: "Deine eigene Kennung", ip: "IP-Adresse", user_agent: "Name des Browsers", fbp: "Kennung des Browsers (_fbp)", fbc: "Klick auf eine Anzeige (_fbc)",
  client_id: "Browser", device_id: "Browser oder Gerät", anonymous_id: "Browser oder Gerät", first_name: "Vorname", last_name: "Nachname", city: "Ort", state: "Bundesland", postal_code: "Postleitzahl", country: "Land", birthday: "Geburtsdatum", gender: "Geschlecht",
});

type Key = MatchQuality["keys"][number];

const WEIGHTS = { high: 3, medium: 2, low: 1 };
/** The score from which a vendor matches most events, and from which it matches many. */
const GOOD = 7;
const FAIR = 4;

const label = (it: Key): string => {
  const own = labels(it.key as Parameters<typeof labels>[0]);
  return own === it.key ? it.label || spoken(it.key) : own;
};

/** The gain by more of a key, for the order. */
const gain = (it: Key): number => (it.raise === null ? 0 : WEIGHTS[it.weight] * (1 - it.share));

const shareTone = (value: number): Tone => (value >= 0.8 ? "good" : value >= 0.4 ? "info" : "warn");

export function Quality({ it }: { it: Destination }) {
  const path = `${parts("destinations", it.site, it.destination)}/match-quality`;
  const answer = useResource(path, (signal) => api.get<MatchQuality>(path, {}, signal));
  return <Loaded from={answer}>{(quality) => <Measured quality={quality} name={vendor(it.vendor)} />}</Loaded>;
}

function Measured({ quality, name }: { quality: MatchQuality; name: string }) {
  const { score, days, events, consent, dedupe } = quality;
  if (score === null || events === 0) return <Card><Empty icon="people" title={t("none", { days })}>{t("none_text", { vendor: name })}</Empty></Card>;
  const keys = [...quality.keys].sort((a, b) => WEIGHTS[b.weight] - WEIGHTS[a.weight] || b.share - a.share);
  const best = quality.keys.filter((key) => gain(key) > 0).sort((a, b) => gain(b) - gain(a))[0];
  const tone: Tone = score >= GOOD ? "good" : score >= FAIR ? "warn" : "bad";
  return (
    <>
      <Card>
        <div class="quality">
          <Figure label={t("score")} value={t("of_ten", { score: decimal(score) })} tone={tone} />
          <div>
            <Meter value={score / 10} tone={tone} label={t("of_ten", { score: decimal(score) })} />
            <p>{t(score >= GOOD ? "good" : score >= FAIR ? "fair" : "poor", { vendor: name })}</p>
            <p class="muted">{t("sample", { n: events, days })} <Time at={quality.measured_at} />.</p>
          </div>
        </div>
        {best?.raise && <Notice tone="info"><b>{t("most")}: {label(best)}</b><br /><Advice text={best.raise} /></Notice>}
      </Card>
      <Card title={t("keys")}>
        <Table caption={t("keys")} rows={keys} rowKey={(key) => key.key}
          columns={[
            { head: t("key"), cell: (key) => <>{label(key)}<code class="code">{key.key}</code></> },
            { head: t("known"), isNumber: true, cell: (key) => <span class="portion" title={count(key.events)}>{share(key.share)}<Meter value={key.share} tone={shareTone(key.share)} label={share(key.share)} /></span> },
            { head: t("weight"), cell: (key) => <Badge tone={key.weight === "high" ? "info" : "quiet"}>{t(key.weight)}</Badge> },
            { head: t("raise"), isWide: true, cell: (key) => (key.raise === null ? <span class="muted">{t("enough")}</span> : <Advice text={key.raise} />) },
          ]} />
      </Card>
      <div class="grid">
        <Card title={t("dedupe")}>
          {dedupe.share === null ? <p class="muted">{t("dedupe_none", { vendor: name })}</p> : (
            <div class="stack">
              <Figure label={t("dedupe_text", { vendor: name })} value={share(dedupe.share)} tone={dedupe.share < 0.95 ? "warn" : undefined} />
              {dedupe.raise && <Notice tone="info"><Advice text={dedupe.raise} /></Notice>}
            </div>
          )}
        </Card>
        <Card title={t("consent")}>
          <ShareBar label={t("consent")} parts={[
            { label: t("granted"), tone: "good", value: consent.granted },
            { label: t("denied"), tone: "quiet", value: consent.denied },
            { label: t("unknown"), tone: "wait", value: consent.unknown },
          ]} />
        </Card>
      </div>
    </>
  );
}
