// Clicks on links to files: by the download attribute, or by a name that browsers save.
const FILES = /\.(pdf|xlsx?|docx?|pptx?|csv|txt|rtf|zip|rar|7z|gz|tar|exe|msi|dmg|pkg|deb|apk|mp3|mp4|avi|mov|wav|epub)$/i;

addEventListener(
  "click",
  (event) => {
    const link = event.target instanceof Element && event.target.closest("a");
    if (!link || !/^https?:$/.test(link.protocol)) return;
    if (!link.hasAttribute("download") && !FILES.test(link.pathname)) return;
    const file = link.pathname.split("/").pop();
    window.tagway.track("File Downloaded", { href: link.href, file });
  },
  true,
);
