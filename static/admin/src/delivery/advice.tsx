// Sentences of the gateway, which are English; what stands between backticks is code.

import { language } from "../i18n";

/** The language of what the gateway writes, where it is not that of the page. */
export const foreign = (): string | undefined => (language.value === "en" ? undefined : "en");

export const Advice = ({ text }: { text: string }) => (
  <span lang={foreign()}>{text.split("`").map((piece, index) => (index % 2 === 1 ? <code key={index}>{piece}</code> : piece))}</span>
);
