// gtag and its dataLayer, served by Tagway. Events are sent in Google's words, and the gateway makes canonical
// ones of them (beacon/to_canonical.rs), as it does of gtag's own beacons; it leaves out parameters that are
// settings of the library.

import type { Tagway } from "../../../static/sdk/src/api";

type Params = Record<string, any>;

const page = window as unknown as Record<string, any> & { tagway: Tagway };
const { tagway } = page;
const { here } = tagway.settings;

/** The page's parameters for all events, and for those of a target. */
const always: Params = {};
const targets: Record<string, Params> = {};
let first: string | undefined;
let known: string | undefined;
/** The client id that the page requested or set, and the function that stores it. */
const [state, save] = tagway.keep("ga4");

/** The time within which the same event for another target is a repetition, in ms: pages send both at once. */
const TOGETHER = 1e3;
/** The targets and the time of recent events, by their content. */
const lately: Record<string, { to: Params; at: number }> = {};

/** Identifies a visitor with an id; other visitors' traits are sent with each event. */
const person = ({ user_id: id, user_properties: traits, client_id }: Params) => {
  if (id && (id !== known || traits)) tagway.identify((known = String(id)), traits);
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

/** Returns the event's page: its own parameters take precedence over the browser's values. */
const pageOf = ({ page_location, page_title, page_referrer, page_path }: Params) => {
  const found = here();
  if (page_location) {
    const { href: url, pathname: path, search } = new URL(page_location, location.href);
    Object.assign(found, { url, path, search });
  }
  if (page_path) found.path = page_path;
  if (page_title) found.title = page_title;
  if (page_referrer) found.referrer = page_referrer;
  return found;
};

const event = (name: string, params?: Params) => {
  const own = params || {};
  const to: string[] = [].concat(own.send_to || always.send_to || []);
  const said: Params = { ...always, ...targets[to[0] || first!], ...own };
  const { event_callback, event_timeout, send_to, ...rest } = said;
  let isDone: unknown;
  const answer = () => {
    if (!isDone) event_callback?.(to[0] || first);
    isDone = 1;
  };
  const all = to[0] ? to : Object.keys(targets);
  const isOut = all[0] && all.every((target) => page["ga-disable-" + target]);
  // An event for Google's advertising only is not sent.
  if (isOut || (to[0] && to.every((target) => /^(AW|DC)-/.test(target)))) return void setTimeout(answer);
  person(own);
  if (to[0]) {
    const text = JSON.stringify(tagway.settings.copy(name, rest));
    const last = lately[text];
    const isSame = last && Date.now() - last.at < TOGETHER && !to.some((target) => last.to[target]);
    const entry = isSame ? last : (lately[text] = { to: {}, at: Date.now() });
    for (const target of to) entry.to[target] = 1;
    if (isSame) return void setTimeout(answer);
  }
  setTimeout(answer, event_timeout || 2000);
  const { id } = state;
  const options = tagway.ids.of({ shim: "ga4", context: { page: pageOf(said), ...(id && { clientIds: { ga4: { client_id: id } } }) } });
  delete options.anonymousId;
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
  get(target: string, field: string, callback?: (value?: unknown) => void) {
    const isId = field === "client_id";
    const value = isId ? client() : field === "session_id" ? session(String(target)) : { ...always, ...targets[target] }[field];
    setTimeout(() => callback?.(value && String(value)));
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

const take = tagway.safe((entry: any) => {
  // Only gtag's own arguments are a command; other entries may have a callback.
  if ({}.toString.call(entry) === "[object Arguments]") {
    const [name, ...args] = entry;
    commands[name]?.(...args);
  } else if (typeof entry?.eventCallback === "function") setTimeout(entry.eventCallback, 0, first);
});

/** The names of data layers: the usual one, and those in the addresses of scripts. */
const names = new Set(["dataLayer"]);
for (const { src } of [document.currentScript as HTMLScriptElement, ...document.scripts]) {
  const [, name] = /[?&]l=([\w$]+)/.exec(src) || [];
  if (name) names.add(name);
}
for (const name of names) {
  const layer = (page[name] ||= []);
  const { push } = layer;
  layer.push = (...entries: any[]) => {
    const length = push.apply(layer, entries);
    entries.forEach(take);
    return length;
  };
  layer.slice().forEach(take);
}
page.gtag ||= function () {
  page.dataLayer.push(arguments);
};
