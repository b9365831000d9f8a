// drift, answered by Tagway, with a button in place of the widget: the widget's own script is loaded
// when somebody wants to talk. What is said of people and events goes to Tagway in any case.

import type { Settings, Tagway } from "../../../static/sdk/src/api";

type Params = Record<string, any>;

const page = window as unknown as { tagway: Tagway; drift?: any; driftt?: any };
const tagway = page.tagway;
const own = (((tagway.settings as Settings & Params).shims || {}) as Params).drift as
  { embed_id?: string; src?: string } | undefined;

let isLoading = false;
let button: HTMLElement | undefined;
// What the widget is told when it comes.
const later: any[] = [];

const tell: Record<string, (...args: any[]) => void> = {
  identify: (id, traits) => tagway.identify(id == null ? undefined : String(id), traits),
  track: (name, said) => tagway.track(name, said),
  page: (name) => tagway.page(typeof name === "string" ? name : undefined),
  reset: () => tagway.reset(),
};

const open = () => {
  if (isLoading || !own || !own.embed_id || !own.src) return;
  isLoading = true;
  const stub: any = [...later, ["on", "ready", (api: any) => api.openChat()]];
  for (const name of "identify config track reset debug show ping page hide off on".split(" ")) {
    stub[name] = (...args: any[]) => stub.push([name, ...args]);
  }
  stub.invoked = true;
  stub.SNIPPET_VERSION = "0.3.1";
  const script = document.createElement("script");
  script.src = own.src;
  script.crossOrigin = "anonymous";
  script.onload = () => {
    const real = page.drift;
    if (button) button.remove();
    for (const name in tell) {
      const inner = real[name];
      // Events come to Drift by the gateway; of the person, the widget must know as well.
      real[name] = (...args: any[]) => {
        tell[name]!(...args);
        if (!/track|page/.test(name) && inner) inner.apply(real, args);
      };
    }
  };
  script.onerror = () => {
    isLoading = false;
    page.drift = page.driftt = root;
  };
  page.drift = page.driftt = stub;
  document.head.append(script);
};

const nothing = () => {};
const facade = {
  openChat: open, toggleChat: open, showWelcomeMessage: open, hideChat: nothing,
  showWelcomeOrAwayMessage: open, showAwayMessage: open, startInteraction: open, goToConversation: open,
  sidebar: { open, toggle: open, close: nothing },
  widget: { show: nothing, hide: nothing },
  setUserAttributes: (traits: Params) => tagway.identify(undefined, traits),
  on: nothing,
  off: nothing,
};

const run = ([name, ...args]: any[]) => {
  if (tell.hasOwnProperty(name)) tell[name]!(...args);
  if (name === "on" && args[0] === "ready") args[1](facade, {});
  else if (!/^(track|page|ping)$/.test(name)) later.push([name, ...args]);
  return root;
};

const show = () => {
  button = document.createElement("div");
  const shadow = button.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync("button{position:fixed;right:20px;bottom:20px;z-index:2147483000;width:48px;height:48px;border:0;border-radius:50%;background:#1f2937;color:#fff;font-size:22px;cursor:pointer}");
  shadow.adoptedStyleSheets = [sheet];
  const inner = document.createElement("button");
  inner.type = "button";
  inner.setAttribute("aria-label", "Open chat");
  inner.textContent = "💬";
  inner.onclick = open;
  shadow.append(inner);
  document.body.append(button);
};

const root = (page.drift = page.driftt = page.drift || []);
const queue = Array.isArray(root) ? root.splice(0) : [];
for (const name of "identify config track reset debug show ping page hide off on setUserAttributes".split(" ")) {
  root[name] = (...args: any[]) => run([name, ...args]);
}
root.push = run;
root.load = nothing;
root.setUserAttributes = facade.setUserAttributes;
root.api = facade;
queue.forEach(run);
if (own && own.embed_id && own.src) {
  if (document.body) show();
  else addEventListener("DOMContentLoaded", show);
}
