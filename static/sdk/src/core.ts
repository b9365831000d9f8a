// window.tagway: makes messages and brings them to the gateway, each until it is acknowledged.
//
// It sets no cookie and reads no layout. Storage is read once, when the page is idle, and written only
// when a message is still on its way as the page is left or a request fails.
import type { Done, Message, Options, Properties, Settings, Tagway, User } from "./api";

/** The outbox in localStorage: [until when a tab has taken it up, its messages]. */
const KEY = "_twq";
/** Messages in the outbox: what a shop's visitor does in some hours without a network. */
const MAX_MESSAGES = 500;
/** Characters in the outbox: storage has some 5 million for the whole origin. */
const MAX_CHARS = 400_000;
/** Bytes under way: browsers refuse more than 64 KiB in requests that may outlive the page. */
const MAX_BYTES = 60_000;
/** For how long a tab that took up the outbox keeps others from sending the same, in ms. */
const LEASE = 30_000;
/** The longest wait between two tries that the gateway did not name, in ms. */
const MAX_WAIT = 300_000;

type Stored = [number, Message[]];

function start(): void {
  const w = window;
  const d = document;
  const stub = w.tagway || {};
  const settings: Settings = stub.settings || {};
  const script = d.currentScript as HTMLScriptElement | null;
  const endpoint = settings.endpoint || new URL((script && script.src) || ".", location.href).origin;
  const listeners: [string, (message: Message) => void][] = [];
  const callbacks: Record<string, Done> = {};
  const flying = new Set<string>();
  const saved = new Set<string>();
  let queue: Message[] = [];
  let flyingBytes = 0;
  let isHeld = settings.waitForConsent;
  let isPlanned = false;
  let isTakenUp = false;
  let tries = 0;
  let notBefore = 0;
  let isAsked = false;
  let categoryPreferences: Record<string, boolean> | undefined;
  let user: User = {};

  const read = (): Stored => {
    try {
      const stored = JSON.parse(localStorage.getItem(KEY) as string);
      if (Array.isArray(stored[1])) return stored;
    } catch {} // Storage that is off or says nonsense holds nothing.
    return [0, []];
  };

  const write = (until: number, messages: Message[]): boolean => {
    try {
      messages = messages.slice(-MAX_MESSAGES);
      let text = JSON.stringify([until, messages]);
      while (text.length > MAX_CHARS) {
        messages = messages.slice(1 + (messages.length >> 3));
        text = JSON.stringify([until, messages]);
      }
      if (messages.length) localStorage.setItem(KEY, text);
      else localStorage.removeItem(KEY);
      return true;
    } catch {
      return false;
    }
  };

  const without = (messages: Message[], others: Message[]): Message[] => {
    const ids = new Set(others.map((message) => message.messageId));
    return messages.filter((message) => !ids.has(message.messageId));
  };

  const save = (): void => {
    if (isHeld || !queue.length) return;
    const [until, messages] = read();
    if (write(until, without(messages, queue).concat(queue))) {
      queue.forEach((message) => saved.add(message.messageId));
    }
  };

  /** Takes up what earlier pages left, and lets go of what another tab has sent. */
  const takeUp = (): void => {
    if (isTakenUp && !saved.size) return;
    const [until, messages] = read();
    const ids = new Set(messages.map((message) => message.messageId));
    queue = queue.filter(({ messageId }) => !saved.has(messageId) || flying.has(messageId) || ids.has(messageId));
    if (!isTakenUp && messages.length && until < Date.now()) {
      if (write(Date.now() + LEASE, messages)) ids.forEach((id) => saved.add(id));
      queue = without(messages, queue).concat(queue);
    }
    isTakenUp = true;
  };

  const settle = (batch: Message[], bytes: number, status: number, wait: number): void => {
    flyingBytes -= bytes;
    batch.forEach((message) => flying.delete(message.messageId));
    if (!status || status === 408 || status === 429 || status > 499) {
      const backoff = Math.min(MAX_WAIT, 1000 * 2 ** tries++) * (0.5 + Math.random() / 2);
      isAsked = wait > 0;
      wait = Math.max(wait * 1000 || 0, backoff);
      notBefore = Date.now() + wait;
      setTimeout(send, wait + 9);
      save();
      return;
    }
    tries = notBefore = 0;
    queue = without(queue, batch);
    if (batch.some((message) => saved.delete(message.messageId))) {
      const [until, messages] = read();
      write(until, without(messages, batch));
    }
    batch.forEach(({ messageId }) => {
      const done = callbacks[messageId];
      delete callbacks[messageId];
      if (done) guard(() => done(status));
    });
    send();
  };

  const send = (isLeaving?: unknown): void => {
    if (isHeld || Date.now() < notBefore || (flying.size && isLeaving !== true)) return;
    takeUp();
    const batch: Message[] = [];
    const texts: string[] = [];
    let bytes = 99;
    let path = "/e";
    for (const message of queue) {
      if (flying.has(message.messageId)) continue;
      // What was said before a reset is the former visitor's: the mark goes alone, in its turn.
      if (message.type === "reset") {
        if (!batch.length && !flying.size) {
          batch.push(message);
          path = "/reset";
        }
        break;
      }
      const text = JSON.stringify(message);
      const size = new Blob([text]).size + 1;
      if (99 + size > MAX_BYTES) {
        settle([message], 0, 413, 0);
        return;
      }
      if (flyingBytes + bytes + size > MAX_BYTES) break;
      bytes += size;
      batch.push(message);
      texts.push(text);
    }
    if (!batch.length) return;
    const body = path === "/e" ? `{"batch":[${texts}],"sentAt":"${new Date().toISOString()}"}` : "";
    batch.forEach((message) => flying.add(message.messageId));
    flyingBytes += bytes;
    fetch(endpoint + path, { method: "POST", body, keepalive: true, credentials: "include" }).then(
      (answer) => settle(batch, bytes, answer.status, +(answer.headers.get("Retry-After") as string)),
      () => settle(batch, bytes, 0, 0),
    );
  };

  const plan = (): void => {
    if (isPlanned) return;
    isPlanned = true;
    const idle = () => {
      const now = () => {
        isPlanned = false;
        send();
      };
      if (w.requestIdleCallback) w.requestIdleCallback(now, { timeout: 2000 });
      else setTimeout(now, 50);
    };
    if (d.readyState === "complete") idle();
    else w.addEventListener("load", idle, { once: true });
  };

  /** A caller's function that fails is the caller's business: it is reported and stops nothing. */
  const guard = (call: () => void): void => {
    try {
      call();
    } catch (error) {
      setTimeout(() => {
        throw error;
      });
    }
  };

  const tell = (message: Message): void => {
    listeners.slice().forEach(([name, callback]) => {
      if (name === "*" || name === message.type) guard(() => callback(message));
    });
  };

  const make = (type: Message["type"], fields: Partial<Message>, options?: Options, done?: Done): void => {
    const { pathname, search, href } = location;
    const page = { path: pathname, referrer: d.referrer, search, title: d.title, url: href };
    const message = {
      type,
      messageId: Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(36)).join("-"),
      timestamp: new Date(),
      userId: user.id,
      ...fields,
      ...options,
      context: {
        page,
        ...(categoryPreferences && { consent: { categoryPreferences } }),
        ...(options && options.context),
      },
    } as Message;
    if (done) callbacks[message.messageId] = done;
    queue.push(message);
    queue = queue.slice(-MAX_MESSAGES);
    tell(message);
    plan();
  };

  const tagway = ((method: string, ...args: unknown[]) => {
    const call = (tagway as unknown as Record<string, unknown>)[method];
    if (typeof call === "function") guard(() => call(...args));
  }) as Tagway;

  Object.assign(tagway, {
    settings,
    loaded: {},
    track: (event, properties = {}, options, done) => make("track", { event, properties }, options, done),
    page: (name, properties = {}, options, done) => make("page", { name, properties }, options, done),
    identify(userId, traits, options, done) {
      if (userId && typeof userId === "object") {
        [traits, options, done] = [userId, traits as Options, options as Done | undefined];
        userId = user.id;
      }
      if (userId && userId !== user.id) user = { id: userId };
      user.traits = { ...user.traits, ...traits };
      make("identify", { traits: traits || {} }, options, done);
    },
    group: (groupId, traits = {}, options, done) => make("group", { groupId, traits }, options, done),
    alias: (userId, previousId, options, done) => make("alias", { userId, previousId }, options, done),
    reset() {
      user = {};
      make("reset", {});
    },
    consent(categories) {
      categoryPreferences = { ...categoryPreferences, ...categories };
      queue.forEach((message) => {
        const context = message.context as Properties;
        if (!flying.has(message.messageId) && !context.consent) context.consent = { categoryPreferences };
      });
      isHeld = false;
      tell({ type: "consent", messageId: "", categories: categoryPreferences });
      plan();
    },
    ready: (callback) => guard(callback),
    on(name, callback) {
      const entry: (typeof listeners)[0] = [name, callback];
      listeners.push(entry);
      return () => {
        const place = listeners.indexOf(entry);
        if (place >= 0) listeners.splice(place, 1);
      };
    },
    user: () => ({ ...user }),
    flush: () => send(),
  } as Partial<Tagway>);

  w.tagway = tagway;
  const leave = () => {
    send(true);
    save();
  };
  w.addEventListener("pagehide", leave);
  d.addEventListener("visibilitychange", () => d.visibilityState === "hidden" && leave());
  w.addEventListener("online", () => {
    // A wait that the gateway asked for stays; one for the network is over.
    if (tries && !isAsked) notBefore = 0;
    send();
  });
  if (settings.page) tagway.page();
  (stub.q || []).forEach((call) => tagway(...(call as [string])));
  plan();
}

if (!window.tagway || !window.tagway.loaded) start();
