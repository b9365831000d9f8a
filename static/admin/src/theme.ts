// The theme: as the system says, light or dark.

import { effect, signal } from "@preact/signals";
import { store, stored } from "./storage";

export type Theme = "system" | "light" | "dark";

const isTheme = (value: string | null): value is Theme =>
  value === "system" || value === "light" || value === "dark";

const kept = stored("theme");
export const theme = signal<Theme>(isTheme(kept) ? kept : "system");

effect(() => {
  document.documentElement.style.colorScheme = theme.value === "system" ? "light dark" : theme.value;
});

export function setTheme(value: Theme): void {
  theme.value = value;
  store("theme", value);
}
