// plausible-client: `apiHost`. It names no user and shows no key.
import { Plausible } from "plausible-client";

export const open = ({ host }) => new Plausible({ apiHost: `${host}/plausible`, domain: "shop.example" });
const at = { url: "https://shop.example/", referrer: null, deviceWidth: 1000 };
export async function calls(client) {
  await client.sendEvent("pageview", at);
  await client.sendEvent("Order Completed", { ...at, props: { total: 25.5 }, revenue: { currency: "EUR", amount: 25.5 } });
}
export const track = (client, user, event, props) => client.sendEvent(event, { ...at, props });
