// Audits a local page with two tags on hosts of their own, and checks the draft that comes of it.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";

const TAGWAY = process.env.TAGWAY ?? new URL("../../target/debug/tagway", import.meta.url).pathname;
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const run = promisify(execFile);

const page = (tags) => `<!doctype html><title>Shop</title><h1>Shop</h1>
<script>document.cookie = "a=b"</script>${tags}`;
const FILES = {
  "www.shop.test/": page(`<script src="http://www.googletagmanager.com/gtag/js?id=G-TEST1"></script>
    <script src="http://tags.other.test/busy.js"></script>`),
  "www.shop.test/after": page(""),
  "www.googletagmanager.com/gtag/js": `
    const image = new Image(); image.src = "http://region1.google-analytics.com/g/collect?tid=G-TEST1";`,
  // So much work, not so much time: what is measured is the processor's time.
  "tags.other.test/busy.js": `
    let busy = 1; for (let round = 0; round < 3e8; round += 1) busy = (busy * 48271) % 2147483647;`,
};

let server, folder, rules;

before(async () => {
  server = createServer((request, response) => {
    const host = request.headers.host.split(":")[0];
    const text = FILES[host + request.url.split("?")[0]];
    const kind = request.url.endsWith(".js") || request.url.includes("/js?") ? "text/javascript" : "text/html";
    response.writeHead(text === undefined ? 204 : 200, { "content-type": kind });
    response.end(text);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  folder = await mkdtemp(join(tmpdir(), "tagway-audit-test-"));
  rules = `MAP * 127.0.0.1:${server.address().port}`;
});

after(async () => {
  server.closeAllConnections();
  server.close();
  await rm(folder, { recursive: true, force: true });
});

const audit = (path, ...words) => run(TAGWAY, ["audit", `http://www.shop.test${path}`, "--chromium",
  CHROMIUM, "--no-sandbox", "--settle", "300", "--map-hosts", rules, ...words]);

test("tags are found and measured, and the draft passes the check", async () => {
  const [draft, saved] = [join(folder, "draft.toml"), join(folder, "before.json")];
  const { stdout } = await audit("/", "--write", draft, "--save", saved);
  assert.match(stdout, /Google Analytics 4 .*destination "ga4"/);
  assert.match(stdout, /shim "ga4"/);
  assert.match(await readFile(draft, "utf8"), /\[sites\.sdk\]\nshims = \["ga4"\]/);
  assert.match(stdout, /other\.test .*not known/);

  const { totals, tags } = JSON.parse(await readFile(saved));
  const find = (name) => tags.find((tag) => tag.name === name);
  assert.equal(totals.third_party_requests, 3, "two scripts and a beacon");
  assert.ok(find("other.test").main_ms >= 100, JSON.stringify(find("other.test")));
  assert.equal(find("Google Analytics 4").requests, 2);
  assert.deepEqual(find("Google Analytics 4").ids, ["G-TEST1"]);
  assert.equal(totals.cookie_bytes, 3);
  assert.ok(totals.long_tasks >= 1 && totals.tbt_ms > 0 && totals.main_ms > 100);
  for (const name of ["lcp_ms", "load_ms", "heap_bytes", "connections", "bytes_down"]) {
    assert.ok(totals[name] > 0, name);
  }

  const env = { ...process.env, GA4_SECRET: "secret" };
  const check = await run(TAGWAY, ["check", "--config", draft], { env, cwd: folder });
  assert.match(check.stdout, /is valid/);

  const now = await audit("/after", "--before", saved);
  assert.match(now.stdout, /of these to third parties\s+3\s+0\n/);
  assert.match(now.stdout, /No third-party or vendor requests/);
  await assert.rejects(audit("/", "--write", draft), /already exists/);
});

test("what goes wrong is said, and nothing stays behind", async () => {
  const profiles = async () => {
    const names = await readdir(tmpdir());
    return names.filter((name) => /^tagway-audit-(?!test-)/.test(name));
  };
  const args = ["audit", "http://www.shop.test/"];
  await assert.rejects(run(TAGWAY, [...args, "--chromium", "/nowhere/chromium"]), /cannot be started/);
  await assert.rejects(run(TAGWAY, [...args, "--chromium", "/bin/true"]), /ended before it answered/);
  const env = { PATH: folder };
  await assert.rejects(run(TAGWAY, args, { env }), /no Chromium was found/);
  await assert.rejects(audit("/", "--timeout", "1", "--cpu", "20",
    "--throttle", "slow-4g"), /longer than --timeout|did not open/);
  assert.deepEqual(await profiles(), []);
});
