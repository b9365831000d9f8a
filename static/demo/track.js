// Sends the shop's events to the gateway: one POST per event, as text/plain, so that the browser
// asks no permission first. Who the visitor is stays with the gateway's own first-party cookie.

const port = document.documentElement.dataset.gatewayPort;
const endpoint = `${location.protocol}//${location.hostname}:${port}/e`;
const RETRY_MS = 2000;
const MAX_WAITING = 100;

const waiting = [];
let isSending = false;
let watch = () => {};

// Calls `watcher(message, answer)` when a message leaves and again with each answer.
export function onEvent(watcher) {
  watch = watcher;
}

export const page = (name, properties) => send({ type: "page", name, properties });
export const track = (event, properties) => send({ type: "track", event, properties });
export const identify = (userId, traits) => send({ type: "identify", userId, traits });

let user = localStorage.getItem("user");

function send(message) {
  if (message.type === "identify") {
    user = message.userId;
    localStorage.setItem("user", user);
  }
  message.messageId = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
  message.timestamp = new Date().toISOString();
  if (user) message.userId = user;
  message.context = {
    page: { url: location.href, path: location.pathname, title: document.title, referrer: document.referrer },
    locale: navigator.language,
    screen: { width: screen.width, height: screen.height },
  };
  waiting.push(message);
  if (waiting.length > MAX_WAITING) waiting.shift();
  watch(message, "sending");
  flush();
}

// One message at a time, in order. What the gateway cannot take now is tried again.
async function flush() {
  if (isSending) return;
  isSending = true;
  while (waiting.length) {
    const message = waiting[0];
    const answer = await post(message);
    watch(message, answer);
    if (answer === "offline" || answer === 429 || answer >= 500) {
      setTimeout(flush, RETRY_MS);
      break;
    }
    waiting.shift();
  }
  isSending = false;
}

async function post(message) {
  const body = JSON.stringify({ batch: [message], sentAt: new Date().toISOString(), writeKey: "demo" });
  try {
    const reply = await fetch(endpoint, { method: "POST", body, credentials: "include", keepalive: true });
    return reply.status;
  } catch {
    return "offline";
  }
}
