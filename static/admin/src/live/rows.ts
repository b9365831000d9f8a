// Happenings gathered by their event: one row for an event, with its fate at each destination.

import { signal, type Signal } from "@preact/signals";
import type { Accepted, Called, Happening, Held } from "../api";

export interface Fate {
  destination: string;
  /** `delivered`, `skipped`, `dead`, `retry` or `held`; `calling` until the first settlement. */
  outcome: string;
  reason: string;
  detail: string | null;
  dropped: string[];
  attempt: number | null;
  milliseconds: number | null;
  until: string | null;
  calls: Called[];
}

export interface Row {
  id: string;
  site: string;
  seq: number;
  at: string;
  event: string;
  messageId: string;
  /** What is known from its acceptance; null if only its settlement was seen. */
  accepted: Accepted | null;
  /** By destination. */
  fates: Map<string, Fate>;
  /** Rises with each change of the fates, so that only this row is drawn again. */
  version: Signal<number>;
}

/** The calls that are kept of one event at one destination. */
const CALLS = 10;

export const rowId = (site: string, seq: number): string => `${site}/${seq}`;

/** The events that a happening is about. */
export const seqsOf = (happening: Happening): number[] => (happening.what === "called" ? happening.seqs : [happening.seq]);

/** A row for an event that a happening names; null if the happening says too little of it. */
export function newRow(happening: Happening, seq: number): Row | null {
  if (happening.what === "called" || happening.what === "held") return null;
  return {
    id: rowId(happening.site, seq), site: happening.site, seq, at: happening.at, event: happening.event, messageId: happening.message_id,
    accepted: happening.what === "accepted" ? happening : null, fates: new Map(), version: signal(0),
  };
}

const unknown = (destination: string): Fate => ({
  destination, outcome: "calling", reason: "", detail: null, dropped: [], attempt: null, milliseconds: null, until: null, calls: [],
});

/** The fate after a happening. */
function changed(fate: Fate, happening: Exclude<Happening, Accepted>): Fate {
  if (happening.what === "called") return { ...fate, milliseconds: happening.milliseconds, calls: withCall(fate.calls, happening) };
  if (happening.what === "held") return { ...fate, ...ofHold(happening) };
  return {
    ...fate, outcome: happening.outcome, reason: happening.reason, detail: happening.detail ?? null, dropped: happening.dropped ?? [],
    attempt: happening.attempt ?? null, milliseconds: happening.milliseconds ?? fate.milliseconds, until: null,
  };
}

const ofHold = (happening: Held) => ({ outcome: "held", reason: happening.awaits, detail: happening.needs.join(", "), until: happening.until });

/** A reconnected feed tells the same calls again. */
function withCall(calls: Called[], call: Called): Called[] {
  if (calls.some((it) => it.at === call.at && it.milliseconds === call.milliseconds)) return calls;
  return [...calls, call].slice(-CALLS);
}

/** Changes the row by what happened. */
export function apply(row: Row, happening: Happening): void {
  if (happening.what === "accepted") {
    row.accepted = happening;
    row.at = happening.at;
    return;
  }
  const { destination } = happening;
  row.fates.set(destination, changed(row.fates.get(destination) ?? unknown(destination), happening));
  row.version.value++;
}

/** All rows of complete happenings, newest first. */
export function gather(happenings: readonly Happening[]): Row[] {
  const rows = new Map<string, Row>();
  for (const happening of happenings) {
    for (const seq of seqsOf(happening)) {
      const id = rowId(happening.site, seq);
      const row = rows.get(id) ?? newRow(happening, seq);
      if (!row) continue;
      rows.set(id, row);
      apply(row, happening);
    }
  }
  return [...rows.values()].reverse();
}
