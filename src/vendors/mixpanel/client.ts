// Feeds Mixpanel's own library. `$insert_id` is the message's id, as the gateway's own delivery has it.

import type { Adapter } from "../../../static/sdk/src/parts/clients";

const page = window as any;

const adapter: Adapter = {
  prepare({ project_token }, api) {
    // What the library's script looks for: the calls of its snippet, of which there is one.
    const stub: any = page.mixpanel = [];
    stub.people = [];
    stub.__SV = 1.2;
    stub._i = [[project_token, {
      track_pageview: false, autocapture: false, ignore_dnt: true, ...(api && { api_host: api }),
    }, "mixpanel"]];
  },
  send({ type, event, name, messageId, userId, groupId, previousId, properties, traits }) {
    const { mixpanel } = page;
    const own = { ...properties, $insert_id: messageId };
    if (type === "track") mixpanel.track(event, own);
    else if (type === "page") mixpanel.track(`Viewed ${name ? `${name} ` : ""}Page`, own);
    else if (type === "identify") {
      if (userId) mixpanel.identify(userId);
      if (userId && traits && Object.keys(traits).length) mixpanel.people.set(traits);
    } else if (type === "group" && groupId) mixpanel.set_group("$group_id", groupId);
    else if (type === "alias" && userId) mixpanel.alias(userId, previousId);
    else if (type === "reset") mixpanel.reset();
  },
};

page.tagway.client("mixpanel", adapter);
