// @segment/analytics-node: `host`.
import { Analytics } from "@segment/analytics-node";
import { spec } from "./spec.mjs";

export function open({ host, key, fail }) {
  const client = new Analytics({ writeKey: key, host, flushInterval: 100 });
  client.on("error", fail);
  return client;
}
export const calls = (client) => { spec(client); return flush(client); };
export const track = (client, userId, event, properties) => { client.track({ userId, event, properties }); };
export const flush = (client) => client.flush({ timeout: 60_000 });
export const close = (client) => client.closeAndFlush({ timeout: 60_000 });
