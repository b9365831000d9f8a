// Segments: size, freshness, the rule in words, syncs, a run.

import assert from "node:assert/strict";
import { test } from "node:test";
import { acts, assertAccessible, assertScreen, noted, settled, shot, withConsole } from "./harness.mjs";

test("segments are complete in both themes and at 320 px", () => assertScreen("segments", "#/segments", "Segments"));

test("one segment is complete in both themes and at 320 px", () =>
  assertScreen("segment", "#/segments/shop/buyers-90d", "buyers-90d", { ready: (page) => page.getByText("the first 10").waitFor() }));

test("no segments: an example to copy", () => withConsole("#/segments", { isEmpty: true }, async (page) => {
  await settled(page, "Segments");
  await page.getByText("shop has no segments yet").waitFor();
  await page.getByText("cart_abandoners").waitFor();
  await shot(page, "segments-empty");
  await assertAccessible(page);
}));

test("states in words, and by keyboard to the second", () => withConsole("#/", {}, async (page) => {
  await settled(page, "Home");
  await page.keyboard.press("g");
  await page.keyboard.press("s");
  await settled(page, "Segments");
  const rows = page.getByRole("table", { name: "Segments" }).getByRole("row");
  assert.match(await rows.nth(1).innerText(), /buyers-90d[\s\S]*fresh[\s\S]*18,204/);
  assert.match(await rows.nth(2).innerText(), /overdue/);
  assert.match(await rows.nth(3).innerText(), /counting: 64%/);
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await settled(page, "cart-abandoners");
  await page.getByText("did “Product Added” within 2 days").waitFor();
  const not = page.locator(".rule").filter({ hasText: /^Not/ });
  await not.getByText("did “Order Completed” within 2 days").waitFor();
}));

test("syncs say who was left out and why one stands still", () => withConsole("#/segments/shop/buyers-90d", {}, async (page) => {
  await settled(page, "buyers-90d");
  const syncs = page.getByRole("table", { name: "Where it goes" });
  await syncs.getByText("264: nothing to match the person by").waitFor();
  await syncs.getByText("the destination asks for a later try").waitFor();
}));

test("run now says what changed", () => withConsole("#/segments/shop/cart-abandoners", {}, async (page, mock) => {
  await settled(page, "cart-abandoners");
  await page.keyboard.press("r");
  await page.getByText("2,322 people: 17 joined, 5 left.").waitFor();
  await page.getByText("fresh").waitFor();
  await noted(mock, ["segments.run"]);
}));

test("the sample is masked, shows nobody's address, and reads ten lines only", () => withConsole("#/segments/shop/buyers-90d", {}, async (page, mock) => {
  await settled(page, "buyers-90d");
  const sample = page.getByRole("table", { name: "Some of the people" });
  await sample.waitFor();
  assert.equal(await sample.getByRole("row").count(), 11);
  assert.doesNotMatch(await sample.innerText(), /@mail\.example/);
  await page.getByRole("button", { name: "Show personal data" }).click();
  await sample.getByText("@mail.example").first().waitFor();
  await noted(mock, ["personal.reveal"]);
}));

test("a segment that is not there", () => withConsole("#/segments/shop/gone", {}, async (page) => {
  await page.getByRole("alert").getByText("no such segment").waitFor();
}));
