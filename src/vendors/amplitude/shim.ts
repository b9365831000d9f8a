// amplitude, answered by Tagway: the stub that the vendor's snippet leaves in the page is kept, its
// queue is worked off, and what it would queue later runs at once. What is told goes out in Amplitude's
// words, and the gateway makes canonical messages of it (retell.rs). The stub's other methods stay, and
// nobody answers: ids and sessions are the gateway's.

import type { Tagway } from "../../../static/sdk/src/api";

type Params = Record<string, any>;
type Call = { name: string; args: any[]; resolve?: (value: unknown) => void };

const page = window as unknown as { tagway: Tagway; amplitude?: any };
const tagway = page.tagway;
const shim = "amplitude";

/** Remembers whatever it is told, as what the snippet has in its place. */
const Recorder: any = function () {
  const _q: unknown[] = [];
  const told: any = new Proxy({}, {
    get: (_, name) => name === "_q" ? _q : (...args: unknown[]) => (_q.push({ name, args }), told),
  });
  return told;
};

const calls = (told: any): Call[] =>
  (told?._q || []).map((call: any) => (call.name ? call : { name: call[0], args: call.slice(1) }));

/** What an Identify says: traits, and what only Amplitude can do. */
const said = (told: any, context?: Params) => {
  const traits: Params = {};
  const operations: Params = {};
  for (const { name, args: [key, value] } of calls(told)) {
    if (name === "unset") traits[key] = null;
    else (name === "set" ? traits : operations["$" + name] ||= {})[key] = value;
  }
  return [traits, { shim, context: { ...context, source: { operations } } }] as const;
};

let user: any;
let isOut = false;
const settle = (say: (done: () => void) => void) => ({
  promise: new Promise((resolve) => say(() => resolve({ code: 200, message: "", event: {} }))),
});
/** What has no end to wait for. */
const settled = (_said?: unknown) => settle((done) => done());

const setUserId = (id: any) => {
  if (id && id !== user) tagway.identify((user = String(id)));
};
const optOut = (out: boolean) => tagway.consent({ analytics: !(isOut = !!out) });
const track = (event: any, own?: Params, more?: Params) => {
  const whole = typeof event === "object" ? event : { event_type: event, event_properties: own };
  const { user_id, insert_id, time } = { ...more, ...whole } as Params;
  setUserId(user_id);
  const options: Params = { shim };
  if (insert_id) options.messageId = insert_id;
  if (time) options.timestamp = new Date(time);
  return settle((done) => tagway.track(whole.event_type, whole.event_properties, options, done));
};
const group = (type: string, ids: any, told?: any) =>
  settled([].concat(ids).map((id) =>
    tagway.group(String(id), ...said(told, { groupType: type, groups: { [type]: id } }))));

const api: Record<string, (...args: any[]) => any> = {
  init(_key: string, id?: any, own?: any) {
    const { autocapture: auto, defaultTracking: before = true, optOut: out, userId } =
      own || (typeof id === "object" && id) || {};
    setUserId(typeof id === "string" ? id : userId);
    if (out) optOut(true);
    const choice = auto ?? before;
    if (choice && choice.pageViews !== false) tagway.page(undefined, undefined, { shim });
    return settled();
  },
  track,
  logEvent: track,
  identify: (told) => settled(tagway.identify(undefined, ...said(told))),
  setGroup: (type, ids) => group(type, ids),
  groupIdentify: group,
  revenue(told) {
    const bought: Params = {};
    // As the library itself does: setProductId() is $productId.
    for (const { name, args: [value] } of calls(told)) {
      if (name === "setEventProperties") Object.assign(bought, value);
      else bought["$" + name[3]!.toLowerCase() + name.slice(4)] = value;
    }
    return track("revenue_amount", bought);
  },
  setUserId,
  getUserId: () => user,
  setOptOut: optOut,
  getOptOut: () => isOut,
  reset() {
    user = undefined;
    tagway.reset();
  },
  flush: () => settled(tagway.flush()),
  add: settled,
  remove: settled,
};
const run = async ({ name, args, resolve }: Call) => {
  const result = api[name]?.(...args);
  resolve?.(await result?.promise);
};
const serve = (stub: any) => {
  const queue = calls(stub);
  Object.assign(stub, api)._q = { push: run };
  queue.map(run);
};

const root = (page.amplitude ||= {});
root.Identify ||= Recorder;
root.Revenue ||= Recorder;
root.runQueuedFunctions = () => {};
root.invoked = true;
root.getInstance = root.createInstance = () => root;
serve(root);
for (const name in root._iq) serve(root._iq[name]);
