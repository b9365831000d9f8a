// Custom integrations: the site's own functions. They are told of messages in their order, and what goes
// wrong in one ends with it: it is reported to the gateway, which counts it, and the others go on. Those
// that are not in the site's script itself come in scripts of their own, so that even a mistake of syntax
// stays theirs.

import { address, decide, hear, load, type Message, selects, tagway, type Wish } from "../page";

interface Integration extends Wish {
  name: string;
  /** Its script; none if it is in the site's. */
  src?: string;
  /** The most milliseconds for one message. */
  timeout: number;
  /** Those that come before it, where they want the same message. */
  after: string[];
  /** Whether it is loaded only when the first message is there. */
  lazy: boolean;
}

type Handle = (event: Message, context: object, done: (result?: unknown) => void) => unknown;
type Kind = "load" | "error" | "timeout";

/** Messages that wait for one integration, or for the drafts, at most; later ones are lost to it. */
const MAX_QUEUE = 100;
/** Characters of an error's text that are reported. */
const MAX_TEXT = 200;
/** Where a browser keeps the token for the drafts, and the parameter that brings it. */
const KEY = "tw_preview";

const handles = new Map<string, Handle>();
/** What went wrong while a script made its function. */
const mistakes = new Map<string, unknown>();
const reported = new Set<string>();

/** Tells the page's developers each time, and the gateway once a page. */
function report(integration: string, kind: Kind, error?: unknown): void {
  console.warn(`tagway: the integration ${integration}: ${kind}`, error ?? "");
  const key = `${kind} ${integration}`;
  if (reported.has(key)) return;
  reported.add(key);
  const message = String((error as Error)?.message ?? error ?? "").slice(0, MAX_TEXT);
  const body = JSON.stringify({ integration, kind, message });
  // Text, so that the browser asks nothing beforehand.
  fetch(address("/tw/problem"), { method: "POST", body, keepalive: true, credentials: "omit" }).catch(() => {});
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
  /** Messages whose visitor has yet to choose. */
  private held: Message[] = [];
  readonly wish: Wish;

  constructor(readonly integration: Integration) {
    this.wish = { ...integration, unknown: "hold" };
  }

  /** Loads its script once; gives whether there is something to call. A failure is reported once. */
  fetch(): Promise<boolean> {
    const { name, src } = this.integration;
    return this.loading ??= (src ? load(src) : Promise.resolve()).then(() => {
      if (mistakes.has(name)) throw mistakes.get(name);
      if (!handles.has(name)) throw new Error("defines no function handle(event, context, done)");
      return true;
    }).catch((error) => {
      report(name, "load", error);
      return false;
    });
  }

  wants(message: Message): boolean {
    if (!selects(this.integration.events, message)) return false;
    const verdict = decide(this.wish, message);
    if (verdict === "hold" && this.held.length < MAX_QUEUE) this.held.push(message);
    return verdict === "keep";
  }

  /** What was held, if the visitor's choice lets it. */
  released(choice: Message): Message[] {
    const { held } = this;
    const verdict = decide(this.wish, choice);
    if (verdict !== "hold") this.held = [];
    return verdict === "keep" ? held : [];
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
      const context = { name: this.integration.name, user: tagway.user(), results: { ...results } };
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
function follow(integrations: Integration[], early: Message[] = []): void {
  const runners = integrations.map((integration) => new Runner(integration));
  for (const runner of runners) {
    // By consent it may never be needed.
    const { lazy, consent } = runner.integration;
    if (!lazy && !consent?.length && !tagway.settings.waitForConsent) void runner.fetch();
  }
  const tell = (message: Message, chosen: Runner[]) => {
    const results: Record<string, unknown> = {};
    const running = new Map<string, Promise<unknown>>();
    for (const runner of chosen) {
      const { name, after } = runner.integration;
      const before = after.map((other) => running.get(other)).filter(Boolean);
      running.set(name, runner.run(message, results, before as Promise<unknown>[]));
    }
  };
  const choose = ({ categories }: Message) => {
    const choice = { context: { consent: { categoryPreferences: categories } } } as unknown as Message;
    const released = runners.map((runner): [Runner, Set<Message>] => [runner, new Set(runner.released(choice))]);
    // Each message once for all who waited for it, so that their order and results hold.
    for (const message of new Set(released.flatMap(([, messages]) => [...messages]))) {
      tell(message, released.filter(([, messages]) => messages.has(message)).map(([runner]) => runner));
    }
  };
  const hearing = (message: Message) => {
    if (message.type === "consent") choose(message);
    else if (message.type !== "reset") tell(message, runners.filter((runner) => runner.wants(message)));
  };
  early.forEach(hearing);
  hear(hearing);
}

/** What an integration's own script calls. */
tagway.integration = (name: string, make: () => unknown): void => {
  try {
    const handle = make();
    if (typeof handle === "function") handles.set(name, handle as Handle);
  } catch (error) {
    mistakes.set(name, error);
  }
};

/** Drafts run in a browser that once had a token for them in a page's address. */
function preview(): void {
  const given = new URLSearchParams(location.search).get(KEY);
  let token = given;
  try {
    if (given && given !== "off") localStorage[KEY] = given;
    else if (given) delete localStorage[KEY];
    token = localStorage[KEY];
  } catch {} // No storage: for this page only.
  if (!token || token === "off" || !/^[\w.-]{1,200}$/.test(token)) return;
  // They come late, and hear of what was before.
  let early: Message[] = [];
  hear((message) => early.length < MAX_QUEUE && early.push(message));
  tagway.drafts = (drafts: Integration[]): void => {
    const before = early;
    early = Array(MAX_QUEUE);
    follow(drafts, before);
  };
  load(`/tw/preview.js?token=${encodeURIComponent(token)}`).catch(() => {
    // Expired or never good.
    try {
      delete localStorage[KEY];
    } catch {}
  });
}

if (tagway.settings.integrations?.length) follow(tagway.settings.integrations);
if (tagway.settings.preview) preview();
