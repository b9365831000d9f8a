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
const OF_ONE = /^(view_item|select_item|add_to_(cart|wishlist)|remove_from_cart)$/;
// What is said to the library, and not of the event.
const TO_LIBRARY = /^(send_|event_[ct]|user_(id|prop|data)|groups$|transport|page_|items$|cookie_|debug)/;

const always: Params = {};
let known: string | undefined;
let first: string | undefined;

const product = (item: Params) => {
  const out: Params = {};
  for (const name in item) {
    const own = name === "index" ? "position" : name.replace(/^item_(name|brand|category|variant)$/, "$1");
    out[own === "item_id" ? "product_id" : own] = item[name];
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
  const properties: Params = {};
  for (const key in said) {
    if (!TO_LIBRARY.test(key)) {
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
  if (products.length === 1 && OF_ONE.test(name)) {
    for (const key in products[0]) if (!(key in properties)) properties[key] = products[0][key];
  } else if (products.length) properties.products = products;
  let done = said.event_callback;
  const answer = () => {
    if (done) done(first);
    done = 0;
  };
  if (done) setTimeout(answer, said.event_timeout || 2000);
  const options = { context: context(name, said) };
  if (name === "page_view") {
    for (const key of ["location", "title", "referrer", "path"]) {
      const value = said["page_" + key];
      if (value) properties[key === "location" ? "url" : key] = value;
    }
    tagway.page(undefined, properties, options, answer);
  } else tagway.track(rule[0]!, properties, options, answer);
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
    if (/^G/.test(target)) first = first || target;
    if (target === first && params.send_page_view !== false) event("page_view", params);
    else person(params);
  },
  set(what: any, params?: any) {
    if (typeof what === "object") Object.assign(always, what);
    else if (what === "user_properties") always[what] = { ...always[what], ...params };
    else if (typeof params === "object" && what !== "user_data") Object.assign(always, params);
    else always[what] = params;
    person(always);
  },
  get(_target: string, _field: string, callback?: (value: unknown) => void) {
    if (callback) callback(undefined);
  },
  event,
  consent,
};

const layer = (page.dataLayer = page.dataLayer || []);
const take = (entry: any) => {
  // Only what gtag pushes is a command: its own arguments.
  if (entry && entry.toString() === "[object Arguments]") {
    const [name, ...args] = entry;
    if (commands[name]) commands[name]!(...args);
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
