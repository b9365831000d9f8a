// Feeds PostHog's own library (array.js). It has no server-side destination here, so nothing is sent twice.

import type { Adapter } from "../../../../static/sdk/src/parts/clients";

const page = window as any;

const adapter: Adapter = {
  prepare({ api_key, api_host }, api) {
    const stub: any = page.posthog = [];
    stub.people = [];
    stub.__SV = 1;
    stub._i = [[api_key, {
      api_host: api ?? api_host ?? "https://us.i.posthog.com",
      autocapture: false,
      capture_pageview: false,
      capture_pageleave: false,
      disable_session_recording: true,
      disable_surveys: true,
      // It would load code from elsewhere.
      disable_external_dependency_loading: true,
      advanced_disable_flags: true,
    }, "posthog"]];
  },
  send({ type, event, messageId, userId, groupId, previousId, properties, traits, timestamp }) {
    const { posthog } = page;
    const options = { uuid: messageId, ...(timestamp ? { timestamp: new Date(timestamp) } : {}) };
    if (type === "track") posthog.capture(event, properties, options);
    else if (type === "page") posthog.capture("$pageview", properties, options);
    else if (type === "identify") {
      if (userId) posthog.identify(userId, traits);
      else if (traits) posthog.setPersonProperties(traits);
    } else if (type === "group" && groupId) posthog.group("group", groupId, traits);
    else if (type === "alias" && userId) posthog.alias(userId, previousId);
    else if (type === "reset") posthog.reset();
  },
};

page.tagway.client("posthog", adapter);
