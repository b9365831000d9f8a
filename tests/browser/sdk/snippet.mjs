// What a site puts into its pages before the script.
import { readFileSync } from "node:fs";

export const snippet = readFileSync(new URL("../../../static/sdk/dist/snippet.js", import.meta.url), "utf8");
