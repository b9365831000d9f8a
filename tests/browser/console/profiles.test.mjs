// Profiles: search, one person, reveal, export, forget.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { acts, assertAccessible, assertScreen, noted, settled, shot, withConsole } from "./harness.mjs";

test("profiles are complete in both themes and at 320 px", () => assertScreen("profiles", "#/profiles", "Profiles"));

test("one profile is complete in both themes and at 320 px", () =>
  assertScreen("profile", "#/profiles/shop/4003", "Person 4003", { ready: (page) => page.getByText("Lamps, autumn").waitFor() }));

test("no profiles yet leads to Live", () => withConsole("#/profiles", { isEmpty: true }, async (page) => {
  await settled(page, "Profiles");
  await page.getByText("No profiles yet").waitFor();
  await page.getByRole("main").getByRole("link", { name: "Watch live" }).waitFor();
}));

test("search by keyboard, page by page, to one person; the address holds the number only", () => withConsole("#/profiles", {}, async (page) => {
  await settled(page, "Profiles");
  const rows = page.getByRole("table", { name: "Profiles" }).getByRole("row");
  await rows.nth(25).waitFor();
  await page.getByRole("button", { name: "Show more" }).click();
  await rows.nth(40).waitFor();
  await page.keyboard.press("/");
  await page.keyboard.type("nobody@mail.example");
  await page.getByText("Nobody has this name").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("searchbox").fill("u-10403");
  await rows.nth(1).waitFor();
  assert.equal(await rows.count(), 2, "one person has this id");
  await page.keyboard.press("Escape");
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await settled(page, "Person 4003");
  assert.match(page.url(), /#\/profiles\/shop\/4003$/);
}));

test("masked until asked for, which is noted", () => withConsole("#/profiles/shop/4003", {}, async (page, mock) => {
  await settled(page, "Person 4003");
  const email = mock.shop.visitors[3].email;
  assert.equal(await page.getByText(email).count(), 0);
  await page.getByRole("button", { name: "Show personal data" }).click();
  await page.getByText(email).first().waitFor();
  await noted(mock, ["personal.reveal"]);
  await page.getByRole("button", { name: "Hide personal data" }).click();
  await page.getByText(email).first().waitFor({ state: "detached" });
}));

test("a viewer without the right sees no name and no way to one", () => withConsole("#/profiles/shop/4003", { role: "viewer", personal: false }, async (page) => {
  await settled(page, "Person 4003");
  await page.getByText("u-1…").first().waitFor();
  assert.equal(await page.getByRole("button", { name: /personal data|Export|Forget/ }).count(), 0);
}));

test("export asks for the password and saves lines of JSON", () => withConsole("#/profiles/shop/4003", {}, async (page, mock) => {
  await settled(page, "Person 4003");
  await page.getByRole("button", { name: "Export" }).click();
  const proof = page.getByRole("dialog", { name: "Confirm that it is you" });
  await proof.getByLabel("Password").fill("correct horse battery");
  const saved = page.waitForEvent("download");
  await proof.getByRole("button", { name: "Confirm" }).click();
  const file = await saved;
  assert.equal(file.suggestedFilename(), "person-shop-4003.ndjson");
  const lines = (await readFile(await file.path(), "utf8")).trim().split("\n").map((it) => JSON.parse(it));
  assert.ok(lines.length > 0 && lines.every((it) => it.kind === "event"));
  assert.ok(mock.state.proved > Date.now());
}));

test("forget says what it deletes, and takes the typed word", () => withConsole("#/profiles/shop/4003", {}, async (page, mock) => {
  mock.state.proved = Date.now() + 300_000;
  await settled(page, "Person 4003");
  await page.getByRole("button", { name: "Forget" }).click();
  const dialog = page.getByRole("dialog", { name: "Forget this person" });
  await dialog.getByText(/Now stored: 3 names, \d+ counted events/).waitFor();
  await shot(page, "profile-forget");
  await assertAccessible(page);
  const act = dialog.getByRole("button", { name: "Forget" });
  assert.equal(await act.isDisabled(), true);
  await dialog.getByLabel("Type 4003 to confirm").fill("4003");
  await page.keyboard.press("Enter");
  await page.getByText("This person is forgotten").waitFor();
  await page.getByText("14 events").waitFor();
  await noted(mock, ["forget"]);
  assert.equal(await page.getByRole("button", { name: "Accept this person's events again" }).count(), 0, "nobody knows their name any more");
}));

test("the word is the name where it is shown", () => withConsole("#/profiles/shop/4003", {}, async (page, mock) => {
  await settled(page, "Person 4003");
  await page.getByRole("button", { name: "Show personal data" }).click();
  await page.getByText(mock.shop.visitors[3].email).first().waitFor();
  await page.getByRole("button", { name: "Forget" }).click();
  await page.getByLabel(`Type ${mock.shop.visitors[3].user} to confirm`).waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await noted(mock, ["personal.reveal"]);
  mock.state.proved = Date.now() + 300_000;
  await page.getByRole("button", { name: "Forget" }).click();
  await page.getByLabel(/^Type .* to confirm$/).fill(mock.shop.visitors[3].user);
  await page.keyboard.press("Enter");
  const sent = page.waitForRequest((it) => it.url().endsWith("/forget") && it.postDataJSON().undo);
  await page.getByRole("button", { name: "Accept this person's events again" }).click();
  assert.deepEqual((await sent).postDataJSON(), { site: "shop", id: mock.shop.visitors[3].user, undo: true });
  await page.getByText("Events of this person are accepted again").waitFor();
}));
