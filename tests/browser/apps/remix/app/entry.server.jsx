import { randomBytes } from "node:crypto";
import { PassThrough } from "node:stream";
import { createReadableStreamFromReadable } from "@remix-run/node";
import { RemixServer } from "@remix-run/react";
import { isbot } from "isbot";
import { renderToPipeableStream } from "react-dom/server";
import { Nonce } from "./nonce.js";

const policy = (nonce) =>
  `default-src 'self'; script-src 'self' 'nonce-${nonce}'; img-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'`;

export default function handleRequest(request, status, headers, context) {
  const url = new URL(request.url);
  const nonce = url.pathname.startsWith("/strict") ? randomBytes(16).toString("base64") : undefined;
  if (nonce) headers.set("content-security-policy", policy(nonce));
  headers.set("content-type", "text/html");
  return new Promise((resolve, reject) => {
    const page = (
      <Nonce.Provider value={nonce}>
        <RemixServer context={context} url={request.url} nonce={nonce} />
      </Nonce.Provider>
    );
    const send = () => {
      const body = new PassThrough();
      resolve(new Response(createReadableStreamFromReadable(body), { headers, status }));
      stream.pipe(body);
    };
    const isBot = isbot(request.headers.get("user-agent"));
    const stream = renderToPipeableStream(page, {
      nonce,
      [isBot ? "onAllReady" : "onShellReady"]: send,
      onShellError: reject,
      onError: (error) => console.error(error),
    });
  });
}
