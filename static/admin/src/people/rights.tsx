// The rights of an account or a token: role, sites, personal data.

import type { Role } from "../api";
import { texts } from "../i18n";
import { sites } from "../session";
import { role } from "../words";

const t = texts({
  role: "Role", viewer: "sees everything, with personal data hidden", editor: "also pauses, retries, traces and tests", admin: "also accounts, tokens, replay, forgetting people", personal: "May see personal data", personal_text: "Each look is written into the audit log.",
  sites: "Sites", all: "all sites", only: "Only these sites", hidden: "hidden", shown: "may be shown",
}, {
  role: "Rolle", viewer: "sieht alles, personenbezogene Daten verborgen", editor: "pausiert auch, wiederholt, verfolgt und testet", admin: "dazu Konten, Token, erneutes Senden, Vergessen", personal: "Darf personenbezogene Daten sehen", personal_text: "Jeder Blick wird im Protokoll vermerkt.",
  sites: "Sites", all: "alle Sites", only: "Nur diese Sites", hidden: "verborgen", shown: "darf gezeigt werden",
});

export interface Rights {
  role: Role;
  personal: boolean;
  sites: string[] | null;
}

export const NO_RIGHTS: Rights = { role: "viewer", personal: false, sites: null };

const ROLES = ["viewer", "editor", "admin"] as const;

export function RightsFields({ rights, set }: { rights: Rights; set: (rights: Rights) => void }) {
  const toggle = (name: string) => {
    const chosen = rights.sites ?? [];
    set({ ...rights, sites: chosen.includes(name) ? chosen.filter((it) => it !== name) : [...chosen, name] });
  };
  return (
    <>
      <fieldset>
        <legend>{t("role")}</legend>
        {ROLES.map((it) => (
          <label key={it} class="check">
            <input type="radio" name="role" value={it} checked={rights.role === it} onChange={() => set({ ...rights, role: it })} />
            <span><b>{role(it)}</b> <small class="muted">{t(it)}</small></span>
          </label>
        ))}
      </fieldset>
      <label class="check">
        <input type="checkbox" checked={rights.personal} onChange={() => set({ ...rights, personal: !rights.personal })} />
        <span>{t("personal")} <small class="muted">{t("personal_text")}</small></span>
      </label>
      {sites.value.length > 1 && (
        <fieldset>
          <legend>{t("sites")}</legend>
          <label class="check">
            <input type="checkbox" checked={rights.sites !== null} onChange={() => set({ ...rights, sites: rights.sites === null ? [] : null })} />{t("only")}
          </label>
          {rights.sites !== null && sites.value.map((it) => (
            <label key={it} class="check inner"><input type="checkbox" checked={rights.sites?.includes(it)} onChange={() => toggle(it)} />{it}</label>
          ))}
        </fieldset>
      )}
    </>
  );
}

export const sitesText = (list: string[] | null): string => list?.join(", ") ?? t("all");
export const personalText = (may: boolean): string => t(may ? "shown" : "hidden");
