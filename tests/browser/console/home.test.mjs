// Home: the balance of a site, what needs a look, and the first steps of an empty one.

import assert from "node:assert/strict";
import { test } from "node:test";
import { assertScreen, settled, withConsole } from "./harness.mjs";

test("home is complete in both themes and at 320 px", () => assertScreen("home", "#/", "Home"));

test("home of an empty site leads to the first event", () =>
  assertScreen("home-empty", "#/", "Three steps to the first event", { isEmpty: true }));

test("home shows the balance, and what stands out first", () => withConsole("#/", {}, async (page) => {
  await settled(page, "Home");
  const main = page.getByRole("main");
  await main.getByText("Meta refuses orders").waitFor();
  await main.getByRole("heading", { name: "Every delivery is accounted for" }).waitFor();
  const rows = main.getByRole("table", { name: "Destinations" }).getByRole("row");
  assert.match(await rows.nth(1).innerText(), /klaviyo|tiktok/, "trouble comes first");
  await main.getByRole("link", { name: "Watch live" }).waitFor();
}));

test("home of another site is a link of its own", () => withConsole("#/?site=magazine", {}, async (page) => {
  await settled(page, "Home");
  await page.getByText("journal.lindenhof.example").waitFor();
  await page.getByRole("combobox", { name: "Site" }).first().selectOption("shop");
  await page.getByText("www.lindenhof.example").waitFor();
  assert.match(page.url(), /site=shop/);
  await page.goBack();
  await page.getByText("journal.lindenhof.example").waitFor();
}));

test("an account without sites is told why it sees nothing", () => {
  const routes = [["GET", "sites", "viewer", () => []]];
  return withConsole("#/", { routes }, async (page) => {
    await settled(page, "Home");
    await page.getByText("There is no site to see").waitFor();
  });
});
