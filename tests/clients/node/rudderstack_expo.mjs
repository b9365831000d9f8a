// @expo/rudder-sdk-node: the address of the data plane, with its path.
import { createRequire } from "node:module";
import { spec } from "./spec.mjs";
const Analytics = createRequire(import.meta.url)("@expo/rudder-sdk-node").default;

export const open = ({ host, key }) => new Analytics(key, `${host}/rudderstack/v1/batch`, { flushInterval: 100 });
export const calls = (client) => { spec(client); return flush(client); };
export const track = (client, userId, event, properties) => { client.track({ userId, event, properties }); };
export async function flush(client) {
  const failed = (await client.flush()).find(({ error }) => error);
  if (failed) throw failed.error;
}
