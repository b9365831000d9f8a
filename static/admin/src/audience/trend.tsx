// The parts that the list of segments and the screen of one share.

import type { Segment } from "../api";
import { share } from "../format";
import { texts } from "../i18n";
import { Sparkline } from "../ui/charts";
import type { Tone } from "../words";

const t = texts({
  running: "runs now", fresh: "fresh", late: "overdue", set_aside: "set aside", counting: "counting: {share}", never: "not run yet", trend: "People over the last runs",
}, {
  running: "läuft gerade", fresh: "aktuell", late: "überfällig", set_aside: "stillgelegt", counting: "zählt: {share}", never: "noch nicht gelaufen", trend: "Personen in den letzten Läufen",
});

/** The lag from which a run counts as overdue: a large one takes some minutes. */
const LATE_MS = 5 * 60_000;

/** The state of a segment in a word, with its tone. */
export function standing(it: Segment): [word: string, tone: Tone] {
  if (it.is_set_aside) return [t("set_aside"), "bad"];
  if (it.counting && !it.counting.is_filled) return [t("counting", { share: share(it.counting.share) }), "info"];
  if (it.is_running) return [t("running"), "info"];
  if (it.due_ms !== null && it.due_ms + LATE_MS < Date.now()) return [t("late"), "warn"];
  return it.ran ? [t("fresh"), "good"] : [t("never"), "quiet"];
}

/** The size over the last runs, which are about equally far apart. */
export function Trend({ of: it, height, bare = false }: { of: Segment; height: number; bare?: boolean }) {
  const [first, last] = [it.trend[0], it.trend.at(-1)];
  if (!first || !last || it.trend.length < 2) return null;
  const step = (last.at_ms - first.at_ms) / 1000 / (it.trend.length - 1);
  return <Sparkline points={it.trend.map(({ size }) => size)} from={new Date(first.at_ms).toISOString()} step={step} label={t("trend")} tone="info" height={height} bare={bare} />;
}
