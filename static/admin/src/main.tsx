// The start of the console.

import { render } from "preact";
import { App } from "./app";
import { enter } from "./session";

const root = document.getElementById("app");
if (root) render(<App />, root);
void enter();
