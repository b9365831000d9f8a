// Does everything one after the other, and shows what came of it.

const log = document.querySelector("#log");
const show = (text) => log.append(Object.assign(document.createElement("li"), { textContent: text }));
const once = (target, name) => new Promise((done) => target.addEventListener(name, done, { once: true }));
const run = crypto.randomUUID();
const seen = (what) => fetch(`/seen?run=${run}&what=${encodeURIComponent(what)}`, { method: "POST" });

async function overSocketIo() {
  const socket = io();
  const connected = new Promise((done) => socket.once("connect", done));
  await connected;
  const { engine } = socket.io;
  if (engine.transport.name === "polling") await new Promise((done) => engine.once("upgrade", done));
  const long = "ä".repeat(100_000);
  for (const value of ["hello", { deep: [1, null, "ü"] }, long]) {
    const [back, transport] = await new Promise((done) => socket.emit("echo", value, (...all) => done(all)));
    show(`echo over ${transport}: ${JSON.stringify(back) === JSON.stringify(value)}`);
  }
  const [bytes] = await new Promise((done) => socket.emit("echo", new Uint8Array([0, 255, 10, 13]), (...all) => done(all)));
  show(`bytes: ${[...new Uint8Array(bytes)]}`);
  const refused = await new Promise((done) => io("/closed").once("connect_error", done));
  show(`refused: ${refused.message}`);
  const polling = io({ transports: ["polling"], forceNew: true });
  const [, transport] = await new Promise((done) => polling.emit("echo", "slow", (...all) => done(all)));
  show(`without WebSockets: ${transport}`);
  socket.on("said", (text) => show(`said: ${text}`));
  window.say = (text) => socket.emit("say", text);
}

async function overWebSocket() {
  const socket = new WebSocket(`${location.origin.replace("http", "ws")}/plain`, ["v1.app", "v2.app"]);
  socket.binaryType = "arraybuffer";
  await once(socket, "open");
  show(`protocol ${socket.protocol}, extensions "${socket.extensions}"`);
  socket.send("größer");
  show(`text: ${(await once(socket, "message")).data}`);
  socket.send(new Uint8Array(200_000).fill(3));
  show(`bytes: ${(await once(socket, "message")).data.byteLength}`);
  socket.send("end");
  const { code, reason, wasClean } = await once(socket, "close");
  show(`closed: ${code} ${reason} ${wasClean}`);
}

async function overEvents() {
  const source = new EventSource(`/events?run=${run}`);
  for (let next = 1; next <= 5; next += 1) {
    const { lastEventId, data } = await once(source, "tick");
    show(`event ${lastEventId}: ${JSON.parse(data).text}`);
    seen(`event ${next}`);
  }
  source.close();
}

async function overLines() {
  const reader = (await fetch(`/lines?run=${run}`)).body.pipeThrough(new TextDecoderStream()).getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    show(`line: ${piece.value.trim()}`);
    await seen(`line ${JSON.parse(piece.value).line}`);
  }
}

async function uploads() {
  const answer = await fetch("/bytes", { method: "PUT", body: new Blob([new Uint8Array(300_000)]) });
  show(`put: ${(await answer.json()).bytes}`);
}

await overSocketIo();
await overWebSocket();
await overEvents();
await overLines();
await uploads();
window.work = async () => {
  await navigator.serviceWorker.register("/worker.js");
  await navigator.serviceWorker.ready;
};
show("done");
