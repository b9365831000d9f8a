// The calls of the Segment spec, as all SDKs that descend from it have them.

export const context = { ip: "203.0.113.9", userAgent: "Phone/1" };

export function spec(client, ...rest) {
  client.identify({ userId: "u1", traits: { plan: "pro" }, context }, ...rest);
  client.track({ userId: "u1", event: "Order Completed", properties: { total: 25.5, currency: "EUR" }, context }, ...rest);
  client.page({ userId: "u1", name: "Home", properties: { url: "https://shop.example/" }, context }, ...rest);
  client.screen({ anonymousId: "a1", name: "Start", context }, ...rest);
  client.group({ userId: "u1", groupId: "acme", traits: { tier: "gold" }, context }, ...rest);
  client.alias({ userId: "u1", previousId: "a1", context }, ...rest);
}
