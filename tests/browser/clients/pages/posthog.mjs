import posthog from "posthog-js";
import { ORDER } from "./order.mjs";

window.calls = () => {
  posthog.init("phc_shop", { api_host: `${window.GATEWAY}/posthog`, ui_host: "https://eu.posthog.com",
    disable_external_dependency_loading: true, autocapture: false });
  posthog.identify("u-posthog", { email: "a@b.example", plan: "pro" });
  posthog.group("company", "acme", { tier: "gold" });
  posthog.capture("Order Completed", ORDER);
};
window.last = () => posthog.capture("Left", { how: "link" });
