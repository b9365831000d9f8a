import { RemixBrowser } from "@remix-run/react";
import { StrictMode, startTransition } from "react";
import { hydrateRoot } from "react-dom/client";

startTransition(() => {
  hydrateRoot(document, <StrictMode><RemixBrowser /></StrictMode>, {
    onRecoverableError: (error) => console.error(`not as the server sent it: ${error}`),
  });
});
