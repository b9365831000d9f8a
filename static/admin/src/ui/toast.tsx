// Short messages about what was done, which screen readers read out.

import { signal } from "@preact/signals";
import type { Tone } from "../words";
import { asProblem } from "../resource";
import { Icon } from "./icons";
import { faultText } from "./page";

interface Message {
  id: number;
  text: string;
  tone: Tone;
}

const messages = signal<Message[]>([]);
let last = 0;

const SHOWN_MS = 6_000;

export function toast(text: string, tone: Tone = "good"): void {
  const id = ++last;
  messages.value = [...messages.value.slice(-2), { id, text, tone }];
  setTimeout(() => {
    messages.value = messages.value.filter((it) => it.id !== id);
  }, SHOWN_MS);
}

/** Does something and says how it ended: nothing happens silently. Returns true if it worked. */
export async function attempt(act: () => Promise<unknown>, done?: string): Promise<boolean> {
  try {
    await act();
    if (done) toast(done);
    return true;
  } catch (error) {
    toast(faultText(asProblem(error)), "bad");
    return false;
  }
}

export function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {messages.value.map((it) => (
        <p key={it.id} class={`toast ${it.tone}`}><Icon name={it.tone === "good" ? "check" : "warn"} />{it.text}</p>
      ))}
    </div>
  );
}
