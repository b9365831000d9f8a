// gtag and its dataLayer, served by Tagway. Events are sent in Google's words, and the gateway makes canonical
// ones of them (beacon/to_canonical.rs), as it does of gtag's own beacons; it leaves out parameters that are
// settings of the library.

import type { Tagway } from "../../../../static/sdk/src/api";

type Params = Record<string, any>;

const page = window as unknown as Record<string, any> & { tagway: Tagway };
const { tagway } = page;

const isCallback = (it: unknown): it is (...args: any[]) => void => typeof it === "function";

/** The page's parameters for all events, and for those of a target. */
const always: Params = {};
const targets: Record<string, Params> = {};
let first: string | undefined;
/** The user id that the page set; null after it took it back. */
let known: string | null | undefined;
/** The client id that the page requested or set, and the function that stores it. */
const [state, save] = tagway.keep("ga4");

/** The time within which the same event for another target is a repetition, in ms: pages send both at once. */
const TOGETHER = 1e3;
/** The targets and the time of recent events, by their content. */
const lately: Record<string, { to: Params; at: number }> = {};

/** Identifies a visitor with an id; other visitors' traits are sent with each event. */
const person = ({ user_id: id, user_properties: traits, client_id }: Params) => {
  if (id && (id !== known || traits)) tagway.identify((known = String(id)), traits);
  if (id === null) known = id;
  if (client_id) client(String(client_id));
};

const client = (id?: string): string => {
  const [, cookie] = /(?:^|; )_ga=GA\d\.\d+\.(\d+\.\d+)/.exec(document.cookie) || [];
  state.id = id || cookie || state.id ||
    [crypto.getRandomValues(new Uint32Array(1))[0]! >>> 1, Math.floor(Date.now() / 1e3)].join(".");
  save();
  return state.id;
};

/** Returns the session of gtag's cookie for the target, else Tagway's own. */
const session = (target: string): number => {
  const [, cookie] = new RegExp(`_ga_${target.slice(2)}=GS\\d\\.\\d+\\.s?(\\d+)`).exec(document.cookie) || [];
  return +cookie! || Math.floor(tagway.ids.session() / 1e3);
};

/** Returns the targets of a name: the one with this id, or those of the group. */
const members = (name: string): string[] => {
  const found = Object.keys(targets).filter((it) => ([] as string[]).concat(targets[it]!.groups || "default").includes(name));
  return targets[name] || !found[0] ? [name] : found;
};

/** Returns the event's page: its own parameters take precedence over the browser's values. */
const pageOf = ({ page_location, page_title, page_referrer, page_path }: Params) => {
  const found = tagway.pageAt(page_location);
  if (page_path) found.path = page_path;
  if (page_title) found.title = page_title;
  if (page_referrer) found.referrer = page_referrer;
  return found;
};

const event = (name: string, params?: Params) => {
  const own = params || {};
  const to = ([] as string[]).concat(own.send_to || always.send_to || []).flatMap(members);
  const main = to.find((it) => it[0] === "G") || to[0] || first || "";
  const said: Params = { ...always, ...targets[main], ...own };
  const { event_callback, event_timeout, send_to, ...rest } = said;
  let isDone: unknown;
  const answer = () => {
    if (!isDone && isCallback(event_callback)) tagway.safe(event_callback)(to[0] || first);
    isDone = 1;
  };
  const all = to[0] ? to : Object.keys(targets);
  const isOut = all[0] && all.every((target) => page["ga-disable-" + target]);
  // An event for Google's advertising only is not sent.
  if (isOut || (to[0] && to.every((target) => /^(AW|DC)-/.test(target)))) return void setTimeout(answer);
  person(own);
  if (to[0]) {
    const text = JSON.stringify(tagway.settings.copy(name, { ...own, send_to: 0 }));
    const last = lately[text];
    const isSame = last && Date.now() - last.at < TOGETHER && !to.some((target) => last.to[target]);
    const entry = isSame ? last : (lately[text] = { to: {}, at: Date.now() });
    for (const target of to) entry.to[target] = 1;
    if (isSame) return void setTimeout(answer);
  }
  setTimeout(answer, event_timeout || 2000);
  const { id } = state;
  const options = tagway.ids.of({ shim: "ga4", context: { page: pageOf(said), clientIds: id && { ga4: { client_id: id } } } });
  delete options.anonymousId;
  if (known === null) options.userId = known;
  if (options.context.sessionId) options.context.sessionId = session(first || "");
  tagway[name === "page_view" ? "page" : "track"](name, send_to ? { ...rest, send_to } : rest, options, answer);
};

