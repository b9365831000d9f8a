// The screens: one line each. A screen is loaded when it is first shown.

import type { ComponentType } from "preact";
import type { Role } from "./api";
import type { IconName } from "./ui/icons";

export interface ScreenProps {
  /** The parts of the path that the pattern names. */
  params: Record<string, string>;
}

export interface Route {
  path: string;
  screen: () => Promise<{ default: ComponentType<ScreenProps> }>;
  /** The place in the navigation; routes without it are reached from others. */
  nav?: { en: string; de: string; icon: IconName; group: "watch" | "delivery" | "audience" | "system"; key: string; role?: Role };
}

export const ROUTES: readonly Route[] = [
  { path: "", screen: () => import("./screens/home"), nav: { en: "Home", de: "Start", icon: "home", group: "watch", key: "h" } },
];
