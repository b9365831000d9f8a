// The screens of delivery, people and system in German: complete sentences, and room for long words.

import assert from "node:assert/strict";
import { test } from "node:test";
import { assertAccessible, assertNoSideScroll, settled, shot, withConsole } from "./harness.mjs";

const day = (ago) => encodeURIComponent(new Date(Date.now() - ago * 86_400_000).toISOString());

const SCREENS = [
  ["destinations", "#/destinations", "Ziele", "hat Probleme"],
  ["destination", "#/destinations/shop/meta", "meta", "übersprungen: keine Einwilligung"],
  ["quality", "#/destinations/shop/meta?tab=quality", "meta", "Das würde am meisten helfen: Telefonnummer"],
  ["setup", "#/destinations/shop/tiktok?tab=setup", "tiktok", "Pausiert von ben"],
  ["dead", "#/dead", "Gescheiterte Ereignisse", "vom Anbieter zurückgewiesen"],
  ["replay", `#/replay?destination=meta&from=${day(1)}&to=${day(0)}`, "Nachsenden", "Tippe meta, um zu starten"],
  ["profiles", "#/profiles", "Profile", "E-Mail-Adresse"],
  ["profile", "#/profiles/shop/4003", "Person 4003", "Woher sie kam"],
  ["segments", "#/segments", "Segmente", "überfällig"],
  ["segment", "#/segments/shop/cart-abandoners", "cart-abandoners", "tat „Product Added“ (letzte 2 Tage)"],
  ["scripts", "#/scripts", "Anbieterskripte", "wartet auf dich"],
  ["review", "#/scripts?site=shop&vendor=meta&script=fbevents.js", "fbevents.js", "2 Zeilen dazu, 1 entfernt"],
  ["settings", "#/settings", "Einstellungen", "13 Einstellungen, davon 8 von dir gesetzt"],
  ["alerts", "#/alerts", "Warnungen", "kam nicht an"],
  ["rules", "#/alerts?tab=rules", "Warnungen", "keines in 30 Minuten, wo 20 üblich sind"],
  ["alert", "#/alerts/30", "Klaviyo is behind", "mehr als 15 Minuten"],
];

test("every screen speaks German at 320 px", () => withConsole("#/", { language: "de-DE", width: 320, height: 720 }, async (page) => {
  await settled(page, "Start");
  for (const [name, route, heading, words] of SCREENS) {
    await page.evaluate((hash) => { location.hash = hash; }, route);
    await settled(page, heading);
    await page.getByText(words).filter({ visible: true }).first().waitFor();
    await shot(page, `german-${name}-320`, { fullPage: true });
    await assertNoSideScroll(page);
    const text = await page.getByRole("main").innerText();
    assert.doesNotMatch(text, /\{\w+(\||\})/, `${name}: a value is missing in a sentence`);
    assert.equal(await page.locator("html").getAttribute("lang"), "de");
  }
  await assertAccessible(page);
}));
