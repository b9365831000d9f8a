// A client's own process: its SDK behind a driver of a few lines (node/NAME.mjs or python/NAME.py),
// which is told line by line what to do, and answers once that is done.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

const here = (path) => new URL(path, import.meta.url).pathname;

export class Sdk {
  static start(name) {
    const [language, driver] = name.split("/");
    const command = { node: [process.execPath, here("node/run.mjs")], python: [here(".venv/bin/python"), here("python/run.py")] };
    const sdk = new Sdk();
    const [program, ...rest] = command[language];
    sdk.child = spawn(program, [...rest, driver], { stdio: ["pipe", "ignore", "pipe", "pipe"] });
    sdk.log = "";
    sdk.child.stderr.on("data", (chunk) => { sdk.log = (sdk.log + chunk).slice(-4000); });
    sdk.child.stdin.on("error", () => {});
    sdk.ended = once(sdk.child, "close");
    sdk.answers = createInterface({ input: sdk.child.stdio[3] })[Symbol.asyncIterator]();
    return sdk;
  }

  /** Has the driver do something, and gives the errors that the SDK told of since the last time. */
  async ask(op, parameters = {}) {
    this.child.stdin.write(`${JSON.stringify({ op, ...parameters })}\n`);
    const { value, done } = await this.answers.next();
    if (done) throw new Error(`the driver ended at ${op}: ${this.log}`);
    const { failed, errors } = JSON.parse(value);
    if (failed) throw new Error(`${op}: ${failed}\n${this.log}`);
    return errors;
  }

  async stop() {
    this.child.stdin.end();
    const timer = setTimeout(() => this.child.kill("SIGKILL"), 5000);
    await this.ended;
    clearTimeout(timer);
  }
}
