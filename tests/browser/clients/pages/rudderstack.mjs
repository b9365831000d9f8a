import { RudderAnalytics } from "@rudderstack/analytics-js/bundled";
import { ORDER } from "./order.mjs";

window.calls = () => {
  const analytics = new RudderAnalytics();
  const at = `${window.GATEWAY}/rudderstack`;
  analytics.load("2abcdefghijklmnopqrstuvwxyz", at, { configUrl: at, useBeacon: false });
  analytics.page("Lamps");
  analytics.identify("u-rudderstack", { email: "a@b.example", plan: "pro" });
  analytics.group("acme", { tier: "gold" });
  analytics.track("Order Completed", ORDER);
  window.last = () => analytics.track("Left", { how: "link" });
};
