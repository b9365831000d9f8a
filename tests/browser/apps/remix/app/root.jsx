import { Link, Links, Meta, Outlet, Scripts, ScrollRestoration, isRouteErrorResponse, useRouteError } from "@remix-run/react";
import { useContext, useEffect, useState } from "react";
import { Nonce } from "./nonce.js";

export const meta = () => [{ title: "Lamps" }];

/** Remembers what the parser made: an application that gives up on it makes another document. */
const REMEMBER = "window.parsed = [document.documentElement, document.head, document.body]";

export function Layout({ children }) {
  const nonce = useContext(Nonce);
  const [isAlive, setAlive] = useState(false);
  const [count, setCount] = useState(0);
  useEffect(() => setAlive(true), []);
  return (
    <html lang="en" data-alive={isAlive || undefined}>
      <head>
        <meta charSet="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <link rel="icon" href="data:," />
        <Meta />
        <Links />
      </head>
      <body>
        <script nonce={nonce} suppressHydrationWarning dangerouslySetInnerHTML={{ __html: REMEMBER }} />
        <nav>
          <Link to="/">Home</Link> <Link to="/lamps/1" prefetch="intent">Desk</Link> <Link to="/lamps/2">Floor</Link>{" "}
          <Link to="/basket">Basket</Link> <a href="/strict">Strict</a>
        </nav>
        <button id="count" onClick={() => setCount(count + 1)}>Pressed {count}</button>
        <main>{children}</main>
        <ScrollRestoration nonce={nonce} />
        <Scripts nonce={nonce} />
      </body>
    </html>
  );
}

export default function Root() {
  return <Outlet />;
}

export function ErrorBoundary() {
  const error = useRouteError();
  return <h1>{isRouteErrorResponse(error) ? `${error.status} ${error.data}` : "Broken"}</h1>;
}
