// @jitsu/js: `host`, as a server's, and a key that is an id and a secret. It says what fails on the console.
import { jitsuAnalytics } from "@jitsu/js";

const PEOPLE = new Map();
/** The library speaks for one visitor, so a server has an instance for each. */
function of(client, user) {
  if (!PEOPLE.has(`${client.host} ${user}`)) {
    PEOPLE.set(`${client.host} ${user}`, jitsuAnalytics({ ...client, s2s: true }));
  }
  return PEOPLE.get(`${client.host} ${user}`);
}
export const open = ({ host, key, fail }) => { console.error = fail; PEOPLE.clear(); return { host: `${host}/jitsu`, writeKey: `key:${key}` }; };
export async function calls(client) {
  const one = of(client, "u1");
  await one.identify("u1", { plan: "pro" });
  await one.track("Order Completed", { total: 25.5 });
  await one.page({ name: "Home", url: "https://shop.example/" });
  await one.group("acme", { tier: "gold" });
}
export const track = (client, userId, event, properties) => of(client, userId).track(event, { ...properties, userId });
