// analytics-node: `host`.
import Analytics from "analytics-node";
import { spec } from "./spec.mjs";

export const open = ({ host, key, fail }) =>
  new Analytics(key, { host, flushInterval: 100, retryCount: 8, errorHandler: fail });
export const calls = (client) => { spec(client); return flush(client); };
export const track = (client, userId, event, properties) => new Promise((done) => {
  client.track({ userId, event, properties }, () => done());
});
export const flush = (client) => client.flush();
