import * as amplitude from "@amplitude/analytics-browser";
import { ORDER } from "./order.mjs";

window.calls = async () => {
  await amplitude.init("0123456789abcdef0123456789abcdef", {
    serverUrl: `${window.GATEWAY}/amplitude/2/httpapi`, fetchRemoteConfig: false,
    diagnosticsSampleRate: 0, flushIntervalMillis: 100, logLevel: amplitude.Types.LogLevel.Warn,
    autocapture: { pageViews: true, sessions: false, attribution: false, formInteractions: false,
      fileDownloads: false, elementInteractions: false },
  }).promise;
  amplitude.setUserId("u-amplitude");
  const person = new amplitude.Identify();
  person.set("plan", "pro");
  amplitude.identify(person);
  amplitude.setGroup("company", "acme");
  amplitude.track("Order Completed", ORDER);
  const bought = new amplitude.Revenue();
  bought.setProductId("p1").setPrice(12.75).setQuantity(2).setRevenueType("sale");
  amplitude.revenue(bought);
};
// The vendor's advice for pages that are left.
addEventListener("pagehide", () => {
  amplitude.setTransport("beacon");
  amplitude.flush();
});
window.last = () => amplitude.track("Left", { how: "link" });
