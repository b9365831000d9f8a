// Clicks on links that leave the site.
addEventListener(
  "click",
  (event) => {
    const link = event.target instanceof Element && event.target.closest("a");
    if (!link || !/^https?:$/.test(link.protocol) || link.host === location.host) return;
    window.tagway.track("Link Clicked", { href: link.href, text: (link.textContent || "").trim().slice(0, 100) });
  },
  true,
);
