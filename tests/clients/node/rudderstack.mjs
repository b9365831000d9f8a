// @rudderstack/rudder-sdk-node: `dataPlaneUrl`.
import Analytics from "@rudderstack/rudder-sdk-node";
import { spec } from "./spec.mjs";

export const open = ({ host, key, fail }) =>
  new Analytics(key, { dataPlaneUrl: `${host}/rudderstack`, flushInterval: 100, retryCount: 8, errorHandler: fail });
export const calls = (client) => { spec(client); return flush(client); };
export const track = (client, userId, event, properties) => new Promise((done) => {
  client.track({ userId, event, properties }, () => done());
});
export const flush = (client) => client.flush();
