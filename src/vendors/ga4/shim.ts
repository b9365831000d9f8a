// gtag and its dataLayer, answered by Tagway. Events go out in Google's words, and the gateway makes
// canonical ones of them (retell.rs), as it does of gtag's own beacons.

import type { Tagway } from "../../../static/sdk/src/api";

type Params = Record<string, any>;

const page = window as unknown as { tagway: Tagway; dataLayer?: any[]; gtag?: unknown };
const tagway = page.tagway;

const always: Params = {};
let known: string | undefined;
let first: string | undefined;

/** Somebody with an id is identified; of anybody else it is said with each event. */
const person = ({ user_id: id, user_properties: traits }: Params) => {
  if (id && (id !== known || traits)) tagway.identify((known = String(id)), traits);
};

const event = (name: string, own: Params = {}) => {
  const said: Params = { ...always, ...own };
  // What is for Google's advertising alone is no event of the site's.
  const targets = [].concat(said.send_to || []);
  if (targets[0] && targets.every((target) => /^(AW|DC)-/.test(target))) return;
  person(own);
  const answer = () => {
    const done = said.event_callback;
    said.event_callback = null;
    done?.(first);
  };
  setTimeout(answer, said.event_timeout || 2000);
  tagway[name === "page_view" ? "page" : "track"](name, said, { shim: "ga4" }, answer);
};

const answers: Record<string, boolean> = {};
const updated: Params = {};

const commands: Record<string, (...args: any[]) => void> = {
  __proto__: null as any,
  config(target: string, params: Params = {}) {
    if (target[0] === "G") first ||= target;
    if (target === first && params.send_page_view !== false) event("page_view", params);
    else person(params);
  },
  set(what: any, params?: any) {
    if (what === "user_properties") params = { ...always[what], ...params };
    if (typeof what === "object") Object.assign(always, what);
    else if (typeof params === "object" && !/^user_/.test(what)) Object.assign(always, params);
    else always[what] = params;
    person(always);
  },
  get: (_target: string, _field: string, callback?: (value?: unknown) => void) => callback?.(),
  event,
  consent(mode: string, said: Params) {
    for (const key in said) {
      const granted = said[key] === "granted";
      if (!granted && said[key] !== "denied") continue;
      const category = key === "ad_storage" ? "advertising" : key.replace("_storage", "");
      if (mode === "update") updated[category] = 1;
      // Nobody in the page knows the visitor's region: what is denied somewhere is denied, until updated.
      else if (updated[category] || (granted && (said.region || category in answers))) continue;
      answers[category] = granted;
    }
    tagway.consent({ ...answers });
  },
};

const layer = (page.dataLayer = page.dataLayer || []);
const take = (entry: any) => {
  // Only what gtag pushes is a command: its own arguments.
  if (`${entry}` === "[object Arguments]") {
    const [name, ...args] = entry;
    commands[name]?.(...args);
  }
};
const push = layer.push;
layer.push = (...entries: any[]) => {
  const length = push.apply(layer, entries);
  entries.forEach(take);
  return length;
};
layer.slice().forEach(take);
page.gtag ||= function () {
  layer.push(arguments);
};
