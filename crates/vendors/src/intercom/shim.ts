// The Intercom API in the page, served by Tagway, with a button in place of the messenger: the messenger's own
// script is loaded when the visitor opens the chat. People and events are always sent to Tagway.

import type { Tagway } from "../../../../static/sdk/src/api";

type Params = Record<string, any>;

const page = window as unknown as { tagway: Tagway; Intercom?: any; intercomSettings?: Params };
const { tagway } = page;
const { settings } = tagway;
const own = settings.shims?.intercom;

let real: any;
let kept: Params = { ...page.intercomSettings };
/** The calls for the messenger until it loads, and how many of them are in its own queue. */
const later: any[] = [];
let sent: number | undefined;

// Settings for the messenger only, and proofs of identity, which no other vendor gets.
const TO_MESSENGER = /^(app_id|api_base|user_(id|hash)|intercom_user_jwt|alignment|.*_(padding|color|launcher|selector)|session_duration|last_request_at|theme_mode|z_index|compan(y|ies))$/;

const person = (given?: Params | null) => {
  const said: Params = given || page.intercomSettings || {};
  Object.assign(kept, said);
  load.show(!kept.hide_default_launcher);
  const { user_id: id, user_hash, company, companies = company } = said;
  const traits: Params = {};
  for (const key in said) if (!TO_MESSENGER.test(key)) traits[key] = said[key];
  // The gateway removes the hash before any further use: it may prove who logged in.
  const options = user_hash && { integrations: { Intercom: { user_hash } } };
  if (id || Object.keys(traits)[0]) tagway.identify(id && String(id), traits, tagway.ids.of(options || {}));
  for (const { company_id, id = company_id, ...more } of [].concat(companies || []) as Params[]) {
    if (id) tagway.group(String(id), more, tagway.ids.of({}));
  }
};

const OPENS = /^(show|start)/;

const intercom: any = tagway.safe((name: string, ...args: any[]) => {
  if (name === "trackEvent") return tagway.track(args[0], args[1] || {}, tagway.ids.of({}));
  if (name === "boot" || name === "update") person(args[0]);
  if (name === "boot" || (name === "update" && args[0]?.app_id)) intercom.booted = true;
  if (name === "shutdown") {
    kept = {};
    intercom.booted = false;
    load.show(false);
    tagway.reset();
  }
  if (real) return real(name, ...args);
  // There are no messages before the messenger is loaded.
  if (name === "onUnreadCountChange") args[0]?.(0);
  // Until the chat is opened there is nothing to hide, and the person's data is sent with the boot call.
  if (sent || !/^(boot|update|shutdown|reattach_activator|getVisitorId|hide|hideNotifications)$/.test(name)) later.push([name, ...args]);
  if (OPENS.test(name)) load();
  if (name === "getVisitorId") return tagway.ids.anonymous();
});

const load = tagway.chat(
  own && new URL(`${own.from}/widget/${own.app_id}`, settings.endpoint),
  !kept.hide_default_launcher,
  () => {
    // A visitor who pressed the button wants to see it; other calls state what to open.
    if (!later.some(([name]) => OPENS.test(name))) later.push(["show"]);
    sent = later.length;
    intercom.q = [["boot", { ...kept, app_id: own!.app_id }], ...later];
  },
  (fault) => {
    if (!fault) {
      real = page.Intercom;
      page.Intercom = intercom;
      later.slice(sent).map((call) => real(...call));
    }
  },
  () => kept.custom_launcher_selector,
);

const queue = page.Intercom?.q || [];
page.Intercom = intercom;
intercom.booted = !!page.intercomSettings;
if (page.intercomSettings) tagway.safe(person)();
queue.forEach((call: any) => intercom.apply(null, call));
