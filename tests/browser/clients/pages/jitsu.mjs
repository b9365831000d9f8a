import { jitsuAnalytics } from "@jitsu/js";
import { ORDER } from "./order.mjs";

window.calls = async () => {
  const jitsu = jitsuAnalytics({ host: `${window.GATEWAY}/jitsu`, writeKey: "shop:secret" });
  await jitsu.page("Lamps");
  await jitsu.identify("u-jitsu", { email: "a@b.example", plan: "pro" });
  await jitsu.group("acme", { tier: "gold" });
  await jitsu.track("Order Completed", ORDER);
};
