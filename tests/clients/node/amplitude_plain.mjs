// amplitude: `tokenEndpoint`. It sends each call by itself, and tries nothing again.
import Amplitude from "amplitude";

export const open = ({ host, key }) => new Amplitude.default(key, { tokenEndpoint: `${host}/amplitude` });
export async function calls(client) {
  await client.track({ eventType: "Order Completed", userId: "u1", eventProperties: { total: 25.5 }, ip: "203.0.113.9" });
  await client.track([{ event_type: "First", user_id: "u1" }, { event_type: "Second", user_id: "u1" }]);
  await client.identify({ userId: "u1", userProperties: { plan: "pro" } });
  await client.identify([{ user_id: "u1", user_properties: { $setOnce: { first: 1 } } }]);
}
export const track = (client, user_id, event_type, event_properties) =>
  client.track({ user_id, event_type, event_properties });
