// What the parts that run others' code in the page have in common: which messages are for whom, and how
// a script is loaded. No state of its own but the Trusted Types policy's.

export interface Message {
  type: string;
  /** The vendor in whose words a shim says it. */
  shim?: string;
  messageId: string;
  timestamp?: string;
  event?: string;
  name?: string;
  userId?: string;
  groupId?: string;
  previousId?: string;
  properties?: Record<string, any>;
  traits?: Record<string, any>;
  context?: Record<string, any>;
  integrations?: Record<string, any>;
  /** Of "consent" only: all that was said so far. */
  categories?: Record<string, boolean>;
}

/** Who wants which messages, as the gateway composed it out of a site's settings. */
export interface Wish {
  /** Names of events with * and ?; "!x" excludes. */
  events?: string[];
  /** Categories the visitor must have granted. */
  consent?: string[];
  /** What holds where the visitor's choice is not known. */
  unknown?: "allow" | "deny" | "hold";
}

export type Verdict = "keep" | "drop" | "hold";

/** The core, as far as the parts use it. */
export const tagway = (window as any).tagway;

/** As it is sent, without what must not leave, and nobody else's to change; none if it cannot be sent. */
function copied(message: Message): Message | undefined {
  const withheld: string[] = tagway.settings.withheld ?? [];
  try {
    const copy: Message = JSON.parse(JSON.stringify(message));
    for (const name of Object.keys(copy.properties ?? {})) {
      if (withheld.some((glob) => matches(glob, name))) delete copy.properties?.[name];
    }
    return copy;
  } catch {}
}

/** Calls back for each message, those included that were made before the parts were there. */
export function hear(callback: (message: Message) => void): void {
  const each = (message: Message) => {
    const copy = copied(message);
    if (copy) callback(copy);
  };
  for (const message of tagway.settings.early || []) each(message);
  tagway.on("*", each);
}

// Only while the script itself runs is it known which one it is.
const self = document.currentScript as HTMLScriptElement | null;
const nonce = self?.nonce;
/** Where the gateway is: as the core finds it. */
const endpoint: string = tagway.settings.endpoint || new URL(self?.src || location.href).origin;

/** The name that globs go by: the track name, or the kind for the others. */
const label = ({ type, event }: Message): string => (type === "track" && event) || type;

const compiled = new Map<string, RegExp>();

function matches(glob: string, name: string): boolean {
  let pattern = compiled.get(glob);
  if (!pattern) {
    const source = glob.replace(/[.+^${}()|[\]\\]/g, "\\$&")
      .replace(/\*+/g, "[^]*").replace(/\?/g, "[^]");
    compiled.set(glob, pattern = new RegExp(`^${source}$`, "u"));
  }
  return pattern.test(name);
}

export function selects(globs: string[] = [], message: Message): boolean {
  const name = label(message);
  const included = globs.filter((glob) => glob[0] !== "!");
  const excluded = globs.filter((glob) => glob[0] === "!").map((glob) => glob.slice(1));
  return (!included.length || included.some((glob) => matches(glob, name))) &&
    !excluded.some((glob) => matches(glob, name));
}

/** The categories that the browser's own signals refuse at this site. */
function refused(): string[] {
  const { gpc = [], dnt = [] } = tagway.settings.signals ?? {};
  const browser = navigator as any;
  return [...(browser.globalPrivacyControl ? gpc : []), ...(browser.doNotTrack === "1" ? dnt : [])];
}

/** What the visitor's choice means for a message, as the gateway decides for its own deliveries. */
export function decide(wish: Wish, message: Message): Verdict {
  const answers: Record<string, boolean> = {};
  const { categoryPreferences: said = {}, ...others } = message.context?.consent ?? {};
  // A record that only the gateway can read may say no.
  const unknown = Object.keys(others).length ? "deny" : wish.unknown;
  for (const name of Object.keys(said)) {
    const category = name.toLowerCase();
    // Of two spellings a refusal counts.
    if (typeof said[name] === "boolean") answers[category] = said[name] && answers[category] !== false;
  }
  for (const category of refused()) answers[category.toLowerCase()] = false;
  // Nothing happens before the visitor was asked, if the site says so.
  let verdict: Verdict = tagway.settings.waitForConsent && !message.context?.consent ? "hold" : "keep";
  for (const category of wish.consent ?? []) {
    const answer = answers[category.toLowerCase()];
    if (answer === false || (answer === undefined && unknown === "deny")) return "drop";
    if (answer === undefined && unknown === "hold") verdict = "hold";
  }
  return verdict;
}

// The URLs the policy makes are those the parts name, which come from the gateway's settings.
const wanted = new Set<string>();

function trusted(url: string): string {
  const types = (window as any).trustedTypes;
  if (!types) return url;
  wanted.add(url);
  // A policy's name can be used once where the page does not allow more.
  tagway.policy ??= types.createPolicy("tagway", {
    createScriptURL: (asked: string) => {
      if (!(tagway.policyUrls as Set<string>).has(asked)) throw new TypeError("not a script of the gateway's");
      return asked;
    },
  });
  return tagway.policy.createScriptURL(url);
}

/** The address of a path of the gateway's, or of a whole URL. */
export const address = (src: string): string =>
  src[0] === "/" ? endpoint + src : src;

/** Loads a script; settles when it has run. */
export function load(src: string): Promise<void> {
  return new Promise((resolve, reject) => {
    tagway.policyUrls ??= wanted;
    const url = address(src);
    tagway.policyUrls.add(url);
    const script = document.createElement("script");
    script.async = true;
    if (nonce) script.nonce = nonce;
    script.onload = () => resolve();
    script.onerror = () => reject(new Error(`${url} did not load`));
    script.src = trusted(url);
    (document.head ?? document.documentElement).appendChild(script);
  });
}

/** Calls back when the page can spare the time; in one that is rendered in advance, not before it is opened. */
export function whenever(moment: string, call: () => void): void {
  const callback = () => (tagway.settings.whenSeen ?? ((now: () => void) => now()))(call);
  if (moment === "now") return callback();
  if (moment === "interaction") {
    const events = ["pointerdown", "keydown", "touchstart", "wheel", "scroll"];
    const begin = () => {
      for (const name of events) removeEventListener(name, begin, true);
      callback();
    };
    for (const name of events) addEventListener(name, begin, { capture: true, passive: true });
    return;
  }
  const idle = () => {
    // A page that is never idle must not lose its events.
    if ("requestIdleCallback" in window) requestIdleCallback(callback, { timeout: 2000 });
    else setTimeout(callback, 200);
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", idle, { once: true });
  else idle();
}
