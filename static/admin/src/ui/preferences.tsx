// The mark, and the choices that need no account: language and theme.

import { LANGUAGES, language, setLanguage, texts } from "../i18n";
import { setTheme, theme, type Theme } from "../theme";

const t = texts({
  language: "Language", theme: "Theme", system: "System", light: "Light", dark: "Dark",
}, {
  language: "Sprache", theme: "Aussehen", system: "System", light: "Hell", dark: "Dunkel",
});

export function Brand({ size = 22 }: { size?: number }) {
  return (
    <svg class="mark" viewBox="0 0 32 32" width={size} height={size} aria-hidden="true">
      <rect width="32" height="32" rx="8" /><path d="M8 10h16M16 10v6m0 0-6 6m6-6 6 6" />
    </svg>
  );
}

const THEMES: readonly Theme[] = ["system", "light", "dark"];

/** The choice of language and theme. */
export function Preferences() {
  return (
    <div class="preferences">
      <label><span class="sr">{t("language")}</span>
        <select value={language.value} onChange={(event) => setLanguage(event.currentTarget.value as typeof language.value)}>
          {LANGUAGES.map(([code, name]) => <option key={code} value={code} lang={code}>{name}</option>)}
        </select>
      </label>
      <label><span class="sr">{t("theme")}</span>
        <select value={theme.value} onChange={(event) => setTheme(event.currentTarget.value as Theme)}>
          {THEMES.map((it) => <option key={it} value={it}>{t(it)}</option>)}
        </select>
      </label>
    </div>
  );
}

