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
  { path: "alerts", screen: () => import("./screens/alerts"), nav: { en: "Alerts", de: "Warnungen", icon: "bell", group: "watch", key: "n" } },
  { path: "alerts/:id", screen: () => import("./screens/alert") },
  { path: "destinations", screen: () => import("./screens/destinations"), nav: { en: "Destinations", de: "Ziele", icon: "send", group: "delivery", key: "d" } },
  { path: "destinations/:site/:destination", screen: () => import("./screens/destination") },
  { path: "dead", screen: () => import("./screens/dead"), nav: { en: "Failed", de: "Gescheitert", icon: "dead", group: "delivery", key: "x" } },
  { path: "dead/:id", screen: () => import("./screens/deadletter") },
  { path: "replay", screen: () => import("./screens/replay"), nav: { en: "Replay", de: "Nachsenden", icon: "replay", group: "delivery", key: "y", role: "editor" } },
  { path: "profiles", screen: () => import("./screens/profiles"), nav: { en: "Profiles", de: "Profile", icon: "person", group: "audience", key: "p" } },
  { path: "profiles/:site/:id", screen: () => import("./screens/profile") },
  { path: "segments", screen: () => import("./screens/segments"), nav: { en: "Segments", de: "Segmente", icon: "segments", group: "audience", key: "s" } },
  { path: "segments/:site/:name", screen: () => import("./screens/segment") },
  { path: "scripts", screen: () => import("./screens/scripts"), nav: { en: "Vendor scripts", de: "Anbieterskripte", icon: "script", group: "system", key: "c" } },
  { path: "settings", screen: () => import("./screens/settings"), nav: { en: "Settings", de: "Einstellungen", icon: "settings", group: "system", key: "o" } },
  { path: "people", screen: () => import("./screens/people"), nav: { en: "Team", de: "Team", icon: "people", group: "system", key: "u" } },
  { path: "people/:tab", screen: () => import("./screens/people") },
  { path: "audit", screen: () => import("./screens/audit"), nav: { en: "Audit", de: "Protokoll", icon: "audit", group: "system", key: "a", role: "admin" } },
];
