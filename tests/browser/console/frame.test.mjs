// The frame: below any path, by keyboard, on a phone, in both themes, and within the budget of a first load.

import assert from "node:assert/strict";
import { test } from "node:test";
import { assertAccessible, assertNoSideScroll, settled, shot, withConsole } from "./harness.mjs";

test("the console works below a path, and a first load stays within 12 requests", () => withConsole("#/", { base: "/ops/tagway/" }, async (page, mock) => {
  await settled(page, "Home");
  const requests = [];
  page.on("request", (request) => requests.push(request.url()));
  await page.reload();
  await settled(page, "Home");
  assert.ok(requests.length <= 12, requests.join("\n"));
  for (const url of requests) assert.ok(url.startsWith(mock.url) || url.startsWith("data:"), url);
  assert.match(await (await page.request.get(`${mock.url}licences.txt`)).text(), /preact[^]*MIT License/);
  await page.getByRole("link", { name: "Audit" }).click();
  await settled(page, "Audit");
  assert.ok(page.url().startsWith(`${mock.url}#/audit`));
}));

test("an unknown page, and a gateway that does not answer, say what to do", () => withConsole("#/nowhere", {}, async (page) => {
  await page.getByText("There is no such page.").waitFor();
  await page.getByRole("link", { name: "To the start" }).click();
  await settled(page, "Home");
  await page.route("**/api/v1/audit*", (route) => route.abort());
  await page.getByRole("link", { name: "Audit" }).click();
  await page.getByText("The gateway does not answer.").waitFor();
  await page.unroute("**/api/v1/audit*");
  await page.getByRole("button", { name: "Try again" }).click();
  await settled(page, "Audit");
}));

test("every screen of the navigation opens by its keys", () => withConsole("#/", {}, async (page) => {
  await settled(page, "Home");
  const entries = await page.getByRole("navigation", { name: "Main" }).getByRole("link").evaluateAll((links) =>
    links.filter((it) => it.querySelector("kbd")).map((it) => ({ keys: it.querySelector("kbd").textContent.split(" "), href: it.getAttribute("href") })));
  assert.ok(entries.length >= 6);
  for (const { keys, href } of entries) {
    for (const key of keys) await page.keyboard.press(key);
    await page.waitForURL((url) => url.hash === href);
    await page.locator("main h1").waitFor();
    assert.equal(await page.locator("main").getByRole("alert").count(), 0, href);
  }
}));

test("the skip link leads to the content, and a new screen takes the focus", () => withConsole("#/", {}, async (page) => {
  await settled(page, "Home");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the content");
  await shot(page, "skip");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  await page.getByRole("link", { name: "Events" }).focus();
  await page.keyboard.press("Enter");
  await settled(page, "Events");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  assert.equal(await page.title(), "Events · Tagway");
}));

test("on a phone the menu has everything", () => withConsole("#/", { width: 320, height: 640 }, async (page) => {
  await settled(page, "Home");
  await page.getByRole("navigation", { name: "More" }).getByRole("button", { name: "More" }).click();
  const menu = page.getByRole("dialog", { name: "Menu" });
  await menu.getByRole("link", { name: "Team" }).waitFor();
  await shot(page, "menu-320");
  await assertAccessible(page);
  await assertNoSideScroll(page);
  await menu.getByRole("link", { name: "Team" }).click();
  await menu.waitFor({ state: "detached" });
  await settled(page, "Team");
}));

test("theme and language last", () => withConsole("#/", {}, async (page) => {
  await settled(page, "Home");
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await background();
  await page.getByRole("combobox", { name: "Theme" }).first().selectOption("dark");
  assert.notEqual(await background(), light);
  await page.getByRole("combobox", { name: "Language" }).first().selectOption("de");
  await settled(page, "Start");
  await page.reload();
  await settled(page, "Start");
  assert.notEqual(await background(), light);
  await shot(page, "home-german-dark", { fullPage: true });
}));

test("a wide screen is used, and nothing gets too long to read", () => withConsole("#/", { width: 3840, height: 2160 }, async (page) => {
  await settled(page, "Home");
  await shot(page, "home-4k");
  await assertNoSideScroll(page);
}));

test("seven tabs of the live view leave room for calls", () => withConsole("#/live", {}, async (page, mock) => {
  await settled(page, "Live");
  const tabs = await Promise.all(Array.from({ length: 6 }, () => page.context().newPage()));
  for (const tab of tabs) {
    // Only the tab in front is visible, as in a browser with a window.
    await tab.addInitScript(() => {
      Object.defineProperty(document, "hidden", { get: () => true });
    });
    await tab.goto(`${mock.url}#/live`);
    await settled(tab, "Live");
    await tab.getByText("sleeping while this tab is hidden").waitFor();
  }
  assert.equal(mock.state.streams, 1);
  await page.getByRole("link", { name: "Audit" }).click();
  await settled(page, "Audit");
}));

test("a first load takes a fast processor's 250 ms, which is a second on one with a quarter of the speed", () => withConsole("#/", {}, async (page) => {
  await settled(page, "Home");
  const session = await page.context().newCDPSession(page);
  // Time of the thread, not of the clock: other work of the machine does not count.
  await session.send("Performance.enable", { timeDomain: "threadTicks" });
  await page.reload();
  await settled(page, "Home");
  await page.locator(".bars").waitFor();
  const { metrics } = await session.send("Performance.getMetrics");
  const spent = Math.round(metrics.find((it) => it.name === "TaskDuration").value * 1000);
  console.log(`    ${spent} ms of the page's thread`);
  assert.ok(spent < 250, `${spent} ms of the page's thread`);
}));
