// The rights of a person: a copy of what is stored, and its erasure.

import { api, type Json, type Person } from "../api";
import { texts } from "../i18n";
import { confirmAct } from "../ui/dialog";
import { attempt, toast } from "../ui/toast";

const t = texts({
  saved: "{n} {n|record|records} saved.", title: "Forget this person", text: "Deletes the profile, all of its events in the journal and its failed events, and refuses the person's names from now on. It cannot be undone.", holds: "Now stored: {names} {names|name|names}, {events} counted {events|event|events}.",
  vendors: "The destinations keep what they got: ask them to erase it, too.", word: "Type {word} to confirm", act: "Forget",
}, {
  saved: "{n} {n|Datensatz|Datensätze} gespeichert.", title: "Diese Person vergessen", text: "Löscht das Profil, alle Ereignisse der Person im Journal und ihre gescheiterten Ereignisse, und weist ihre Namen von nun an ab. Das lässt sich nicht rückgängig machen.", holds: "Jetzt gespeichert: {names} {names|Name|Namen}, {events} gezählte {events|Ereignis|Ereignisse}.",
  vendors: "Die Ziele behalten, was sie bekamen: Bitte auch sie um Löschung.", word: "Tippe {word}, um zu bestätigen", act: "Vergessen",
});

export interface Forgotten {
  /** A name of the person, if it was shown: by it their events can be accepted again, as the number is gone. */
  name: string | null;
  suppressed: number;
  erased: { profiles: number; events: number; parked: number; dead: number };
}

interface ExportPage {
  held: Json[];
  next: Json;
}

/** The most that is gathered in the browser; the CLI exports what is longer. */
const RECORDS = 100_000;

/** Saves all that is stored about a person as lines of JSON. */
export async function exportPerson(site: string, profile: number, progress: (records: number) => void): Promise<void> {
  const lines: string[] = [];
  let from: Json = null;
  do {
    const page: ExportPage = await api.post<ExportPage>("export", { site, profile, ...(from !== null && { from }) });
    for (const it of page.held) lines.push(JSON.stringify(it));
    progress(lines.length);
    from = page.next ?? null;
  } while (from !== null && lines.length < RECORDS);
  const url = URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "application/x-ndjson" }));
  const anchor = document.createElement("a");
  anchor.href = url;
  anchor.download = `person-${site}-${profile}.ndjson`;
  anchor.click();
  URL.revokeObjectURL(url);
  toast(t("saved", { n: lines.length }));
}

/** A name by which people know the person, if it is shown. */
function nameOf(person: Person, isShown: boolean): string | null {
  const email = person.traits["email"];
  return isShown ? person.user_id ?? (typeof email === "string" ? email : null) : null;
}

/** Asks with a typed word, and erases; null if it was not done. */
export async function forgetPerson(site: string, profile: number, person: Person, isShown: boolean): Promise<Forgotten | null> {
  const name = nameOf(person, isShown);
  const word = name ?? String(profile);
  const events = Object.values(person.activity).reduce((sum, it) => sum + it.count, 0);
  const isSure = await confirmAct({
    title: t("title"), act: t("act"), isDanger: true, word: { label: t("word", { word }), value: word },
    body: (
      <div class="stack">
        <p>{t("text")}</p>
        <p><b>{t("holds", { names: person.identities.length, events })}</b></p>
        <p>{t("vendors")}</p>
      </div>
    ),
  });
  let result: Forgotten | null = null;
  if (isSure) await attempt(async () => { result = { ...await api.post<Omit<Forgotten, "name">>("forget", { site, profile }), name }; });
  return result;
}
