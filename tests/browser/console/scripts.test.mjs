// Vendor scripts: what waits, what has changed in it, and its approval.

import assert from "node:assert/strict";
import { test } from "node:test";
import { assertAccessible, assertScreen, settled, shot, withConsole } from "./harness.mjs";

const REVIEW = "#/scripts?site=shop&vendor=meta&script=fbevents.js";

test("scripts are complete in both themes and at 320 px", () => assertScreen("scripts", "#/scripts", "Vendor scripts"));

test("a review is complete in both themes and at 320 px", () =>
  assertScreen("scripts-review", REVIEW, "fbevents.js", { ready: (page) => page.getByText("2 lines added, 1 removed").waitFor() }));

test("no scripts yet", () => withConsole("#/scripts", { isEmpty: true }, async (page) => {
  await settled(page, "Vendor scripts");
  await page.getByText("No vendor scripts yet").waitFor();
  await assertAccessible(page);
}));

test("by keyboard to what waits, and approved by its hash", () => withConsole("#/scripts", {}, async (page) => {
  await settled(page, "Vendor scripts");
  assert.equal(await page.locator("main [data-row]").count(), 1, "only what waits can be reviewed");
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await settled(page, "fbevents.js");
  await page.getByText("var version = \"2.9.215\";").waitFor();
  await page.getByRole("button", { name: "Approve" }).click();
  const dialog = page.getByRole("dialog", { name: "Approve this version" });
  await dialog.getByText("215 kB instead of 214.3 kB").waitFor();
  await shot(page, "scripts-approve");
  const sent = page.waitForRequest((it) => it.url().endsWith("scripts/approve"));
  await dialog.getByRole("button", { name: "Approve" }).click();
  const body = (await sent).postDataJSON();
  assert.match(body.hash, /^sha256-/);
  assert.deepEqual({ ...body, hash: "" }, { site: "shop", vendor: "meta", script: "fbevents.js", hash: "" });
  await settled(page, "Vendor scripts");
  await page.getByText("Visitors get the new version.").waitFor();
  await page.getByText("waits for you").waitFor({ state: "detached" });
}));

test("a version that somebody else approved is no fault", () => withConsole(REVIEW, {}, async (page) => {
  await settled(page, "fbevents.js");
  await page.evaluate(async () => {
    const diff = await (await fetch("api/v1/scripts/diff?site=shop&vendor=meta&script=fbevents.js")).json();
    await fetch("api/v1/scripts/approve", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ site: "shop", vendor: "meta", script: "fbevents.js", hash: diff.pending.hash }) });
  });
  await page.reload();
  await page.getByText("Nothing waits for approval").waitFor();
}));

test("a viewer reads the changes only", () => withConsole(REVIEW, { role: "viewer" }, async (page) => {
  await settled(page, "fbevents.js");
  await page.getByText("What changed").waitFor();
  assert.equal(await page.getByRole("button", { name: "Approve" }).count(), 0);
}));
