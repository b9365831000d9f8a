// Signing in, the team, and the audit log.

import assert from "node:assert/strict";
import { test } from "node:test";
import { assertAccessible, assertNoSideScroll, assertScreen, settled, shot, withConsole } from "./harness.mjs";

const PASSWORD = "correct horse battery";

const OUT = { signedIn: false };

// The pages before the frame: one card, in both themes and at 320 px.
async function assertDoor(name, route, heading, options) {
  for (const scheme of ["light", "dark"]) {
    await withConsole(route, { ...OUT, ...options, scheme }, async (page) => {
      await page.getByRole("heading", { level: 1, name: heading }).waitFor();
      await shot(page, `${name}-${scheme}`);
      await assertAccessible(page);
      await page.setViewportSize({ width: 320, height: 720 });
      await shot(page, `${name}-${scheme}-320`);
      await assertNoSideScroll(page);
    });
  }
}

test("signing in is complete in both themes and at 320 px", () => assertDoor("login", "#/live", "Sign in", { oidc: true }));
test("the first set-up names the command", () => assertDoor("login-setup", "#/", "Set up the console", { setup: true }));
test("a used link says how to get another", () => assertDoor("login-used", "#/login?code=gone", "Sign in", {}));

test("a password opens the page that was asked for", () => withConsole("#/live?event=Order*", OUT, async (page) => {
  await page.getByLabel("Name").fill("ana");
  await page.getByLabel("Password").fill("wrong");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").getByText("wrong name or password").waitFor();
  await page.getByLabel("Password").fill(PASSWORD);
  await page.keyboard.press("Enter");
  await settled(page, "Live");
  assert.match(page.url(), /#\/live\?event=Order/);
  await page.getByRole("button", { name: "Sign out" }).first().click();
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
}));

test("the first link makes an admin, who chooses a password", () => withConsole("#/login?code=first", { ...OUT, setup: true }, async (page) => {
  await page.getByRole("heading", { name: "Choose your password" }).waitFor();
  assert.doesNotMatch(page.url(), /first/, "the code leaves the address");
  await shot(page, "login-password");
  await assertAccessible(page);
  await page.getByLabel("Password", { exact: true }).fill("short");
  await page.getByLabel("The password once more").fill("short");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").getByText("At least 12 characters.").waitFor();
  await page.getByLabel("Name").fill("marie");
  await page.getByLabel("Password", { exact: true }).fill("a sentence of my own");
  await page.getByLabel("The password once more").fill("a sentence of my own");
  await page.keyboard.press("Enter");
  await settled(page, "Home");
  await page.getByText("marie").first().waitFor();
}));

test("a session that ended leads back to where it was", () => withConsole("#/people", {}, async (page, mock) => {
  await settled(page, "Team");
  mock.state.signedIn = false;
  await page.getByRole("link", { name: "API tokens" }).click();
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  await page.getByLabel("Name").fill("ana");
  await page.getByLabel("Password").fill(PASSWORD);
  await page.keyboard.press("Enter");
  await page.getByRole("table", { name: "Tokens" }).waitFor();
}));

test("the team is complete in both themes and at 320 px", () => assertScreen("people", "#/people", "Team"));
test("the tokens are complete in both themes and at 320 px", () => assertScreen("tokens", "#/people/tokens", "Team"));
test("the sign-ins are complete in both themes and at 320 px", () => assertScreen("sessions", "#/people/sessions?all=true", "Team"));

test("an invitation asks for the password again and shows its link once", () => withConsole("#/people", {}, async (page) => {
  await settled(page, "Team");
  await page.getByRole("button", { name: "Invite" }).click();
  const dialog = page.getByRole("dialog", { name: "Invite somebody" });
  await dialog.getByLabel("Name").fill("mira");
  await dialog.getByRole("radio", { name: /Editor/ }).check();
  await shot(page, "people-invite");
  await assertAccessible(page);
  await dialog.getByRole("button", { name: "Make the link" }).click();
  const proof = page.getByRole("dialog", { name: "Confirm that it is you" });
  await proof.getByLabel("Password").fill("wrong");
  await page.keyboard.press("Enter");
  await proof.getByRole("alert").getByText("The password is wrong.").waitFor();
  await proof.getByLabel("Password").fill(PASSWORD);
  await shot(page, "people-proof");
  await assertAccessible(page);
  await page.keyboard.press("Enter");
  await page.getByRole("dialog", { name: "The link for mira" }).getByText("#/login?code=").waitFor();
  await shot(page, "people-link");
  await page.keyboard.press("Escape");
  await page.getByRole("row", { name: /mira Editor/ }).getByText("invited").waitFor();
}));

test("an account of the company proves itself by signing in again", () => withConsole("#/people", { oidc: true }, async (page, mock) => {
  mock.state.hasPassword = false;
  await settled(page, "Team");
  await page.reload();
  await settled(page, "Team");
  await page.getByRole("button", { name: "New link: vera" }).click();
  const link = page.getByRole("dialog", { name: "Confirm that it is you" }).getByRole("link", { name: "Sign in again" });
  assert.equal(await link.getAttribute("href"), "api/v1/session/oidc");
  await page.keyboard.press("Escape");
  await page.getByRole("status").getByText("prove again that it is you").waitFor();
}));

test("what is typed in a dialog survives a click beside it", () => withConsole("#/people", {}, async (page) => {
  await settled(page, "Team");
  await page.getByRole("button", { name: "Invite" }).click();
  await page.getByRole("dialog").getByLabel("Name").fill("mira");
  await page.mouse.click(8, 8);
  assert.equal(await page.getByRole("dialog").getByLabel("Name").inputValue(), "mira");
  await page.keyboard.press("Escape");
  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keyboard" }).waitFor();
  await page.mouse.click(8, 8);
  await page.getByRole("dialog").waitFor({ state: "detached" });
}));

test("the last admin stays, and others change", () => withConsole("#/people", {}, async (page, mock) => {
  await settled(page, "Team");
  mock.state.proved = Date.now() + 60_000;
  await page.getByRole("button", { name: "Change: ana" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("radio", { name: /Viewer/ }).check();
  await dialog.getByRole("button", { name: "Save" }).click();
  await dialog.getByRole("alert").getByText("the last admin stays an admin").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Change: ben" }).click();
  await dialog.getByRole("checkbox", { name: /Disabled/ }).check();
  await dialog.getByRole("button", { name: "Save" }).click();
  await page.getByRole("row", { name: /ben/ }).getByText("disabled").waitFor();
}));

test("a token is shown once, and deleted after a question", () => withConsole("#/people/tokens", {}, async (page, mock) => {
  await settled(page, "Team");
  mock.state.proved = Date.now() + 60_000;
  await page.getByRole("button", { name: "New token" }).click();
  await page.getByLabel("Name").fill("nightly");
  await page.getByRole("button", { name: "Make the token" }).click();
  await page.getByRole("dialog", { name: "The token nightly" }).getByText(/^tagway_/).waitFor();
  await page.getByRole("button", { name: "Done" }).click();
  await page.getByRole("button", { name: "Delete: nightly" }).click();
  await page.getByRole("dialog", { name: "Delete the token nightly?" }).getByRole("button", { name: "Delete" }).click();
  await page.getByRole("status").getByText("The token is deleted.").waitFor();
  await page.getByRole("row", { name: /nightly/ }).waitFor({ state: "detached" });
}));

test("a viewer sees only where they are signed in", () => withConsole("#/people", { role: "viewer" }, async (page) => {
  await settled(page, "Team");
  await page.getByRole("table", { name: "Sign-ins" }).waitFor();
  assert.equal(await page.getByRole("link", { name: "API tokens" }).count(), 0);
  assert.equal(await page.getByRole("link", { name: "Audit" }).count(), 0);
}));

test("the audit log is complete in both themes and at 320 px", () => assertScreen("audit", "#/audit", "Audit"));

test("the audit log filters, opens details, pages on and is downloaded", () => withConsole("#/audit?actor=ben", {}, async (page) => {
  await settled(page, "Audit");
  await page.getByText(/^\d+ entries checked: the chain is whole/).waitFor();
  await page.getByRole("button", { name: "Check the whole chain" }).click();
  await page.getByText("140 entries checked: the chain is whole").waitFor();
  const list = page.getByRole("list", { name: "Entries" });
  for (const text of await list.getByRole("listitem").allInnerTexts()) assert.match(text, /ben/);
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await page.getByRole("region", { name: "Details" }).waitFor();
  await page.getByRole("button", { name: "Clear filters" }).click();
  await list.getByRole("listitem").nth(40).waitFor();
  await page.getByRole("button", { name: "Show more" }).click();
  await list.getByRole("listitem").nth(90).waitFor();
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "Download" }).click()]);
  assert.equal(download.suggestedFilename(), "tagway-audit.ndjson");
}));

test("everything is there in German", () => withConsole("#/audit", { language: "de-DE" }, async (page) => {
  await settled(page, "Protokoll");
  await page.getByText("50 Einträge geprüft: die Kette ist vollständig").waitFor();
  assert.equal(await page.evaluate(() => document.documentElement.lang), "de");
  await shot(page, "audit-german");
  await page.getByRole("combobox", { name: "Sprache" }).first().selectOption("en");
  await settled(page, "Audit");
  await page.reload();
  await settled(page, "Audit");
}));
