// @snowplow/node-tracker: `endpoint`, and the token in `customHeaders`.
import { setTimeout as pause } from "node:timers/promises";
import { buildPageView, buildScreenView, buildSelfDescribingEvent, buildStructEvent, newTracker } from "@snowplow/node-tracker";

export function open({ host, key, fail }) {
  const left = { events: 0 };
  const client = newTracker({ namespace: "n", appId: "shop", encodeBase64: false }, {
    endpoint: `${host}/snowplow`, protocol: "http", bufferSize: 10,
    customHeaders: { Authorization: `Bearer ${key}` },
    onRequestSuccess: (events) => { left.events -= events.length; },
    onRequestFailure({ events, status, message, willRetry }) {
      if (willRetry) return;
      left.events -= events.length;
      fail(`${status} ${message}`);
    },
  });
  return Object.assign(client, { left, say: (event) => { left.events += 1; client.track(event); } });
}
const schema = (name, data) => ({ event: { schema: `iglu:com.shop/${name}/jsonschema/1-0-0`, data } });
export async function calls(client) {
  client.setUserId("u1");
  client.setIpAddress("203.0.113.9");
  client.setUseragent("Phone/1");
  client.say(buildPageView({ pageUrl: "https://shop.example/", pageTitle: "Home" }));
  client.say(buildScreenView({ id: "s1", name: "Start" }));
  client.say(buildStructEvent({ category: "media", action: "play", label: "film", value: 5 }));
  client.say(buildSelfDescribingEvent(schema("order_completed", { total: 25.5 })));
  await flush(client);
}
export function track(client, user, name, data) {
  client.setUserId(user);
  client.say(buildSelfDescribingEvent(schema("lamp_seen", data)));
}
/** A flush is one try. */
export async function flush(client) {
  while (client.left.events > 0) {
    await client.flush();
    await pause(100);
  }
}
