// @customerio/cdp-analytics-node: `host`.
import { Analytics } from "@customerio/cdp-analytics-node";
import { spec } from "./spec.mjs";

export function open({ host, key, fail }) {
  const client = new Analytics({ writeKey: key, host, flushInterval: 100, maxRetries: 10 });
  client.on("error", fail);
  return client;
}
export const calls = (client) => { spec(client); return close(client); };
export const track = (client, userId, event, properties) => new Promise((done) => {
  client.track({ userId, event, properties }, done);
});
export const close = (client) => client.closeAndFlush({ timeout: 60_000 });
