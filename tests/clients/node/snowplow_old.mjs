// snowplow-tracker: the endpoint of its emitter. It has no way to show a token.
import { gotEmitter, tracker } from "snowplow-tracker";

export function open({ host, fail }) {
  let left = 0;
  const waiting = [];
  const emitter = gotEmitter(`${new URL(host).host}/snowplow`, "http", undefined, "post", 1,
    { limit: 8, methods: ["POST"], calculateDelay: ({ computedValue }) => Math.min(computedValue, 1000) }, undefined,
    (error) => { if (error) fail(error); left -= 1; if (!left) waiting.splice(0).forEach((done) => done()); });
  const input = (payload) => { left += 1; emitter.input(payload); };
  const client = tracker([{ ...emitter, input }], "n", "shop", false);
  return Object.assign(client, { wait: () => new Promise((done) => { if (left) waiting.push(done); else done(); }) });
}
const schema = (name, data) => ({ schema: `iglu:com.shop/${name}/jsonschema/1-0-0`, data });
export async function calls(client) {
  client.setUserId("u1");
  client.trackPageView("https://shop.example/", "Home");
  client.trackScreenView("Start", "s1");
  client.trackStructEvent("media", "play", "film", undefined, 5);
  client.trackSelfDescribingEvent(schema("order_completed", { total: 25.5 }));
  await client.wait();
}
export function track(client, user, name, data) {
  client.setUserId(user);
  client.trackSelfDescribingEvent(schema("lamp_seen", data));
}
export const flush = (client) => client.wait();
