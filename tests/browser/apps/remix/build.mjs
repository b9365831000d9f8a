// What the framework's compiler does, for these routes: a bundle for the server, and one script per route for browsers.

import { build } from "esbuild";

const DIRECTORY = new URL(".", import.meta.url).pathname;
const OPTIONS = {
  absWorkingDir: DIRECTORY, bundle: true, format: "esm", jsx: "automatic", logLevel: "error",
  define: { "process.env.NODE_ENV": '"production"' },
};
const ROUTES = {
  root: { path: "" },
  home: { parentId: "root", index: true },
  lamp: { parentId: "root", path: "lamps/:id" },
  basket: { parentId: "root", path: "basket" },
  strict: { parentId: "root", path: "strict" },
};

/** A route as browsers get it: without its loader and its action. */
const browserRoutes = {
  name: "browser-routes",
  setup(it) {
    it.onResolve({ filter: /^route:/ }, ({ path }) => ({ path: path.slice("route:".length), namespace: "route" }));
    it.onLoad({ filter: /.*/, namespace: "route" }, ({ path: id }) => {
      const [file, more] = id === "root" ? ["./root.jsx", ", ErrorBoundary, Layout"] : [`./routes/${id}.jsx`, ""];
      return { contents: `export { default, meta${more} } from "${file}"`, resolveDir: `${DIRECTORY}app` };
    });
  },
};

async function browserBuild() {
  const { outputFiles, metafile } = await build({
    ...OPTIONS, platform: "browser", target: "chrome120", minify: true, splitting: true, write: false, metafile: true,
    entryPoints: ["app/entry.client.jsx", ...Object.keys(ROUTES).map((id) => ({ in: `route:${id}`, out: id }))],
    entryNames: "[name]-[hash]", outdir: "/build", plugins: [browserRoutes], publicPath: "/build",
  });
  const scripts = Object.entries(metafile.outputs).filter(([, { entryPoint }]) => entryPoint).map(([path, { entryPoint }]) => {
    const id = entryPoint.startsWith("route:") ? entryPoint.slice("route:".length) : "entry";
    return [id, `/build/${path.split("/").pop()}`];
  });
  return { scripts: Object.fromEntries(scripts), files: new Map(outputFiles.map(({ path, text }) => [path, text])) };
}

/** The application's server, which does not listen yet. */
export async function application() {
  const [browser] = await Promise.all([
    browserBuild(),
    build({ ...OPTIONS, platform: "node", packages: "external", entryPoints: ["app/server.jsx"], outfile: "build/server.mjs" }),
  ]);
  const { serverOf } = await import("./build/server.mjs");
  return serverOf({ ...browser, routes: ROUTES });
}
