// gtag and its dataLayer, answered by Tagway. The names of events and parameters are those that the
// gateway's own reading of gtag's beacons gives (rules.rs, beacon/items.rs).

import type { Tagway } from "../../../static/sdk/src/api";

type Params = Record<string, any>;

const page = window as unknown as { tagway: Tagway; dataLayer?: any[]; gtag?: unknown };
const tagway = page.tagway;

// Google's name of an event, the canonical one, and its parameters that have another name with it.
const LIST = "|item_list_id|list_id|item_list_name|category";
const PROMOTION = "|promotion_name|name";
const ORDER = "|transaction_id|order_id";
const NAMES: Record<string, string[]> = { __proto__: null } as any;
for (const rule of (
  "search|Products Searched,view_search_results|Products Searched,view_item_list|Product List Viewed" + LIST +
  ",select_item|Product Clicked" + LIST + ",view_item|Product Viewed,add_to_cart|Product Added," +
  "remove_from_cart|Product Removed,add_to_wishlist|Product Added to Wishlist,view_cart|Cart Viewed," +
  "begin_checkout|Checkout Started,add_shipping_info|Checkout Step Completed|shipping_tier|shipping_method," +
  "add_payment_info|Payment Info Entered|payment_type|payment_method,purchase|Order Completed" + ORDER +
  ",refund|Order Refunded" + ORDER + ",view_promotion|Promotion Viewed" + PROMOTION +
  ",select_promotion|Promotion Clicked" + PROMOTION + ",sign_up|Signed Up,login|Signed In"
).split(",")) {
  const [name, ...rest] = rule.split("|");
  NAMES[name!] = rest;
}
// What is said to the library, and not of the event.
const TO_LIBRARY = /^(send_|event_[ct]|user_(id|prop|data)|groups$|transport|page_|items$|cookie_|debug)/;

const always: Params = {};
let known: string | undefined;
let first: string | undefined;

const product = (item: Params) => {
  const out: Params = {};
  for (const name in item) {
    const own = name.replace(/^item_(name|brand|category|variant)$/, "$1");
    out[own === "index" ? "position" : own === "item_id" ? "product_id" : own] = item[name];
  }
  return out;
};

/** Who it is: somebody with an id is identified, of anybody else it is said with each event. */
const person = (params: Params) => {
  const { user_id: id, user_properties: traits } = params;
  if (id && (id !== known || traits)) tagway.identify((known = String(id)), traits);
};

const context = (event: string, said: Params) => {
  const data = said.user_data || {};
  return {
    traits: { ...said.user_properties, email: data.email, phone: data.phone_number },
    clientIds: { meta: { em: data.sha256_email_address, ph: data.sha256_phone_number } },
    source: { client: "gtag", event },
  };
};

const event = (name: string, own: Params = {}) => {
  const said: Params = { ...always, ...own };
  // What is for Google's advertising alone is no event of the site's.
  const targets = [].concat(said.send_to || []);
  if (targets.length && targets.every((target) => /^(AW|DC)-/.test(target))) return;
  person(own);
  const rule = NAMES[name] || [name];
  const isPage = name === "page_view";
  const properties: Params = {};
  for (const key in said) {
    if (isPage && said[key] && /^page_(location|title|referrer|path)$/.test(key)) {
      properties[key.slice(5).replace("location", "url")] = said[key];
    } else if (!TO_LIBRARY.test(key)) {
      properties[key === "search_term" ? "query" : rule[rule.indexOf(key, 1) + 1 || -1] || key] = said[key];
    }
  }
  for (const key of ["value", "tax", "shipping"]) {
    if (properties[key] != null && !isNaN(properties[key])) properties[key] = +properties[key];
  }
  if (/^(purchase|refund)$/.test(name) && "value" in properties) {
    // One value, of which Google does not say what is in it.
    properties.total = properties.revenue = properties.value;
  }
  const products = (said.items || []).map(product);
  const isOfOne = products.length === 1 && NAMES[name] && /^Product [^L]/.test(rule[0]!);
  if (products[0] && !isOfOne) properties.products = products;
  const whole = { ...(isOfOne && products[0]), ...properties };
  const answer = () => {
    const done = said.event_callback;
    said.event_callback = null;
    done?.(first);
  };
  setTimeout(answer, said.event_timeout || 2000);
  const options = { context: context(name, said) };
  if (isPage) tagway.page(undefined, whole, options, answer);
  else tagway.track(rule[0]!, whole, options, answer);
};

const answers: Record<string, boolean> = {};
const updated: Params = {};
const consent = (mode: string, said: Params) => {
  for (const key in said) {
    const granted = said[key] === "granted";
    if (!granted && said[key] !== "denied") continue;
    const category = key === "ad_storage" ? "advertising" : key.replace("_storage", "");
    if (mode === "update") updated[category] = 1;
    // Nobody in the page knows the visitor's region: what is denied somewhere is denied, until updated.
    else if (updated[category] || (granted && (said.region || category in answers))) continue;
    answers[category] = granted;
  }
  tagway.consent({ ...answers });
};

const commands: Record<string, (...args: any[]) => void> = {
  __proto__: null as any,
  config(target: string, params: Params = {}) {
    if (target[0] === "G") first ||= target;
    if (target === first && params.send_page_view !== false) event("page_view", params);
    else person(params);
  },
  set(what: any, params?: any) {
    if (what === "user_properties") params = { ...always[what], ...params };
    if (typeof what === "object") Object.assign(always, what);
    else if (typeof params === "object" && !/^user_/.test(what)) Object.assign(always, params);
    else always[what] = params;
    person(always);
  },
  get: (_target: string, _field: string, callback?: (value: unknown) => void) => callback?.(undefined),
  event,
  consent,
};

const layer = (page.dataLayer = page.dataLayer || []);
const take = (entry: any) => {
  // Only what gtag pushes is a command: its own arguments.
  if (`${entry}` === "[object Arguments]") {
    const [name, ...args] = entry;
    commands[name]?.(...args);
  }
};
const push = layer.push;
layer.push = (...entries: any[]) => {
  const length = push.apply(layer, entries);
  entries.forEach(take);
  return length;
};
layer.slice().forEach(take);
page.gtag = page.gtag || function () {
  layer.push(arguments);
};
