// mixpanel: `host`, `protocol` and `path`.
import { promisify } from "node:util";
import Mixpanel from "mixpanel";

export function open({ host, key }) {
  const { hostname, port } = new URL(host);
  return Mixpanel.init(key, {
    host: `${hostname}:${port}`, protocol: "http", path: "/mixpanel", verbose: true, key: "k", logger: { ...console, warn() {} },
  });
}
export async function calls(client) {
  const { people, groups } = client;
  const call = (of, name, ...rest) => promisify(of[name].bind(of))(...rest);
  const event = (name) => ({ event: name, properties: { distinct_id: "u1", $user_id: "u1", time: new Date() } });
  await call(client, "track", "Order Completed", { distinct_id: "u1", $user_id: "u1", total: 25.5, ip: "203.0.113.9" });
  await call(client, "track_batch", [event("First"), event("Second")]);
  await call(client, "import", "Imported", new Date(), { distinct_id: "u1", $user_id: "u1" });
  await call(client, "import_batch", [event("Third"), event("Fourth")], {});
  await call(client, "alias", "u1", "a1");
  await call(people, "set", "u1", { plan: "pro" });
  await call(people, "set_once", "u1", { first: 1 });
  await call(people, "increment", "u1", "count");
  await call(people, "append", "u1", "list", "x");
  await call(people, "union", "u1", { list: ["y"] });
  await call(people, "remove", "u1", { list: "y" });
  await call(people, "unset", "u1", "old");
  await call(people, "track_charge", "u1", 25.5);
  await call(people, "clear_charges", "u1");
  await call(groups, "set", "company", "acme", { tier: "gold" });
  await call(groups, "set_once", "company", "acme", { first: 1 });
  await call(groups, "union", "company", "acme", { list: ["y"] });
  await call(groups, "remove", "company", "acme", { list: "y" });
  await call(groups, "unset", "company", "acme", "old");
}
export const track = (client, user, event, properties) =>
  promisify(client.track)(event, { distinct_id: user, $user_id: user, ...properties });
export const erase = ({ people }, user) => promisify(people.delete_user.bind(people))(user, {});
