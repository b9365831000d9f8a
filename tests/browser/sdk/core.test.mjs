// The built script in Chromium, against a gateway that answers as each test wants.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const DIST = new URL("../../../static/sdk/dist/", import.meta.url);
const read = (name) => readFile(new URL(name, DIST), "utf8");
let browser, server, origin, script, snippet;
let batches = [];
let answers = [];

before(async () => {
  script = `(window.tagway=window.tagway||{}).settings={"page":true};${await read("core.js")}`;
  snippet = await read("snippet.js");
  server = createServer((request, response) => {
    if (request.url === "/tw.js") return void response.setHeader("content-type", "text/javascript").end(script);
    if (request.method === "GET") {
      const policy = "default-src 'self'; img-src data:; script-src 'nonce-n'; require-trusted-types-for 'script'";
      response.setHeader("content-security-policy", policy).setHeader("content-type", "text/html");
      const early = request.url === "/" ? `tagway.track("Early", {a: 1});` : "";
      return void response.end(`<link rel=icon href=data:><script nonce=n>${snippet}${early}</script>
        <script nonce=n async src=/tw.js></script>`);
    }
    let body = "";
    request.on("data", (chunk) => (body += chunk)).on("end", () => {
      const [status, fields] = answers.shift() ?? [204, {}];
      batches.push({ url: request.url, status, messages: body ? JSON.parse(body).batch : [] });
      response.writeHead(status, fields).end();
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  origin = `http://127.0.0.1:${server.address().port}`;
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
});

after(async () => {
  await browser?.close();
  server?.closeAllConnections();
  server?.close();
});

async function open(path = "/") {
  batches = [];
  const context = await browser.newContext();
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.goto(origin + path);
  return { context, page, complaints };
}

async function until(claim) {
  const deadline = Date.now() + 10_000;
  while (!claim()) {
    assert.ok(Date.now() < deadline, JSON.stringify(batches));
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const names = () => batches.map(({ messages }) => messages.map(({ event, type }) => event ?? type));

test("what the snippet queued leaves with the page in one request, under a strict policy", async () => {
  const { context, complaints } = await open();
  await until(() => batches.length);
  assert.deepEqual(names(), [["page", "Early"]]);
  assert.deepEqual(complaints, []);
  assert.deepEqual(await context.cookies(), []);
  await context.close();
});

test("a refused request is sent again with the same ids, and the callback hears of the end", async () => {
  answers = [[503, { "retry-after": "1" }]];
  const { context, page } = await open("/plain");
  await until(() => batches.length === 1);
  const status = await page.evaluate(() => new Promise((done) => tagway.track("Bought", {}, {}, done)));
  assert.equal(status, 204);
  const ids = batches.map(({ messages }) => messages[0].messageId);
  assert.equal(ids[0], ids[1]);
  assert.equal(await page.evaluate(() => localStorage.length), 0);
  await context.close();
});

test("what a closed page could not send is sent by the next one, before anything else", async () => {
  const { context, page } = await open("/plain");
  await until(() => batches.length);
  await context.setOffline(true);
  await page.evaluate(() => (tagway.track("Offline"), tagway.flush()));
  await page.waitForFunction(() => localStorage.length);
  await page.close();
  await context.setOffline(false);
  await (await context.newPage()).goto(`${origin}/plain`);
  await until(() => names().flat().includes("Offline"));
  await context.close();
});

test("a reset goes alone and after what was said before it", async () => {
  const { context, page } = await open("/plain");
  await until(() => batches.length);
  await page.evaluate(() => (tagway.track("Last"), tagway.reset(), tagway.track("First")));
  await until(() => batches.length === 4);
  assert.deepEqual(batches.slice(1).map(({ url }) => url), ["/e", "/reset", "/e"]);
  await context.close();
});
