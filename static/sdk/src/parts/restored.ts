// A page that the browser brings back whole, from its back/forward cache: what other pages stored meanwhile
// holds in it as well, and where the site counts such a page, it is one more.
addEventListener("pageshow", ({ persisted }) => {
  if (!persisted) return;
  (window.tagway.flush as (how: number) => void)(2);
  if (window.tagway.settings.restored) window.tagway.page();
});
