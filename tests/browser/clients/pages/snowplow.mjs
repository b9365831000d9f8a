import * as snowplow from "@snowplow/browser-tracker";

window.calls = () => {
  snowplow.newTracker("sp", `${window.GATEWAY}/snowplow`, { appId: "shop" });
  snowplow.setUserId("u-snowplow");
  snowplow.trackPageView();
  snowplow.trackStructEvent({ category: "Video", action: "Play", label: "Intro", value: 5 });
  snowplow.trackSelfDescribingEvent({ event: {
    schema: "iglu:com.snowplowanalytics.snowplow.ecommerce/snowplow_ecommerce_action/jsonschema/1-0-2",
    data: { type: "transaction" },
  }, context: [
    { schema: "iglu:com.snowplowanalytics.snowplow.ecommerce/transaction/jsonschema/1-0-0",
      data: { transaction_id: "o-1", revenue: 25.5, currency: "EUR", payment_method: "card" } },
    { schema: "iglu:com.snowplowanalytics.snowplow.ecommerce/product/jsonschema/1-0-0",
      data: { id: "p1", name: "Lamp", price: 12.75, quantity: 2, currency: "EUR", category: "lamps" } },
  ] });
};
window.last = () => snowplow.trackSelfDescribingEvent({ event: {
  schema: "iglu:example.shop/left/jsonschema/1-0-0", data: { how: "link" } } });
