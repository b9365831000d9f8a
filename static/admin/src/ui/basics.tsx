// Small things that every screen is made of.

import type { ComponentChildren, JSX } from "preact";
import { useState } from "preact/hooks";
import { exact, isNear, moment, now, relative, timeOfDay, zone } from "../format";
import { texts } from "../i18n";
import { outcome, reason, spoken, state, type Tone } from "../words";
import { Icon, type IconName } from "./icons";

const t = texts({
  copy: "Copy", copied: "Copied", loading: "Loading", more: "Show more", masked: "hidden",
}, {
  copy: "Kopieren", copied: "Kopiert", loading: "Lädt", more: "Mehr zeigen", masked: "verborgen",
});

/** A word with a coloured point, which never says anything by its colour alone. */
export function Badge({ tone, children }: { tone: Tone; children: ComponentChildren }) {
  return <span class={`badge ${tone}`}>{children}</span>;
}

export function OutcomeBadge({ code }: { code: string }) {
  const { word, tone } = outcome(code);
  return <Badge tone={tone}>{word}</Badge>;
}

export function StateBadge({ code }: { code: string }) {
  const { word, tone } = state(code);
  return <Badge tone={tone}>{word}</Badge>;
}

/** A reason in words; its code is small beside them where the words are not the code. */
export function Reason({ code, text }: { code: string; text?: string | null | undefined }) {
  const words = text || reason(code);
  return (
    <span class="reason">
      {words}
      {words !== spoken(code) && <code class="code">{code}</code>}
    </span>
  );
}

/** A time: relative to the present within a day of it, the exact one on hover. */
export function Time({ at, clock = false }: { at: string | null | undefined; clock?: boolean }) {
  if (!at) return <span class="muted">–</span>;
  now.value;
  return <time dateTime={at} title={`${exact(at)} (${zone})`}>{clock ? timeOfDay(at) : isNear(at) ? relative(at) : moment(at)}</time>;
}

type ButtonProps = JSX.IntrinsicElements["button"] & {
  icon?: IconName;
  kind?: "plain" | "main" | "danger" | "quiet";
  /** The icon alone is shown, the text is for screen readers. */
  only?: boolean;
};

export function Button({ icon, kind = "plain", only = false, children, ...rest }: ButtonProps) {
  return (
    <button type="button" {...rest} class={`button ${kind}${only ? " only" : ""}`}>
      {icon && <Icon name={icon} />}
      {only ? <span class="sr">{children}</span> : children}
    </button>
  );
}

/** A link that looks like a button. */
export function LinkButton({ href, icon, children, kind = "plain" }: {
  href: string; icon?: IconName; children: ComponentChildren; kind?: "plain" | "main" | "quiet";
}) {
  return <a class={`button ${kind}`} href={href}>{icon && <Icon name={icon} />}{children}</a>;
}

/** A link to another host: https only, and it learns nothing of this page. */
export function Outward({ href, children }: { href: string; children: ComponentChildren }) {
  if (!/^https?:\/\//.test(href)) return <span>{children}</span>;
  return <a href={href} target="_blank" rel="noopener noreferrer">{children} <Icon name="external" size={13} /></a>;
}

export function Copy({ text, label }: { text: string; label?: string }) {
  const [isDone, setDone] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Plain HTTP beyond loopback has no clipboard; a selection is copied the old way.
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    setDone(true);
    setTimeout(() => setDone(false), 2_000);
  };
  return (
    <Button kind="quiet" icon={isDone ? "check" : "copy"} onClick={() => void copy()}>
      <span aria-live="polite">{isDone ? t("copied") : label ?? t("copy")}</span>
    </Button>
  );
}

/** Text of a machine with a way to copy it. */
export function CodeBlock({ text, label }: { text: string; label: string }) {
  return (
    <figure class="codeblock">
      <figcaption>{label}<Copy text={text} /></figcaption>
      <pre tabIndex={0} role="region" aria-label={label}>{text}</pre>
    </figure>
  );
}

export function Loading() {
  return <div class="loading" role="status"><span class="sr">{t("loading")}</span><i /><i /><i /></div>;
}

export function More({ more, isLoading }: { more: (() => void) | null; isLoading: boolean }) {
  if (isLoading) return <Loading />;
  return more && <p class="more"><Button onClick={more}>{t("more")}</Button></p>;
}

/** A card with a heading. */
export function Card({ title, aside, children, id }: {
  title?: ComponentChildren; aside?: ComponentChildren; children: ComponentChildren; id?: string;
}) {
  const heading = title && <h2>{title}</h2>;
  return (
    <section class="card" id={id}>
      {(heading || aside) && <header>{heading}{aside && <div class="aside">{aside}</div>}</header>}
      {children}
    </section>
  );
}

/** Names and values, one a line. */
export function Facts({ rows }: { rows: readonly (readonly [label: string, value: ComponentChildren] | null | false)[] }) {
  return (
    <dl class="facts">
      {rows.map((row) => row && <div key={row[0]}><dt>{row[0]}</dt><dd>{row[1]}</dd></div>)}
    </dl>
  );
}

/** A figure with what it counts. */
export function Figure({ label, value, note, href, tone }: {
  label: string; value: ComponentChildren; note?: ComponentChildren; href?: string | undefined; tone?: Tone | undefined;
}) {
  const inner = (
    <>
      <span class="label">{label}</span>
      <span class={`value ${tone ?? ""}`}>{value}</span>
      {note && <span class="note">{note}</span>}
    </>
  );
  return href ? <a class="figure" href={href}>{inner}</a> : <div class="figure">{inner}</div>;
}

/** Links to the parts of a screen. */
export function Tabs({ label, tabs }: { label: string; tabs: { href: string; text: string; isCurrent: boolean }[] }) {
  return (
    <nav class="tabs" aria-label={label}>
      {tabs.map(({ href, text, isCurrent }) => (
        <a key={href} href={href} aria-current={isCurrent ? "page" : undefined}>{text}</a>
      ))}
    </nav>
  );
}

/** A notice within a screen. */
export function Notice({ tone, children, action }: { tone: Tone; children: ComponentChildren; action?: ComponentChildren }) {
  return (
    <div class={`notice ${tone}`}>
      <Icon name={tone === "bad" || tone === "warn" ? "warn" : "info"} />
      <div>{children}</div>
      {action}
    </div>
  );
}
