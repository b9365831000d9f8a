// Passes events to Drift's widget, which has no event ids.

import type { Adapter } from "../../../../static/sdk/src/parts/clients";

const page = window as any;

const METHODS = ["identify", "config", "track", "reset", "debug", "show", "ping", "page", "hide", "off", "on"];

const adapter: Adapter = {
  prepare({ embed_id }) {
    if (page.drift?.init) return;
    // The widget's script expects a list of calls with methods.
    const stub: any = page.driftt = page.drift = page.driftt || [];
    stub.invoked = true;
    stub.methods = METHODS;
    stub.factory = (method: string) => (...given: unknown[]) => {
      stub.push([method, ...given]);
      return stub;
    };
    for (const method of METHODS) stub[method] = stub.factory(method);
    stub.SNIPPET_VERSION = "0.3.1";
    stub.embedId = embed_id;
  },
  start({ embed_id }) {
    page.drift.load?.(embed_id);
  },
  send({ type, event, name, userId, properties, traits }) {
    const { drift } = page;
    if (type === "track") drift.track(event, properties);
    else if (type === "page") drift.page(name);
    else if (type === "identify" && userId) drift.identify(userId, traits);
    else if (type === "reset") drift.reset();
  },
};

page.tagway.client("drift", adapter);
