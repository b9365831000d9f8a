// The live feed: one stream while the page is visible, drawn at most a few times a second, and bounded in all
// that it keeps. What it leaves out, it counts.

import { batch, signal } from "@preact/signals";
import { pieces, Problem, type Happening, type Parameters } from "../api";
import { asProblem } from "../resource";
import { choose, countAccepted, partition } from "./choose";
import { apply, newRow, rowId, seqsOf, type Row } from "./rows";

/** The events on the page. */
const ROWS = 500;
/** The new events that one drawing shows at most and at least: more pass by faster than anybody reads. */
const FRESH = 60;
const FRESH_LEAST = 8;
/** The characters that wait for a drawing, or for the end of a pause. */
const WAITING = 4_000_000;
/** The least time between two drawings, in milliseconds. */
const CALM_MS = 60;
/** The part of the time that drawing may take, as one of so many; the rest is for the person. */
const SHARE = 4;
/** A drawing that takes longer shows fewer events the next time, and one that takes less than half of it more. */
const SMOOTH_MS = 40;
/** The events whose passing is remembered: what becomes of them within seconds is not shown either. */
const GONE = 50_000;

/** The time over which the rate is taken. */
const RATE_MS = 5_000;

const RETRY_MS = 1_000;
const RETRY_MOST_MS = 15_000;

export type FeedState = "connecting" | "live" | "paused" | "hidden" | "broken";

export class Feed {
  /** The events, newest first. */
  readonly rows = signal<readonly Row[]>([]);
  readonly state = signal<FeedState>("connecting");
  readonly fault = signal<Problem | null>(null);
  /** The entries that the gateway left out because this page was too slow. */
  readonly missed = signal(0);
  /** The events that came too fast to be shown. */
  readonly passed = signal(0);
  /** The events that wait for the end of the pause. */
  readonly waiting = signal(0);
  /** Events a second, of the last seconds. */
  readonly rate = signal(0);

  #byId = new Map<string, Row>();
  #seqs = new Map<number, number>();
  #gone = new Set<number>();
  #pieces: string[] = [];
  /** The lines that wait for the end of a pause: none is about an event on the page. */
  #held: string[] = [];
  #length = 0;
  #lost = 0;
  #controller: AbortController | null = null;
  #timer = 0;
  #drawnAt = 0;
  #cost = 0;
  #fresh = FRESH;
  #delay = RETRY_MS;
  #isPaused = false;
  #query: Parameters = {};
  #seen: [at: number, count: number][] = [];
  #onVisible = () => this.#connect();

  constructor(readonly backlog: number) {}

