// A page for each change of the address's path or query without a load: single-page applications.
function start(): void {
  const now = () => location.pathname + location.search;
  let last = now();
  const look = () => {
    if (now() === last) return;
    last = now();
    // The application sets the title after it has changed the address.
    setTimeout(() => window.tagway.page());
  };
  for (const name of ["pushState", "replaceState"] as const) {
    const own = history[name];
    history[name] = function (this: History, ...args: Parameters<History["pushState"]>) {
      own.apply(this, args);
      look();
    };
  }
  addEventListener("popstate", look);
}

start();
