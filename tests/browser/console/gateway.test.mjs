// The console before the real gateway of the demo: somebody buys on a phone, and it is seen live, with what
// became of it; a refused order is found with its reason; a destination is paused and resumed.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { assertAccessible, settled, shot } from "./harness.mjs";

const TAGWAY = process.env.TAGWAY ?? new URL("../../../target/debug/tagway", import.meta.url).pathname;
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";

let demo, data, shop, browser;

before(async () => {
  data = await mkdtemp(join(tmpdir(), "tagway-console-"));
  const free = "127.0.0.1:0";
  demo = spawn(TAGWAY, ["demo", "--data", data, "--shop", free, "--http", free, "--admin", free], { stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: demo.stdout })) {
    shop ??= /^\s+shop\s+(\S+)/.exec(line)?.[1];
    if (/^\s+data\s/.test(line)) break;
  }
  demo.stdout.resume();
  browser = await chromium.launch({ executablePath: CHROMIUM, headless: true, args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"] });
});

after(async () => {
  await browser?.close();
  if (demo?.exitCode === null) {
    demo.kill("SIGTERM");
    await once(demo, "exit");
  }
  await rm(data, { recursive: true, force: true });
});

test("an order of the shop is followed in the console, and a destination paused and resumed", async () => {
  const desk = await browser.newContext({ viewport: { width: 1280, height: 860 }, locale: "en-GB", reducedMotion: "reduce" });
  const page = await desk.newPage();
  const faults = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  await page.addInitScript(() => addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective}`)));
  page.on("console", (line) => line.text().startsWith("policy:") && faults.push(line.text()));
  await page.goto(`${shop}console`);
  await settled(page, "Live");
  assert.match(page.url(), /#\/live$/, "the link is used up, and not in the history");

  const phone = await browser.newContext({ viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });
  const visit = await phone.newPage();
  await visit.goto(shop);
  const find = (name) => visit.getByTestId(name);
  for (const step of ["account", "signup", "product-fold-04", "add", "checkout", "order"]) await find(step).click();
  await find("confirmation").waitFor();

  // The shop's own list says what became of the order at each destination.
  const order = visit.locator("#events > li").filter({ hasText: "Order Completed" });
  await order.getByRole("link", { name: "meta sent" }).waitFor();
  await order.getByRole("link", { name: "ga4 sent" }).waitFor();
  const rows = page.getByRole("list", { name: "Events", exact: true }).locator("[data-row]");
  const row = rows.filter({ hasText: "Order Completed" }).first();
  await row.click();
  await page.getByRole("region", { name: "The event" }).getByText("order_id").first().waitFor();
  await shot(page, "gateway-live");
  await page.goto(await order.getByRole("link", { name: "meta sent" }).getAttribute("href"));
  await settled(page, "Order Completed");
  await assertAccessible(page);

  // An order whose currency nobody can read dies, with its reason.
  await visit.evaluate(() => globalThis.tagway.track("Order Completed", { order_id: "o-2", total: 12.5, currency: "a lot" }));
  const refused = visit.locator("#events > li").filter({ hasText: "Order Completed" }).first();
  await refused.getByRole("link", { name: /^meta died.*currency/ }).waitFor();
  await page.goto(page.url().replace(/#.*/, "#/dead"));
  await settled(page, "Failed events");
  await page.getByRole("row").filter({ hasText: "unreadable currency" }).filter({ hasText: "meta" }).waitFor();
  await shot(page, "gateway-dead");

  await page.goto(page.url().replace(/#.*/, "#/destinations/demo/meta"));
  await settled(page, "meta");
  await page.keyboard.press("p");
  const dialog = page.getByRole("dialog", { name: "Pause meta" });
  await dialog.getByRole("textbox", { name: /^Reason/ }).fill("The agency checks the pixel");
  await dialog.getByRole("button", { name: "Pause" }).click();
  await page.getByText(/Paused by admin/).waitFor();
  await visit.evaluate(() => globalThis.tagway.track("Wishlist Opened", {}));
  await page.reload();
  await settled(page, "meta");
  await page.getByText("The agency checks the pixel").waitFor();
  await page.getByRole("button", { name: "Resume" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Resume" }).click();
  await page.getByText("meta gets its events again.").waitFor();

  // Both acts are in the audit log, whose chain holds.
  await page.goto(page.url().replace(/#.*/, "#/audit"));
  await settled(page, "Audit");
  for (const act of ["destination.pause", "destination.resume"]) await page.locator("main").getByText(act).last().waitFor();
  await shot(page, "gateway-audit");
  assert.deepEqual(faults, []);
  await desk.close();
  await phone.close();
});
