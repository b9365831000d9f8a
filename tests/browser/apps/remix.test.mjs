// An application that hydrates the whole document, streams what comes late and changes pages without a load.

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { compare } from "./harness.mjs";

// React's files for a server are chosen by it when they are loaded.
process.env.NODE_ENV = "production";
const { application } = await import("./remix/build.mjs");

async function serve() {
  const server = await application();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** The page is alive, in the document that the parser made. */
async function alive(walk) {
  await walk.page.waitForSelector("html[data-alive]");
  const isSame = await walk.page.evaluate(() =>
    [document.documentElement, document.head, document.body].every((it, index) => it === window.parsed[index]));
  assert.ok(isSame, "hydrated, and not made anew");
}

async function journey(walk) {
  const { page } = walk;
  await walk.goto("/");
  await alive(walk);
  await page.click("#count");
  await walk.note("home");
  const head = () => page.evaluate(() => [...document.head.children].map((it) => it.outerHTML.replaceAll(location.origin, "")));
  await walk.note("the head", { head: await head() });

  // It comes at all only where the page is alive before its end.
  await walk.goto("/lamps/1");
  await page.waitForSelector("#reviews");
  await alive(walk);
  await walk.note("a page with content that comes late");
  await page.click("text=Floor");
  await page.waitForSelector("#reviews >> text=(2)");
  await walk.note("another, without a load");
  await page.setInputFiles("[name=note]", { name: "note.bin", mimeType: "application/octet-stream", buffer: Buffer.alloc(70_000, 7) });
  await page.click("#buy");
  await page.waitForURL("**/basket");
  await walk.titled("Lamps: basket (1)");
  await walk.note("bought");
  await page.click("#empty");
  await page.waitForSelector("text=Emptied");
  await walk.titled("Lamps: basket (0)");
  await walk.note("emptied");

  await page.goBack();
  await page.waitForSelector("#reviews >> text=(2)");
  await walk.titled("Lamps: Floor lamp – “Größe L”");
  await walk.note("back");
  await page.goForward();
  await walk.titled("Lamps: basket (0)");
  await walk.note("forward");
  await page.click("text=Home");
  await walk.titled("Lamps: home");
  await page.click("#count");
  await walk.note("home again");

  await page.click("text=Strict");
  await walk.titled("Lamps: strict");
  await alive(walk);
  await walk.note("under a policy");
  await page.click("text=Basket");
  await walk.titled("Lamps: basket (0)");
  await walk.note("on from there");
}

test("the whole document is the application's, and every page counts once", async () => {
  const floor = ["/lamps/2", "Lamps: Floor lamp – “Größe L”"];
  const basket = (count) => ["/basket", `Lamps: basket (${count})`];
  const home = ["/", "Lamps: home"];
  await compare(serve, journey, {
    sdk: '[sites.sdk]\nauto = ["page", "history"]',
    pages: [home, ["/lamps/1", "Lamps: Desk lamp"], floor, basket(1), floor, basket(0), home, ["/strict", "Lamps: strict"], basket(0)],
  });
});
