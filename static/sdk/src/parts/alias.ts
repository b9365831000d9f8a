// window.analytics, as pages know it from Segment: the same methods, and page(category, name).
import type { Done, Options, Properties } from "../api";

type Call = (...args: unknown[]) => unknown;

function start(): void {
  const w = window as unknown as Record<string, any>;
  const tagway = window.tagway;
  const before = w.analytics;
  if (before && before.isTagway) return;

  /** Segment takes the callback in the place of any argument that is left out. */
  const cut = (args: unknown[]): [unknown[], Done | undefined] => {
    const place = args.findIndex((arg) => typeof arg === "function");
    if (place < 0) return [args, undefined];
    return [args.slice(0, place), args[place] as Done];
  };
  const pass = (call: Call, arity: number): Call => (...given) => {
    const [args, done] = cut(given);
    args.length = arity;
    call(...args, done);
    return analytics;
  };
  const analytics: Record<string, any> = {
    isTagway: true,
    initialized: true,
    track: pass(tagway.track as Call, 3),
    identify(...given: unknown[]) {
      const [args, done] = cut(given);
      const named = typeof args[0] === "string" || typeof args[0] === "number" || args[0] == null;
      const id = named && args[0] != null ? String(args.shift()) : (named && args.shift(), undefined);
      tagway.identify(id, args[0] as Properties, args[1] as Options, done);
      return analytics;
    },
    group: pass(tagway.group as Call, 3),
    alias: pass(tagway.alias as Call, 3),
    page(...given: unknown[]) {
      const [args, done] = cut(given);
      const texts: string[] = [];
      while (typeof args[0] === "string" || (args.length && args[0] == null)) {
        const text = args.shift();
        if (typeof text === "string") texts.push(text);
      }
      const [category, name] = texts.length > 1 ? texts : [undefined, texts[0]];
      const properties = { ...(category && { category }), ...(args[0] as Properties) };
      tagway.page(name, properties, args[1] as Options, done);
      return analytics;
    },
    reset() {
      tagway.reset();
      return analytics;
    },
    ready(callback: () => void) {
      tagway.ready(callback);
      return analytics;
    },
    on(name: any, callback: Call) {
      tagway.on(name, (message) => {
        callback(message.event || message.name || message.userId, message.properties || message.traits);
      });
      return analytics;
    },
    user: () => ({
      id: () => tagway.user().id || null,
      traits: () => tagway.user().traits || {},
      // The visitor's id is in a cookie that scripts cannot read.
      anonymousId: () => null,
    }),
    // What Segment's snippet and its users call before they know who answers.
    load: () => analytics,
    debug: () => analytics,
    setAnonymousId: () => null,
  };
  w.analytics = analytics;
  if (Array.isArray(before)) {
    before.forEach((call) => {
      if (Array.isArray(call) && typeof analytics[call[0]] === "function") {
        tagway.ready(() => analytics[call[0]](...call.slice(1)));
      }
    });
  }
}

start();
