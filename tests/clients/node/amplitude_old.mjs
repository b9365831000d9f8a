// @amplitude/node: `serverUrl`.
import { Identify } from "@amplitude/identify";
import * as Amplitude from "@amplitude/node";

export const open = ({ host, key, fail }) =>
  Object.assign(Amplitude.init(key, { serverUrl: `${host}/amplitude/2/httpapi` }), { fail });
const told = async (client, result) => {
  const { statusCode, error, body } = await result;
  if (statusCode !== 200) client.fail(`${statusCode} ${error ?? JSON.stringify(body)}`);
};
export async function calls(client) {
  const identify = new Identify().set("plan", "pro").setOnce("first", 1).add("count", 1);
  await Promise.all([
    client.logEvent({ event_type: "Order Completed", user_id: "u1", ip: "203.0.113.9", event_properties: { total: 25.5 } }),
    client.identify("u1", "d1", identify),
    client.logEvent(new Identify().set("tier", "gold").identifyGroup("company", "acme")),
  ].map((result) => told(client, result)));
}
export const track = (client, user_id, event_type, event_properties) =>
  told(client, client.logEvent({ user_id, event_type, event_properties }));
export const flush = (client) => client.flush();