  /** Watches with a filter; the events of another filter are gone. */
  watch(query: Parameters): void {
    this.#query = query;
    this.clear();
    document.addEventListener("visibilitychange", this.#onVisible);
    this.#connect();
  }

  stop(): void {
    document.removeEventListener("visibilitychange", this.#onVisible);
    this.#controller?.abort();
    this.#controller = null;
    clearTimeout(this.#timer);
    this.#timer = 0;
  }

  clear(): void {
    this.#byId.clear();
    this.#seqs.clear();
    this.#gone.clear();
    this.#pieces = [];
    this.#held = [];
    this.#length = 0;
    this.#lost = 0;
    batch(() => {
      this.rows.value = [];
      this.missed.value = 0;
      this.passed.value = 0;
      this.waiting.value = 0;
    });
  }

  pause(): void {
    this.#isPaused = true;
    if (this.state.value === "live") this.state.value = "paused";
  }

  resume(): void {
    this.#isPaused = false;
    if (this.state.value === "paused") this.state.value = "live";
    this.#pieces = [...this.#held, ...this.#pieces];
    this.#held = [];
    this.#draw();
  }

  /** Connects again with recent events, such as after a clear. */
  again(): void {
    this.clear();
    this.#connect();
  }

  // Browsers open at most six connections to a host over HTTP/1.1, so a page in the background has none.
  #connect(): void {
    this.#controller?.abort();
    if (document.hidden) {
      this.state.value = "hidden";
      return;
    }
    const controller = new AbortController();
    this.#controller = controller;
    this.state.value = "connecting";
    this.#read(controller.signal).catch((error: unknown) => {
      if (!controller.signal.aborted) this.fault.value = asProblem(error);
    }).finally(() => {
      if (controller.signal.aborted) return;
      this.state.value = "broken";
      setTimeout(() => controller.signal.aborted || this.#connect(), this.#delay);
      this.#delay = Math.min(this.#delay * 2, RETRY_MOST_MS);
    });
  }

  async #read(signal: AbortSignal): Promise<void> {
    // What a broken stream left is not the start of a line of this one.
    this.#pieces.push("\n");
    for await (const piece of pieces("tail", { ...this.#query, backlog: this.backlog }, signal)) {
      if (signal.aborted) return;
      if (this.state.value === "connecting" || this.state.value === "broken") {
        this.state.value = this.#isPaused ? "paused" : "live";
        this.fault.value = null;
        this.#delay = RETRY_MS;
      }
      this.#pieces.push(piece);
      this.#length += piece.length;
      if (this.#length > WAITING) this.#shorten();
      if (this.#isPaused) this.waiting.value += countAccepted(piece);
      this.#plan();
    }
  }

  /** Drops the older half of what waits, and counts the events in it. */
  #shorten(): void {
    const all = [...this.#held, ...this.#pieces];
    const half = all.splice(0, Math.ceil(all.length / 2));
    [this.#held, this.#pieces] = [[], all];
    this.#length = all.reduce((sum, it) => sum + it.length, 0);
    this.#lost += half.reduce((sum, it) => sum + countAccepted(it), 0);
  }

  #plan(): void {
    if (this.#timer) return;
    const due = Math.max(0, this.#drawnAt + Math.max(CALM_MS, this.#cost * SHARE) - performance.now());
    this.#timer = setTimeout(() => requestAnimationFrame(() => {
      this.#timer = 0;
      if (this.#isPaused) this.#follow();
      else this.#draw();
    }), due) as unknown as number;
  }

  /** Takes the complete lines; the start of another stays. */
  #take(): string[] {
    const lines = this.#pieces.join("").split("\n");
    const rest = lines.pop() ?? "";
    this.#pieces = rest ? [rest] : [];
    return lines;
  }

  /** In a pause, what is about events on the page still reaches them; the rest waits. */
  #follow(): void {
    const known = (seq: number) => this.#seqs.has(seq);
    const [ours, others] = partition(this.#take(), known);
    const { happenings, missed } = choose(ours, 0, known, () => true);
    this.#held.push(...others.map((it) => `${it}\n`));
    this.#drawnAt = performance.now();
    batch(() => {
      this.#gather(happenings);
      this.missed.value += missed;
    });
  }

  #draw(): void {
    const start = performance.now();
    const lines = this.#take();
    this.#length = this.#pieces.reduce((sum, it) => sum + it.length, 0);
    // A first load may fill the page; afterwards only so much is drawn at once.
    const most = this.rows.value.length === 0 ? ROWS : this.#fresh;
    const { happenings, passed, missed } = choose(lines, most, (seq) => this.#seqs.has(seq), (seq) => this.#gone.has(seq));
    if (this.#gone.size > GONE) this.#gone.clear();
    for (const seq of passed) this.#gone.add(seq);
    batch(() => {
      const fresh = this.#gather(happenings);
      this.passed.value += passed.length + this.#lost;
      this.missed.value += missed;
      if (fresh.length > 0) {
        const rows = [...fresh.reverse(), ...this.rows.value];
        for (const row of rows.slice(ROWS)) this.#forget(row);
        this.rows.value = rows.slice(0, ROWS);
      }
      this.waiting.value = 0;
      this.#measure(fresh.length + passed.length);
    });
    this.#lost = 0;
    // The frame is done when the next task runs: layout and paint are part of the cost.
    requestAnimationFrame(() => setTimeout(() => {
      this.#drawnAt = performance.now();
      this.#cost = this.#drawnAt - start;
      if (this.#cost > SMOOTH_MS) this.#fresh = Math.max(FRESH_LEAST, Math.floor(this.#fresh / 2));
      else if (this.#cost < SMOOTH_MS / 2) this.#fresh = Math.min(FRESH, this.#fresh + 4);
    }));
  }

  #forget(row: Row): void {
    this.#byId.delete(row.id);
    const times = (this.#seqs.get(row.seq) ?? 1) - 1;
    if (times > 0) this.#seqs.set(row.seq, times);
    else this.#seqs.delete(row.seq);
  }

  /** Applies what happened, and returns the rows that are new. */
  #gather(found: readonly Happening[]): Row[] {
    const fresh: Row[] = [];
    for (const happening of found) {
      for (const seq of seqsOf(happening)) {
        const id = rowId(happening.site, seq);
        let row = this.#byId.get(id) ?? null;
        if (!row) {
          row = newRow(happening, seq);
          if (!row) continue;
          this.#byId.set(id, row);
          this.#seqs.set(seq, (this.#seqs.get(seq) ?? 0) + 1);
          fresh.push(row);
        }
        apply(row, happening);
      }
    }
    return fresh;
  }

  #measure(count: number): void {
    const now = performance.now();
    this.#seen.push([now, count]);
    this.#seen = this.#seen.filter(([at]) => at > now - RATE_MS);
    this.rate.value = this.#seen.reduce((sum, [, count]) => sum + count, 0) / (RATE_MS / 1000);
  }
}
