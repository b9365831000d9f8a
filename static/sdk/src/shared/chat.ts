// tagway.chat, which the shims of chats use: it comes once, before the first of them.
import type { Tagway } from "../api";

const STYLE = "button{position:fixed;right:20px;bottom:20px;z-index:2147483000;width:48px;height:48px;border:0;" +
  "border-radius:50%;background:#1f2937;font-size:22px;cursor:pointer}";

/**
 * A button in place of a messenger, whose script is loaded when it is opened: by the button, by what `finds` gives
 * a selector of, or by the function that is given back, which has another that shows and hides the button. `start`
 * comes before the script, `end` after it, with what went wrong.
 */
window.tagway.chat = ((src, isShown, start, end, finds) => {
  const d = document;
  let isOpen: unknown;
  let isLoaded: unknown;
  let button: HTMLElement | undefined;
  const open = () => {
    if (isOpen || !src) return;
    isOpen = 1;
    start();
    const script = d.createElement("script");
    script.src = src as URL & string;
    script.onload = () => {
      isLoaded = 1;
      draw();
      end();
    };
    script.onerror = (fault) => {
      isOpen = 0;
      end(fault);
    };
    d.head.append(script);
  };
  const make = () => {
    button = d.createElement("div");
    // The page's own style does not reach it, and no inline style is needed, which policies may forbid.
    const root = button.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    root.adoptedStyleSheets = [sheet];
    const inner = d.createElement("button");
    inner.ariaLabel = "Open chat";
    inner.textContent = "\u{1F4AC}";
    inner.onclick = open;
    root.append(inner);
    return button;
  };
  const draw = () => {
    if (!src || !isShown || isLoaded) button?.remove();
    else if (d.body) d.body.append(button || make());
  };
  const show = (is: unknown) => {
    isShown = !!is;
    draw();
  };
  if (d.body) draw();
  else addEventListener("DOMContentLoaded", draw);
  // Before the page's own handlers, which may stop it.
  addEventListener("click", window.tagway.safe((event: Event) => {
    const selector = finds();
    if (selector && (event.target as Element).closest?.(selector)) open();
  }), true);
  return Object.assign(open, { show });
}) as Tagway["chat"];
