// Intercom, answered by Tagway, with a button in place of the messenger: the messenger's own script is
// loaded when somebody wants to talk. What is said of people and events goes to Tagway in any case.

import type { Settings, Tagway } from "../../../static/sdk/src/api";

type Params = Record<string, any>;

const page = window as unknown as { tagway: Tagway; Intercom?: any; intercomSettings?: Params };
const tagway = page.tagway;
const own = (((tagway.settings as Settings & Params).shims || {}) as Params).intercom as
  { app_id?: string; src?: string } | undefined;

let real: any;
let isLoading = false;
let button: HTMLElement | undefined;
const kept: Params = { ...page.intercomSettings };
const later: any[] = [];

// What is for the messenger alone, or proves who somebody is and is nobody else's business.
const TO_MESSENGER = /^(app_id|api_base|user_hash|intercom_user_jwt|alignment|.*_padding|hide_default_launcher|custom_launcher_selector|.*_color|session_duration|z_index|company|companies)$/;

const person = (said: Params = {}) => {
  Object.assign(kept, said);
  const traits: Params = {};
  for (const key in said) if (!TO_MESSENGER.test(key) && key !== "user_id") traits[key] = said[key];
  if (said.user_id || Object.keys(traits).length) tagway.identify(said.user_id && String(said.user_id), traits);
  for (const company of [].concat(said.company || said.companies || []) as Params[]) {
    const { company_id, id = company_id, ...more } = company;
    if (id) tagway.group(String(id), more);
  }
};

const load = () => {
  if (isLoading || !own || !own.app_id || !own.src) return;
  isLoading = true;
  const stub: any = page.Intercom = function () {
    stub.q.push(arguments);
  };
  stub.q = [["boot", { ...kept, app_id: own.app_id }], ...later.splice(0)];
  const script = document.createElement("script");
  script.src = own.src;
  script.onload = () => {
    real = page.Intercom;
    page.Intercom = intercom;
    later.splice(0).forEach((call) => real(...call));
    if (button) button.remove();
  };
  script.onerror = () => {
    isLoading = false;
    page.Intercom = intercom;
  };
  document.head.append(script);
};

const intercom = (name: string, ...args: any[]) => {
  if (name === "trackEvent") return tagway.track(args[0], args[1]);
  if (name === "boot" || name === "update") person(args[0]);
  if (name === "shutdown") {
    for (const key in kept) delete kept[key];
    tagway.reset();
  }
  if (real) return real(name, ...args);
  if (!/^(boot|update|shutdown|reattach_activator|getVisitorId|hide)$/.test(name)) later.push([name, ...args]);
  if (/^(show|start)/.test(name)) load();
};

const show = () => {
  button = document.createElement("div");
  const root = button.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync("button{position:fixed;right:20px;bottom:20px;z-index:2147483000;width:48px;height:48px;border:0;border-radius:50%;background:#1f2937;color:#fff;font-size:22px;cursor:pointer}");
  root.adoptedStyleSheets = [sheet];
  const inner = document.createElement("button");
  inner.type = "button";
  inner.setAttribute("aria-label", "Open chat");
  inner.textContent = "💬";
  inner.onclick = () => intercom("show");
  root.append(inner);
  document.body.append(button);
};

const queue = (page.Intercom && page.Intercom.q) || [];
page.Intercom = intercom;
if (page.intercomSettings) person(page.intercomSettings);
queue.forEach((call: any) => intercom.apply(null, call));
if (own && own.app_id && own.src && !kept.hide_default_launcher) {
  if (document.body) show();
  else addEventListener("DOMContentLoaded", show);
}
