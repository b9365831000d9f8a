// Failed events: groups, the letters of one, one letter, and acts that say their number first.

import assert from "node:assert/strict";
import { test } from "node:test";
import { acts, assertAccessible, assertScreen, noted, settled, shot, withConsole } from "./harness.mjs";

const CURRENCY = "Your purchase event does not include a valid currency.";

test("failed events are complete in both themes and at 320 px", () =>
  assertScreen("dead", "#/dead", "Failed events", { ready: (page) => page.getByText(CURRENCY).waitFor() }));

test("a group and a letter are complete in both themes and at 320 px", async () => {
  let letter = "";
  await withConsole("#/dead", {}, async (page) => {
    await settled(page, "Failed events");
    await page.getByRole("link", { name: /rejected by the vendor/ }).click();
    await settled(page, "meta: rejected by the vendor");
    await page.getByRole("table", { name: "The events" }).waitFor();
    letter = await page.getByRole("table", { name: "The events" }).getByRole("link").first().getAttribute("href");
    await assertAccessible(page);
    await shot(page, "dead-group", { fullPage: true });
    await page.getByRole("link", { name: "All groups" }).click();
    await settled(page, "Failed events");
  });
  assert.match(letter, /^#\/dead\/\d+/);
  await assertScreen("dead-letter", letter, /^Failed: /, { ready: (page) => page.getByRole("region", { name: /^Reply of the vendor, Status/ }).waitFor() });
});

test("nothing failed", () => assertScreen("dead-empty", "#/dead", "Failed events", { isEmpty: true, ready: (page) => page.getByText("Nothing failed").waitFor() }));

test("the filters are in the address, and retry acts on all that match, after the count", () => withConsole("#/dead?destination=klaviyo", {}, async (page, mock) => {
  await settled(page, "Failed events");
  await page.getByText("14 events in 1 group").waitFor();
  const others = mock.shop.letters.length - 14;
  await page.keyboard.press("r");
  const dialog = page.getByRole("dialog", { name: "Retry failed events" });
  await dialog.getByText("14 events are sent again.").waitFor();
  await dialog.getByText("site shop, destination klaviyo").waitFor();
  assert.equal(mock.shop.letters.length, others + 14, "a plan changes nothing");
  await shot(page, "dead-retry");
  await assertAccessible(page);
  const send = dialog.getByRole("button", { name: "Send 14 again" });
  assert.equal(await send.evaluate((it) => it === document.activeElement), true, "the count leads on to the act");
  await page.keyboard.press("Enter");
  await page.getByText("Nothing matches").waitFor();
  assert.equal(mock.shop.letters.length, others);
}));

test("what failed after the list was read is not touched", () => withConsole("#/dead?destination=warehouse", {}, async (page, mock) => {
  await settled(page, "Failed events");
  const before = mock.shop.letters.filter((it) => it.destination === "warehouse").length;
  const record = mock.shop.events.find((it) => it.site === "shop");
  mock.shop.bury(record, "warehouse", { reason: "too_large", detail: "", status: 413, reply: "Request Entity Too Large" }, Date.now());
  await page.getByRole("button", { name: "Drop all" }).click();
  await page.getByRole("button", { name: `Delete ${before}` }).click();
  await page.getByText(`${before} events were deleted.`).waitFor();
  assert.equal(mock.shop.letters.filter((it) => it.destination === "warehouse").length, 1);
}));

test("a group without a reply is acted on alone", () => withConsole("#/dead", {}, async (page, mock) => {
  const record = mock.shop.events.find((it) => it.site === "shop");
  for (let count = 0; count < 3; count++) mock.shop.bury(record, "meta", { reason: "rejected", detail: "", status: null, reply: "" }, Date.now());
  const others = mock.shop.letters.length - 3;
  await page.reload();
  await settled(page, "Failed events");
  await page.getByRole("link", { name: /^rejected by the vendor\s*rejected$/ }).click();
  await page.getByText("The vendor did not reply.").waitFor();
  await page.getByRole("button", { name: "Retry all" }).click();
  await page.getByText("without a reply").waitFor();
  await page.getByRole("button", { name: "Send 3 again" }).click();
  await page.getByText("3 events are sent again.").waitFor();
  assert.equal(mock.shop.letters.length, others);
}));

test("one letter: by keyboard to it, retried, and back at the list", () => withConsole("#/dead", {}, async (page, mock) => {
  await settled(page, "Failed events");
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await settled(page, /^meta: /);
  await page.getByRole("table", { name: "The events" }).waitFor();
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await settled(page, /^Failed: /);
  const id = Number(/dead\/(\d+)/.exec(page.url())[1]);
  await page.keyboard.press("x");
  await page.getByRole("dialog", { name: "Drop failed events" }).waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await settled(page, /^Failed: /);
  assert.ok(mock.shop.letters.some((it) => it.id === id));
  await page.keyboard.press("r");
  await page.getByRole("dialog").getByRole("button", { name: "Send 1 again" }).click();
  await settled(page, "Failed events");
  assert.ok(!mock.shop.letters.some((it) => it.id === id));
}));

test("personal data of a letter is masked until it is asked for, which is noted", () => withConsole("#/dead?destination=klaviyo", {}, async (page, mock) => {
  await settled(page, "Failed events");
  await page.getByRole("link", { name: /credentials refused/ }).click();
  await page.getByRole("table", { name: "The events" }).getByRole("link").first().click();
  await settled(page, /^Failed: /);
  const event = page.getByRole("region", { name: "The event" });
  const masked = await event.innerText();
  assert.doesNotMatch(masked, /@mail\.example/);
  await page.getByRole("button", { name: "Show personal data" }).click();
  await page.getByRole("button", { name: "Hide personal data" }).waitFor();
  await page.waitForFunction((text) => document.querySelector('[aria-label="The event"]')?.innerText !== text, masked);
  await noted(mock, ["personal.reveal"]);
}));

test("without the right there is nothing to ask with", () => withConsole("#/dead/1", { role: "viewer", personal: false }, async (page) => {
  await page.getByRole("alert").getByText("no such dead letter").waitFor();
  assert.equal(await page.getByRole("button", { name: /personal data|Retry/ }).count(), 0);
}));
