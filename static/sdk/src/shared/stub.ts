// tagway.serve, which several vendors' shims use: it comes once, before the first of them.
import type { Tagway } from "../api";

/**
 * Gives the stub that a vendor's snippet left in the page its methods, and what it would queue later to
 * `run` at once. What it has queued is run by the function that is given back.
 */
window.tagway.serve = ((
  stub: any,
  own: Record<string, (...args: any[]) => unknown>,
  run = ([name, ...args]: any[]) => own[name]?.(...args),
) => {
  const queue: any[] = Array.isArray(stub) ? stub.splice(0) : [];
  Object.assign(stub, own).push = run;
  return () => queue.map(run);
}) as Tagway["serve"];
