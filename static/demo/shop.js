// The shop: a page per hash, a cart in localStorage, and an event for everything a visitor does, by the
// snippet and the script that any site has of its gateway.

const { tagway } = window;

const CURRENCY = "EUR";
const SHIPPING = 4.9;
const TAX_RATE = 0.19;
const PRODUCTS = [
  ["arc-01", "Arc floor lamp", "Floor", 189, "#e9d8c3", "M40 92h30M55 92V40c0-22 30-28 42-8"],
  ["dot-02", "Dot table lamp", "Table", 59, "#d5dfd2", "M50 92h30M65 92V62M47 62h36L75 34H55z"],
  ["rib-03", "Rib pendant", "Pendant", 129, "#d9d7e6", "M65 10v28M40 66c0-36 50-36 50 0z"],
  ["fold-04", "Fold desk lamp", "Desk", 79, "#f0d9d2", "M38 92h26M51 92l-8-34 36-26M72 26l20 14"],
  ["halo-05", "Halo wall light", "Wall", 99, "#dfe6ea", "M65 24a28 28 0 1 0 .1 0M65 38a14 14 0 1 0 .1 0"],
  ["bulb-06", "Warm bulb, set of 3", "Bulbs", 14.5, "#efe6c4", "M54 76h22M56 86h18M54 70c0-12-10-16-10-30a21 21 0 0 1 42 0c0 14-10 18-10 30z"],
].map(([product_id, name, category, price, tint, path], index) => ({
  product_id, name, category, price, tint, path, position: index + 1, brand: "Lumen",
}));

// Whoever signed up is known on every page, as on a site where visitors are logged in.
function identify(user, traits) {
  localStorage.setItem("user", user);
  tagway.identify(user, traits, ...watched());
}

const page = (name) => tagway.page(name, {}, ...watched());
const track = (name, properties) => tagway.track(name, properties, ...watched());

const view = document.getElementById("view");
const money = (amount) => new Intl.NumberFormat("en", { style: "currency", currency: CURRENCY }).format(amount);
const round = (amount) => Math.round(amount * 100) / 100;
const find = (id) => PRODUCTS.find((product) => product.product_id === id);

// ---------------------------------------------------------------------------------------- the cart

const cart = new Map(JSON.parse(localStorage.getItem("cart") ?? "[]"));

function keepCart() {
  localStorage.setItem("cart", JSON.stringify([...cart]));
  document.getElementById("count").textContent = [...cart.values()].reduce((sum, n) => sum + n, 0);
}

const forEvents = ({ tint, path, ...product }, quantity = 1) => ({ ...product, quantity });
const lines = () => [...cart].map(([id, quantity]) => ({ ...find(id), quantity }));
const products = () => lines().map((line) => forEvents(line, line.quantity));
const subtotal = () => round(lines().reduce((sum, line) => sum + line.price * line.quantity, 0));

// ------------------------------------------------------------------------------------- making nodes

