import mixpanel from "mixpanel-browser";
import { ORDER } from "./order.mjs";

window.calls = () => {
  mixpanel.init("0f1e2d3c4b5a69788796a5b4c3d2e1f0", { api_host: `${window.GATEWAY}/mixpanel`,
    track_pageview: true, persistence: "localStorage", batch_flush_interval_ms: 300 });
  mixpanel.identify("u-mixpanel");
  mixpanel.people.set({ $email: "a@b.example", plan: "pro" });
  mixpanel.set_group("company", "acme");
  mixpanel.get_group("company", "acme").set({ tier: "gold" });
  mixpanel.track("Order Completed", ORDER);
};
window.last = () => mixpanel.track("Left", { how: "link" });
