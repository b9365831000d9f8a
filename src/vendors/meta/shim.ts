// fbq, answered by Tagway. Names and shapes are those that the gateway's own reading of the pixel's
// beacons gives (rules.rs, beacon/commerce.rs).

import type { Tagway } from "../../../static/sdk/src/api";

type Params = Record<string, any>;

const page = window as unknown as { tagway: Tagway; fbq?: any; _fbq?: any };
const tagway = page.tagway;

const NAMES: Record<string, string> = {
  __proto__: null as any,
  Search: "Products Searched",
  ViewContent: "Product Viewed",
  AddToCart: "Product Added",
  AddToWishlist: "Product Added to Wishlist",
  InitiateCheckout: "Checkout Started",
  AddPaymentInfo: "Payment Info Entered",
  Purchase: "Order Completed",
  CompleteRegistration: "Signed Up",
  Subscribe: "Subscription Started",
  StartTrial: "Trial Started",
  SubmitApplication: "Application Submitted",
  Contact: "Contacted",
  Schedule: "Appointment Scheduled",
};
const PERSON: Record<string, string> = {
  em: "email", ph: "phone", fn: "firstName", ln: "lastName", ge: "gender", db: "birthday",
  ct: "city", st: "state", zp: "postalCode", country: "country",
};

const traits: Params = {};
const digests: Params = {};
let limits: unknown[] | undefined;
let pixel: unknown;

const person = (said: Params = {}) => {
  for (const key in said) {
    const value = said[key];
    const name = PERSON[key];
    if (!value) continue;
    if (key === "external_id" || /^[\da-f]{64}$/i.test(value)) digests[key] = value;
    else if (name) (/^[csz]/.test(key) ? (traits.address ||= {}) : traits)[name] = value;
  }
};

const rename = (members: Params, from: string, to: string) => {
  if (from in members && !(to in members)) {
    members[to] = members[from];
    delete members[from];
  }
};

const product = (item: any) => {
  if (typeof item !== "object") return { product_id: String(item) };
  const out = { ...item };
  rename(out, "id", "product_id");
  rename(out, "item_price", "price");
  return out;
};

const track = (name: string, said?: Params, { eventID }: Params = {}) => {
  const { contents, content_ids, ...properties }: Params = { ...said };
  const options: Params = {
    context: {
      traits,
      clientIds: { meta: digests },
      dataProcessingOptions: limits,
      source: { client: "meta", event: name, event_id: eventID, pixel_id: pixel },
    },
  };
  // What tells the event from others is the site's id with the name: templates give all tags of a page one id.
  if (eventID) options.messageId = eventID + "." + name;
  if (name === "PageView") return tagway.page(undefined, said, options);
  const items = [].concat(contents || content_ids || []).map(product);
  if (items[0] && properties.content_type === "product") delete properties.content_type;
  const isProduct = /^(ViewContent|AddTo)/.test(name);
  if (name === "Search") rename(properties, "search_string", "query");
  if (isProduct && !items[1]) rename(properties, "content_name", "name");
  if (isProduct || name === "Search") rename(properties, "content_category", "category");
  if (name === "Purchase" && properties.value != null) {
    properties.value = +properties.value;
    properties.total ??= properties.value;
    properties.revenue ??= properties.value;
  }
  if (isProduct && items[0] && !items[1] && !Object.keys(items[0]!).some((key) => key in properties)) {
    Object.assign(properties, items[0]);
  } else if (items[0]) properties.products = items;
  tagway.track(name === "ViewContent" && items[1] ? "Product List Viewed" : NAMES[name] || name, properties, options);
};

const single = (_pixel: unknown, ...call: [string]) => track(...call);

const commands: Record<string, (...args: any[]) => void> = {
  __proto__: null as any,
  init(id: unknown, said?: Params) {
    pixel = pixel || String(id);
    person(said);
  },
  set: (what: string, said: any) => what === "userData" && person(said),
  track,
  trackCustom: track,
  trackSingle: single,
  trackSingleCustom: single,
  consent: (answer: string) => tagway.consent({ advertising: answer === "grant" }),
  dataProcessingOptions(options: unknown[] = [], country = 0, state = 0) {
    limits = [options, country, state];
  },
};

const run = (name: string, ...args: any[]) => commands[name]?.(...args);
const fbq: any = (page.fbq = page._fbq = page.fbq || run);
fbq.callMethod = run;
fbq.queue?.splice(0).map((call: any) => run(...(call as [string])));
