// Scripts of vendors: what waits for approval, and what has changed in it?

import { api, type Script, type ScriptDiff, type ScriptVersion } from "../api";
import { duration } from "../format";
import { locale, texts } from "../i18n";
import { useResource } from "../resource";
import { go, link, param } from "../router";
import type { ScreenProps } from "../routes";
import { can } from "../session";
import { Badge, Button, Card, Facts, Notice } from "../ui/basics";
import { confirmAct } from "../ui/dialog";
import { Empty, Loaded, Screen } from "../ui/page";
import { Table } from "../ui/table";
import { attempt } from "../ui/toast";
import { vendor, type Tone } from "../words";

const t = texts({
  title: "Vendor scripts", lead: "The scripts of vendors that your pages load through the gateway. A pinned one changes only when you approve it.", script: "Script", vendor: "Vendor", site: "Site", state: "State", size: "Size", age: "For", all_sites: "shared",
  pending: "waits for you", missing: "not approved yet", stale: "last fetch failed", pinned: "approved", open: "as the vendor serves it", empty: "No vendor scripts yet", empty_text: "As soon as a page loads a vendor's script through the gateway, it is listed here. Pin a vendor in tagway.toml to approve each change.",
  back: "Vendor scripts", served: "Visitors get", waits: "Waits for approval", nothing: "nothing", hash: "Hash", changes: "What changed", cut: "Only the beginning of the changes is shown: compare the rest in the files.", approve: "Approve", sure: "Approve this version", sure_text: "Visitors of {site} get it from now on, {bytes} instead of {before}.", approved: "Visitors get the new version.",
  first_text: "Visitors of {site} get it from now on, {bytes}.", none: "Nothing waits for approval", none_text: "Somebody has approved it, or the vendor took it back.", lines: "{added} {added|line|lines} added, {removed} removed",
}, {
  title: "Anbieterskripte", lead: "Die Skripte von Anbietern, die deine Seiten durch das Gateway laden. Ein festgelegtes ändert sich nur mit deiner Freigabe.", script: "Skript", vendor: "Anbieter", site: "Site", state: "Zustand", size: "Größe", age: "Seit", all_sites: "gemeinsam",
  pending: "wartet auf dich", missing: "noch nicht freigegeben", stale: "letzter Abruf gescheitert", pinned: "freigegeben", open: "wie der Anbieter es liefert", empty: "Noch keine Anbieterskripte", empty_text: "Sobald eine Seite das Skript eines Anbieters durch das Gateway lädt, steht es hier. Lege einen Anbieter in der tagway.toml fest, um jede Änderung freizugeben.",
  back: "Anbieterskripte", served: "Besucher bekommen", waits: "Wartet auf Freigabe", nothing: "nichts", hash: "Prüfsumme", changes: "Was sich änderte", cut: "Nur der Anfang der Änderungen ist zu sehen: Vergleiche den Rest in den Dateien.", approve: "Freigeben", sure: "Diese Version freigeben", sure_text: "Besucher von {site} bekommen sie von jetzt an, {bytes} statt {before}.", approved: "Besucher bekommen die neue Version.",
  first_text: "Besucher von {site} bekommen sie von jetzt an, {bytes}.", none: "Nichts wartet auf Freigabe", none_text: "Jemand hat es freigegeben, oder der Anbieter nahm es zurück.", lines: "{added} {added|Zeile|Zeilen} dazu, {removed} entfernt",
});

const STATES: Record<string, [word: "pending" | "missing" | "stale" | "pinned" | "open", tone: Tone]> = {
  pending: ["pending", "warn"], missing: ["missing", "bad"], stale: ["stale", "warn"], pinned: ["pinned", "good"], open: ["open", "quiet"],
};

const ORDER = ["pending", "missing", "stale", "pinned", "open"];

const bytes = (it: ScriptVersion): string =>
  new Intl.NumberFormat(locale.value, { style: "unit", unit: "kilobyte", maximumFractionDigits: 1 }).format(it.bytes / 1000);

export default function Scripts(_: ScreenProps) {
  const selected = { site: param("site"), vendor: param("vendor"), script: param("script") };
  return selected.script !== "" && selected.vendor !== "" ? <Review {...selected} /> : <List />;
}

