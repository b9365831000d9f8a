import { createContext } from "react";

/** The nonce of the page's policy, known to the server only: browsers hide it from scripts. */
export const Nonce = createContext(undefined);
