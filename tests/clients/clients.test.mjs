// The vendors' own libraries of servers, as npm and PyPI have them, told of the gateway by their
// documented option and nothing else: what they are called to tell arrives once, whatever becomes of the
// gateway meanwhile, and they hear of what does not arrive.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Gateway, KEYS, until } from "./gateway.mjs";
import { Sdk } from "./sdk.mjs";
import { CLIENTS } from "./table.mjs";

/** Clients mostly wait: for their own timers, and for the gateway to come back. */
const AT_ONCE = 5;

const range = (from, to) => Array.from({ length: to - from }, (_, index) => from + index);

/** An event in a few words: its kind, its name, the user, and the group. */
const inWords = ({ type, event, name, userId, groupId }) =>
  [type, event ?? name, userId ?? "nobody", groupId].filter(Boolean).join(" ");

/** The numbers of the events that arrived, each as often as there are events of it. */
function numbers({ numberOf = ({ properties }) => properties?.n, isNameless }, events) {
  return events.flatMap((event) => {
    const found = numberOf(event);
    if (found === undefined || event.userId === "u9") return [];
    const n = Number(found);
    if (!isNameless) assert.equal(event.userId, `u${n % 7}`, JSON.stringify(event));
    return [n];
  }).sort((a, b) => a - b);
}

/** Fails with what is missing of those expected, and what is more. */
function assertSame(found, expected, why = "") {
  const left = [...found];
  const missing = expected.filter((each) => {
    const at = left.indexOf(each);
    if (at >= 0) left.splice(at, 1);
    return at < 0;
  });
  assert.ok(missing.length + left.length === 0, `missing: [${missing}] more: [${left}] ${why}`.slice(0, 3000));
}

class Trial {
  constructor(name, client, gateway, sdk) {
    Object.assign(this, { name, client, gateway, sdk, seen: new Set() });
  }

  async open(key) {
    this.gateway.relay.statuses = {};
    this.gateway.relay.refused = 0;
    this.errors = [];
    // Should a test before have failed, its late events are no news of this one.
    for (const { messageId } of this.fresh()) this.seen.add(messageId);
    await this.ask("open", { host: this.gateway.host, key: KEYS[key] });
  }

  async ask(op, parameters) {
    this.errors.push(...(await this.sdk.ask(op, parameters)));
  }

  track(from, to, more) {
    return this.ask("track", { from, to, ...more });
  }

  fresh() {
    return this.gateway.events().filter(({ messageId }) => !this.seen.has(messageId));
  }

  heard() {
    return new Set(numbers(this.client, this.fresh())).size;
  }

  /** The events since the last time, of which no two have the same id, and which are all that was accepted. */
  async news() {
    await this.gateway.settled();
    const events = this.fresh();
    for (const { messageId } of events) {
      assert.ok(messageId);
      this.seen.add(messageId);
    }
    return events;
  }

  async everyMethod(key) {
    await this.open(key);
    await this.ask("calls");
    await this.ask("close");
    assert.deepEqual(this.errors, []);
    const isThere = () => this.fresh().length >= this.client.calls.length;
    await until(isThere, () => `${this.fresh().map(inWords)}`);
    const events = await this.news();
    assertSame(events.map(inWords), this.client.calls);
    // A server is believed where its visitor is, and is not at the visitor's place itself.
    const addresses = new Set(events.map(({ facts }) => facts.ip));
    assert.equal(addresses.has("203.0.113.9"), key === "token" && this.client.tellsAddress !== false, `${[...addresses]}`);
    if (key === "token") assert.ok(!addresses.has("127.0.0.1"), `${[...addresses]}`);
  }

  /** What cannot be taken costs nothing else, neither in the same batch nor on the same connection. */
  async many() {
    await this.open("plain");
    if (!this.client.keepsRefused) for (const long of [1_200_000, 500_000]) await this.lost(long);
    const { many = 100 } = this.client;
    await this.track(0, 20);
    await this.track(20, 21, { properties: { nan: true } });
    await this.tooLong(500_000);
    await this.track(21, many);
    await this.ask("close");
    const all = range(0, many).filter((n) => n !== 20 || !this.client.refusesNaN);
    await until(() => this.heard() >= all.length, () => `${this.heard()} of ${all.length}: ${this.errors}`);
    assertSame(numbers(this.client, await this.news()), all, this.errors);
  }

  async tooLong(long) {
    if (long > (this.client.longest ?? Infinity)) return;
    await this.track(0, 1, { name: "Too Long", user: "u9", properties: { long } });
  }

  /** An event that is too long, by itself: the client tells of it, or at least is told. */
  async lost(long) {
    const { longest = Infinity, isSilent } = this.client;
    if (long > longest) return;
    await this.tooLong(long);
    await this.ask("flush");
    const { statuses } = this.gateway.relay;
    const isRefused = Object.keys(statuses).some((status) => status >= 400);
    assert.ok(this.errors.length > 0 || isRefused || isSilent, `nobody told of ${long} bytes: ${JSON.stringify(statuses)}`);
    this.errors = [];
    this.gateway.relay.statuses = {};
  }

