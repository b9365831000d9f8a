// The frame of a screen: its heading, and its states without data.

import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import type { Problem } from "../api";
import { texts } from "../i18n";
import { useKeys } from "../keys";
import type { Resource } from "../resource";
import { go } from "../router";
import { Button, Loading } from "./basics";
import { Icon, type IconName } from "./icons";

const t = texts({
  network: "The gateway does not answer.", network_cure: "Check that it runs and that you can reach it; the page tries again when you do.",
  not_found: "This is not here.", not_found_cure: "It may have been deleted, or it belongs to a site that you do not see.",
  forbidden: "You may not see this.", again: "Try again", failed: "That did not work.",
}, {
  network: "Das Gateway antwortet nicht.", network_cure: "Prüfe, ob es läuft und erreichbar ist; dann hier erneut versuchen.",
  not_found: "Das gibt es hier nicht.", not_found_cure: "Vielleicht wurde es gelöscht, oder es gehört zu einer Site, die du nicht siehst.",
  forbidden: "Das darfst du nicht sehen.", again: "Erneut versuchen", failed: "Das hat nicht geklappt.",
});

/** A screen: one heading, one sentence, what can be done, and the content. Escape leads back as its link does. */
export function Screen({ title, lead, actions, children, back }: {
  title: string;
  lead?: ComponentChildren;
  actions?: ComponentChildren;
  back?: { href: string; text: string };
  children: ComponentChildren;
}) {
  useEffect(() => {
    document.title = `${title} · Tagway`;
  }, [title]);
  useKeys(back ? [{ keys: "Escape", text: () => back.text, run: () => go(back.href) }] : []);
  return (
    <>
      <header class="screen-head">
        <div>
          {back && <a class="back" href={back.href}>{back.text}</a>}
          <h1 tabIndex={-1}>{title}</h1>
          {lead && <p class="lead">{lead}</p>}
        </div>
        {actions && <div class="actions">{actions}</div>}
      </header>
      {children}
    </>
  );
}

/** A list without rows: says what would fill it, and one thing to do. */
export function Empty({ icon = "info", title, children, action }: {
  icon?: IconName; title: string; children?: ComponentChildren; action?: ComponentChildren;
}) {
  return (
    <div class="empty">
      <Icon name={icon} size={28} />
      <p class="title">{title}</p>
      {children && <div class="text">{children}</div>}
      {action && <div class="action">{action}</div>}
    </div>
  );
}

/** The words for a refusal. */
export function faultText(fault: Problem): string {
  if (fault.status === 0) return fault.title === "network" ? t("network") : fault.title;
  return fault.detail || (fault.status === 404 ? t("not_found") : fault.title || t("failed"));
}

export function Fault({ fault, retry }: { fault: Problem; retry?: () => void }) {
  const isNetwork = fault.status === 0;
  const title = isNetwork ? t("network") : fault.status === 404 ? t("not_found") : fault.status === 403 ? t("forbidden") : t("failed");
  return (
    <div class="empty fault" role="alert">
      <Icon name="warn" size={28} />
      <p class="title">{title}</p>
      <div class="text">
        {isNetwork ? t("network_cure") : fault.status === 404 && !fault.detail ? t("not_found_cure") : fault.detail || fault.title}
        {fault.status > 0 && <code class="code">{fault.status}</code>}
      </div>
      {retry && <div class="action"><Button onClick={retry}>{t("again")}</Button></div>}
    </div>
  );
}

/** Shows a resource: its data, or that it loads, or why there is none. */
export function Loaded<T>({ from, children }: { from: Resource<T>; children: (data: T) => ComponentChildren }) {
  if (from.data !== null) return <>{children(from.data)}</>;
  if (from.fault) return <Fault fault={from.fault} retry={from.reload} />;
  return <Loading />;
}
