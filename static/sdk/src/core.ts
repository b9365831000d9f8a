// window.tagway: makes messages and brings them to the gateway, each until it is acknowledged.
//
// It sets no cookie and reads no layout. Storage is read once, when the page is idle, and written only
// when the visitor chose something, or a message is still on its way as the page is left or a request
// fails. The gateway puts the site's settings and src/parts/base.ts before it (and nothing of this where
// it is on the page already).
//
// Its size is part of each page's cost: some of it is shorter than it would be elsewhere.
import type { Done, Message, Options, Settings, Tagway, User } from "./api";

/** Messages in the outbox: what a shop's visitor does in some hours without a network. */
const MAX_MESSAGES = 500;
/** Characters in the outbox: storage has some 5 million for the whole origin. */
const MAX_CHARS = 4e5;
/** Bytes under way: browsers refuse more than 64 KiB in requests that may outlive the page. */
const MAX_BYTES = 6e4;
/** Bytes around the messages of a request, and more than none. */
const FRAME_BYTES = 99;
/** For how long a tab that took up the outbox keeps others from sending the same, in ms. */
const LEASE = 3e4;
/** The longest wait between two tries that the gateway did not name, in ms. */
const MAX_WAIT = 3e5;

const w = window;
const d = document;
const now = Date.now;
const { settings, q } = w.tagway as Tagway & { settings: Settings };
const { copy, here, whenSeen } = settings;
const listeners = new Set<(message: Message) => void>();
/** What is not acknowledged, and of it what is under way. */
let queue: Message[] = [];
let flying: Message[] = [];
let flyingBytes = 0;
let isHeld = settings.waitForConsent;
let isPlanned: unknown;
let isTakenUp: unknown;
/** Whether the outbox was last seen to hold something. */
let isStored: unknown;
let tries = 0;
/** Nothing is sent before these times: the first is the network's, the second the gateway's word. */
let notBefore = 0;
let asked = 0;
let categoryPreferences: Record<string, boolean> | undefined;
/** Whether the visitor chose something that is not in storage yet. */
let isChosen: unknown;
let user: User = {};

/** Those of the messages that are no others'. An outbox may hold what is no message. */
const without = (messages: Message[], others: Message[]): Message[] =>
  messages.filter((it) => it?.messageId && others.every(({ messageId }) => messageId !== it.messageId));

/** A caller's function that fails is the caller's business: it is reported and stops nothing. */
const guard = async (call?: (argument?: any) => unknown, argument?: unknown) => {
  call?.(argument);
};

const tell = (message: Message) => [...listeners].map((listener) => listener(message));

/** The visitor's choice: it holds for what was said before it as well, where that had none. */
const choose = (categories: Record<string, boolean>) => {
  categoryPreferences = { ...categoryPreferences, ...categories };
  without(queue, flying).map(({ context }) => {
    context!.consent = {
      categoryPreferences: { ...categories, ...(context!.consent as any)?.categoryPreferences },
    };
  });
  isHeld = false;
  tell({ type: "consent", messageId: "", categories: categoryPreferences });
};

/**
 * Changes the outbox in storage, which is [until when a tab has taken it up, its messages, the visitor's
 * choice]: takes up what earlier pages left, takes out what is `done`, and adds the queue where
 * `isSaving`. Two tabs may send the same from it: the gateway knows a message by its id.
 */
const store = (done: Message[], isSaving?: unknown) => {
  let until = 0;
  let messages: Message[] = [];
  let choice: typeof categoryPreferences;
  let before: any, text;
  try {
    [until, before, choice] = JSON.parse((text = localStorage._twq));
    messages = without(before, done);
  } catch {} // Storage that is off or says nonsense holds nothing.
  before = text;
  try {
    // Of two tabs, the one that was told last is right.
    if (isChosen) choice = { ...choice, ...categoryPreferences };
    if (!isTakenUp && !(until > now() && until <= now() + LEASE)) {
      queue = without(messages, queue).concat(queue);
      until = now() + LEASE;
    }
    if (!isTakenUp && choice) choose(choice);
    isTakenUp = 1;
    isChosen = 0;
    if (isSaving) messages = without(messages, queue).concat(queue).slice(-MAX_MESSAGES);
    while ((text = JSON.stringify([messages[0] ? until : 0, messages, choice])).length > MAX_CHARS) {
      messages = messages.slice(1 + messages.length / 8);
    }
    isStored = messages[0];
    if (!isStored && !choice) delete localStorage._twq;
    else if (text !== before) localStorage._twq = text;
  } catch {}
};

const save = () => {
  isHeld || (queue[0] && store([], 1));
};

