// @snowplow/node-tracker: `endpoint`, and the token in `customHeaders`.
import { buildPageView, buildScreenView, buildSelfDescribingEvent, buildStructEvent, newTracker } from "@snowplow/node-tracker";

export function open({ host, key, fail }) {
  return newTracker({ namespace: "n", appId: "shop", encodeBase64: false }, {
    endpoint: `${host}/snowplow`, protocol: "http", bufferSize: 10,
    customHeaders: { Authorization: `Bearer ${key}` },
    onRequestFailure: ({ status, message, willRetry }) => { if (!willRetry) fail(`${status} ${message}`); },
  });
}
const schema = (name, data) => ({ event: { schema: `iglu:com.shop/${name}/jsonschema/1-0-0`, data } });
export async function calls(client) {
  client.setUserId("u1");
  client.setIpAddress("203.0.113.9");
  client.setUseragent("Phone/1");
  client.track(buildPageView({ pageUrl: "https://shop.example/", pageTitle: "Home" }));
  client.track(buildScreenView({ id: "s1", name: "Start" }));
  client.track(buildStructEvent({ category: "media", action: "play", label: "film", value: 5 }));
  client.track(buildSelfDescribingEvent(schema("order_completed", { total: 25.5 })));
  await client.flush();
}
export function track(client, user, name, data) {
  client.setUserId(user);
  client.track(buildSelfDescribingEvent(schema("lamp_seen", data)));
}
export const flush = (client) => client.flush();
