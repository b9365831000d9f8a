// An application of messages and streams (Socket.IO, plain WebSockets, server-sent events), with frames and a service worker.

import { once } from "node:events";
import { test } from "node:test";
import { compare } from "./harness.mjs";
import { application } from "./sockets/server.mjs";

async function serve() {
  const { server, end } = application();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { origin: `http://127.0.0.1:${server.address().port}`, close: end };
}

async function journey(walk) {
  const { page } = walk;
  const begin = async (tab) => {
    await tab.goto(`${walk.base}/`);
    await tab.waitForSelector("#log >> text=done");
  };
  await begin(page);
  await walk.note("everything");
  const other = await walk.tab();
  await begin(other);
  await other.evaluate(() => window.say("hello from the other"));
  await page.waitForSelector("text=hello from the other");
  await walk.note("what another says");
  await other.close();

  // The parts of a page are none of their own, and what is in a sandbox may not send.
  await walk.goto("/frames");
  await page.frameLocator("[sandbox]").locator("text=null").waitFor();
  await walk.note("frames");
  await walk.goto("/boxed?sandbox");
  await walk.noteUncounted("a sandbox");

  await walk.goto("/");
  await page.waitForSelector("#log >> text=done");
  await page.evaluate(() => window.work());
  await walk.goto("/about");
  await walk.note("a page by the worker from the network", {
    isByWorker: await page.evaluate(() => performance.getEntriesByType("navigation")[0].workerStart > 0),
  });
  await walk.goto("/own");
  await walk.noteUncounted("a page of the worker's own");
  await page.goBack({ waitUntil: "load" });
  await walk.titled("About");
  await walk.note("back");
}

test("messages and streams flow both ways, and every page counts once", async () => {
  const [messages, about] = [["/", "Messages"], ["/about", "About"]];
  await compare(serve, journey, { pages: [messages, messages, ["/frames", "Frames"], messages, about, about] });
});
