// How far a page was scrolled: one event for each quarter that was reached. The height is read when the
// page is idle after a scroll, never while it loads.
const QUARTERS = [25, 50, 75, 100];
let reached = 0;
let isPlanned = false;
let path = location.pathname;

const look = () => {
  isPlanned = false;
  // Another page of a single-page application begins anew.
  if (path !== location.pathname) [path, reached] = [location.pathname, 0];
  const height = document.documentElement.scrollHeight;
  const percent = ((scrollY + innerHeight + 1) / height) * 100;
  while (reached < QUARTERS.length && percent >= QUARTERS[reached]) {
    window.tagway.track("Page Scrolled", { percent: QUARTERS[reached++] });
  }
};
addEventListener(
  "scroll",
  () => {
    if (isPlanned) return;
    isPlanned = true;
    if ("requestIdleCallback" in window) requestIdleCallback(look, { timeout: 500 });
    else setTimeout(look, 100);
  },
  { passive: true },
);
