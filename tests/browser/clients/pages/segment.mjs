import { AnalyticsBrowser } from "@segment/analytics-next";
import { ORDER } from "./order.mjs";

window.calls = async () => {
  const analytics = AnalyticsBrowser.load({ writeKey: "shop", cdnURL: `${window.GATEWAY}/segment` });
  window.last = () => void analytics.track("Left", { how: "link" });
  await analytics.page("Lamps");
  await analytics.identify("u-segment", { email: "a@b.example", plan: "pro" });
  await analytics.group("acme", { tier: "gold" });
  await analytics.track("Order Completed", ORDER);
};