const answers: Record<string, boolean> = {};
const updated: Params = {};

const commands: Record<string, (...args: any[]) => void> = {
  __proto__: null as any,
  config(target: string, given?: Params) {
    target = String(target);
    const params = given || {};
    const { user_id, user_properties, client_id, ...rest } = params;
    targets[target] = { ...targets[target], ...rest };
    if (target[0] === "G") first ||= target;
    if (target === first && params.send_page_view !== false) event("page_view", params);
    else person(params);
  },
  set(what: any, params?: any) {
    if (what === "user_properties") params = { ...always[what], ...params };
    if (what && typeof what === "object") Object.assign(always, what);
    else if (targets[what] || /^(G|AW|DC|GT|UA)-/.test(what)) Object.assign((targets[what] ||= {}), params);
    else always[what] = params;
    person(always);
  },
  get(target: string, field: string, callback?: unknown) {
    const own: Record<string, () => unknown> = {
      __proto__: null as any,
      client_id: () => client(),
      session_id: () => session(String(target)),
      user_id: () => known,
      gclid: () => (/[?&]gclid=([\w-]+)/.exec(location.search) || /_gcl_aw=GCL\.\d+\.([\w-]+)/.exec(document.cookie))?.[1],
    };
    const value = { ...always, ...targets[target] }[field] ?? own[field]?.();
    if (isCallback(callback)) setTimeout(tagway.safe(callback), 0, value && String(value));
  },
  event,
  consent(mode: string, said: Params) {
    for (const key in said) {
      const granted = said[key] === "granted";
      if (!granted && said[key] !== "denied") continue;
      const category = key === "ad_storage" ? "advertising" : key.replace("_storage", "");
      if (mode === "update") updated[category] = 1;
      // The visitor's region is unknown here: a category that any region denies is denied, until updated.
      else if (updated[category] || (granted && (said.region || category in answers))) continue;
      answers[category] = granted;
    }
    tagway.consent({ ...answers });
  },
};

/** What is taken already: a page that makes its data layer anew may put it in again. */
const taken = new WeakSet();
const take = tagway.safe((entry: any) => {
  if (Object(entry) === entry) taken.add(entry);
  // Only gtag's own arguments are a command; other entries may have a callback.
  if ({}.toString.call(entry) === "[object Arguments]") {
    const [name, ...args] = entry;
    commands[name]?.(...args);
  } else if (isCallback(entry)) entry.call({ get() {}, set() {}, reset() {} });
  else if (isCallback(entry?.eventCallback)) setTimeout(tagway.safe(entry.eventCallback), 0, first);
});

const attach = (layer: any) => {
  const { push } = layer;
  layer.push = (...entries: any[]) => {
    const length = push.apply(layer, entries);
    entries.forEach(take);
    return length;
  };
  for (const entry of layer.slice()) if (!taken.has(entry)) take(entry);
};

/** The names of data layers: the usual one, and what the addresses of scripts say. */
const names = new Set<string>();
const listen = (name: string) => {
  if (names.has(name)) return;
  names.add(name);
  let layer = (page[name] ||= []);
  if (Object.getOwnPropertyDescriptor(page, name)!.configurable) {
    Object.defineProperty(page, name, {
      configurable: true,
      enumerable: true,
      get: () => layer,
      set(next) {
        if (layer !== next && Array.isArray(next)) attach(next);
        layer = next;
      },
    });
  }
  attach(layer);
};
const look = (address: string) => {
  const [, name] = /[?&]l=([\w$]+)/.exec(address) || [];
  if (name && /[?&]id=\w+-/.test(address)) listen(name);
};
listen("dataLayer");
for (const { src } of [document.currentScript as HTMLScriptElement, ...document.scripts]) look(src);
// A loader that comes later has the name in the address that it asks for.
new PerformanceObserver((list) => list.getEntries().forEach(({ name }) => look(name))).observe({ type: "resource" });
page.google_tag_manager ||= {};
page.gtag ||= function () {
  page.dataLayer.push(arguments);
};
