// The Drift API in the page, served by Tagway, with a button in place of the widget: the widget's own script
// is loaded when the visitor opens the chat. People and events are always sent to Tagway.

import type { Tagway } from "../../../../static/sdk/src/api";

type Params = Record<string, any>;

const page = window as unknown as { tagway: Tagway; drift?: any; driftt?: any };
const tagway = page.tagway;
const { settings } = tagway;
const own = settings.shims?.drift;

/** The period after which the widget's address changes, in ms, as in Drift's own snippet. */
const SPAN = 3e5;

/** The calls for the widget until it loads, and how many of them are in its own queue. */
const later: any[] = [];
let sent: number;

/** The widget's first action after it loads. */
let wanted = (api: any) => api.openChat();

const tell: Record<string, (...args: any[]) => void> = {
  __proto__: null as any,
  identify: (id, traits) => tagway.identify(id && String(id), traits || {}),
  track: (name, said) => tagway.track(String(name), said || {}),
  page: (name) => tagway.page(name && String(name)),
  reset: tagway.reset,
};

const open = tagway.chat(
  own && new URL(`${own.from}/include/${Math.ceil(Date.now() / SPAN) * SPAN}/${own.embed_id}.js`, settings.endpoint),
  true,
  () => {
    sent = later.length;
    Object.assign(root, later, { [sent]: ["on", "ready", (api: any) => wanted(api)] });
  },
  (fault) => {
    root.length = 0;
    if (fault) return;
    const real = page.drift;
    later.slice(sent).map(([name, ...args]) => real[name]?.(...args));
    for (const name in tell) {
      const inner = real[name];
      // The gateway sends events to Drift; the widget needs the person's data as well.
      real[name] = (...args: any[]) => {
        tell[name]!(...args);
        if (!/track|page/.test(name)) inner?.apply(real, args);
      };
    }
  },
  // The widget's own selector.
  () => ".drift-open-chat",
);

const nothing = () => {};
const show = () => open.show(true);
const hide = () => open.show(false);
const setUserAttributes = (traits: Params) => tagway.identify(undefined, traits || {});
const facade: Params = {
  sidebar: { open, toggle: open, close: nothing },
  widget: { show, hide },
  hideChat: nothing, on: nothing, off: nothing, setUserAttributes,
};
for (const name of "openChat toggleChat showWelcomeMessage showWelcomeOrAwayMessage showAwayMessage startInteraction goToConversation goToNewConversation startVideoGreeting scheduleMeeting startFastlane".split(" ")) {
  facade[name] = (...args: any[]) => {
    wanted = (api) => api[name]?.(...args);
    open();
  };
}

const run = ([name, ...args]: any[]) => {
  tell[name]?.(...args);
  if (name === "hide" || name === "show") open.show(name === "show");
  if (name === "on" && args[0] === "ready") tagway.safe(args[1])(facade, {});
  else if (!/^(track|page|ping)$/.test(name)) later.push([name, ...args]);
  return root;
};

const root = (page.drift = page.driftt = page.drift || []);
const api: Params = { load: nothing, unload: hide, stop: hide, setUserAttributes };
facade.on = (...args: any[]) => run(["on", ...args]);
root.api = facade;
for (const name of "identify config track reset debug show ping page hide off on".split(" ")) api[name] = (...args: any[]) => run([name, ...args]);
tagway.serve(root, api, { run, name: "drift", marks: { invoked: root.invoked } })();
