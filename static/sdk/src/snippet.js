// Takes calls until the script is there, and brings it: window.tagway is a queue, and the script replays
// it. A preload does not hold up the page's load event as a script does, and comes after what the page
// itself needs; once the script's bytes are here it takes a moment. Browsers that know no preload get
// it after the load event. The address is the one that it is before the page may name a base. Without
// an address it is a queue only, for pages with a tag of their own. A call says what the caller's objects
// were when it was made: what JSON cannot hold as it is keeps its place, and the script sees to it.
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
  if (!src) return;
  const link = d.createElement("link");
  const script = d.createElement("script");
  const go = () => d.head.append(script);
  link.href = src;
  src = link.href;
  link.nonce = script.nonce = (d.currentScript || t).nonce || "";
  script.src = w.trustedTypes
    ? w.trustedTypes.createPolicy("tagway-snippet", { createScriptURL: () => src }).createScriptURL("")
    : src;
  link.rel = "preload";
  link.as = "script";
  link.fetchPriority = "low";
  link.onload = go;
  d.head.append(link);
  w.addEventListener("load", go);
})(window, document, "TAGWAY_SRC");
