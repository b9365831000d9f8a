// The choice of the lines of the feed that are read, without a browser: its numbers have to add up.

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { build } from "esbuild";

const load = async (path) => {
  const entry = fileURLToPath(new URL(`../../../static/admin/src/${path}`, import.meta.url));
  const { outputFiles } = await build({ entryPoints: [entry], bundle: true, format: "esm", write: false, tsconfigRaw: {} });
  return import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].text).toString("base64")}`);
};

const { choose, countAccepted, partition } = await load("live/choose.ts");
const { changedPaths } = await load("live/changes.ts");

const accepted = (seq) => JSON.stringify({ what: "accepted", site: "shop", seq, event: "page" });
const settled = (seq) => JSON.stringify({ what: "settled", site: "shop", destination: "meta", seq, event: "page", outcome: "delivered" });
const called = (...seqs) => JSON.stringify({ what: "called", site: "shop", destination: "meta", seqs, request: "", body: "", reply: "" });
const none = () => false;
const seqs = ({ happenings }) => happenings.map((it) => `${it.what[0]}${it.seq ?? it.seqs.join("+")}`);

test("with room for all, every line is read in its order", () => {
  const choice = choose([accepted(1), called(1, 2), settled(1), "", accepted(2)], 10, none, none);
  assert.deepEqual(seqs(choice), ["a1", "c1+2", "s1", "a2"]);
  assert.deepEqual(choice.passed, []);
});

test("without room, the newest events are read, with all that is about them", () => {
  const choice = choose([accepted(1), accepted(2), accepted(3), settled(1), called(1, 3), settled(2), settled(3)], 2, none, none);
  assert.deepEqual(seqs(choice), ["a2", "a3", "c1+3", "s2", "s3"]);
  assert.deepEqual(choice.passed, [1]);
});

test("events on the page are followed, and those that passed stay away", () => {
  const choice = choose([settled(1), settled(7), settled(9), accepted(3)], 1, (seq) => seq === 7, (seq) => seq === 1);
  assert.deepEqual(seqs(choice), ["s7", "a3"]);
  assert.deepEqual(choice.passed, [9]);
});

test("an event that arrived earlier is new with its settlement", () => {
  assert.deepEqual(seqs(choose([called(5), settled(5)], 10, none, none)), ["c5", "s5"]);
});

test("what the gateway left out is counted, and a broken line is none", () => {
  const choice = choose(['{"what":"missed","count":12}', '{"what":"live"}', accepted(4).slice(0, -5), '{"what":"missed","count":3}'], 10, none, none);
  assert.equal(choice.missed, 15);
  assert.deepEqual(choice.happenings, []);
});

test("arrivals are counted in pieces of text", () => {
  assert.equal(countAccepted(`${accepted(1)}\n${settled(1)}\n${accepted(2)}\n`), 2);
});

test("a pause keeps what is not about the page", () => {
  const [ours, others] = partition([settled(1), settled(2), '{"what":"missed","count":1}', called(2, 1)], (seq) => seq === 1);
  assert.deepEqual([ours.length, others], [3, [settled(2)]]);
});

test("the mapping's changes are marked at their leaves", () => {
  const before = { a: 1, b: { c: "x", gone: true }, list: [1, 2] };
  const after = { a: 1, b: { c: "y", fresh: { deep: 1 } }, list: [1, 3] };
  assert.deepEqual([...changedPaths(before, after)].sort(), ["b.c", "b.fresh.deep", "list.1"]);
});
