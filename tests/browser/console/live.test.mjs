// Live: rows that open in place, filters, pause, and a pace that no page can keep up with.

import assert from "node:assert/strict";
import { test } from "node:test";
import { assertAccessible, assertNoSideScroll, assertScreen, settled, shot, withConsole } from "./harness.mjs";

const rows = (page) => page.getByRole("list", { name: "Events", exact: true }).locator("[data-row]");

test("live is complete in both themes and at 320 px", () =>
  assertScreen("live", "#/live", "Live", { ready: (page) => rows(page).nth(20).waitFor() }));

test("a row opens in place with event, fates and calls", async () => {
  for (const scheme of ["light", "dark"]) {
    await withConsole("#/live?event=Order+Completed", { scheme }, async (page, mock) => {
      await settled(page, "Live");
      for (let count = 0; count < 30; count++) mock.shop.record(mock.shop.act(Date.now(), "shop", 0.95));
      await rows(page).filter({ hasText: "meta: failed" }).first().click();
      await page.getByText("Paused while an event is open.").waitFor();
      // Rows that came while it was clicked may stand before it.
      await page.locator('[data-row][aria-expanded="true"]').filter({ hasText: "meta: failed" }).waitFor();
      await page.getByRole("region", { name: "The event" }).getByText("order_id").first().waitFor();
      await page.getByText("rejected by the vendor").first().waitFor();
      await page.getByText("1 call to the vendor").first().click();
      await page.getByRole("region", { name: /^Reply/ }).first().waitFor();
      await page.getByRole("button", { name: "Show what each vendor would get" }).click();
      await page.getByText("would be sent").first().waitFor();
      await shot(page, `live-open-${scheme}`, { fullPage: true });
      await assertAccessible(page);
      await page.setViewportSize({ width: 320, height: 720 });
      await shot(page, `live-open-${scheme}-320`);
      await assertNoSideScroll(page);
    });
  }
});

test("live by keyboard: j and k step, Enter opens, Escape closes, p pauses, c clears", () => withConsole("#/", {}, async (page, mock) => {
  await settled(page, "Home");
  await page.keyboard.press("g");
  await page.keyboard.press("l");
  await settled(page, "Live");
  await rows(page).nth(5).waitFor();
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  const second = rows(page).nth(1);
  assert.equal(await second.evaluate((it) => it === document.activeElement), true);
  await page.keyboard.press("Enter");
  await page.getByRole("region", { name: "The event" }).waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("region", { name: "The event" }).waitFor({ state: "detached" });
  await page.keyboard.press("p");
  await page.getByRole("button", { name: "Go on" }).waitFor();
  for (let count = 0; count < 3; count++) mock.shop.record(mock.shop.act(Date.now(), "shop"));
  await page.getByRole("button", { name: "Go on 3 new" }).waitFor();
  await page.keyboard.press("p");
  await page.getByRole("button", { name: "Pause" }).waitFor();
  // The next event may come at once: then it is cleared as well.
  for (let isEmpty = false; !isEmpty;) {
    await page.keyboard.press("c");
    isEmpty = await page.getByText("Waiting for the next event").waitFor({ timeout: 1000 }).then(() => true, () => false);
  }
  await page.keyboard.press("/");
  assert.equal(await page.getByRole("searchbox", { name: "Event" }).evaluate((it) => it === document.activeElement), true);
  await page.keyboard.press("Escape");
  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keyboard" }).getByText("Pause, or go on").waitFor();
  await shot(page, "help-light");
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
}));

test("the filters are the address, and the address is the filters", () => withConsole("#/live?outcome=dead", {}, async (page) => {
  await settled(page, "Live");
  await rows(page).first().waitFor();
  for (const text of await rows(page).allTextContents()) assert.match(text, /failed/);
  await page.getByRole("searchbox", { name: "Event" }).fill("!Order*");
  await page.waitForURL(/event=%21Order/);
  await page.getByRole("combobox", { name: "What became of it" }).selectOption("skipped");
  await page.waitForURL(/outcome=skipped/);
  await rows(page).filter({ hasText: "skipped" }).first().waitFor();
  for (const text of await rows(page).allTextContents()) {
    assert.match(text, /skipped/);
    assert.doesNotMatch(text, /Order Completed/);
  }
  await page.getByRole("button", { name: "Clear filters" }).click();
  await page.waitForURL((url) => !/outcome|event=/.test(url.hash));
  await page.goBack();
  await page.waitForURL(/outcome=skipped/);
}));

