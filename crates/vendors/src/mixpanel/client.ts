// Feeds Mixpanel's own library. `$insert_id` is the message's id, as the gateway's own delivery has it.

import type { Adapter } from "../../../../static/sdk/src/parts/clients";

const page = window as any;

const isPlain = (id: string) => /^[A-Za-z0-9-]{1,36}$/.test(id);

/** Of ids that Mixpanel would not take: the beginning of the digest, as in the gateway's own. */
async function insertId(id: string): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(id)));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("").slice(0, 36);
}

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
  send({ type, event, name, messageId, timestamp, userId, groupId, previousId, properties, traits }) {
    const { mixpanel } = page;
    const track = (label?: string, $insert_id?: string) => {
      // Of the same day and visitor, Mixpanel knows a repetition by the id.
      const time = timestamp && Date.parse(timestamp) / 1000;
      mixpanel.track(label, { ...properties, ...(time && { time }), ...($insert_id && { $insert_id }) });
    };
    const label = type === "track" ? event : type === "page" ? `Viewed ${name ? `${name} ` : ""}Page` : undefined;
    if (label) {
      if (isPlain(messageId)) track(label, messageId);
      // Only pages that give ids of their own come here; without TLS there is no digest.
      else insertId(messageId).then((id) => track(label, id), () => track(label));
    }
    if (type === "identify") {
      if (userId) mixpanel.identify(userId);
      if (userId && traits && Object.keys(traits).length) mixpanel.people.set(traits);
    } else if (type === "group" && groupId) mixpanel.set_group("$group_id", groupId);
    else if (type === "alias" && userId) mixpanel.alias(userId, previousId);
    else if (type === "reset") mixpanel.reset();
  },
};

page.tagway.client("mixpanel", adapter);
