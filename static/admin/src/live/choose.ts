// Which lines of the feed are worth reading: at thousands a second, most of them are never parsed. Pure, so that
// its numbers can be checked without a browser.

import type { FeedLine, Happening } from "../api";

const ACCEPTED = '{"what":"accepted"';
const SETTLED = '{"what":"settled"';
const MISSED = '{"what":"missed"';

export interface Choice {
  /** What happened, in the order of the feed. */
  happenings: Happening[];
  /** The events that are left out, by their numbers. */
  passed: number[];
  /** The entries that the gateway left out. */
  missed: number;
}

/** The number of events that arrive in a text of the feed. */
export function countAccepted(text: string): number {
  let count = 0;
  for (let at = text.indexOf(ACCEPTED); at >= 0; at = text.indexOf(ACCEPTED, at + ACCEPTED.length)) count++;
  return count;
}

const SEQ = '"seq":';
const SEQS = '"seqs":[';

/** The numbers of the events that a line is about, without reading all of it. */
function seqsIn(line: string): number[] {
  const at = line.indexOf(SEQ);
  if (at >= 0) return [Number.parseInt(line.slice(at + SEQ.length, at + SEQ.length + 20), 10)];
  const list = line.indexOf(SEQS);
  if (list < 0) return [];
  return line.slice(list + SEQS.length, line.indexOf("]", list)).split(",").map(Number);
}

function parse(line: string): FeedLine | null {
  try {
    return JSON.parse(line) as FeedLine;
  } catch {
    // The gateway ended in the middle of a line.
    return null;
  }
}

/** Parts the lines into those about the events that are `known`, or about the feed itself, and the others. */
export function partition(lines: readonly string[], known: (seq: number) => boolean): [ours: string[], others: string[]] {
  const [ours, others]: [string[], string[]] = [[], []];
  for (const line of lines) (line.startsWith(MISSED) || seqsIn(line).some(known) ? ours : others).push(line);
  return [ours, others];
}

/**
 * Reads the newest `most` of the events that are new on the page, and everything about these and about the
 * events that are `known`. What is about an event that `isPassed` is about nothing on the page.
 */
export function choose(
  lines: readonly string[], most: number, known: (seq: number) => boolean, isPassed: (seq: number) => boolean,
): Choice {
  const choice: Choice = { happenings: [], passed: [], missed: 0 };
  const about = lines.map(seqsIn);
  const fresh = new Set<number>();
  lines.forEach((line, index) => {
    // An event that arrived before the page did is new with its settlement.
    if (!line.startsWith(ACCEPTED) && !line.startsWith(SETTLED)) return;
    for (const seq of about[index] ?? []) if (!known(seq) && !isPassed(seq)) fresh.add(seq);
  });
  const ordered = [...fresh];
  const chosen = new Set(ordered.slice(Math.max(0, ordered.length - most)));
  choice.passed = ordered.slice(0, ordered.length - chosen.size);
  lines.forEach((line, index) => {
    const isMissed = line.startsWith(MISSED);
    if (!isMissed && !about[index]?.some((seq) => chosen.has(seq) || known(seq))) return;
    const found = parse(line);
    if (found?.what === "missed") choice.missed += found.count;
    else if (found && found.what !== "live") choice.happenings.push(found);
  });
  return choice;
}
