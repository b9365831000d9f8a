// The names of a person, as lists and profiles show them.

import { texts } from "../i18n";
import { spoken } from "../words";

const kinds = texts({
  user: "user id", email: "e-mail address", anonymous: "browser", visitor: "visitor", ga: "Google Analytics", fbp: "Meta browser id",
}, {
  user: "Benutzerkennung", email: "E-Mail-Adresse", anonymous: "Browser", visitor: "Besucher", ga: "Google Analytics", fbp: "Meta-Browserkennung",
});

/** The words for the kind of a name. */
export function kindOf(code: string): string {
  const word = kinds(code as Parameters<typeof kinds>[0]);
  return word === code ? spoken(code.replace(":", " ")) : word;
}

/** The names that a row shows; a profile has the rest. */
const SHOWN = 2;

export function Names({ names, id }: { names: readonly { kind: string; value: string }[]; id: number }) {
  if (names.length === 0) return <>{id}</>;
  return (
    <span class="names">
      {names.slice(0, SHOWN).map((it) => <span key={`${it.kind}/${it.value}`}>{it.value} <small class="muted">{kindOf(it.kind)}</small></span>)}
      {names.length > SHOWN && <small class="muted">+{names.length - SHOWN}</small>}
    </span>
  );
}
