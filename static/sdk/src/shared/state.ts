// tagway.keep, tagway.opted and tagway.ids, which shims use for what their vendors' libraries keep from page to
// page: only where the visitor's choice allows, and only what the page asked for.
import type { Tagway } from "../api";

const tagway: any = window.tagway;
const { settings } = tagway as Tagway;
const storage = (use: (it: Storage) => any) => {
  try {
    return use(localStorage);
  } catch {} // Storage that is off, or holds nonsense, holds nothing.
};
// What is not there is null, which costs no exception.
const read = (key: string) => storage((it) => JSON.parse(it[key] ?? null));

/** How long a visit pauses before the next event begins another, in ms: as the vendors have it. */
const PAUSE = 18e5;

let choice: Record<string, boolean> | undefined = read("_twq")?.[2];
const saves: (() => void)[] = [];
const answers: Record<string, boolean | undefined> = {};

tagway.keep = (name: string, category = "analytics") => {
  const key = "_tw_" + name;
  const may = () => (choice || !settings.waitForConsent) && choice?.[category] !== false;
  const state = (may() && read(key)) || {};
  let isPlanned: unknown;
  // Once for all that the page says in one go: each change of the storage costs a phone a millisecond.
  const save = () => {
    if (!isPlanned) {
      queueMicrotask(() => {
        isPlanned = 0;
        const text = JSON.stringify(settings.copy(state)[0]);
        storage((it) => {
          if (may() && text !== "{}") it[key] = text;
          else delete it[key];
        });
      });
    }
    isPlanned = 1;
  };
  saves.push(save);
  return [state, save];
};

/** The page, at the address that the page itself says: that counts before the browser's own word. */
tagway.pageAt = (address: string) => {
  const found = settings.here();
  try {
    const { href: url, pathname: path, search } = new URL(address, location.href);
    if (address) Object.assign(found, { url, path, search });
  } catch {} // An address that is none says nothing.
  return found;
};

/** What holds for later events: gives it, replaces it, and has the methods by which pages change it. */
tagway.registry = (state: any, save: () => void) => {
  const { copy } = settings;
  const always = () => state.always || {};
  const replace = (next: any) => {
    state.always = next;
    save();
  };
  const register = (said: any) => replace({ ...always(), ...copy(said)[0] });
  const unregister = (key: string) => {
    const { [key]: _, ...rest } = always();
    replace(rest);
  };
  return [always, replace, {
    register,
    register_for_session: register,
    register_once(said: any, byDefault?: unknown) {
      const before = { ...always() };
      for (const key in before) if (before[key] === byDefault) delete before[key];
      replace({ ...copy(said)[0], ...before });
    },
    unregister,
    unregister_for_session: unregister,
  }];
};

/**
 * Gives and sets what the visitor answered to a vendor's own opt-out: nothing, true or false, which is an answer
 * to all others as well.
 */
tagway.opted = (name: string, answer?: boolean | null) => {
  const key = "_two_" + name;
  if (answer != null) tagway.consent({ analytics: answer });
  if (answer === null) storage((it) => delete it[key]);
  else if (answer !== undefined) storage((it) => (it[key] = answer));
  else if (!(name in answers)) answer = read(key);
  else return answers[name];
  return (answers[name] = answer ?? undefined);
};

/** Whether a vendor's opt-out holds: the visitor's own, the page's by default, or the browser's where it is heeded. */
tagway.isOut = (name: string, byDefault: unknown, heeds: unknown) =>
  !(tagway.opted(name) ?? !byDefault) || !!heeds && navigator.doNotTrack === "1";

tagway.uuid = () =>
  "10000000-1000-4000-8000-100000000000".replace(/[018]/g, (digit) =>
    (+digit ^ (crypto.getRandomValues(new Uint8Array(1))[0]! & (15 >> (+digit / 4)))).toString(16));

const [ids, save] = tagway.keep("ids");

/** The ids that pages ask the libraries for: from then on, events carry them. */
tagway.ids = {
  anonymous(id?: string) {
    if (id || !ids.id) {
      ids.id = id || tagway.uuid();
      save();
    }
    return ids.id;
  },
  /** When the visit began, in ms. */
  session(id?: number) {
    const now = Date.now();
    if (id || !(now - ids.last < PAUSE)) ids.session = id || now;
    ids.last = now;
    save();
    return ids.session;
  },
  /** Options of a message, with the ids that there are. */
  of: (options: any) => ({
    anonymousId: ids.id,
    ...options,
    context: { sessionId: ids.session && tagway.ids.session(), ...options?.context },
  }),
};

tagway.on("consent", ({ categories }: any) => {
  choice = categories;
  saves.map((it) => it());
});
tagway.on("reset", () => {
  for (const name in ids) delete ids[name];
  save();
});
