// Personal data is masked by the gateway. Whoever has the right may ask for it, which the audit log notes.

import { useState } from "preact/hooks";
import { texts } from "../i18n";
import { me } from "../session";
import { Button } from "./basics";

const t = texts({
  show: "Show personal data", hide: "Hide personal data", note: "The audit log notes that you look.",
}, {
  show: "Personendaten zeigen", hide: "Personendaten verbergen", note: "Das Protokoll hält fest, dass du nachsiehst.",
});

/** The wish to see personal data of `subject`; another subject is masked again. */
export function useReveal(subject: string): { isShown: boolean; toggle: () => void } {
  const [shown, setShown] = useState<string | null>(null);
  const isShown = shown === subject;
  return { isShown, toggle: () => setShown(isShown ? null : subject) };
}

/** The button that asks; those without the right have none. */
export function Reveal({ of }: { of: ReturnType<typeof useReveal> }) {
  if (!me.value?.personal) return null;
  return <Button icon="eye" aria-pressed={of.isShown} title={t("note")} onClick={of.toggle}>{of.isShown ? t("hide") : t("show")}</Button>;
}
