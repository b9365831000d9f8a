// Buys something in the demo shop with a real browser, and holds the gateway to its books.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const TAGWAY = process.env.TAGWAY ?? new URL("../../target/debug/tagway", import.meta.url).pathname;
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const DEADLINE_MS = 60_000;

let demo, data, urls, browser;

before(async () => {
  data = await mkdtemp(join(tmpdir(), "tagway-demo-"));
  const free = "127.0.0.1:0";
  const words = ["demo", "--data", data, "--shop", free, "--http", free, "--admin", free];
  demo = spawn(TAGWAY, words, { stdio: ["ignore", "pipe", "inherit"] });
  urls = await announced(demo);
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  browser = await chromium.launch({ executablePath: CHROMIUM, headless: true, args });
});

after(async () => {
  await browser?.close();
  if (demo?.exitCode === null) {
    demo.kill("SIGTERM");
    const [code] = await once(demo, "exit");
    assert.equal(code, 0, "the demo ends in order");
  }
  await rm(data, { recursive: true, force: true });
});

// What the demo prints of where to look.
async function announced(child) {
  const urls = {};
  const lines = createInterface({ input: child.stdout });
  for await (const line of lines) {
    const [, name, url] = /^\s+(shop|gateway|operators)\s+(\S+)/.exec(line) ?? [];
    if (name) urls[name] = url;
    if (urls.operators) break;
  }
  child.stdout.resume();
  assert.ok(urls.shop && urls.gateway && urls.operators, "the demo says where to look");
  return urls;
}

const ledger = async () => (await fetch(new URL("/api/v1/ledger", urls.operators))).json();

async function settled(count) {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const rows = await ledger();
    if (rows.every((row) => row.accepted >= count && row.pending === 0)) return rows;
    assert.ok(Date.now() < deadline, `not settled: ${JSON.stringify(rows)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

// What a vendor has no use for: it is skipped, and nothing else is.
function skipped(destination, messages) {
  const names = {
    ga4: ["identify"], meta: ["identify", "Product Clicked"], intercom: ["page"], drift: ["page"],
  };
  const unwanted = names[destination] ?? [];
  const isSkipped = (message, index) => {
    if (unwanted.includes(message.event ?? message.type)) return true;
    // Contacts are people: until somebody says who they are there is none.
    const isKnown = messages.slice(0, index + 1).some((earlier) => earlier.userId);
    return ["intercom", "drift"].includes(destination) && !isKnown;
  };
  return messages.filter(isSkipped).length;
}

test("an order reaches every destination, once, and the visitor stays the same", async () => {
  const context = await browser.newContext({ viewport: { width: 1360, height: 860 } });
  const page = await context.newPage();
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (line) => line.type() === "error" && complaints.push(line.text()));
  const sent = [];
  page.on("request", (request) => {
    if (request.method() === "POST") sent.push(...JSON.parse(request.postData()).batch);
  });
  const preflights = [];
  page.on("request", (request) => request.method() === "OPTIONS" && preflights.push(request.url()));
  await page.goto(urls.shop);
  const find = (name) => page.getByTestId(name);
  await find("account").click();
  await find("signup").click();
  await find("search").fill("desk");
  await find("search").press("Enter");
  await find("product-fold-04").click();
  await find("add").click();
  await find("checkout").click();
  await find("order").click();
  await find("confirmation").waitFor();
  await page.getByTestId("events").locator(".answer.good").first().waitFor();
  await page.waitForFunction(() => document.querySelectorAll(".answer:not(.good)").length === 0);
  if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT });

  assert.deepEqual(complaints, []);
  assert.deepEqual(preflights, [], "text/plain beacons need no preflight");
  const names = () => sent.map((message) => message.event ?? message.type);
  for (const name of ["page", "identify", "Products Searched", "Product Viewed", "Product Added", "Checkout Started", "Order Completed"]) {
    // What the browser tells of its requests comes a moment later.
    for (const end = Date.now() + 60_000; !names().includes(name) && Date.now() < end;) {
      await new Promise((done) => setTimeout(done, 20));
    }
    assert.ok(names().includes(name), `${name} was sent`);
  }
  assert.equal(new Set(sent.map((message) => message.messageId)).size, sent.length);
  for (const row of await settled(sent.length)) {
    assert.equal(row.accepted, sent.length, row.destination);
    assert.equal(row.delivered + row.skipped, sent.length, `${row.destination}: ${JSON.stringify(row)}`);
    assert.equal(row.skipped, skipped(row.destination, sent), row.destination);
  }
  const cookies = (await context.cookies(urls.gateway)).filter((cookie) => cookie.name === "_tw");
  assert.equal(cookies.length, 1);
  assert.ok(cookies[0].httpOnly && cookies[0].sameSite === "Lax");
  await page.reload();
  await page.waitForFunction(() => document.querySelectorAll(".answer.good").length > 0);
  const [again] = (await context.cookies(urls.gateway)).filter((cookie) => cookie.name === "_tw");
  const visitor = (cookie) => cookie.value.split(".")[2].slice(0, 22);
  assert.equal(visitor(again), visitor(cookies[0]));
  await context.close();
});
