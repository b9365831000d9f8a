// Answers navigations by the network, and one page by itself.

const OWN = `<!doctype html><html lang="en"><head><title>Of the worker</title><link rel="icon" href="data:,"></head>
<body><h1>Of the worker</h1></body></html>`;

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  if (event.request.mode !== "navigate") return;
  const isOwn = new URL(event.request.url).pathname === "/own";
  event.respondWith(isOwn ? new Response(OWN, { headers: { "content-type": "text/html" } }) : fetch(event.request));
});
