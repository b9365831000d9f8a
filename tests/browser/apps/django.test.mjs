// An application with sessions and tokens against forgery, whose pages come by forms, and files both ways.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { compare, statusOf } from "./harness.mjs";

const DIRECTORY = new URL("django/", import.meta.url).pathname;
const BYTES = Buffer.from(Array.from({ length: 300_000 }, (_, index) => (index * index + (index >> 8)) & 255));
const PAGE = Buffer.from("<!doctype html><html><head><title>Kept</title></head><body>not to be changed</body></html>");

async function serve() {
  const data = await mkdtemp(join(tmpdir(), "tagway-django-"));
  const child = spawn(`${DIRECTORY}.venv/bin/python`, ["serve.py", data], { cwd: DIRECTORY, stdio: ["ignore", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout });
  const ended = once(child, "exit").then(([code]) => { throw new Error(`the application ended with ${code}`); });
  const [port] = await Promise.race([once(lines, "line"), ended]);
  ended.catch(() => {});
  return {
    origin: `http://127.0.0.1:${port}`,
    async close() {
      child.kill();
      await once(child, "exit");
      await rm(data, { recursive: true, force: true });
    },
  };
}

async function upload({ page }, title, name, buffer) {
  await page.fill("[name=title]", title);
  await page.setInputFiles("[name=file]", { name, mimeType: "application/octet-stream", buffer });
  await page.click("#upload");
  await page.waitForSelector(".message");
}

async function download({ page }, link) {
  const [kept] = await Promise.all([page.waitForEvent("download"), page.click(`a:text-is("${link}")`)]);
  return [kept.suggestedFilename(), await readFile(await kept.path())];
}

async function journey(walk) {
  const { page, context, base } = walk;
  await walk.goto("/");
  await walk.note("to the login");
  const login = async (button, password) => {
    await page.fill("[name=username]", "ada");
    await page.fill("[name=password]", password);
    await Promise.all([page.waitForEvent("load"), page.click(button)]);
  };
  await login("#login", "byron");
  await walk.note("a wrong password");
  await login("#login", "lovelace");
  await walk.titled("Documents (0)");
  await walk.note("logged in");

  await upload(walk, "Numbers", "numbers.bin", BYTES);
  const digest = createHash("sha256").update(BYTES).digest("hex");
  assert.match(await page.innerText(".message"), new RegExp(`${BYTES.length} bytes, ${digest}`));
  await walk.note("an upload");
  await upload(walk, "Page", "page.html", PAGE);
  await walk.note("another");
  const [name, bytes] = await download(walk, "Numbers");
  assert.ok(bytes.equals(BYTES));
  const [pageName, pageBytes] = await download(walk, "Page");
  assert.equal(pageBytes.toString(), PAGE.toString());
  await walk.note("downloads", { names: [name, pageName] });

  await page.fill("form[action='/preview'] [name=text]", "„Größe“ & <b>");
  await page.click("#preview");
  await walk.titled("Preview: „Größe“ & <b>");
  await walk.note("a page that answers a form");
  await page.click("text=Documents");
  await walk.titled("Documents (2)");
  await walk.counted();
  await page.fill("form[action='/send'] [name=text]", "once more");
  await page.click("#send");
  await walk.titled("Preview: once more");
  await walk.note("a form that is sent on");

  for (const path of ["/report", "/charsets/iso-8859-1", "/charsets/shift_jis", "/charsets/windows-1251"]) {
    await walk.goto(path);
    await walk.note(path);
  }
  await page.goBack({ waitUntil: "load" });
  await walk.titled("日本語のページ");
  await walk.note("back");
  await page.goForward({ waitUntil: "load" });
  await walk.titled("Страница");
  await walk.note("forward");

  await walk.goto("/admin/office/document/add/");
  await walk.note("the form of administrators");
  await page.fill("[name=title]", "Of the admin");
  await page.setInputFiles("[name=file]", { name: "admin.bin", mimeType: "application/octet-stream", buffer: BYTES });
  await page.click("[name=_save]");
  await page.waitForURL("**/admin/office/document/");
  await walk.note("saved by it");

  // What browsers send for the site's own page, and for a page of someone else's.
  const { cookies } = await context.storageState();
  const [token, cookie] = [cookies.find(({ name }) => name === "csrftoken").value, cookies.map(({ name, value }) => `${name}=${value}`).join("; ")];
  const status = (origin) => statusOf(`${base}/preview`, {
    method: "POST", headers: { origin, cookie, "content-type": "application/x-www-form-urlencoded" },
    body: `text=x&csrfmiddlewaretoken=${token}`,
  });
  const forged = [await status(base), await status("http://evil.localhost")];
  assert.deepEqual(forged, [200, 403]);
  const own = cookies.filter(({ name }) => !name.startsWith("_tw")).map(({ value, expires, ...cookie }) => cookie);
  await walk.note("the cookies", { cookies: own.sort((one, other) => one.name.localeCompare(other.name)) });

  await walk.goto("/");
  await walk.note("visits are counted");
  await page.click("#logout");
  await walk.titled("Log in");
  await walk.note("logged out");
  await walk.goto("/");
  await walk.note("to the login again");
}

test("visitors log in, files arrive as they are, and every page counts once", async () => {
  const login = ["/accounts/login/", "Log in"];
  const home = (count) => ["/", `Documents (${count})`];
  const charset = (name, title) => [`/charsets/${name}`, title];
  await compare(serve, journey, {
    pages: [
      login, login, home(0), home(1), home(2), ["/preview", "Preview: „Größe“ & <b>"], home(2), ["/preview", "Preview: once more"],
      ["/report", "Bericht für „Ämter“"], charset("iso-8859-1", "Café crème"), charset("shift_jis", "日本語のページ"),
      charset("windows-1251", "Страница"), charset("shift_jis", "日本語のページ"), charset("windows-1251", "Страница"),
      ["/admin/office/document/add/", "Add document | Django site admin"],
      ["/admin/office/document/", "Select document to change | Django site admin"],
      home(3), login, login,
    ],
  });
});
