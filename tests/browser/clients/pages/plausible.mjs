import { init, track } from "@plausible-analytics/tracker";

window.calls = () => {
  init({ domain: "shop.localhost", endpoint: `${window.GATEWAY}/plausible/api/event`,
    captureOnLocalhost: true, logging: false });
  track("Order Completed", { props: { order_id: "o-1" }, revenue: { amount: 25.5, currency: "EUR" } });
};
