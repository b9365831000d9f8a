// Measures what tags cost a page: `node run.mjs [--runs 7] [--throttle none] [--cpu 4] [--lighthouse]
// [--variants none,tagway]`; `--variants none,libraries,shims` for what the shims stand in for.
// Prints a Markdown table of medians [least..most] and the same as JSON. Each round visits every variant
// once, so that what else the machine does falls on all alike.

import { execFile } from "node:child_process";
import { cpus, loadavg } from "node:os";
import { parseArgs, promisify } from "node:util";
import { CHROMIUM, TAGWAY, VARIANTS, open } from "./harness.mjs";

const { values: options } = parseArgs({ options: {
  runs: { type: "string", default: "7" }, throttle: { type: "string", default: "slow-4g" },
  cpu: { type: "string", default: "4" }, lighthouse: { type: "boolean", default: false },
  variants: { type: "string", default: VARIANTS.join() },
} });
const run = promisify(execFile);
const runs = Number(options.runs);
/** The most processor time of the shims' scripts, in percent of that of the libraries which they replace. */
const MOST_PERCENT = 20;
const variants = options.variants.split(",");

const ROWS = [
  ["requests", "requests", 1], ["third_party_requests", "of these to third parties", 1], ["hosts", "hosts", 1],
  ["connections", "connections", 1], ["preflights", "preflights", 1], ["bytes_down", "bytes down, KB", 1000],
  ["bytes_up", "request bodies, KB", 1000], ["script_bytes", "scripts, KB", 1000],
  ["main_ms", "main-thread CPU, ms", 1], ["script_ms", "of this in scripts, ms", 1], ["long_tasks", "long tasks", 1],
  ["tbt_ms", "TBT, ms", 1], ["lcp_ms", "LCP, ms", 1], ["load_ms", "load event, ms", 1],
  ["heap_bytes", "JS heap after GC, MB", 1e6], ["cookie_bytes", "document.cookie, B", 1],
  ["speed_index", "Speed Index (Lighthouse), ms", 1], ["score", "Lighthouse score", 1],
];

async function visit(shop, variant) {
  const words = ["audit", shop.url(variant), "--json", "--no-sandbox", "--chromium", CHROMIUM, "--cpu", options.cpu,
    "--map-hosts", shop.rules, "--trust-keys", shop.digest, "--timeout", "120"];
  if (options.throttle !== "none") words.push("--throttle", options.throttle);
  const { stdout } = await run(TAGWAY, words, { maxBuffer: 64 << 20 });
  return JSON.parse(stdout).totals;
}

async function lighthouse(shop, variant) {
  const [{ default: measure }, { launch }] = await Promise.all([import("lighthouse"), import("chrome-launcher")]);
  const chrome = await launch({ chromePath: CHROMIUM, chromeFlags: ["--headless=new", "--no-sandbox", "--disable-gpu",
    `--host-resolver-rules=${shop.rules}`, `--ignore-certificate-errors-spki-list=${shop.digest}`] });
  try {
    const { lhr } = await measure(shop.url(variant), { port: chrome.port, onlyCategories: ["performance"], logLevel: "error" });
    return { score: lhr.categories.performance.score * 100, speed_index: lhr.audits["speed-index"].numericValue };
  } finally {
    await chrome.kill();
  }
}

const sorted = (values) => values.toSorted((a, b) => a - b);
const median = (values) => {
  const [all, half] = [sorted(values), values.length >> 1];
  return values.length % 2 ? all[half] : (all[half - 1] + all[half]) / 2;
};
const digits = (value) => value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 2 : value < 100 ? 1 : 0 });
function cell(values, unit) {
  const [least, most] = [Math.min(...values) / unit, Math.max(...values) / unit];
  const middle = digits(median(values) / unit);
  return digits(least) === digits(most) ? middle : `${middle} [${digits(least)}..${digits(most)}]`;
}

const load = loadavg()[0];
const shop = await open(variants);
const figures = Object.fromEntries(variants.map((variant) => [variant, []]));
try {
  for (let round = 1; round <= runs; round += 1) {
    for (const variant of variants) {
      const totals = await visit(shop, variant);
      if (options.lighthouse) Object.assign(totals, await lighthouse(shop, variant));
      figures[variant].push(totals);
      process.stderr.write(`round ${round} of ${runs}: ${variant}, load ${totals.load_ms.toFixed(0)} ms\n`);
    }
  }
} finally {
  await shop.close();
}

const { stdout: version } = await run(CHROMIUM, ["--version"]);
const conditions = { runs, throttle: options.throttle, cpu: Number(options.cpu), cache: "cold", chromium: version.trim(),
  node: process.version, cores: cpus().length, processor: cpus()[0].model, load_before: load, load_after: loadavg()[0] };
const medians = {};
console.log(`|  | ${variants.join(" | ")} |\n|---|${variants.map(() => "---:").join("|")}|`);
for (const [key, label, unit] of ROWS) {
  const columns = variants.map((variant) => figures[variant].map((totals) => totals[key]));
  if (columns.some((column) => column.some((value) => value === undefined))) continue;
  console.log(`| ${label} | ${columns.map((column) => cell(column, unit)).join(" | ")} |`);
  medians[key] = Object.fromEntries(variants.map((variant, index) => [variant, median(columns[index])]));
}
if (medians.script_ms.shims && medians.script_ms.libraries) {
  const { none = 0, shims, libraries } = medians.script_ms;
  const added = [shims - none, libraries - none].map(digits);
  const percent = ((shims - none) / (libraries - none)) * 100;
  console.log(`\nScripts: ${added[0]} ms for eight shims, ${added[1]} ms for four libraries: ${digits(percent)} %`);
  // Also without a figure, as where a script failed.
  if (!(percent < MOST_PERCENT)) {
    console.error(`The shims must take less than ${MOST_PERCENT} % of the libraries' processor time.`);
    process.exitCode = 1;
  }
}
console.log(`\n${JSON.stringify({ conditions, medians, figures })}`);
