// Takes calls until the script is there, and brings it: window.tagway is a queue, and the script replays
// it. The script comes after the page's load event, which it would hold up, or after 10 s of a page that never
// ends to load. It is in the document for no longer than it takes to ask for it: applications that take over
// the whole document (React's hydrateRoot(document)) give up where they find what they did not make. The
// address is the one that it is before the page may name a base. Without an address it is a queue only, for
// pages with a tag of their own; and so it is in a sandbox, whose pages are of no site that may send. A call
// says what the caller's objects were when it was made: what JSON cannot hold as it is keeps its place, and
// the script sees to it.
((w, d, src) => {
  if (w.tagway) return;
  // Who holds on to it is heard later as well.
  const t = (w.tagway = (...call) => {
    w.tagway === t ? t.q.push(call.map(copy)) : w.tagway(...call);
  });
  const copy = (value) => {
    try {
      return JSON.parse(JSON.stringify(value));
    } catch {
      try {
        return structuredClone(value);
      } catch {
        return value;
      }
    }
  };
  t.q = [];
  for (const name of "track page identify group alias reset consent ready on flush".split(" ")) {
    t[name] = (...call) => t(name, ...call);
  }
  if (!src || w.origin === "null") return;
  const script = d.createElement("script");
  const go = () => {
    d.head.append(script);
    script.remove();
  };
  src = new URL(src, d.baseURI).href;
  script.nonce = (d.currentScript || t).nonce || "";
  script.fetchPriority = "low";
  script.src = w.trustedTypes
    ? w.trustedTypes.createPolicy("tagway-snippet", { createScriptURL: () => src }).createScriptURL("")
    : src;
  w.addEventListener("load", go);
  setTimeout(go, d.readyState === "complete" ? 0 : 1e4);
})(window, document, "TAGWAY_SRC");
