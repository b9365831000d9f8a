// The server: the framework's handler behind node:http, and the scripts that were built.

import { createServer } from "node:http";
import { createReadableStreamFromReadable, createRequestHandler, installGlobals, writeReadableStreamToWritable } from "@remix-run/node";
import * as basket from "./routes/basket.jsx";
import * as home from "./routes/home.jsx";
import * as lamp from "./routes/lamp.jsx";
import * as strict from "./routes/strict.jsx";
import * as entry from "./entry.server.jsx";
import * as root from "./root.jsx";
import { show } from "./shop.js";

installGlobals({ nativeFetch: true });

const MODULES = { root, home, lamp, basket, strict };

/** What the framework's compiler makes: the routes, and which of them the browser loads from where. */
function buildOf({ routes, scripts }) {
  const all = Object.entries(routes).map(([id, route]) => [id, { id, ...route, module: MODULES[id] }]);
  const assets = all.map(([id, { module, ...route }]) => [id, {
    ...route, module: scripts[id], imports: [], hasLoader: "loader" in module, hasAction: "action" in module,
    hasErrorBoundary: "ErrorBoundary" in module, hasClientLoader: false, hasClientAction: false,
  }]);
  return {
    mode: "production", entry: { module: entry }, routes: Object.fromEntries(all), publicPath: "/build/",
    assetsBuildDirectory: "", basename: "/", isSpaMode: false,
    future: { v3_fetcherPersist: true, v3_relativeSplatPath: true, v3_lazyRouteDiscovery: true, v3_singleFetch: true },
    assets: { entry: { module: scripts.entry, imports: [] }, routes: Object.fromEntries(assets), url: "", version: "1" },
  };
}

/** The server of what was built, by path the scripts' text in `files`. */
export function serverOf(built) {
  const handle = createRequestHandler(buildOf(built), "production");
  return createServer(async (request, response) => {
    const url = new URL(request.url, `http://${request.headers.host}`);
    const file = built.files.get(url.pathname);
    if (file !== undefined) return response.setHeader("content-type", "text/javascript").end(file);
    const [, shown] = /^\/shown\/(\d+)$/.exec(url.pathname) ?? [];
    if (url.pathname === "/favicon.ico") return response.writeHead(204).end();
    if (shown) {
      show(shown);
      return response.writeHead(204).end();
    }
    const gone = new AbortController();
    response.on("close", () => gone.abort());
    const hasBody = !["GET", "HEAD"].includes(request.method);
    const answer = await handle(new Request(url, {
      method: request.method, headers: new Headers(Object.entries(request.headers)), signal: gone.signal,
      ...(hasBody && { body: createReadableStreamFromReadable(request), duplex: "half" }),
    }));
    response.writeHead(answer.status, [...answer.headers].flat());
    if (answer.body) await writeReadableStreamToWritable(answer.body, response);
    else response.end();
  });
}