function State({ code }: { code: string }) {
  const [word, tone] = STATES[code] ?? ["open", "quiet"];
  return <Badge tone={tone}>{t(word)}</Badge>;
}

function List() {
  const answer = useResource("scripts", (signal) => api.get<Script[]>("scripts", {}, signal));
  return (
    <Screen title={t("title")} lead={t("lead")}>
      <Loaded from={answer}>
        {(rows) => (
          <Card>
            {rows.length === 0 ? <Empty icon="script" title={t("empty")}>{t("empty_text")}</Empty> : (
              <Table caption={t("title")} rows={[...rows].sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state))} rowKey={(it) => `${it.site}/${it.vendor}/${it.script}`}
                href={(it) => (it.pending && it.site ? link("scripts", { site: it.site, vendor: it.vendor, script: it.script }) : null)}
                columns={[
                  { head: t("script"), isWide: true, cell: (it) => <span class="mono">{it.script}</span> },
                  { head: t("vendor"), cell: (it) => vendor(it.vendor) },
                  { head: t("site"), cell: (it) => it.site ?? <span class="muted">{t("all_sites")}</span> },
                  { head: t("state"), cell: (it) => <State code={it.state} /> },
                  { head: t("size"), isNumber: true, isMinor: true, cell: (it) => (it.served ? bytes(it.served) : "–") },
                  { head: t("age"), isNumber: true, cell: (it) => { const version = it.pending ?? it.served; return version ? duration(version.age_seconds) : "–"; } },
                ]} />
            )}
          </Card>
        )}
      </Loaded>
    </Screen>
  );
}

function Review({ site, vendor: code, script }: { site: string; vendor: string; script: string }) {
  const query = { site, vendor: code, script };
  const answer = useResource(JSON.stringify(query), (signal) => api.get<ScriptDiff>("scripts/diff", query, signal));
  const it = answer.data;
  const approve = async () => {
    if (!it) return;
    const sizes = { site, bytes: bytes(it.pending) };
    const isSure = await confirmAct({ title: t("sure"), act: t("approve"), body: it.served ? t("sure_text", { ...sizes, before: bytes(it.served) }) : t("first_text", sizes) });
    if (!isSure) return;
    if (await attempt(() => api.post("scripts/approve", { ...query, hash: it.pending.hash }), t("approved"))) go(link("scripts"), { replace: true });
    else answer.reload();
  };
  const version = (it: ScriptVersion | null) => (it
    ? <>{bytes(it)} <span class="muted">· {duration(it.age_seconds)}</span><br /><code class="muted hash">{it.hash}</code></>
    : <span class="muted">{t("nothing")}</span>);
  return (
    <Screen title={script} lead={`${vendor(code)}, ${site}`} back={{ href: link("scripts"), text: t("back") }}
      actions={it && can("editor") && <Button kind="main" icon="check" onClick={() => void approve()}>{t("approve")}</Button>}>
      {answer.fault?.status === 409 || answer.fault?.status === 404 ? <Card><Empty icon="check" title={t("none")}>{t("none_text")}</Empty></Card> : (
        <Loaded from={answer}>
          {(diff) => (
            <>
              <Card><Facts rows={[[t("served"), version(diff.served)], [t("waits"), version(diff.pending)]]} /></Card>
              <Changes diff={diff} />
            </>
          )}
        </Loaded>
      )}
    </Screen>
  );
}

const kindOf = (line: string): string | undefined =>
  line.startsWith("@@") || line.startsWith("---") || line.startsWith("+++") ? "head" : line.startsWith("+") ? "added" : line.startsWith("-") ? "removed" : undefined;

function Changes({ diff }: { diff: ScriptDiff }) {
  const rows = diff.diff.replace(/\n$/, "").split("\n");
  const number = (kind: string) => rows.filter((it) => kindOf(it) === kind).length;
  return (
    <Card title={t("changes")} aside={t("lines", { added: number("added"), removed: number("removed") })}>
      {diff.cut && <div class="notices"><Notice tone="warn">{t("cut")}</Notice></div>}
      <div class="codeblock">
        <pre class="diff" tabIndex={0} role="region" aria-label={t("changes")}>
          {rows.map((line, index) => <span key={index} class={kindOf(line)}>{line}{"\n"}</span>)}
        </pre>
      </div>
    </Card>
  );
}
