// Does line by line what a test says with the driver it names. A driver has open(), calls(), track(),
// and erase(), flush() and close() where its SDK has; where calls give promises or take callbacks, a flush waits
// for all of them.

import { writeSync } from "node:fs";
import { createInterface } from "node:readline";

const driver = await import(`./${process.argv[2]}.mjs`);
let client, pending = [], errors = [];

const text = (error) => String(error?.message ?? JSON.stringify(error) ?? error).slice(0, 300);
const fail = (error) => errors.push(text(error));
// Some SDKs leave the failures of their own promises unhandled; that must not end the program.
process.on("unhandledRejection", fail);

async function settle(work) {
  await Promise.resolve(work).catch(fail);
  while (pending.length) await Promise.all(pending.splice(0).map((promise) => Promise.resolve(promise).catch(fail)));
}

const ops = {
  open: async ({ host, key }) => { client = await driver.open({ host, key, fail }); },
  calls: async () => { await settle(driver.calls(client)); },
  track({ from, to, name = "Lamp Seen", user, properties = {} }) {
    for (let n = from; n < to; n += 1) pending.push(driver.track(client, user ?? `u${n % 7}`, name, { n, ...special(properties) }));
  },
  erase: ({ user }) => settle(driver.erase(client, user)),
  flush: () => settle(driver.flush?.(client)),
  close: () => settle((driver.close ?? driver.flush)?.(client)),
};

/** What JSON has no words for, or is too long for a line. */
const special = ({ nan, long }) => ({ ...(nan && { odd: NaN }), ...(long && { long: "x".repeat(long) }) });

for await (const line of createInterface({ input: process.stdin })) {
  const { op, ...parameters } = JSON.parse(line);
  let failed;
  try {
    await ops[op](parameters);
  } catch (error) {
    failed = String(error?.stack ?? error);
  }
  writeSync(3, `${JSON.stringify({ failed, errors: errors.splice(0) })}\n`);
}
process.exit(0);
