// @umami/node: `hostUrl`. It shows no key, and its user is in the payload.
import { Umami } from "@umami/node";

export const open = ({ host }) => new Umami({ hostUrl: `${host}/umami`, websiteId: "w1" });
const told = async (call) => {
  const response = await call;
  const text = await response.text();
  if (!response.ok) throw new Error(`${response.status} ${text}`);
};
export async function calls(client) {
  await told(client.track({ url: "https://shop.example/", id: "u1" }));
  await told(client.track("Order Completed", { total: 25.5 }));
  await told(client.identify({ plan: "pro" }));
}
export const track = (client, id, name, data) => told(client.track({ name, id, data }));
