// The shop's stock, and its reviews, which come once the page that waits for them is shown.

export const LAMPS = [
  { id: "1", name: "Desk lamp", price: "€ 49" },
  { id: "2", name: "Floor lamp – “Größe L”", price: "€ 129" },
];

const basket = [];
export const itemsOf = () => basket;
export const addItem = (name) => basket.push(name);
export const empty = () => basket.splice(0);

const waiting = new Map();

function gate(id) {
  if (!waiting.has(id)) {
    let open;
    const opened = new Promise((resolve) => (open = resolve));
    waiting.set(id, { opened, open });
  }
  return waiting.get(id);
}

/** Resolves after `show` of the same id: only a page that streams, and is alive before its end, gets them. */
export async function reviewsOf(id) {
  await gate(id).opened;
  waiting.delete(id);
  return [`Bright <b>& warm</b> (${id})`, "Ça marche"];
}

export const show = (id) => gate(id).open();
