// Passes events to Amplitude's own library. `insert_id` is the message's id, as in the gateway's delivery.

import type { Adapter } from "../../../../static/sdk/src/parts/clients";

const page = window as any;

const adapter: Adapter = {
  start({ api_key, region }, api) {
    page.amplitude.init(api_key, {
      autocapture: false,
      defaultTracking: false,
      // Remote settings would override these.
      fetchRemoteConfig: false,
      remoteConfig: { fetchRemoteConfig: false },
      serverZone: region === "eu" ? "EU" : "US",
      ...(api && { serverUrl: `${api}/2/httpapi` }),
    });
  },
  send({ type, event, name, messageId, timestamp, userId, groupId, properties, traits }) {
    const { amplitude } = page;
    const time = timestamp ? Date.parse(timestamp) : undefined;
    const options = { insert_id: messageId, ...(time ? { time } : {}) };
    if (type === "track") amplitude.track(event, properties, options);
    else if (type === "page") amplitude.track(`Viewed ${name ? `${name} ` : ""}Page`, properties, options);
    else if (type === "identify") {
      if (userId) amplitude.setUserId(userId);
      const identify = new amplitude.Identify();
      for (const trait of Object.keys(traits ?? {})) identify.set(trait, traits?.[trait]);
      amplitude.identify(identify, options);
    } else if (type === "group" && groupId) amplitude.setGroup("group", groupId, options);
    else if (type === "reset") amplitude.reset();
  },
};

page.tagway.client("amplitude", adapter);