test("new events appear by themselves, also after the stream broke", () => withConsole("#/live", { isEmpty: true }, async (page, mock) => {
  await settled(page, "Live");
  await page.getByText("Waiting for the next event").waitFor();
  mock.shop.record(mock.shop.act(Date.now(), "shop", 0.5));
  await rows(page).nth(0).getByText("Product Viewed").waitFor();
  // The gateway restarts.
  mock.breakStreams();
  await page.getByText("connection lost, tries again").waitFor();
  mock.shop.record(mock.shop.act(Date.now(), "shop", 0.75));
  await rows(page).nth(0).getByText("Product Added").waitFor();
  assert.equal(await rows(page).count(), 2, "events that the gateway tells again are shown once");
}));

test("an open event hears of its own fate while the rest waits", () => withConsole("#/live", { isEmpty: true }, async (page, mock) => {
  await settled(page, "Live");
  const record = mock.shop.act(Date.now(), "shop", 0.75);
  const { site, seq, message_id, event } = record;
  const at = new Date().toISOString();
  mock.shop.push({ what: "accepted", at, site, seq, message_id, event, format: "segment", source: "sdk", visitor: "abcdef…" });
  await rows(page).first().click();
  await page.getByText("Paused while an event is open.").waitFor();
  mock.shop.push({ what: "accepted", at, site, seq: seq + 1, message_id: "later", event: "Later", format: "segment" });
  mock.shop.push({ what: "settled", at, site, seq, message_id, event, destination: "meta", outcome: "dead", reason: "rejected", attempt: 2, milliseconds: 77 });
  await rows(page).first().getByText("meta").waitFor();
  await page.getByText("attempt 2").waitFor();
  assert.equal(await rows(page).count(), 1);
  await page.keyboard.press("Escape");
  await rows(page).nth(1).waitFor();
  assert.match(await rows(page).first().textContent(), /Later/);
}));

test("a hidden tab has no stream", () => withConsole("#/live", {}, async (page, mock) => {
  await settled(page, "Live");
  await rows(page).first().waitFor();
  assert.equal(mock.state.streams, 1);
  await page.evaluate(() => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => true });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await page.getByText("sleeping while this tab is hidden").waitFor();
  await page.waitForFunction(() => true);
  for (let tries = 0; mock.state.streams > 0; tries++) {
    assert.ok(tries < 100, "the stream ends");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await page.evaluate(() => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => false });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await page.getByText("live", { exact: true }).waitFor();
}));

test("at 2,000 events a second the page answers, and says what it leaves out", () => withConsole("#/live", {}, async (page, mock) => {
  await settled(page, "Live");
  await rows(page).first().waitFor();
  const session = await page.context().newCDPSession(page);
  await session.send("Emulation.setCPUThrottlingRate", { rate: 4 });
  await page.evaluate(() => {
    globalThis.longest = 0;
    let before = performance.now();
    const frame = (at) => {
      globalThis.longest = Math.max(globalThis.longest, at - before);
      before = at;
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  });
  const flood = mock.flood(2_000);
  const status = page.locator(".feed-status");
  const says = async (words) => {
    for (;;) {
      if (words.test(await status.innerText())) return;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  };
  await says(/passed too fast to be shown/);
  await says(/entries left out: this page was too slow/);
  // It reacts in the middle of it.
  const asked = Date.now();
  await page.keyboard.press("p");
  await says(/paused/);
  const answered = Date.now() - asked;
  const { longest, count } = await page.evaluate(() => ({ longest: globalThis.longest, count: document.querySelectorAll(".feed-row").length }));
  flood.stop();
  console.log(`    answered a key after ${answered} ms; longest frame ${Math.round(longest)} ms; ${count} rows; sent ${flood.sent()} events`);
  assert.ok(count <= 500);
  assert.ok(answered < 2_000, `${answered} ms to answer a key`);
}));
