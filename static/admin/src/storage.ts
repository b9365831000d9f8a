// What a browser keeps between visits: the language, the theme, the site. Nothing of events or people.

const PREFIX = "tagway.console.";

/** Returns a kept value; browsers that forbid storage have none. */
export function stored(name: string): string | null {
  try {
    return localStorage.getItem(PREFIX + name);
  } catch {
    return null;
  }
}

export function store(name: string, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, value);
  } catch {
    // The choice then lasts as long as the page.
  }
}
