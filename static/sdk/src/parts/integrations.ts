// Custom integrations: the site's own functions, each in a script of its own, so that a mistake in one
// (even one of syntax) ends with it. They are told of messages in their order, and what goes wrong is
// reported to the gateway, which counts it.

import { address, decide, load, type Message, selects, tagway, whenever, type Wish } from "../page";

interface Integration extends Wish {
  name: string;
  src: string;
  /** The most milliseconds for one message. */
  timeout: number;
  /** Those that come before it, where they want the same message. */
  after: string[];
  /** Whether it is loaded only when the first message is there. */
  lazy: boolean;
}

type Handle = (event: Message, context: object, done: (result?: unknown) => void) => unknown;

/** Messages that wait for one integration, at most; later ones are lost to it. */
const MAX_QUEUE = 100;
/** Reports of one page, at most. */
const MAX_REPORTS = 10;

const handles = new Map<string, Handle>();
let reports = 0;

function report(integration: string, kind: "load" | "error" | "timeout", error?: unknown): void {
  console.warn(`tagway: the integration ${integration}: ${kind}`, error ?? "");
  if (reports++ >= MAX_REPORTS) return;
  const message = String((error as Error)?.message ?? error ?? "").slice(0, 200);
  const body = JSON.stringify({ integration, kind, message });
  try {
    // Text, so that the browser asks nothing beforehand.
    fetch(address("/tw/problem"), { method: "POST", body, keepalive: true, credentials: "omit",
      headers: { "content-type": "text/plain" } }).catch(() => {});
  } catch {
    // A browser without fetch tells nothing.
  }
}

function limited<T>(promise: Promise<T>, milliseconds: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject("timeout"), milliseconds);
    promise.then(resolve, reject).then(() => clearTimeout(timer));
  });
}

/** One integration's way with messages. */
class Runner {
  private loading?: Promise<boolean>;
  private waiting = 0;

  constructor(readonly integration: Integration) {}

  /** Loads its script once; gives whether there is something to call. A failure is reported once. */
  fetch(): Promise<boolean> {
    const { name, src } = this.integration;
    return this.loading ??= load(src).then(() => {
      if (!handles.has(name)) throw new Error("defines no function handle(event, context, done)");
      return true;
    }).catch((error) => {
      report(name, "load", error);
      return false;
    });
  }

  wants(message: Message): boolean {
    // A choice that is not known is no consent here: the code is the site's own and cannot be recalled.
    const wish = { ...this.integration, unknown: this.integration.unknown ?? "deny" } as Wish;
    return selects(this.integration.events, message) && decide(wish, message) === "keep";
  }

  async run(message: Message, results: Record<string, unknown>, before: Promise<unknown>[]) {
    const { name, timeout } = this.integration;
    if (this.waiting >= MAX_QUEUE) return;
    this.waiting += 1;
    try {
      await Promise.all(before);
      if (!await this.fetch()) return;
      results[name] = await limited(this.call(message, results), timeout);
    } catch (error) {
      if (error === "timeout") report(name, "timeout");
      else report(name, "error", error);
    } finally {
      this.waiting -= 1;
    }
  }

  private call(message: Message, results: Record<string, unknown>): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const handle = handles.get(this.integration.name) as Handle;
      // A copy: what one integration writes must not reach the others.
      const event = JSON.parse(JSON.stringify(message));
      const context = { name: this.integration.name, user: tagway.user?.(), results: { ...results } };
      const done = (result?: unknown) => result instanceof Error ? reject(result) : resolve(result);
      const returned = handle(event, context, done);
      if (typeof (returned as Promise<unknown>)?.then === "function") {
        (returned as Promise<unknown>).then(resolve, reject);
      } else if (handle.length < 3) {
        // It takes no `done`, so it has ended.
        resolve(returned);
      }
    });
  }
}

/** Tells integrations, in an order in which each comes after those it names. */
function follow(integrations: Integration[]): void {
  const runners = integrations.map((integration) => new Runner(integration));
  for (const runner of runners) {
    // By consent it may never be needed.
    const { lazy, consent } = runner.integration;
    if (!lazy && !consent?.length) {
      whenever("now", () => void runner.fetch());
    }
  }
  tagway.on("*", (message: Message) => {
    if (!message.type || message.type === "consent") return;
    const results: Record<string, unknown> = {};
    const running = new Map<string, Promise<unknown>>();
    for (const runner of runners) {
      const { name, after } = runner.integration;
      if (!runner.wants(message)) continue;
      const before = (after ?? []).map((other) => running.get(other)).filter(Boolean);
      running.set(name, runner.run(message, results, before as Promise<unknown>[]));
    }
  });
}

/** What an integration's own script calls. */
tagway.integration = (name: string, make: () => unknown): void => {
  const handle = make();
  if (typeof handle === "function") handles.set(name, handle as Handle);
};

/** What the script of drafts calls: they run beside what everybody gets. */
tagway.drafts = (drafts: Integration[]): void => follow(drafts);

/** Drafts run in a browser that once had the site's token in a page's address. */
function preview(): void {
  const KEY = "tw_preview";
  try {
    const given = new URLSearchParams(location.search).get(KEY);
    if (given === "off") localStorage.removeItem(KEY);
    else if (given && /^[\w-]{1,64}$/.test(given)) localStorage.setItem(KEY, given);
    const token = localStorage.getItem(KEY);
    if (token) load(`/tw/preview.js?token=${encodeURIComponent(token)}`).catch(() => {});
  } catch {
    // No storage: no preview.
  }
}

if (tagway.settings.integrations?.length) follow(tagway.settings.integrations);
if (tagway.settings.preview) preview();
