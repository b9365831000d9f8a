// fbq, answered by Tagway. Events go out in Meta's words, and the gateway makes canonical ones of them
// (beacon/to_canonical.rs), as it does of the pixel's own beacons.

import type { Tagway } from "../../../../static/sdk/src/api";

type Params = Record<string, any>;

const page = window as unknown as { tagway: Tagway; fbq?: any; _fbq?: any };
const { tagway } = page;

const user: Params = {};
const pixels: Params = {};
let limits: unknown[] | undefined;
let first: string | undefined;
/** Events that wait for the grant, as the pixel holds them while consent is revoked. */
const gate = tagway.gate();
/** Where the last PageView was: one more of the same page is none, as for the pixel. */
let viewed: string | undefined;
/** How long the same event for another pixel is the same event, in ms: pages tell it in one go. */
const TOGETHER = 1e3;
const lately: Record<string, { to: Params; at: number }> = {};

const send = (id: string | undefined, name: string, params?: Params, more?: Params) => {
  // Of the first generation.
  if (name === "PixelInitialized") name = "PageView";
  const { event_id, eventID = event_id } = more || {};
  const isPage = name === "PageView";
  const { href } = location;
  if (isPage && viewed === href && !fbq.allowDuplicatePageViews) return;
  if (isPage) viewed = href;
  if (id) {
    const text = JSON.stringify(tagway.settings.copy(name, params, more));
    const last = lately[text];
    const isSame = last && Date.now() - last.at < TOGETHER && !last.to[id];
    (isSame ? last : (lately[text] = { to: {}, at: Date.now() })).to[id] = 1;
    if (isSame) return;
  }
  const options: Params = {
    shim: "meta",
    timestamp: new Date(),
    // What tells the event from others is the site's id with the name: templates give all tags of a page one id.
    messageId: eventID && eventID + "." + name,
    context: {
      page: tagway.settings.here(),
      traits: { ...user },
      dataProcessingOptions: limits,
      source: { event_id: eventID, pixel_id: id || first },
    },
  };
  [params] = tagway.settings.copy(params);
  const tell = () => tagway[isPage ? "page" : "track"](name, params || {}, options);
  for (const pixel of id ? [id] : Object.keys(pixels)) if (pixels[pixel]) pixels[pixel].eventCount += 1;
  gate.pass(tell);
};
const track = (name: string, params?: Params, more?: Params) => send(undefined, String(name), params, more);
const single = (id: unknown, name: string, params?: Params, more?: Params) => send(String(id), String(name), params, more);
const init = (id: unknown, said?: Params) => {
  first ||= String(id);
  Object.assign(((pixels[String(id)] ||= { id: String(id), eventCount: 0, userData: {}, userDataFormFields: {} })).userData, said);
  Object.assign(user, said);
};

const commands: Record<string, (...args: any[]) => void> = {
  __proto__: null as any,
  init,
  addPixelId: init,
  set: (what: string, said: any) => what === "userData" && Object.assign(user, said),
  track,
  trackCustom: track,
  trackSingle: single,
  trackSingleCustom: single,
  consent(answer: string) {
    const isGranted = answer === "grant";
    tagway.consent({ advertising: isGranted });
    if (isGranted) gate.open();
    else gate.shut();
  },
  dataProcessingOptions(options: unknown[] = [], country = 0, state = 0) {
    limits = [options, country, state];
  },
};

// Of its first generation, calls are arrays.
const run = tagway.safe((name: any, ...args: any[]): void =>
  Array.isArray(name) ? run.apply(0, name as any) : (commands[name] || tagway.absent("fbq", name))(...args));
const queues = [page.fbq?.queue, Array.isArray(page._fbq) && page._fbq];
const fbq: any = (page.fbq = page.fbq || run);
page._fbq = fbq;
Object.assign(fbq, {
  callMethod: run,
  push: fbq,
  loaded: true,
  version: fbq.version || "2.0",
  queue: [],
  instance: { pixelsByID: pixels },
  getState: () => ({ pixelInitializationSettings: {}, pixels: Object.values(pixels) }),
});
for (const queue of queues) for (const call of queue || []) run.apply(0, call);

// The pixel reports each new address by itself.
tagway.moved(() => {
  if (viewed && viewed !== location.href && !fbq.disablePushState) track("PageView");
});
