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
  /** The path of the entry in the navigation that it belongs to, if its first word does not say. */
  within?: string;
  /** The place in the navigation; routes without it are reached from others. */
  nav?: { en: string; de: string; icon: IconName; group: "watch" | "delivery" | "audience" | "system"; key: string; role?: Role };
}

export const ROUTES: readonly Route[] = [
  { path: "", screen: () => import("./screens/home"), nav: { en: "Home", de: "Start", icon: "home", group: "watch", key: "h" } },
  { path: "live", screen: () => import("./screens/live"), nav: { en: "Live", de: "Live", icon: "live", group: "watch", key: "l" } },
  { path: "events", screen: () => import("./screens/events"), nav: { en: "Events", de: "Ereignisse", icon: "events", group: "watch", key: "e" } },
  { path: "sites/:site/events", screen: () => import("./screens/events"), within: "events" },
  { path: "sites/:site/events/:seq", screen: () => import("./screens/event"), within: "events" },
  { path: "trace", screen: () => import("./screens/trace"), nav: { en: "Trace", de: "Spur", icon: "trace", group: "watch", key: "t", role: "editor" } },
  { path: "trace/:id", screen: () => import("./screens/trace") },
  { path: "people", screen: () => import("./screens/people"), nav: { en: "Team", de: "Team", icon: "people", group: "system", key: "u" } },
  { path: "people/:tab", screen: () => import("./screens/people") },
  { path: "audit", screen: () => import("./screens/audit"), nav: { en: "Audit", de: "Protokoll", icon: "audit", group: "system", key: "a", role: "admin" } },
];
