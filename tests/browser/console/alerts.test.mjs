// Alerts: now, history, rules, channels, and one that somebody takes.

import assert from "node:assert/strict";
import { test } from "node:test";
import { assertAccessible, assertScreen, settled, shot, withConsole } from "./harness.mjs";

for (const [name, route, ready] of [
  ["now", "#/alerts", "Klaviyo is behind"], ["past", "#/alerts?tab=past", "No events of magazine"],
  ["rules", "#/alerts?tab=rules", "less than 95% in 15 minutes"], ["channels", "#/alerts?tab=channels", "7 rules"],
]) {
  test(`alerts, ${name}: complete in both themes and at 320 px`, () =>
    assertScreen(`alerts-${name}`, route, "Alerts", { ready: (page) => page.getByText(ready).first().waitFor() }));
}

test("one alert is complete in both themes and at 320 px", () => assertScreen("alert", "#/alerts/30", "Klaviyo is behind", { ready: (page) => page.getByText("404 no_team").waitFor() }));

test("nothing fires", () => withConsole("#/alerts", { isEmpty: true }, async (page) => {
  await settled(page, "Alerts");
  await page.getByText("Nothing is wrong").waitFor();
  await assertAccessible(page);
  await page.getByRole("link", { name: "See the rules" }).click();
  await page.getByText("The disk fills up").waitFor();
  await page.getByRole("link", { name: "Channels" }).click();
  await page.getByText("Nobody is told yet").waitFor();
}));

test("the urgent first; by keyboard to it, to its cause, and back", () => withConsole("#/", {}, async (page) => {
  await settled(page, "Home");
  await page.keyboard.press("g");
  await page.keyboard.press("n");
  await settled(page, "Alerts");
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await settled(page, "Meta refuses orders");
  const facts = page.locator("dl.facts");
  assert.match(await facts.innerText(), /38 events[\s\S]*more than 10 events in 1 hour/);
  await page.getByRole("link", { name: "Look at the cause" }).click();
  await settled(page, "Failed events");
  await page.goBack();
  await settled(page, "Meta refuses orders");
}));

test("somebody takes an alert with a note, which the others see", () => withConsole("#/alerts/31", {}, async (page, mock) => {
  await settled(page, "Meta refuses orders");
  await page.keyboard.press("c");
  const dialog = page.getByRole("dialog", { name: "I take care of it" });
  await dialog.getByRole("textbox").fill("Currency is set in the theme: fixing");
  await shot(page, "alert-take");
  await assertAccessible(page);
  await page.keyboard.press("Enter");
  await page.getByText("ana takes care of it").waitFor();
  await page.getByText("Currency is set in the theme: fixing").waitFor();
  assert.equal(mock.state.alerts.find((it) => it.id === 31).acknowledged.by, "ana");
  await page.getByRole("link", { name: "Alerts", exact: true }).first().click();
  await page.getByText("seen by ana").waitFor();
}));

test("the test of a channel says whether it arrived, and why not", () => withConsole("#/alerts?tab=channels", {}, async (page) => {
  await settled(page, "Alerts");
  await page.getByRole("button", { name: "Send a test: mail-ops" }).click();
  await page.getByText("The test arrived.").waitFor();
  await page.getByRole("button", { name: "Send a test: slack-marketing" }).click();
  await page.getByText("The test did not arrive: the channel answered 404 no_team").waitFor();
}));

test("a viewer reads only", () => withConsole("#/alerts/31", { role: "viewer" }, async (page) => {
  await settled(page, "Meta refuses orders");
  assert.equal(await page.getByRole("button", { name: "I take care of it" }).count(), 0);
}));