function node(name, attributes = {}, ...children) {
  const isDrawing = name === "svg" || name === "path";
  const made = isDrawing ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

const picture = ({ name, tint, path }) =>
  node("svg", { viewBox: "0 0 130 104", role: "img", "aria-label": name },
    node("path", { d: "M0 0h130v104H0z", fill: tint }),
    node("path", { d: path, fill: "none", stroke: "#1d1b18", "stroke-width": "2.5", "stroke-linecap": "round", "stroke-linejoin": "round" }));

const button = (label, testid, onclick) => node("button", { type: "button", "data-testid": testid, onclick }, label);

const field = (label, name, value, type = "text") =>
  node("label", {}, label, node("input", { name, type, value, required: "", "data-testid": name }));

function form(testid, label, fields, submit) {
  const onsubmit = (event) => {
    event.preventDefault();
    submit(Object.fromEntries(new FormData(event.target)));
  };
  return node("form", { class: "panel", onsubmit }, ...fields, node("button", { "data-testid": testid }, label));
}

function show(title, ...children) {
  document.title = `${title} · Lumen`;
  view.replaceChildren(node("h1", {}, title), ...children);
}

// ---------------------------------------------------------------------------------------- the pages

function grid(list, shown) {
  const card = (product) =>
    node("a", {
      class: "card", href: `#/p/${product.product_id}`, "data-testid": `product-${product.product_id}`,
      onclick: () => track("Product Clicked", { ...forEvents(product), list_id: shown, currency: CURRENCY }),
    }, picture(product), node("strong", {}, product.name), node("span", { class: "price" }, money(product.price)));
  return node("div", { class: "grid" }, ...list.map(card));
}

const PAGES = {
  "": () => {
    show("Light for quiet rooms", grid(PRODUCTS, "home"));
    page("Home");
    track("Product List Viewed", { list_id: "home", category: "All", products: PRODUCTS.map((product) => forEvents(product)) });
  },
  search: (query) => {
    const wanted = query.toLowerCase();
    const found = PRODUCTS.filter(({ name, category }) => `${name} ${category}`.toLowerCase().includes(wanted));
    show(`“${query}”`, found.length ? grid(found, "search") : node("p", { class: "quiet" }, "Nothing of that name. Try “lamp”."));
    page("Search");
    track("Products Searched", { query });
  },
  p: (id) => {
    const product = find(id);
    if (!product) return PAGES[""]();
    const add = () => {
      cart.set(id, (cart.get(id) ?? 0) + 1);
      keepCart();
      track("Product Added", { ...forEvents(product), currency: CURRENCY });
      location.hash = "#/cart";
    };
    show(product.name, node("div", { class: "detail" }, picture(product),
      node("div", {}, node("p", { class: "quiet" }, `${product.category}, by ${product.brand}`),
        node("p", { class: "price" }, money(product.price)), button("Add to cart", "add", add))));
    page("Product");
    track("Product Viewed", { ...forEvents(product), currency: CURRENCY });
  },
  cart: () => {
    showCart();
    page("Cart");
    track("Cart Viewed", { currency: CURRENCY, value: subtotal(), products: products() });
  },
  checkout: () => {
    if (!cart.size) return PAGES.cart();
    const fields = [field("E-mail", "email", "ada@example.com", "email"), field("Card (any number)", "card", "4242 4242 4242 4242")];
    show("Checkout", form("order", `Pay ${money(total())}`, fields, order));
    page("Checkout");
    track("Checkout Started", { currency: CURRENCY, value: subtotal(), products: products() });
  },
  thanks: (id) => {
    show("Thank you", node("p", { "data-testid": "confirmation" }, `Order ${id} is on its way, in a manner of speaking.`),
      node("a", { href: "#/", class: "quiet" }, "Back to the lamps"));
    page("Thank you");
  },
  account: () => {
    const fields = [field("Name", "name", "Ada"), field("E-mail", "email", "ada@example.com", "email")];
    const signUp = ({ name, email }) => {
      identify(userId(email), { name, email, plan: "friend" });
      track("Signed Up", { method: "form" });
      location.hash = "#/";
    };
    show("Make yourself known", form("signup", "Sign up", fields, signUp));
    page("Account");
  },
};

function showCart() {
  if (!cart.size) {
    return show("Your cart", node("p", { class: "quiet" }, "It is empty. "), node("a", { href: "#/" }, "Look at the lamps →"));
  }
  const remove = (line) => {
    cart.delete(line.product_id);
    keepCart();
    track("Product Removed", { ...forEvents(line, line.quantity), currency: CURRENCY });
    showCart();
  };
  const rows = lines().map((line) => node("tr", {},
    node("td", {}, line.name, " ", node("span", { class: "quiet" }, `× ${line.quantity}`)),
    node("td", {}, node("button", { class: "plain", type: "button", "aria-label": `Remove ${line.name}`, "data-testid": `remove-${line.product_id}`, onclick: () => remove(line) }, "Remove")),
    node("td", { class: "number" }, money(line.price * line.quantity))));
  const sum = node("tr", { class: "total" }, node("td", {}, "Subtotal"), node("td", {}), node("td", { class: "number" }, money(subtotal())));
  show("Your cart", node("table", {}, ...rows, sum), button("Check out", "checkout", () => { location.hash = "#/checkout"; }));
}

const tax = () => round(subtotal() * TAX_RATE);
const total = () => round(subtotal() + SHIPPING + tax());
const userId = (email) => `u-${[...email].reduce((hash, c) => (hash * 31 + c.codePointAt(0)) >>> 0, 7)}`;

function order({ email }) {
  const order_id = `o-${Date.now().toString(36)}`;
  identify(userId(email), { email });
  track("Payment Info Entered", { payment_method: "card", currency: CURRENCY, value: subtotal(), products: products() });
  track("Order Completed", {
    order_id, currency: CURRENCY, revenue: subtotal(), shipping: SHIPPING, tax: tax(), total: total(), products: products(),
  });
  cart.clear();
  keepCart();
  location.hash = `#/thanks/${order_id}`;
}

// ------------------------------------------------------------------------------- the list of events

const MAX_SHOWN = 50;
const shown = new Map();

/** Options and callback of a message whose answer is shown. */
function watched() {
  const messageId = crypto.randomUUID?.() ?? `demo-${Date.now()}-${Math.random()}`;
  return [{ messageId }, (status) => watch({ messageId }, status)];
}

const watch = (message, answer) => {
  let entry = shown.get(message.messageId);
  if (!entry) {
    const label = message.event ?? (message.type === "page" ? `page: ${message.name}` : message.type);
    const mark = node("span", { class: "answer" });
    const detail = JSON.stringify(message.properties ?? message.traits, null, 1);
    const chips = node("ul", { class: "outcomes", "aria-label": "Destinations" });
    const item = node("li", {}, node("details", {}, node("summary", {}, label, mark), node("pre", {}, detail)), chips);
    entry = { mark, item, chips, destinations: new Map() };
    shown.set(message.messageId, entry);
    document.getElementById("events").prepend(entry.item);
    if (shown.size > MAX_SHOWN) {
      const [oldest] = shown.keys();
      shown.get(oldest).item.remove();
      shown.delete(oldest);
    }
  }
  const isGood = answer >= 200 && answer < 300;
  entry.mark.textContent = isGood ? `${answer} ✓` : answer;
  entry.mark.className = `answer ${isGood ? "good" : answer === "sending" ? "" : "bad"}`;
};

// ------------------------------------------------------------------- what became of the shown events

const CONSOLE = document.querySelector("meta[name=tagway-console]").content;
const WORDS = { delivered: "sent", skipped: "skipped", dead: "died", retry: "waits for another try" };
// The last reply about an event at a destination, which may come before the outcome.
const replies = new Map();
const MAX_REPLIES = 500;

function chip(entry, { site, destination, seq, outcome, reason, detail }) {
  let made = entry.destinations.get(destination);
  if (!made) {
    made = node("a", { href: `${CONSOLE}#/sites/${encodeURIComponent(site)}/events/${seq}`, target: "_blank" });
    entry.destinations.set(destination, made);
    entry.chips.append(node("li", {}, made));
  }
  const reply = outcome === "dead" || outcome === "retry" ? replies.get(`${destination} ${seq}`) : undefined;
  const why = [reason?.replaceAll("_", " "), detail, reply].filter(Boolean).join(": ");
  made.className = outcome;
  made.title = `${destination}: ${WORDS[outcome] ?? outcome}${why ? `, ${why}` : ""}`;
  made.replaceChildren(destination, node("span", {}, ` ${WORDS[outcome] ?? outcome}`));
  if (outcome === "skipped" || outcome === "dead") made.append(node("small", {}, why));
}

function heard({ data }) {
  const told = JSON.parse(data);
  for (const seq of told.seqs ?? []) {
    replies.set(`${told.destination} ${seq}`, told.status ? `${told.status} ${told.reply}` : told.reply);
    if (replies.size > MAX_REPLIES) replies.delete(replies.keys().next().value);
  }
  const entry = shown.get(told.messageId);
  if (entry) chip(entry, told);
}

new EventSource("/outcomes").addEventListener("message", heard);

// The script comes later, and the page's first calls wait for it behind this one.
tagway.on("*", (message) => {
  watch(message, "sending");
});
if (localStorage.getItem("user")) tagway.identify(localStorage.getItem("user"), {}, ...watched());

function route() {
  const [, name = "", argument = ""] = location.hash.split("/");
  const open = Object.hasOwn(PAGES, name) ? PAGES[name] : PAGES[""];
  open(decodeURIComponent(argument));
  scrollTo(0, 0);
}

document.querySelector(".search").addEventListener("submit", (event) => {
  event.preventDefault();
  const query = document.getElementById("query").value.trim();
  if (query) location.hash = `#/search/${encodeURIComponent(query)}`;
});
addEventListener("hashchange", route);
keepCart();
route();