/** `how` is 1 as the page is left, and 2 where others may have changed what is stored. */
const send = (how?: unknown) => {
  // A page that nobody may ever open sends nothing, and takes nothing over.
  if ((d as any).prerendering) return;
  if (how === 2) isTakenUp = 0;
  if (!isTakenUp || isChosen) store([]);
  if (isHeld || now() < notBefore || now() < asked || (flyingBytes && how !== 1)) return;
  let batch: Message[] = [];
  let bytes = FRAME_BYTES;
  let path = "/e";
  const texts: string[] = [];

  const settle = (status: number, wait?: number, said?: string) => {
    flying = without(flying, batch);
    flyingBytes -= bytes;
    if (/^0|408|429|5../.test(status as any)) {
      asked = now() + 1e3 * (wait || 0);
      notBefore = Math.max(asked, now() + Math.min(MAX_WAIT, 1e3 * 2 ** tries++) * (1 - Math.random() / 2));
      setTimeout(send, notBefore - now() + 9);
      return save();
    }
    tries = notBefore = 0;
    queue = without(queue, batch);
    if (isStored) store(batch);
    batch.map(({ done }, place) => guard(done, said?.includes(`x":${place},`) ? 400 : status));
    send();
  };

  for (const message of without(queue, flying)) {
    // What was said before a reset is the former visitor's: the mark goes alone, in its turn.
    if (message.type === "reset") {
      if (!batch[0] && !flyingBytes) {
        batch[0] = message;
        path = "/reset";
      }
      break;
    }
    const text = JSON.stringify(message);
    // With a comma. A Blob would know its size as well, but costs some ms: other processes hear of it.
    const size = bytes + new TextEncoder().encode(text + 0).length;
    if (!batch[0] && size > MAX_BYTES) {
      batch = [message];
      bytes = 0;
      return settle(413);
    }
    if (flyingBytes + size > MAX_BYTES) break;
    bytes = size;
    batch.push(message);
    texts.push(text);
  }
  if (!batch[0]) return;
  flying = flying.concat(batch);
  flyingBytes += bytes;
  fetch(settings.endpoint + path, {
    method: "POST",
    body: `{"batch":[${texts}],"sentAt":"${new Date().toISOString()}"}`,
    keepalive: true,
    credentials: "include",
  }).then(
    // It says which messages were refused, by their places: {"rejected":[{"index":0,...
    async (answer) =>
      settle(answer.status, +answer.headers.get("Retry-After")!, await answer.text().catch(String)),
    () => settle(0),
  );
};

const plan = () => {
  if (isPlanned) return;
  isPlanned = 1;
  const idle = () =>
    (w.requestIdleCallback || setTimeout)(() => {
      isPlanned = 0;
      send();
    }, { timeout: 2e3 } as any);
  d.readyState === "complete" ? idle() : addEventListener("load", idle);
};

const make = (type: Message["type"], fields: Partial<Message>, options?: Options, done?: Done) => {
  const [own, said] = copy<any[]>(fields, options);
  const message: Message = {
    type,
    userId: user.id,
    ...own,
    ...said,
    messageId: said?.messageId || crypto.getRandomValues(new Uint32Array(3)).join("-"),
    context: {
      page: here(),
      consent: categoryPreferences && { categoryPreferences },
      ...said?.context,
    },
    // Never sent: JSON has no functions.
    done,
  };
  queue = [...queue, message].slice(-MAX_MESSAGES);
  whenSeen(() => {
    message.timestamp ||= new Date();
    tell(message);
    plan();
  });
};

const tagway: any = (method: string, ...args: unknown[]) => guard(() => tagway[method]?.(...args));

w.tagway = Object.assign(tagway, {
  settings,
  loaded: {},
  track: (event, properties = {}, options, done) => make("track", { event, properties }, options, done),
  page: (name, properties = {}, options, done) => make("page", { name, properties }, options, done),
  identify(userId, traits = {}, options, done) {
    [userId, traits] = copy(userId, traits);
    if (Object(userId) === userId) return tagway.identify(0, userId, traits, options);
    if (userId && userId !== user.id) user = { id: userId as string };
    user.traits = { ...user.traits, ...traits };
    make("identify", { traits }, options, done);
  },
  group: (groupId, traits = {}, options, done) => make("group", { groupId, traits }, options, done),
  alias: (userId, previousId, options, done) => make("alias", { userId, previousId }, options, done),
  reset() {
    make("reset", (user = {}));
  },
  consent(categories) {
    isChosen = 1;
    choose(copy(categories)[0]);
    plan();
  },
  ready: guard as Tagway["ready"],
  on(name, callback) {
    const listener = (message: Message) =>
      (name === "*" || name === message.type) && guard(callback, copy(message)[0]);
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
  user: () => ({ ...user }),
  flush: send,
} as Partial<Tagway>);

const leave = () => {
  send(1);
  save();
};
addEventListener("pagehide", leave);
addEventListener("visibilitychange", () => d.hidden && leave());
addEventListener("online", () => {
  notBefore = 0;
  send();
});
if (settings.page) tagway.page();
q?.map((call) => tagway(...call));
whenSeen(plan);
