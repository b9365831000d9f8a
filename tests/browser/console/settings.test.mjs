// Settings: every value in force, its source, and no secret.

import assert from "node:assert/strict";
import { test } from "node:test";
import { assertScreen, settled, withConsole } from "./harness.mjs";

test("settings are complete in both themes and at 320 px", () => assertScreen("settings", "#/settings", "Settings"));

test("what was set by the operator is open, with its place; secrets are not shown", () => withConsole("#/settings", {}, async (page) => {
  await settled(page, "Settings");
  await page.getByText("13 settings, 8 of them set by you").waitFor();
  const row = page.locator("dl > div").filter({ hasText: "retain" }).first();
  assert.match(await row.innerText(), /30d[\s\S]*file[\s\S]*tagway\.toml:12/);
  const token = page.locator("dl > div").filter({ hasText: "server_token" });
  assert.match(await token.innerText(), /set[\s\S]*environment[\s\S]*TAGWAY_SERVER_TOKEN/);
  await page.getByText("list_id is not set").waitFor();
  assert.equal(await page.getByText("connect_timeout").count(), 0, "tables of defaults are closed");
}));

test("search finds names, values and meanings; the address has it", () => withConsole("#/settings", {}, async (page) => {
  await settled(page, "Settings");
  await page.keyboard.press("/");
  await page.keyboard.type("limit disk");
  await page.getByText("1 setting, 1 of them set by you").waitFor();
  await page.getByText("max_bytes", { exact: true }).waitFor();
  assert.match(page.url(), /q=limit\+disk/);
  await page.getByRole("searchbox").fill("no such thing");
  await page.getByText("No setting fits").waitFor();
  await page.getByRole("searchbox").fill("");
  await page.getByRole("combobox", { name: "Set by" }).selectOption("environment");
  await page.getByText("2 settings, 2 of them set by you").waitFor();
}));

test("a thousand settings: things are found by their names, and the page stays quick", () => {
  const row = (path, value, source = "default") => ({ path, value, source, file: source === "file" ? "tagway.toml" : null, line: source === "file" ? 7 : null, variable: null, secret: false, restart: false, doc: "a meaning" });
  const rows = [row("sites[0].name", "shop", "file"), row("sites[0].destinations[0].name", "ga4", "file"), row("sites[0].destinations[1].name", "meta", "file")];
  for (let index = 0; index < 500; index++) rows.push(row(`sites[0].destinations[0].settings.key_${index}`, index), row(`sites[0].destinations[1].settings.key_${index}`, index));
  return withConsole("#/settings", { routes: [["GET", "settings/effective", "viewer", () => ({ rows })]] }, async (page) => {
    await settled(page, "Settings");
    await page.getByText("1,003 settings, 3 of them set by you").waitFor();
    await page.keyboard.press("/");
    await page.keyboard.type("meta key_499");
    await page.getByText("1 setting, 0 of them set by you").waitFor();
    const table = page.locator("details").filter({ hasText: "shop / meta" });
    await table.getByText("key_499").waitFor();
  });
});

test("a path shows its setting alone, and leads back to all", () => withConsole("#/settings?path=journal.retain", {}, async (page) => {
  await settled(page, "journal.retain");
  await page.getByText("settled events are kept for this time, for replay").waitFor();
  await page.getByRole("link", { name: "All settings" }).click();
  await settled(page, "Settings");
}));

test("tables open and close by keyboard", () => withConsole("#/settings", {}, async (page) => {
  await settled(page, "Settings");
  await page.keyboard.press("j");
  const first = page.locator("summary").first();
  assert.equal(await first.evaluate((it) => it === document.activeElement), true);
  await page.keyboard.press("Enter");
  await page.getByText("data_dir").waitFor();
  await page.keyboard.press("Enter");
  await page.getByText("data_dir").waitFor({ state: "detached" });
}));
