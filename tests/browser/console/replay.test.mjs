// Replay: a destination, a time, the plan in numbers, and a typed word before anything is sent.

import assert from "node:assert/strict";
import { test } from "node:test";
import { acts, assertAccessible, assertScreen, noted, settled, shot, withConsole } from "./harness.mjs";

test("replay is complete in both themes and at 320 px", () => assertScreen("replay", "#/replay", "Replay", { ready: (page) => page.getByText("Choose a destination first.").waitFor() }));

test("a replay shows its plan, and starts after the name is typed", () => withConsole("#/replay", {}, async (page, mock) => {
  await settled(page, "Replay");
  await page.getByRole("combobox", { name: "Destination" }).selectOption("meta");
  await page.getByText("Choose the time first.").waitFor();
  await page.getByRole("button", { name: "Last 24 hours" }).click();
  await page.getByText("Meta recognises repetitions by the event id, within 48 hours of each other.").waitFor();
  assert.match(page.url(), /destination=meta.*from=.*to=/);
  const act = page.getByRole("button", { name: /^Send [\d,]+ events again$/ });
  assert.equal(await act.isDisabled(), true);
  await page.getByLabel("Type meta to start").fill("Meta");
  assert.equal(await act.isDisabled(), true);
  await page.getByLabel("Type meta to start").fill("meta");
  await shot(page, "replay-plan", { fullPage: true });
  await assertAccessible(page);
  assert.deepEqual(acts(mock), [], "a plan is no act");
  await page.keyboard.press("Enter");
  await page.getByText(/events are on the way to meta\./).waitFor();
  await noted(mock, ["replay"]);
  await page.getByRole("link", { name: "Watch the destination" }).click();
  await settled(page, "meta");
}));

test("too old events and vendors that count twice are said before", () => {
  const from = new Date(Date.now() - 40 * 86_400_000).toISOString();
  const to = new Date().toISOString();
  return withConsole(`#/replay?destination=tiktok&from=${encodeURIComponent(from)}&to=${encodeURIComponent(to)}`, {}, async (page) => {
    await settled(page, "Replay");
    await page.getByText("TikTok does not recognise repeated events: each counts twice.").waitFor();
    await page.getByText("TikTok takes events up to 28 days old: older ones fail.").waitFor();
  });
});

test("an editor sees the plan, and whom to ask", () => {
  const from = new Date(Date.now() - 3_600_000).toISOString();
  return withConsole(`#/replay?destination=ga4&from=${encodeURIComponent(from)}&to=${encodeURIComponent(new Date().toISOString())}`, { role: "editor" }, async (page) => {
    await settled(page, "Replay");
    await page.getByText("Only an admin can start a replay.").waitFor();
    assert.equal(await page.getByRole("button", { name: /again$/ }).count(), 0);
  });
});

test("times in the wrong order are refused in words", () => withConsole("#/replay?destination=ga4&from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z", {}, async (page) => {
  await settled(page, "Replay");
  await page.getByText("from must be before to").waitFor();
}));
