// Destinations: the list, one with its parts, and what can be done to it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { assertAccessible, assertNoSideScroll, assertScreen, settled, shot, withConsole } from "./harness.mjs";

test("destinations are complete in both themes and at 320 px", () => assertScreen("destinations", "#/destinations", "Destinations"));

test("no destination: a section to copy for a chosen vendor", () => withConsole("#/destinations", { isEmpty: true }, async (page) => {
  await settled(page, "Destinations");
  await page.getByText("No destination gets events of shop yet").waitFor();
  await page.getByRole("main").getByRole("combobox", { name: "Vendor" }).selectOption("meta");
  await page.getByText("pixel_id").waitFor();
  await shot(page, "destinations-empty");
  await assertAccessible(page);
}));

for (const [name, route, ready] of [
  ["delivery", "#/destinations/shop/meta", "skipped: no consent"],
  ["quality", "#/destinations/shop/meta?tab=quality", "This would help most: Telephone number"],
  ["setup", "#/destinations/shop/meta?tab=setup", "pixel_id"],
]) {
  test(`a destination's ${name} is complete in both themes and at 320 px`, () =>
    assertScreen(`destination-${name}`, route, "meta", { ready: (page) => page.getByText(ready).first().waitFor() }));
}

test("trouble comes first, and by keyboard one reaches a destination", () => withConsole("#/", {}, async (page) => {
  await settled(page, "Home");
  await page.keyboard.press("g");
  await page.keyboard.press("d");
  await settled(page, "Destinations");
  const rows = page.getByRole("table", { name: "Destinations" }).getByRole("row");
  assert.match(await rows.nth(1).innerText(), /klaviyo[\s\S]*having trouble[\s\S]*503/);
  assert.match(await rows.nth(2).innerText(), /tiktok[\s\S]*paused[\s\S]*waiting for the id/);
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await settled(page, "tiktok");
  await page.getByText("Paused by ben").waitFor();
  await page.getByText(/events wait on the disk\. The oldest is too old for TikTok at/).waitFor();
  await page.keyboard.press("Escape");
  await settled(page, "Destinations");
}));

test("match quality names each key, its share, and what would raise it", () => withConsole("#/destinations/shop/meta?tab=quality", {}, async (page) => {
  await settled(page, "meta");
  await page.getByText("6.4 of 10").first().waitFor();
  const row = page.getByRole("row").filter({ hasText: "E-mail address" });
  assert.match(await row.innerText(), /34%[\s\S]*a lot[\s\S]*Send email with identify/);
  await page.getByText("1,240").waitFor();
}));

test("pause with a reason and an end, then resume", () => withConsole("#/destinations/shop/meta", {}, async (page, mock) => {
  await settled(page, "meta");
  await page.keyboard.press("p");
  const dialog = page.getByRole("dialog", { name: "Pause meta" });
  await dialog.getByText("Meta takes events up to 7 days old").waitFor();
  await shot(page, "destination-pause");
  await assertAccessible(page);
  await dialog.getByRole("textbox", { name: /^Reason/ }).fill("The agency checks the pixel");
  await dialog.getByRole("radio", { name: "at a time" }).check();
  await dialog.getByLabel("Time", { exact: true }).fill("2020-01-01T10:00");
  await dialog.getByRole("button", { name: "Pause" }).click();
  await dialog.getByText("This time is over.").waitFor();
  await dialog.getByRole("radio", { name: "in an hour" }).check();
  await dialog.getByRole("button", { name: "Pause" }).click();
  await page.getByText("Paused by ana").waitFor();
  await page.getByText("The agency checks the pixel").waitFor();
  const kept = mock.shop.paused.get("shop/meta");
  assert.ok(Math.abs(Date.parse(kept.until) - Date.now() - 3_600_000) < 60_000, "it ends in an hour");
  assert.equal(await page.getByRole("button", { name: "Send a test event" }).isDisabled(), true);
  await page.getByRole("button", { name: "Resume" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Resume" }).click();
  await page.getByText("meta gets its events again.").waitFor();
  assert.equal(mock.shop.paused.has("shop/meta"), false);
}));

test("a test event says where to follow it", () => withConsole("#/destinations/shop/ga4", {}, async (page) => {
  await settled(page, "ga4");
  await page.keyboard.press("t");
  await page.getByRole("dialog").getByText("goes to ga4 alone").waitFor();
  await page.keyboard.press("Enter");
  const follow = page.getByRole("link", { name: "See what becomes of it" });
  await follow.waitFor();
  assert.match(await follow.getAttribute("href"), /^#\/sites\/shop\/events\/\d+$/);
}));

test("a viewer sees, but does not act", () => withConsole("#/destinations/shop/meta", { role: "viewer" }, async (page) => {
  await settled(page, "meta");
  assert.equal(await page.getByRole("button", { name: /Pause|test event/ }).count(), 0);
  await page.keyboard.press("p");
  assert.equal(await page.getByRole("dialog").count(), 0);
}));

test("the range of the chart is in the address, and a wide screen is used", () => withConsole("#/destinations/shop/meta?range=7d", { width: 3840, height: 2160 }, async (page) => {
  await settled(page, "meta");
  assert.equal(await page.getByRole("link", { name: "7 days" }).getAttribute("aria-current"), "true");
  await shot(page, "destination-4k");
  await assertNoSideScroll(page);
  await page.getByRole("link", { name: "30 days" }).click();
  await page.waitForFunction(() => location.hash.includes("range=30d"));
  await page.goBack();
  await page.waitForFunction(() => location.hash.includes("range=7d"));
}));
