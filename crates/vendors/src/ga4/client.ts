// Passes events to Google's own library (gtag.js). GA4 has no event ids: only purchases and refunds, which
// have a transaction id, are counted once where the gateway sends them as well.

import type { Adapter } from "../../../../static/sdk/src/parts/clients";

const page = window as any;

const STANDARD: Record<string, string> = {
  "products searched": "search",
  "product list viewed": "view_item_list",
  "product clicked": "select_item",
  "product viewed": "view_item",
  "product added": "add_to_cart",
  "product removed": "remove_from_cart",
  "product added to wishlist": "add_to_wishlist",
  "cart viewed": "view_cart",
  "checkout started": "begin_checkout",
  "payment info entered": "add_payment_info",
  "order completed": "purchase",
  "order refunded": "refund",
  "signed up": "sign_up",
  "signed in": "login",
  "checkout step completed": "add_shipping_info",
  "promotion viewed": "view_promotion",
  "promotion clicked": "select_promotion",
  "product shared": "share",
  "cart shared": "share",
  "sign up": "sign_up",
  "login": "login",
  "lead": "generate_lead",
  "lead generated": "generate_lead",
  "generate lead": "generate_lead",
  "campaign details": "campaign_details",
  "earn virtual currency": "earn_virtual_currency",
  "spend virtual currency": "spend_virtual_currency",
  "level start": "level_start",
  "level end": "level_end",
  "level up": "level_up",
  "post score": "post_score",
  "select content": "select_content",
  "tutorial begin": "tutorial_begin",
  "tutorial complete": "tutorial_complete",
  "unlock achievement": "unlock_achievement",
};

const key = (name: string) => name.trim().toLowerCase().replace(/[\s_]+/g, " ");
/** Google's names are letters, digits and underscores, 40 of them at most. */
const plain = (name: string) => name.trim().replace(/[^\p{L}\p{N}]+/gu, "_").slice(0, 40);

function gtag(..._call: unknown[]): void {
  // The library recognises a call by its type, `arguments`.
  page.dataLayer.push(arguments);
}

function parameters(properties: Record<string, any> = {}): Record<string, unknown> {
  const { products, order_id, revenue, total, value, query, ...rest } = properties;
  const items = Array.isArray(products) ? products : undefined;
  const worth = [value, revenue, total].find((it) => it !== undefined);
  return {
    ...rest,
    ...(worth === undefined ? {} : { value: Number(worth) }),
    ...(order_id === undefined ? {} : { transaction_id: String(order_id) }),
    ...(query === undefined ? {} : { search_term: query }),
    ...(items && {
      items: items.map((item) => ({
        ...item, item_id: item.product_id ?? item.sku, item_name: item.name, item_category: item.category,
      })),
    }),
  };
}

const adapter: Adapter = {
  prepare({ measurement_id }, api) {
    page.dataLayer ??= [];
    gtag("js", new Date());
    gtag("config", measurement_id, { send_page_view: false, ...(api && { server_container_url: api, transport_url: api }) });
  },
  send({ type, event = "", userId, properties }, { measurement_id }) {
    const send_to = measurement_id;
    if (type === "identify" && userId) gtag("set", { user_id: userId });
    else if (type === "reset") gtag("set", { user_id: null });
    else if (type === "page") {
      gtag("event", "page_view", { page_title: document.title, page_location: location.href, send_to });
    } else if (type === "track") {
      gtag("event", STANDARD[key(event)] ?? plain(event), { ...parameters(properties), send_to });
    }
  },
};

page.tagway.client("ga4", adapter);
