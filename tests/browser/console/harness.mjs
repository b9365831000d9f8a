// The console in a real browser, before a stand-in for the gateway: one browser for a file of tests, one
// stand-in for a test, and what every screen has to fulfil.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { chromium } from "playwright-core";
import { start } from "../../../static/admin/mock/server.mjs";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const AXE = readFileSync(new URL("../node_modules/axe-core/axe.min.js", import.meta.url), "utf8");

/** The folder of the screenshots, which people look at. */
export const SHOTS = process.env.SHOTS ?? join(tmpdir(), "tagway-console");

let browser;
before(async () => {
  await mkdir(SHOTS, { recursive: true });
  const args = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  browser = await chromium.launch({ executablePath: CHROMIUM, headless: true, args });
});
after(() => browser?.close());

/**
 * Opens the console at a hash route before a stand-in with these options, and calls `act` with both. The
 * page's policy must not have been violated, and no script must have failed.
 */
export async function withConsole(route, options, act) {
  const { language = "en-GB", scheme = "light", width = 1280, height = 860, ...rest } = options;
  const mock = await start({ signedIn: true, ...rest });
  const context = await browser.newContext({
    locale: language, colorScheme: scheme, viewport: { width, height }, timezoneId: "Europe/Berlin", reducedMotion: "reduce",
  });
  const faults = [];
  const page = await context.newPage();
  page.on("pageerror", (error) => faults.push(`page error: ${error.stack ?? error}`));
  page.on("console", (message) => {
    // A refusal that the console handles is an error to the browser's log as well.
    if (message.type() === "error" && !/Failed to load resource/.test(message.text())) faults.push(`log: ${message.text()}`);
  });
  await page.addInitScript(() => {
    globalThis.violations = [];
    addEventListener("securitypolicyviolation", (event) => {
      globalThis.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
    });
  });
  try {
    await page.goto(mock.url + route);
    await act(page, mock);
    assert.deepEqual(await page.evaluate(() => globalThis.violations), [], "the page's policy holds");
    assert.deepEqual(faults, []);
  } finally {
    await context.close();
    await mock.close();
  }
}

/** Waits until the screen with this heading has its data. */
export async function settled(page, heading) {
  await page.getByRole("heading", { level: 1, name: heading }).waitFor();
  await page.locator("main .loading").first().waitFor({ state: "detached" });
}

/** The rules of WCAG 2.2 AA that a program can check. */
export async function assertAccessible(page) {
  // Through the debugger: the page's own policy lets no foreign script in.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, {
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
  }));
  const faults = violations.map((it) => `${it.id}: ${it.help}\n${it.nodes.slice(0, 4).map((node) => `  ${node.html}\n  ${node.failureSummary}`).join("\n")}`);
  assert.deepEqual(faults, []);
}

/** The page scrolls in one direction only. */
export async function assertNoSideScroll(page) {
  const { wide, room, guilty } = await page.evaluate(() => {
    const room = document.documentElement.clientWidth;
    const guilty = [...document.querySelectorAll("body *")]
      .filter((it) => it.getBoundingClientRect().right > room + 1 && it.checkVisibility() && !it.closest(".sr, .skip"))
      .slice(0, 5).map((it) => it.outerHTML.slice(0, 160));
    return { wide: document.documentElement.scrollWidth, room, guilty };
  });
  assert.ok(wide <= room, `${wide} px of content in ${room} px: ${guilty.join("\n")}`);
}

/** The acts that were noted since the start; the stand-in has a history before. */
export const acts = (mock) => mock.state.audit.filter(({ id }) => id > 900).map(({ action }) => action).reverse();

/** Waits until these acts were noted, and no others. */
export async function noted(mock, expected) {
  const end = Date.now() + 30_000;
  while (acts(mock).length < expected.length && Date.now() < end) await new Promise((done) => setTimeout(done, 20));
  assert.deepEqual(acts(mock), expected);
}

export const shot = (page, name, options = {}) => page.screenshot({ path: join(SHOTS, `${name}.png`), ...options });

/**
 * Opens a screen in both themes at two widths, and holds it to the rules of every screen: its heading, the
 * policy, accessibility, no scrolling sideways. `ready` waits for what makes it complete.
 */
export async function assertScreen(name, route, heading, { ready = async () => {}, ...options } = {}) {
  for (const scheme of ["light", "dark"]) {
    await withConsole(route, { ...options, scheme }, async (page) => {
      await settled(page, heading);
      await ready(page);
      await shot(page, `${name}-${scheme}`, { fullPage: true });
      await assertAccessible(page);
      await assertNoSideScroll(page);
      await page.setViewportSize({ width: 320, height: 720 });
      await shot(page, `${name}-${scheme}-320`, { fullPage: true });
      await assertNoSideScroll(page);
      if (scheme === "light") await assertAccessible(page);
    });
  }
}
