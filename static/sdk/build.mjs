// Builds every browser script into dist/: `node build.mjs [--check] [--sizes]`.
//
// Sources are found by their place: src/core.ts, src/parts/*.ts, src/shared/*.ts (what several shims use),
// src/snippet.js and each vendor's shim.ts and client.ts. --check writes nothing and fails where dist/ is
// not what the sources say. A script that is over its limit fails in any case; the gateway's own tests
// hold what it puts together.
import { mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants } from "node:zlib";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const vendors = join(here, "../../crates/vendors/src");
const dist = join(here, "dist");

const entries = { core: join(here, "src/core.ts"), snippet: join(here, "src/snippet.js") };
for (const folder of ["parts", "shared"]) {
  for (const name of (await readdir(join(here, "src", folder))).sort()) {
    if (name.endsWith(".ts")) entries[`${folder}/${name.slice(0, -3)}`] = join(here, "src", folder, name);
  }
}
for (const vendor of await readdir(vendors, { withFileTypes: true })) {
  if (!vendor.isDirectory()) continue;
  for (const name of await readdir(join(vendors, vendor.name))) {
    if (name === "shim.ts") entries[`shims/${vendor.name}`] = join(vendors, vendor.name, name);
    if (name === "client.ts") entries[`clients/${vendor.name}`] = join(vendors, vendor.name, name);
  }
}

// The snippet is a function called at once already, which esbuild would put into another. The shims take browsers
// of 2020 (logical assignment), where the core takes those of 2019.
const { snippet, ...scripts } = entries;
const isNewer = ([name]) => /^(shims|shared)\//.test(name);
const newer = Object.fromEntries(Object.entries(scripts).filter(isNewer));
const older = Object.fromEntries(Object.entries(scripts).filter((entry) => !isNewer(entry)));
const options = {
  outdir: dist,
  minify: true,
  target: "es2020",
  charset: "ascii",
  legalComments: "none",
  tsconfigRaw: {},
  write: false,
};
const results = await Promise.all([
  build({ ...options, entryPoints: older, bundle: true, format: "iife" }),
  build({ ...options, entryPoints: newer, bundle: true, format: "iife", target: "es2021" }),
  build({ ...options, entryPoints: { snippet } }),
]);
const outputFiles = results.flatMap((result) => result.outputFiles);

/** Bytes with brotli: of the core, and of each shim. */
const LIMITS = { "core.js": 1_536, "shims/": 2_560 };

const isCheck = process.argv.includes("--check");
const wanted = new Set();
for (const { path, text } of outputFiles.sort((a, b) => (a.path < b.path ? -1 : 1))) {
  const name = relative(dist, path);
  wanted.add(name);
  if (isCheck) {
    const committed = await readFile(path, "utf8").catch(() => "");
    if (committed !== text) fail(`dist/${name} is not what its source says: run node build.mjs`);
  } else {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
  }
  const params = { [constants.BROTLI_PARAM_QUALITY]: 11 };
  const small = brotliCompressSync(text, { params }).length;
  const [, limit] = Object.entries(LIMITS).find(([start]) => name.startsWith(start)) ?? [];
  if (small > limit) fail(`dist/${name} has ${small} bytes with brotli, more than ${limit}`);
  if (process.argv.includes("--sizes")) {
    console.log(`${name}: ${Buffer.byteLength(text)} bytes, ${small} with brotli`);
  }
}
for (const name of await readdir(dist, { recursive: true })) {
  if (name.endsWith(".js") && !wanted.has(name)) fail(`dist/${name} has no source`);
}

function fail(message) {
  console.error(message);
  process.exitCode = 1;
}
