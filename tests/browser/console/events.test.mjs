// Events before now: the list, one event, and a trace of one browser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { assertAccessible, assertNoSideScroll, assertScreen, settled, shot, withConsole } from "./harness.mjs";

test("the list of events is complete in both themes and at 320 px", () =>
  assertScreen("events", "#/events", "Events"));

test("the list of events by keyboard, by filter and by message id", () => withConsole("#/events?site=shop", {}, async (page, mock) => {
  await settled(page, "Events");
  await page.keyboard.press("/");
  await page.keyboard.type("Order*");
  await page.waitForURL(/event=Order/);
  const table = page.getByRole("table", { name: "Events" });
  await table.getByRole("link", { name: "Order Completed" }).first().waitFor();
  assert.equal(await table.getByRole("link", { name: "page", exact: true }).count(), 0);
  await page.keyboard.press("Escape");
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await page.waitForURL(/#\/sites\/shop\/events\/\d+/);
  await settled(page, "Order Completed");
  await page.goBack();
  await settled(page, "Events");
  const { message_id: id, seq } = mock.shop.events.find((it) => it.site === "shop");
  await page.getByRole("textbox", { name: "Find by message id" }).fill(id);
  await page.keyboard.press("Enter");
  await page.waitForURL(new RegExp(`#/sites/shop/events/${seq}$`));
  await page.goBack();
  await page.getByRole("textbox", { name: "Find by message id" }).fill("no-such");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").getByText("no event has this message id").waitFor();
}));

// The number of an order that Meta refused.
const refused = (mock) => mock.shop.events.findLast((it) => it.outcomes.get("meta")?.reason === "rejected" && it.visitor.email).seq;

test("an event shows its fates, what would be sent now, and hides personal data until it is asked for", async () => {
  for (const scheme of ["light", "dark"]) {
    await withConsole("#/events", { scheme }, async (page, mock) => {
      await settled(page, "Events");
      await page.goto(`${mock.url}#/sites/shop/events/${refused(mock)}`);
      await settled(page, "Order Completed");
      await page.getByText("rejected by the vendor").waitFor();
      await page.getByText("would be sent").first().waitFor();
      await page.getByText("The last call").first().click();
      await page.getByText("Currency is invalid").first().waitFor();
      const event = page.getByRole("region", { name: "The event" });
      assert.match(await event.innerText(), /…@…/);
      await shot(page, `event-${scheme}`, { fullPage: true });
      await assertAccessible(page);
      await page.getByRole("button", { name: "Show it" }).click();
      await event.getByText("@mail.example").first().waitFor();
      assert.equal(mock.state.audit[0].action, "personal.reveal");
      await page.setViewportSize({ width: 320, height: 720 });
      await shot(page, `event-${scheme}-320`, { fullPage: true });
      await assertNoSideScroll(page);
    });
  }
});

test("without the right, nothing offers to show personal data", () => withConsole("#/events", { personal: false, role: "viewer" }, async (page, mock) => {
  await settled(page, "Events");
  await page.goto(`${mock.url}#/sites/shop/events/${refused(mock)}`);
  await settled(page, "Order Completed");
  await page.getByRole("region", { name: "The event" }).waitFor();
  assert.equal(await page.getByRole("button", { name: "Show it" }).count(), 0);
}));

test("an event that is gone says why", () => withConsole("#/sites/shop/events/1", {}, async (page) => {
  await page.getByRole("alert").getByText("This is not here.").waitFor();
  await page.getByText("Events are kept for the time").waitFor();
}));

test("a trace shows a code, then everything that its browser does", async () => {
  for (const scheme of ["light", "dark"]) {
    await withConsole("#/trace", { scheme }, async (page, mock) => {
      mock.state.walk = false;
      await settled(page, "Trace");
      await shot(page, `trace-empty-${scheme}`, { fullPage: true });
      await assertAccessible(page);
      await page.getByRole("button", { name: "Trace my browser" }).click();
      await page.getByRole("img", { name: "Code with the link, for a phone" }).waitFor();
      await page.getByText("Waiting for the first event of this browser").waitFor();
      await shot(page, `trace-code-${scheme}`, { fullPage: true });
      await assertAccessible(page);
      await page.setViewportSize({ width: 320, height: 720 });
      await shot(page, `trace-code-${scheme}-320`, { fullPage: true });
      await assertNoSideScroll(page);
      await page.setViewportSize({ width: 1280, height: 860 });
      mock.walk(page.url().split("/").pop(), "shop");
      const rows = page.getByRole("list", { name: "Events of this browser" }).locator("[data-row]");
      await rows.nth(2).waitFor();
      await rows.first().click();
      await page.getByRole("region", { name: "The event" }).waitFor();
      await shot(page, `trace-${scheme}`, { fullPage: true });
      await assertAccessible(page);
      await page.getByRole("button", { name: "End the trace" }).click();
      await page.getByText("No trace runs").waitFor();
    });
  }
});

test("a viewer is told that traces need an editor", () => withConsole("#/trace", { role: "viewer" }, async (page) => {
  await page.getByText("Traces need the role of an editor.").waitFor();
}));
