// What is bought on every page.
export const ORDER = {
  order_id: "o-1", revenue: 25.5, total: 30, currency: "EUR",
  products: [{ product_id: "p1", name: "Lamp", price: 12.75, quantity: 2 }],
};
