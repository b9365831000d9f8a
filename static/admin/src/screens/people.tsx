// Team: who may do what here, and by what are they signed in?

import { texts } from "../i18n";
import { link } from "../router";
import type { ScreenProps } from "../routes";
import { can } from "../session";
import { Tabs } from "../ui/basics";
import { Screen } from "../ui/page";
import { Accounts, InviteButton } from "../people/accounts";
import { PasswordButton, Sessions } from "../people/sessions";
import { TokenButton, Tokens } from "../people/tokens";

const t = texts({
  title: "Team", lead: "Who may see and change what. Everything that they do is in the audit log.", accounts: "Accounts", tokens: "API tokens", sessions: "Sign-ins", parts: "Parts of this page",
}, {
  title: "Team", lead: "Wer was sehen und ändern darf. Alles, was sie tun, steht im Protokoll.", accounts: "Konten", tokens: "API-Token", sessions: "Anmeldungen", parts: "Teile dieser Seite",
});

const TABS = ["accounts", "tokens", "sessions"] as const;

export default function People({ params }: ScreenProps) {
  // Those who manage nobody still see where they are signed in.
  const tabs = can("admin") ? TABS : (["sessions"] as const);
  const tab = tabs.find((it) => it === params["tab"]) ?? tabs[0];
  const actions = { accounts: <InviteButton />, tokens: <TokenButton />, sessions: <PasswordButton /> };
  return (
    <Screen title={t("title")} lead={t("lead")} actions={actions[tab]}>
      <Tabs label={t("parts")} tabs={tabs.map((it) => ({ href: link(it === "accounts" ? ["people"] : ["people", it]), text: t(it), isCurrent: it === tab }))} />
      {tab === "accounts" ? <Accounts /> : tab === "tokens" ? <Tokens /> : <Sessions />}
    </Screen>
  );
}
