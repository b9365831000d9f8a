// Who is signed in, and the sites that they see.

import { computed, signal } from "@preact/signals";
import { api, Problem, refusals, type Me, type Role } from "./api";
import { place } from "./router";
import { store, stored } from "./storage";

/** The caller: undefined until the gateway answered, null if nobody is signed in. */
export const me = signal<Me | null | undefined>(undefined);

/** What the gateway says to those who are not signed in. */
export const door = signal<{ setup: boolean; oidc: boolean; fault: Problem | null }>({ setup: false, oidc: false, fault: null });

export const sites = signal<string[]>([]);

const lastSite = signal(stored("site") ?? "");

/** The site that the screens are about: the address says it, else the last choice, else the first. */
export const site = computed(() => {
  const inPath = /^(?:sites|destinations|segments|profiles)\/([^/]+)/.exec(place.value.path)?.[1];
  const named = place.value.query.get("site") ?? (inPath && decodeURIComponent(inPath));
  if (named && sites.value.includes(named)) return named;
  return sites.value.includes(lastSite.value) ? lastSite.value : sites.value[0] ?? "";
});

export function chooseSite(name: string): void {
  lastSite.value = name;
  store("site", name);
}

const RANK: Record<Role, number> = { viewer: 0, editor: 1, admin: 2 };

/** Returns true if the caller has at least this role. */
export const can = (role: Role): boolean => !!me.value && RANK[me.value.role] >= RANK[role];

/** Asks the gateway who the caller is. */
export async function enter(): Promise<void> {
  // Both at once: who may enter at all may nearly always see sites.
  const listed = api.get<string[]>("sites");
  listed.catch(() => {});
  try {
    await welcome(await api.get<Me>("me"), listed);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    const isDoor = error.status === 401;
    door.value = {
      setup: error.members["setup"] === true,
      oidc: error.members["oidc"] === true,
      fault: isDoor ? null : error,
    };
    me.value = null;
  }
}

/** Lets in a caller whom the gateway knows. */
export async function welcome(answer: Me, listed?: Promise<string[]>): Promise<void> {
  if (!answer.must_set_password) sites.value = await (listed ?? api.get<string[]>("sites"));
  me.value = answer;
}

export async function leave(): Promise<void> {
  try {
    await api.delete("session");
  } finally {
    me.value = null;
    sites.value = [];
    await enter();
  }
}

refusals.signedOut = () => {
  if (me.value) {
    me.value = null;
    void enter();
  }
};
