// Feeds Meta's own library (fbevents.js). The event id is the one the gateway sends to the Conversions
// API, so that Meta counts an event once in `mode = "both"`.

import type { Adapter } from "../../../../static/sdk/src/parts/clients";
import type { Message } from "../../../../static/sdk/src/page";

const page = window as any;

const STANDARD: Record<string, string> = {
  "products searched": "Search",
  "product viewed": "ViewContent",
  "product list viewed": "ViewContent",
  "product added": "AddToCart",
  "product added to wishlist": "AddToWishlist",
  "checkout started": "InitiateCheckout",
  "payment info entered": "AddPaymentInfo",
  "order completed": "Purchase",
  "signed up": "CompleteRegistration",
  "lead captured": "Lead",
  "lead generated": "Lead",
  "subscription started": "Subscribe",
  "trial started": "StartTrial",
  "application submitted": "SubmitApplication",
  "contacted": "Contact",
  "appointment scheduled": "Schedule",
  "sign up": "CompleteRegistration",
  "lead": "Lead",
  "generate lead": "Lead",
};

/** Meta's names, which are standard events as Meta writes them. */
const OWN = new Set([...Object.values(STANDARD), "CustomizeProduct", "Donate", "FindLocation", "PageView"]);

const key = (name: string) => name.trim().toLowerCase().replace(/[\s_]+/g, " ");

/** The parameters that Meta knows, out of the Segment spec's properties. */
function parameters(properties: Record<string, any> = {}): Record<string, unknown> {
  const { products, ...rest } = properties;
  const listed = Array.isArray(products) ? products : properties.product_id ? [properties] : [];
  const contents = listed.map((product) => ({
    id: product.product_id ?? product.sku, quantity: product.quantity ?? 1, item_price: product.price,
  })).filter(({ id }) => id !== undefined);
  const value = [properties.total, properties.revenue, properties.value].find((it) => it !== undefined);
  return {
    ...rest,
    ...(value === undefined ? {} : { value: Number(value) }),
    ...(contents.length
      ? { contents, content_ids: contents.map(({ id }) => id), content_type: "product" }
      : {}),
  };
}

/** As the destination: the order's own id where the settings ask for it. */
function eventId(message: Message, isOrder: boolean, settings: Record<string, string>): string {
  const order = message.properties?.order_id;
  return isOrder && settings.order_event_id === "order_id" && order ? String(order) : message.messageId;
}

const adapter: Adapter = {
  prepare({ pixel_id }) {
    if (!page.fbq) {
      const fbq: any = page.fbq = function () {
        fbq.callMethod ? fbq.callMethod.apply(fbq, arguments) : fbq.queue.push(arguments);
      };
      page._fbq ??= fbq;
      Object.assign(fbq, { push: fbq, loaded: true, version: "2.0", queue: [] });
    }
    // It would report history changes as pages of its own, which nobody else is told of.
    page.fbq.disablePushState = true;
    page.fbq("set", "autoConfig", false, pixel_id);
    page.fbq("init", pixel_id);
  },
  send(message, settings) {
    const { type, event = "" } = message;
    if (type !== "track" && type !== "page") return;
    const standard = type === "page" ? "PageView" : STANDARD[key(event)] ?? (OWN.has(event) ? event : undefined);
    const call = standard ? "trackSingle" : "trackSingleCustom";
    const eventID = eventId(message, standard === "Purchase", settings);
    const said = type === "page" ? {} : parameters(message.properties);
    page.fbq(call, settings.pixel_id, standard ?? event, said, { eventID });
  },
};

page.tagway.client("meta", adapter);
