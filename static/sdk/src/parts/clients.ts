// Client mode: the vendors' own libraries, loaded from the first-party name and told each message.
// A library is loaded when the first message that is for it is there, and not before: who refused it
// never meets it. What goes wrong with one hurts nothing else.

import { address, decide, hear, load, type Message, selects, tagway, whenever, type Wish } from "../page";

/** What the gateway says of one vendor: public settings only. */
export interface ClientSettings extends Wish {
  /** The library. */
  src: string;
  /** When it is loaded: "idle", "interaction" or "now". */
  load: string;
  /** Names under which a message's `integrations` switch it. */
  names: string[];
  /** Where the library is to send, if the gateway passes its beacons on. */
  api?: string;
  /** Whether the gateway tells the vendor as well, of what shims said too: that in the spec's words. */
  both?: boolean;
  /** The vendor's own settings. */
  settings: Record<string, string>;
}

/** How a vendor's library is fed: crates/vendors/src/X/client.ts. */
export interface Adapter {
  /** Before the library is loaded: what it must find. */
  prepare?(settings: Record<string, string>, api?: string): void;
  /** After it has run. */
  start?(settings: Record<string, string>, api?: string): void;
  send(message: Message, settings: Record<string, string>): void;
}

/** Messages that wait for a library, at most; later ones are lost to it. */
const MAX_QUEUE = 100;

const attempt = (call: () => void): boolean => {
  try {
    call();
    return true;
  } catch (error) {
    // The page's own developers see whose it is.
    console.warn("tagway:", error);
    return false;
  }
};

function isSwitchedOff(names: string[], switches: Record<string, any> = {}): boolean {
  const own = Object.keys(switches).find((key) => names.includes(key.toLowerCase()));
  return (own === undefined ? switches.All ?? switches.all : switches[own]) === false;
}

function follow(adapter: Adapter, client: ClientSettings): void {
  let held: Message[] = [];
  let queue: Message[] = [];
  let state: "idle" | "loading" | "ready" | "failed" = "idle";
  const api = client.api && address(client.api);
  const names = client.names.map((name) => name.toLowerCase());
  const send = (message: Message) => attempt(() => adapter.send(message, client.settings));

  const begin = () => {
    // The visitor may have changed their mind before the page was idle.
    if (!queue.length) return void (state = "idle");
    const prepared = attempt(() => adapter.prepare?.(client.settings, api));
    if (!prepared) return fail();
    load(client.src).then(() => {
      if (!attempt(() => adapter.start?.(client.settings, api))) return fail();
      state = "ready";
      const waiting = queue;
      queue = [];
      waiting.forEach(send);
    }).catch(fail);
  };
  const fail = () => {
    state = "failed";
    queue = [];
    held = [];
  };
  const take = (message: Message) => {
    if (state === "ready") return void send(message);
    if (state === "failed") return;
    if (queue.length < MAX_QUEUE) queue.push(message);
    if (state === "idle") {
      state = "loading";
      whenever(client.load, begin);
    }
  };
  const consider = (message: Message, from?: Message) => {
    const verdict = decide(client, from ?? message);
    if (verdict === "keep") take(message);
    else if (verdict === "hold" && held.length < MAX_QUEUE) held.push(message);
  };
  // A library that never met the last visitor has nothing to forget.
  const forget = (message: Message) => {
    held = [];
    if (state === "ready") send(message);
    else if (queue.length) take(message);
  };
  const choose = ({ categories }: Message) => {
    const answer = { context: { consent: { categoryPreferences: categories } } } as unknown as Message;
    // What waits for a library goes only if the visitor still lets it.
    if (state !== "ready" && decide(client, answer) === "drop") queue = [];
    const waiting = held;
    held = [];
    for (const message of waiting) consider(message, answer);
  };
  hear((message) => {
    if (message.type === "consent") choose(message);
    else if (message.type === "reset") forget(message);
    else if (client.both && message.shim) return;
    else if (selects(client.events, message) && !isSwitchedOff(names, message.integrations)) consider(message);
  });
}

tagway.client = (vendor: string, adapter: Adapter): void => {
  const client = tagway.settings.clients?.[vendor];
  if (client) attempt(() => follow(adapter, client));
};
