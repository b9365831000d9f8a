// A page for each change of the address's path or query without a load: single-page applications.

/** Applications set the title after they have changed the address: when what they show is here. */
const MAX_WAIT_MS = 1_000;

function start(): void {
  const d = document;
  const now = () => location.pathname + location.search;
  let last = now();
  /** While a page waits for its title. */
  let timer: ReturnType<typeof setTimeout> | undefined;
  let title = "";
  const tell = () => {
    if (timer === undefined) return;
    clearTimeout(timer);
    timer = undefined;
    observer.disconnect();
    window.tagway.page();
  };
  // Some take the old title away first.
  const observer = new MutationObserver(() => d.title && d.title !== title && tell());
  const look = () => {
    if (now() === last) return;
    last = now();
    // An address that gives way to another before its title came was not shown.
    clearTimeout(timer);
    title = d.title;
    timer = setTimeout(tell, MAX_WAIT_MS);
    observer.observe(d.documentElement, { subtree: true, childList: true, characterData: true });
  };
  for (const name of ["pushState", "replaceState"] as const) {
    const own = history[name];
    history[name] = function (this: History, ...args: Parameters<History["pushState"]>) {
      // What comes after it is a page of its own.
      if (name === "pushState") tell();
      own.apply(this, args);
      look();
    };
  }
  addEventListener("popstate", look);
  addEventListener("pagehide", tell);
}

// As with the pages that load.
if (!frameElement || frameElement.tagName === "FRAME") start();
