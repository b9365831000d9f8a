// @amplitude/analytics-node: `serverUrl`. Its own flush gives up what fails, so it is left to its timer.
import { Identify, Revenue, createInstance } from "@amplitude/analytics-node";

export async function open({ host, key, fail }) {
  const client = createInstance();
  await client.init(key, { serverUrl: `${host}/amplitude/2/httpapi`, flushIntervalMillis: 100, logLevel: 0 }).promise;
  return Object.assign(client, { fail });
}
const told = async (client, result) => {
  const { code, message } = await result.promise;
  if (code !== 200) client.fail(`${code} ${message}`);
};
export async function calls(client) {
  const who = { user_id: "u1" };
  await Promise.all([
    client.track("Order Completed", { total: 25.5 }, { ...who, ip: "203.0.113.9" }),
    client.logEvent("Logged", {}, who),
    client.identify(new Identify().set("plan", "pro").setOnce("first", 1).add("count", 1), who),
    client.setGroup("company", "acme", who),
    client.groupIdentify("company", "acme", new Identify().set("tier", "gold"), who),
    client.revenue(new Revenue().setProductId("p1").setPrice(12.75).setQuantity(2), who),
  ].map((result) => told(client, result)));
}
export const track = (client, user_id, event, properties) => told(client, client.track(event, properties, { user_id }));