  /** Whom a server erases is forgotten. Nobody else has anybody erased, and is told so. */
  async erasure() {
    await this.open("plain");
    await this.ask("erase", { user: "u8" });
    assert.ok(this.errors.length > 0, "the client told of the refusal");
    await this.open("token");
    await this.track(0, 1, { user: "u8" });
    await this.ask("flush");
    const isThere = () => this.fresh().length > 0;
    await until(isThere, () => `u8 is not heard of: ${this.errors}`);
    assert.deepEqual((await this.news()).map(inWords), ["track Lamp Seen u8"]);
    await this.ask("erase", { user: "u8" });
    await this.track(0, 1, { user: "u8" });
    await this.track(3, 4);
    await this.ask("close");
    assert.deepEqual(this.errors, []);
    await until(isThere, () => "u3 is not heard of");
    assert.deepEqual((await this.news()).map(inWords), ["track Lamp Seen u3"]);
  }

  async kill() {
    await this.open("token");
    await this.track(0, 20);
    await this.ask("flush");
    await this.track(20, 40);
    await this.gateway.kill();
    const work = Promise.all([this.track(40, 50), this.ask("flush")]);
    if (this.client.retries?.includes("kill")) {
      await until(() => this.gateway.relay.refused > 0, () => "the client does not try");
    } else {
      await work;
    }
    await this.gateway.start();
    await work;
    await this.track(50, 60);
    await this.ask("close");
    await this.arrived(range(0, 60), "kill", [...range(0, 20), ...range(50, 60)]);
  }

  /** The gateway cannot take anything for a while, and says so with this status. */
  async later(status) {
    const settings = { 503: { journal: 'queue_bytes_max = "1B"' }, 429: { limits: "site_per_second = 1\nsite_burst = 1" } };
    await this.gateway.restart(settings[status]);
    await this.open("token");
    const { relay } = this.gateway;
    // Where 429 would lose events, a vendor's client is told 503 for it.
    const isTold = () => relay.statuses[status] > 0 || relay.statuses[503] > 0;
    let sent = 0;
    const work = [];
    await until(async () => {
      // Others use the quota up. Should the client have got through, then it has more to tell.
      if (status === 429) await fetch(`http://127.0.0.1:${relay.port}/v1/batch`, { method: "POST", body: "{" });
      if (isTold() || sent > this.heard()) return isTold();
      work.push(this.track(sent, sent + 10), this.ask("flush"));
      sent += 10;
    }, () => `no ${status}: ${JSON.stringify(relay.statuses)}`);
    await this.gateway.restart();
    await Promise.all(work);
    await this.ask("close");
    await this.arrived(range(0, sent), String(status), []);
  }

  /** All of them, or if the client does not try again then those that must; and none twice. */
  async arrived(all, why, must) {
    const retries = this.client.retries?.includes(why);
    if (retries) {
      // Some clients say that they are done when they have only begun.
      await until(() => this.heard() >= all.length, () => `${why}: ${this.heard()} of ${all.length}: ${this.errors}`);
    }
    const found = numbers(this.client, await this.news());
    if (retries) return assertSame(found, all, this.errors);
    assertSame(found, [...new Set(found)], "none twice");
    assertSame(must.filter((n) => found.includes(n)), must, this.errors);
    if (found.length < all.length && !this.client.isSilent) assert.ok(this.errors.length > 0, "the client told of the loss");
  }

  /** A key that is none is the end of it: the client tells of it, and does not try again. */
  async wrongKey() {
    await this.open("wrong");
    await this.track(0, 5, { user: "u9" });
    await this.ask("close");
    assert.deepEqual(Object.keys(this.gateway.relay.statuses), ["401"]);
    assert.ok(this.gateway.relay.statuses[401] <= (this.client.tries ?? 1), JSON.stringify(this.gateway.relay.statuses));
    assert.ok(this.errors.length > 0 || this.client.isSilent, "the client told of it");
    assert.deepEqual(await this.news(), []);
  }
}

/** All of them, or those that the variable CLIENTS names: `CLIENTS=node/posthog,python/posthog npm test`. */
const chosen = process.env.CLIENTS?.split(",") ?? Object.keys(CLIENTS);

describe("SDKs of servers", { concurrency: AT_ONCE }, () => {
  for (const name of chosen) {
    const client = CLIENTS[name];
    test(name, async (t) => {
      const gateway = await Gateway.open();
      const sdk = Sdk.start(name);
      const trial = new Trial(name, client, gateway, sdk);
      t.after(async () => {
        await sdk.stop();
        await gateway.close();
      });
      if (client.showsKey !== false) await t.test("every method, as one of the site's servers", () => trial.everyMethod("token"));
      await t.test("every method, as anybody's program", () => trial.everyMethod("plain"));
      if (client.erases) await t.test("a person is erased", () => trial.erasure());
      await t.test("a hundred events, among them what cannot be taken", () => trial.many());
      await t.test("the gateway is killed, and comes back", () => trial.kill());
      await t.test("503, and then room", () => trial.later(503));
      await t.test("429, and then room", () => trial.later(429));
      if (client.knowsKeys) await t.test("a wrong key", () => trial.wrongKey());
    });
  }
});
