// Messages both ways over Socket.IO and plain WebSockets, and streams whose next piece comes when the last was seen.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { Server } from "socket.io";
import { WebSocketServer } from "ws";

const EVENTS = 5;
/** The stream of events breaks off after this one, and the browser asks for the rest. */
const BREAK = 3;

const html = (title, content) => `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><link rel="icon" href="data:,"><title>${title}</title></head>
<body><h1>${title}</h1>${content}</body></html>`;

const FILES = {
  "/": ["text/html", html("Messages", `<ol id="log"></ol>
    <script src="/socket.io/socket.io.js"></script><script type="module" src="/client.js"></script>`)],
  "/about": ["text/html", html("About", "<p>By the network or the worker.</p>")],
  "/frames": ["text/html", html("Frames", `<iframe src="/about"></iframe><iframe sandbox="allow-scripts" src="/boxed"></iframe>`)],
  "/boxed": ["text/html", html("Boxed", `<p></p><script>document.querySelector("p").textContent = self.origin</script>`)],
  "/client.js": ["text/javascript", readFileSync(new URL("client.js", import.meta.url), "utf8")],
  "/worker.js": ["text/javascript", readFileSync(new URL("worker.js", import.meta.url), "utf8")],
};

/** What the pages have reported as seen. */
class Seen {
  #waiting = new Map();

  #of(key) {
    if (!this.#waiting.has(key)) {
      let resolve;
      const promise = new Promise((done) => (resolve = done));
      this.#waiting.set(key, { promise, resolve });
    }
    return this.#waiting.get(key);
  }

  report(key) {
    this.#of(key).resolve();
  }

  wait(key) {
    return this.#of(key).promise;
  }
}

async function events(request, response, run, seen) {
  const last = Number(request.headers["last-event-id"] ?? 0);
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
  response.write("retry: 50\n\n: a comment\n\n");
  const end = last < BREAK ? BREAK : EVENTS;
  for (let id = last + 1; id <= end; id += 1) {
    response.write(`id: ${id}\nevent: tick\ndata: {"id":${id},\ndata: "text":"größer"}\n\n`);
    await seen.wait(`${run} event ${id}`);
  }
  response.end();
}

async function lines(response, run, seen) {
  response.writeHead(200, { "content-type": "application/x-ndjson" });
  for (let line = 1; line <= 3; line += 1) {
    response.write(`{"line":${line}}\n`);
    await seen.wait(`${run} line ${line}`);
  }
  response.end();
}

/** The application, which does not listen yet. `end` ends it, with all connections. */
export function application() {
  const seen = new Seen();
  const server = createServer(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url, "http://app");
    const run = searchParams.get("run");
    if (pathname === "/events") return events(request, response, run, seen);
    if (pathname === "/lines") return lines(response, run, seen);
    if (pathname === "/seen") {
      seen.report(`${run} ${searchParams.get("what")}`);
      return response.writeHead(204).end();
    }
    if (pathname === "/bytes" && request.method === "PUT") {
      let bytes = 0;
      for await (const chunk of request) bytes += chunk.length;
      response.setHeader("content-type", "application/json");
      return response.end(JSON.stringify({ bytes }));
    }
    const [kind, text] = FILES[pathname] ?? [];
    if (!kind) return response.writeHead(404).end();
    if (searchParams.has("sandbox")) response.setHeader("content-security-policy", "sandbox allow-scripts");
    return response.setHeader("content-type", kind).end(text);
  });
  const io = new Server(server, { serveClient: true });
  io.on("connection", (socket) => {
    socket.on("echo", (value, answer) => answer(value, socket.conn.transport.name));
    socket.on("say", (text) => io.emit("said", text));
  });
  io.of("/closed").use((_, next) => next(new Error("not for you")));
  const plain = new WebSocketServer({ noServer: true, handleProtocols: (all) => [...all].at(-1) });
  plain.on("connection", (socket) => {
    socket.on("message", (data, isBinary) => (String(data) === "end" ? socket.close(4001, "as asked") : socket.send(data, { binary: isBinary })));
  });
  server.on("upgrade", (request, socket, head) => {
    if (request.url !== "/plain") return;
    plain.handleUpgrade(request, socket, head, (it) => plain.emit("connection", it, request));
  });
  const connections = new Set();
  server.on("connection", (connection) => {
    connections.add(connection);
    connection.on("close", () => connections.delete(connection));
  });
  const end = async () => {
    for (const connection of connections) connection.destroy();
    await io.close();
  };
  return { server, end };
}
