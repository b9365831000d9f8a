// posthog-node: `host`.
import { PostHog } from "posthog-node";

export function open({ host, key, fail }) {
  const client = new PostHog(key, {
    host: `${host}/posthog`, flushInterval: 100, fetchRetryCount: 8, fetchRetryDelay: 500,
    personalApiKey: "phx_1", enableLocalEvaluation: true,
  });
  client.on("error", fail);
  return client;
}
export async function calls(client) {
  const distinctId = "u1";
  client.identify({ distinctId, properties: { plan: "pro" } });
  client.setPersonProperties({ distinctId, properties: { a: 1 }, propertiesOnce: { first: 1 } });
  client.unsetPersonProperties({ distinctId, properties: ["a"] });
  client.capture({ distinctId, event: "Order Completed", properties: { total: 25.5, $ip: "203.0.113.9" }, groups: { company: "acme" } });
  client.capture({ distinctId, event: "$pageview", properties: { $current_url: "https://shop.example/" } });
  client.groupIdentify({ groupType: "company", groupKey: "acme", properties: { tier: "gold" }, distinctId });
  client.alias({ distinctId, alias: "a1" });
  client.captureException(new Error("boom"), distinctId);
  const flags = [await client.getAllFlags(distinctId), await client.getAllFlagsAndPayloads(distinctId)];
  if (JSON.stringify(flags) !== '[{},{"featureFlags":{},"featureFlagPayloads":{}}]') throw new Error(JSON.stringify(flags));
  if (await client.isFeatureEnabled("flag", distinctId)) throw new Error("there is no flag");
  await client.getRemoteConfigPayload("flag");
  await client.reloadFeatureFlags();
  await client.captureImmediate({ distinctId, event: "At Once" });
  await client.flush();
}
export const track = (client, distinctId, event, properties) => { client.capture({ distinctId, event, properties }); };
export const flush = (client) => client.flush();
export const close = (client) => client.shutdown(60_000);
