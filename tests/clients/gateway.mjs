// One gateway process of its own for a client, the webhook destination that hears what became of the
// client's calls, and between client and gateway a relay, whose port stays while gateways come and go.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer as createHttpServer } from "node:http";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { gunzipSync } from "node:zlib";

const TAGWAY = process.env.TAGWAY ?? new URL("../../target/debug/tagway", import.meta.url).pathname;
const DEADLINE_MS = Number(process.env.DEADLINE ?? 90) * 1000;

/** The site's server token, its public key, and a key that is neither. */
export const KEYS = {
  token: "0123456789abcdef0123456789abcdef",
  plain: "fedcba9876543210fedcba9876543210",
  wrong: "00000000000000000000000000000000",
};

const config = (data, sink, { limits = "", journal = "" }) => `
data_dir = "${data}"
[listen]
http = "127.0.0.1:0"
admin = "127.0.0.1:0"
[egress]
allow_private = true
[journal]
${journal}
[limits]
client_per_second = 0
client_events_per_second = 0
client_bytes_per_second = "0B"
${limits}
[log]
level = "error"
[[sites]]
name = "shop"
hosts = ["*"]
write_key = "${KEYS.plain}"
server_token = "${KEYS.token}"
[sites.vendors.mixpanel]
erasures = "forget"
[[sites.destinations]]
name = "events"
vendor = "webhook"
linger = "1ms"
[sites.destinations.settings]
url = "http://127.0.0.1:${sink}/"
`;

/** Waits until `isDone()` holds, and says by `what()` what is missing if it never does. */
export async function until(isDone, what, deadlineMs = DEADLINE_MS) {
  const deadline = Date.now() + deadlineMs;
  while (!(await isDone())) {
    if (Date.now() > deadline) assert.fail(`not within ${deadlineMs} ms: ${await what()}`);
    await pause(25);
  }
}

/** Carries bytes between clients and the gateway, and counts the statuses of its answers. */
class Relay {
  statuses = {};
  refused = 0;
  /** "pass" to the gateway; "hold" new connections until there is one; "refuse" them. */
  mode = "refuse";
  #pairs = new Set();
  #held = [];

  async open() {
    this.server = createServer((client) => {
      client.on("error", () => client.destroy());
      if (this.mode === "hold") this.#held.push(client);
      else if (this.mode === "refuse") this.#refuse(client);
      else this.#join(client);
    });
    this.server.listen(0, "127.0.0.1");
    await once(this.server, "listening");
    this.host = `http://127.0.0.1:${this.server.address().port}`;
  }

  #refuse(client) {
    this.refused += 1;
    client.resetAndDestroy();
  }

  #join(client) {
    const gateway = connect(this.port, "127.0.0.1");
    const pair = [client, gateway];
    this.#pairs.add(pair);
    gateway.on("data", (chunk) => {
      // An answer begins with a chunk: none of these clients sends a request before the last is answered.
      const status = /^HTTP\/1\.1 (\d{3}) /.exec(chunk.subarray(0, 16).toString("latin1"))?.[1];
      if (status) this.statuses[status] = (this.statuses[status] ?? 0) + 1;
    });
    for (const [from, to] of [pair, [gateway, client]]) {
      from.on("error", () => to.destroy());
      from.on("close", () => {
        this.#pairs.delete(pair);
        to.end();
      });
      from.pipe(to);
    }
  }

  pass(port) {
    this.port = port;
    this.mode = "pass";
    this.#held.splice(0).forEach((client) => this.#join(client));
  }

  /** No connection outlives the gateway that it led to. */
  cut(mode) {
    this.mode = mode;
    for (const pair of this.#pairs) pair.forEach((socket) => socket.destroy());
    this.#pairs.clear();
  }

  close() {
    this.cut("refuse");
    this.#held.forEach((client) => client.destroy());
    this.server?.close();
  }
}

export class Gateway {
  relay = new Relay();
  #requests = [];

  static async open() {
    const gateway = new Gateway();
    gateway.sink = createHttpServer(async (request, response) => {
      const chunks = [];
      for await (const chunk of request) chunks.push(chunk);
      const bytes = Buffer.concat(chunks);
      gateway.#requests.push(JSON.parse(bytes[0] === 0x1f ? gunzipSync(bytes) : bytes));
      response.end("{}");
    });
    gateway.sink.listen(0, "127.0.0.1");
    await once(gateway.sink, "listening");
    gateway.data = await mkdtemp(join(tmpdir(), "tagway-sdk-"));
    await gateway.relay.open();
    await gateway.start();
    return gateway;
  }

  get host() {
    return this.relay.host;
  }

  async start(settings = {}) {
    const path = join(this.data, "tagway.toml");
    await writeFile(path, config(this.data, this.sink.address().port, settings));
    this.child = spawn(TAGWAY, ["serve", "--config", path], { stdio: ["ignore", "pipe", "inherit"] });
    for await (const line of createInterface({ input: this.child.stdout })) {
      const ready = JSON.parse(line).ready;
      this.admin = `http://${ready.admin}`;
      this.child.stdout.resume();
      this.relay.pass(Number(ready.http.split(":").at(-1)));
      return;
    }
    throw new Error("the gateway did not start");
  }

  /** As by a power cut, and connections that come are refused. */
  kill() {
    return this.#end("SIGKILL", "refuse");
  }

  async #end(signal, mode) {
    this.relay.mode = mode;
    this.child.kill(signal);
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, "exit");
    this.relay.cut(mode);
  }

  /** In order: requests under way are answered, and connections that come wait for the next gateway. */
  async restart(settings) {
    await this.#end("SIGTERM", "hold");
    await this.start(settings);
  }

  /** The events that the destination was told of. After a crash it may hear of one again, by the same id. */
  events() {
    return [...new Map(this.#requests.flat().map((event) => [event.messageId, event])).values()];
  }

  /** Waits until all events are delivered, and holds the ledger to its sums. */
  async settled() {
    let row;
    await until(async () => {
      [row] = await (await fetch(`${this.admin}/api/v1/ledger`)).json();
      // An event may have come since.
      return row.pending === 0 && row.delivered === this.events().length;
    }, () => `${this.events().length} events were heard of: ${JSON.stringify(row)}`);
    assert.deepEqual({ ...row, skipped: 0, dead: 0, accepted: row.delivered }, row, "the ledger's sums");
  }

  async close() {
    this.relay.close();
    if (this.child?.exitCode === null && this.child.signalCode === null) {
      this.child.kill("SIGTERM");
      const [code] = await once(this.child, "exit");
      assert.equal(code, 0, "the gateway ends in order");
    }
    this.sink?.closeAllConnections();
    this.sink?.close();
    if (this.data) await rm(this.data, { recursive: true, force: true });
  }
}
