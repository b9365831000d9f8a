// fbq, answered by Tagway. Events go out in Meta's words, and the gateway makes canonical ones of them
// (retell.rs), as it does of the pixel's own beacons.

import type { Tagway } from "../../../static/sdk/src/api";

type Params = Record<string, any>;

const page = window as unknown as { tagway: Tagway; fbq?: any; _fbq?: any };
const tagway = page.tagway;

const user: Params = {};
let limits: unknown[] | undefined;
let pixel: string | undefined;

const track = (name: string, said?: Params, { eventID }: Params = {}) =>
  tagway[name === "PageView" ? "page" : "track"](name, said, {
    shim: "meta",
    // What tells the event from others is the site's id with the name: templates give all tags of a page one id.
    ...(eventID && { messageId: eventID + "." + name }),
    context: {
      traits: { ...user },
      dataProcessingOptions: limits,
      source: { event_id: eventID, pixel_id: pixel },
    },
  });

const single = (_pixel: unknown, ...call: [string]) => track(...call);

const commands: Record<string, (...args: any[]) => void> = {
  __proto__: null as any,
  init(id: unknown, said?: Params) {
    pixel ||= String(id);
    Object.assign(user, said);
  },
  set: (what: string, said: any) => what === "userData" && Object.assign(user, said),
  track,
  trackCustom: track,
  trackSingle: single,
  trackSingleCustom: single,
  consent: (answer: string) => tagway.consent({ advertising: answer === "grant" }),
  dataProcessingOptions(options: unknown[] = [], country = 0, state = 0) {
    limits = [options, country, state];
  },
};

const run = (name: string, ...args: any[]) => commands[name]?.(...args);
const fbq: any = (page.fbq = page._fbq = page.fbq || run);
fbq.callMethod = run;
fbq.queue?.splice(0).map((call: any) => run(...(call as [string])));
