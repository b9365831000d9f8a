// analytics, Segment's browser API, answered by Tagway. The page's stub is kept: its queue is worked
// off, and what it would queue later runs at once.

import type { Tagway } from "../../../static/sdk/src/api";

const page = window as unknown as { tagway: Tagway; analytics?: any };
const tagway: any = page.tagway;

/** Calls a method with its texts in front, its objects and its callback: all may be left out. */
const said = (texts: number, say: (texts: any[], own: any, options: any) => void) =>
  async (...args: any[]) => {
    const isCallback = (arg: unknown) => typeof arg === "function";
    const rest = args.filter((arg) => !isCallback(arg));
    const front: any[] = [];
    while (front.length < texts && rest.length && typeof (rest[0] ?? "") !== "object") front.push(rest.shift());
    say(front, rest[0] || {}, rest[1]);
    args.find(isCallback)?.();
  };

const listen = (kind: string) => (elements: any, name: any, own?: any) => {
  for (const element of elements instanceof Element ? [elements] : elements || []) {
    element.addEventListener(kind, () => {
      const of = (it: any) => (typeof it === "function" ? it(element) : it);
      tagway.track(of(name), of(own));
    });
  }
};

const api: Record<string, (...args: any[]) => any> = {
  track: said(1, ([name], own, options) => tagway.track(String(name), own, options)),
  page: said(2, ([first, second], own, options) =>
    second == null
      ? tagway.page(first, own, options)
      : tagway.page(second, { category: first, ...own }, options)),
  identify: said(1, ([id], traits, options) => tagway.identify(id, traits, options)),
  group: said(1, ([id], traits, options) => id != null && tagway.group(String(id), traits, options)),
  alias: said(2, ([id, previous], options) => tagway.alias(id, previous ?? tagway.user().id, options)),
  reset: () => tagway.reset(),
  ready: (callback) => tagway.ready(callback),
  on: (name, callback) => tagway.on(name, (message: any) =>
    callback(message.event || message.name || message.userId, message.properties || message.traits, {})),
  user: () => ({ id: () => tagway.user().id, traits: () => tagway.user().traits || {}, anonymousId: () => {} }),
  trackLink: listen("click"),
  trackForm: listen("submit"),
};
api.trackClick = api.trackLink!;
api.trackSubmit = api.trackForm!;
api.pageview = api.page!;

const root = (page.analytics ||= []);
if (!root.initialized) {
  const run = tagway.serve(root, api);
  root.initialized = root.invoked = true;
  run();
}
