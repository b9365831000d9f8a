// Builds the console into dist/: `node build.mjs [--check] [--sizes]`.
//
// The program embeds dist/ through dist/files.rs, so that a build of it needs no Node.js. Every file but
// index.html has a hash of its content in its name: browsers keep it for good, and a page of an older
// release never mixes with scripts of a newer one. --check writes nothing and fails where dist/ is not what
// the sources say. A first load over its limit fails in any case.
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants } from "node:zlib";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "dist");

/** Bytes with brotli of the first load, and its requests without those for data. */
const LIMITS = { scripts: 55_000, styles: 9_000, html: 1_000, requests: 6 };

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".txt": "text/plain; charset=utf-8",
};

/** The packages whose code is in the files, and so their licences. */
const PACKAGES = ["preact", "@preact/signals", "@preact/signals-core", "uqr"];

const LUCIDE = `lucide (icons)

ISC License. Copyright (c) Lucide Contributors; parts copyright (c) 2013-2022 Cole Bemis (Feather, MIT).
Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted,
provided that the above copyright notice and this permission notice appear in all copies.
The software is provided "as is" and the author disclaims all warranties with regard to this software.
`;

async function licences() {
  const texts = PACKAGES.map(async (name) => `${name}\n\n${(await readFile(join(here, "node_modules", name, "LICENSE"), "utf8")).trim()}\n`);
  return [...(await Promise.all(texts)), LUCIDE].join("\n----\n\n");
}

const OPTIONS = {
  absWorkingDir: here,
  outdir: dist,
  bundle: true,
  format: "esm",
  minify: true,
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  charset: "utf8",
  legalComments: "none",
  entryNames: "[name].[hash]",
  chunkNames: "[name].[hash]",
  metafile: true,
  write: false,
  tsconfigRaw: {},
};

// The screens take what they share from the file of src/core.ts, instead of from a chunk for each set of screens
// that has something in common.
const shared = (core, file) => ({
  name: "shared",
  setup(it) {
    const names = new Set(["preact", "preact/hooks", "preact/jsx-runtime", "@preact/signals"]);
    const paths = new Set(Object.keys(core.metafile.inputs).map((path) => join(here, path)));
    it.onResolve({ filter: /.*/ }, async ({ path, resolveDir, kind, pluginData }) => {
      if (kind === "entry-point" || pluginData === "seen") return undefined;
      if (names.has(path)) return { path: `./${file}`, external: true };
      const found = await it.resolve(path, { resolveDir, kind, pluginData: "seen" });
      return paths.has(found.path) ? { path: `./${file}`, external: true } : found;
    });
  },
});

/** The files of the console by their names, and the names of those that a first load fetches. */
export async function bundle() {
  const core = await build({ ...OPTIONS, entryPoints: { core: join(here, "src/core.ts") } });
  const coreName = basename(core.outputFiles[0].path);
  const [screens, styles] = await Promise.all([
    build({ ...OPTIONS, entryPoints: { app: join(here, "src/main.tsx") }, splitting: true, plugins: [shared(core, coreName)] }),
    build({ ...OPTIONS, entryPoints: { style: join(here, "src/styles/app.css") } }),
  ]);
  const outputFiles = [...core.outputFiles, ...screens.outputFiles, ...styles.outputFiles];
  const files = new Map(outputFiles.map((file) => [basename(file.path), file.text]));
  const outputs = Object.entries(screens.metafile.outputs).map(([path, output]) => ({ ...output, name: basename(path) }));
  const of = (path) => outputs.find(({ entryPoint }) => entryPoint === path);
  const [entry, home] = [of("src/main.tsx"), of("src/screens/home.tsx")];
  const style = basename(styles.outputFiles[0].path);
  const needed = [coreName, ...statics(outputs, entry).filter((name) => name !== entry.name)];
  const template = await readFile(join(here, "src/index.html"), "utf8");
  const html = template
    .replace("<!-- preloads -->", needed.map((name) => `<link rel="modulepreload" href="${name}">`).join("\n"))
    .replace("style.css", style)
    .replace("app.js", entry.name);
  files.set("index.html", html);
  files.set("licences.txt", await licences());
  return { files, first: new Set(["index.html", style, entry.name, ...needed, ...statics(outputs, home)]) };
}

// The files that one imports before it runs, itself included.
function statics(outputs, output, found = new Set()) {
  if (found.has(output.name)) return [];
  found.add(output.name);
  for (const { path, kind } of output.imports) {
    if (kind !== "import-statement") continue;
    const imported = outputs.find(({ name }) => name === basename(path));
    if (imported) statics(outputs, imported, found);
  }
  return [...found];
}

// The list of the files as Rust, with which the program embeds them.
function rust(files) {
  const rows = [...files.keys()].sort().map((name) => {
    const type = TYPES[name.slice(name.lastIndexOf("."))];
    return `    ("${name}", "${type}", include_bytes!("${name}")),\n`;
  });
  return `// Written by static/admin/build.mjs: the files of the console, by name, type and content.\n&[\n${rows.join("")}]\n`;
}

export const brotliSize = (text) =>
  brotliCompressSync(text, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }).length;

async function main() {
  const isCheck = process.argv.includes("--check");
  const { files, first } = await bundle();
  const loaded = { scripts: 0, styles: 0, html: 0, requests: first.size };
  for (const [name, text] of files) {
    const size = brotliSize(text);
    if (process.argv.includes("--sizes")) {
      console.log(`${first.has(name) ? "*" : " "} ${name}: ${Buffer.byteLength(text)} bytes, ${size} with brotli`);
    }
    if (!first.has(name)) continue;
    loaded[name.endsWith(".js") ? "scripts" : name.endsWith(".css") ? "styles" : "html"] += size;
  }
  if (process.argv.includes("--sizes")) console.log("first load:", loaded);
  for (const [name, limit] of Object.entries(LIMITS)) {
    if (loaded[name] > limit) fail(`the first load has ${loaded[name]} of ${name}, more than ${limit}`);
  }
  files.set("files.rs", rust(files));
  await mkdir(dist, { recursive: true });
  for (const [name, text] of files) {
    if (!isCheck) await writeFile(join(dist, name), text);
    else if ((await readFile(join(dist, name), "utf8").catch(() => "")) !== text) {
      fail(`dist/${name} is not what the sources say: run node build.mjs`);
    }
  }
  for (const name of await readdir(dist)) {
    if (files.has(name)) continue;
    if (isCheck) fail(`dist/${name} has no source: run node build.mjs`);
    else await rm(join(dist, name));
  }
}

function fail(message) {
  console.error(message);
  process.exitCode = 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
