// The start of the console.

import { render } from "preact";
import { App, found } from "./app";
import { enter } from "./session";

const root = document.getElementById("app");
if (root) render(<App />, root);
void enter();
// The screen is fetched while the gateway says who asks; a failure shows when the screen does.
found()?.route.screen().catch(() => {});
