// tagway.serve, which the vendors' shims use: it comes once, before the first of them.
import type { Tagway } from "../api";

type Call = (...args: any[]) => any;

/** Set while a vendor's snippet that comes after its shim puts its own queue's methods into place. */
let isSnippet: unknown;
const warned: Record<string, unknown> = {};

window.tagway.absent = (name, method) => () => {
  const whole = `${name}.${method}()`;
  if (!warned[whole]) console.warn("Tagway does not do " + whole);
  warned[whole] = 1;
  if (/Async$/.test(method)) return Promise.resolve({});
};

/** Nothing throws into the page: what goes wrong is reported as an unhandled rejection. */
window.tagway.safe = ((call) =>
  function (this: unknown, ...args: any[]) {
    try {
      return call.apply(this, args);
    } catch (fault) {
      Promise.reject(fault);
    }
  }) as Tagway["safe"];

/** Keeps a member what it is: a snippet of whatever generation, which may come later, finds it there. */
window.tagway.fix = (object, member, value) => {
  Object.defineProperty(object, member, { configurable: true, get: () => value, set() {} });
};

/** Calls that wait at most: what a visitor does before the answer to a banner. */
const MAX_HELD = 100;

/** Members with such a name that the stub has not are what `give` gives. */
const inherit = (stub: any, name: RegExp, give: (member: string) => Call) => {
  const methods: any = Array.isArray(stub) ? Array.prototype : Object.prototype;
  Object.setPrototypeOf(stub, new Proxy(methods, {
    get: (_, member: string) => methods[member] ?? (name.test(String(member)) ? give(member) : undefined),
  }));
};

/** Takes up what the snippet of Mixpanel or PostHog has to install, and installs what the page names later. */
window.tagway.instances = (root, shim, install) => {
  const init: Call = window.tagway.safe((token: string, config?: object, name: string = shim) =>
    name && name !== shim
      ? install(Array.isArray(root[name]) ? root[name] : (root[name] = []), { token, ...config }, `${shim}_${name}`, init)
      : install(root, { token, ...config }, shim, init));
  const queue = root._i || [];
  window.tagway.fix(root, "init", init);
  window.tagway.fix(root, "_i", { push: (args: any) => init.apply(0, args) });
  if (queue.splice(0).map((args: any) => init.apply(0, args)).length) return;
  // Until then the methods queue what they are called with, as the snippet's do: pages look for the global alone.
  for (const stub of [root, (root.people ||= [])]) {
    inherit(stub, /^(?!then|toJ)[a-z]/, (member) => (...args: any[]) => {
      if (stub.length < MAX_HELD) stub.push([member, ...args]);
    });
  }
};

/** A gate that calls wait at while it is shut, as the libraries hold them until the page allows them. */
window.tagway.gate = (isShut) => {
  let held: Call[] | undefined = isShut ? [] : undefined;
  return {
    pass(call) {
      if (!held) call();
      else if (held.length < MAX_HELD) held.push(call);
    },
    shut() {
      held ||= [];
    },
    open() {
      const calls = held;
      held = undefined;
      calls?.map((call) => call());
    },
  };
};

let movers: Call[] | undefined;
const look = () => setTimeout(() => movers!.map((it) => it()));

/** Calls back for each change of the address, or of that part of it, without a load. */
window.tagway.moved = (callback, part = () => location.href) => {
  if (!movers) {
    for (const name of ["pushState", "replaceState"] as const) {
      const own = history[name];
      history[name] = function (this: History, ...args: Parameters<History["pushState"]>) {
        own.apply(this, args);
        look();
      };
    }
    addEventListener("popstate", look);
  }
  let last = part();
  (movers ||= []).push(() => {
    const now = part();
    if (now !== last) callback();
    last = now;
  });
};

/** What the name of a library's method begins with: one that a shim has not must not throw into the page. */
const DOES = /^(add|can|capture|clear|collect|delete|display|enable|get|load|on|pause|re|set|start|stop|track|un|update)[a-z]*[A-Z_]/;

/**
 * Gives the stub that a vendor's snippet left in the page its methods, and what it would queue later to
 * `run` at once. What it has queued is run by the function that is given back: each call for itself. A snippet
 * that comes later sets a member of `marks` first, which calls `late`, and what it puts over the methods until its
 * script ends is left out.
 */
window.tagway.serve = ((
  stub: any,
  own: Record<string, Call>,
  { run, name = "", marks = {}, late }: any = {},
) => {
  const absent = (method: string) => window.tagway.absent(name, method);
  const one = run || (([method, ...args]: any[]) => (own[method] || absent(method))(...args));
  // A function in the queue is one of the page's own, to be called when the library is there.
  run = window.tagway.safe((call: any) => (typeof call === "function" ? call.call(stub) : one(call)));
  const queue: any[] = Array.isArray(stub) ? stub.splice(0) : [];
  const put = (member: string, value: any, set?: (value: any) => void) =>
    Object.defineProperty(stub, member, {
      configurable: true,
      enumerable: true,
      get: () => value,
      set: set || ((other) => {
        if (!isSnippet) value = other;
      }),
    });
  inherit(stub, DOES, absent);
  for (const method in own) put(method, window.tagway.safe(own[method]!));
  for (const mark in marks) {
    put(mark, marks[mark], () => {
      isSnippet = 1;
      late?.();
      queueMicrotask(() => (isSnippet = 0));
    });
  }
  stub.push = run;
  return () => queue.map(run);
}) as Tagway["serve"];
