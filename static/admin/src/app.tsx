// The frame around the screens: navigation, the site, the account, keys and messages.

import type { ComponentType } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { underWay } from "./api";
import { zone } from "./format";
import { language, pick, texts } from "./i18n";
import { globalKeys, screenKeys, step, type KeyBinding } from "./keys";
import { asProblem } from "./resource";
import { go, link, match, param, place, setParams } from "./router";
import { ROUTES, type Route, type ScreenProps } from "./routes";
import { can, chooseSite, door, enter, leave, me, site, sites } from "./session";
import { Button, Loading } from "./ui/basics";
import { Dialogs, DialogTitle, openDialog } from "./ui/dialog";
import { Icon } from "./ui/icons";
import { Empty, Fault } from "./ui/page";
import { Brand, Preferences } from "./ui/preferences";
import { Toasts } from "./ui/toast";
import { role } from "./words";

const t = texts({
  skip: "Skip to the content", main: "Main", more: "More", menu: "Menu", site: "Site", watch: "Watch", delivery: "Delivery", audience: "People",
  system: "System", keys: "Keyboard", help: "Keys", leave: "Sign out", account: "Account",
  no_screen: "There is no such page.", no_screen_text: "The link may be of another version of the console.", home: "To the start", everywhere: "Everywhere", here: "On this screen",
  key_search: "Search", key_step: "Next and previous row", key_open: "Open the row", key_close: "Close, or leave a field", key_help: "This help", key_go: "Go to {name}", zone: "Times are of the zone {zone}.", licences: "Open-source licences", version: "Tagway {version}",
}, {
  skip: "Zum Inhalt springen", main: "Hauptnavigation", more: "Mehr", menu: "Menü", site: "Site", watch: "Beobachten", delivery: "Zustellung", audience: "Personen",
  system: "System", keys: "Tastatur", help: "Tasten", leave: "Abmelden", account: "Konto",
  no_screen: "Diese Seite gibt es nicht.", no_screen_text: "Vielleicht ist der Link aus einer anderen Version der Konsole.", home: "Zum Start", everywhere: "Überall", here: "Auf dieser Seite",
  key_search: "Suchen", key_step: "Nächste und vorige Zeile", key_open: "Zeile öffnen", key_close: "Schließen, oder ein Feld verlassen", key_help: "Diese Hilfe", key_go: "Gehe zu {name}", zone: "Zeiten gelten in der Zone {zone}.", licences: "Open-Source-Lizenzen", version: "Tagway {version}",
});

const GROUPS = ["watch", "delivery", "audience", "system"] as const;

/** The routes of the navigation's bar on small screens. */
const BAR_KEYS = ["h", "l", "d", "x"];

type Entry = Route & { nav: NonNullable<Route["nav"]> };
const entries = (): Entry[] => ROUTES.filter((it): it is Entry => !!it.nav && (!it.nav.role || can(it.nav.role)));

/** The link of a navigation's entry: parts of the path that may be absent are. */
const target = (route: Route): string => {
  const path = route.path.split("/").filter((it) => !it.startsWith(":")).join("/");
  return link(path, { site: sites.value.length > 1 ? site.value : null });
};

/** Finds the route of the address, with the parts of the path that it names. */
export function found(): { route: Route; params: Record<string, string> } | null {
  for (const route of ROUTES) {
    const params = match(route.path, place.value.path);
    if (params) return { route, params };
  }
  return null;
}

export function App() {
  if (me.value === undefined) return <main class="door"><Loading /></main>;
  // A link signs in, also who is signed in already: it may be for another account.
  const byLink = place.value.path === "login" && param("code") !== "";
  if (!me.value || me.value.must_set_password || byLink) {
    return (
      <>
        <main class="door">
          {door.value.fault ? <Fault fault={door.value.fault} retry={() => void enter()} /> : <Lazy name="login" load={loadLogin} params={{}} />}
        </main>
        <Toasts />
      </>
    );
  }
  return <Frame />;
}

const loadLogin: Route["screen"] = () => import("./screens/login");

function Frame() {
  const at = found();
  const main = useRef<HTMLElement>(null);
  const shown = useRef(place.value.path);
  useEffect(() => {
    globalKeys.value = keys();
  }, [me.value, language.value]);
  useEffect(() => {
    // Another screen: readers hear its heading, and it starts at its top.
    if (shown.current === place.value.path) return;
    shown.current = place.value.path;
    scrollTo(0, 0);
    main.current?.focus({ preventScroll: true });
  }, [place.value.path]);
  const chosen = site.value;
  useEffect(() => {
    if (chosen) chooseSite(chosen);
  }, [chosen]);
  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); main.current?.focus(); }}>{t("skip")}</a>
      <div class={`progress ${underWay.value > 0 ? "on" : ""}`} aria-hidden="true" />
      <header class="topbar">
        <a class="brand" href="#/"><Brand />Tagway</a>
        <SiteChoice />
        <Button kind="quiet" icon="menu" only onClick={openMenu}>{t("menu")}</Button>
      </header>
      <nav class="side" aria-label={t("main")}>
        <a class="brand" href="#/"><Brand />Tagway</a>
        <SiteChoice />
        <Navigation at={at?.route} />
        <Account />
      </nav>
      <main id="main" ref={main} tabIndex={-1}>
        {at
          ? <Lazy key={at.route.path} name={at.route.path} load={at.route.screen} params={at.params} />
          : <Empty icon="search" title={t("no_screen")} action={<a class="button main" href="#/">{t("home")}</a>}>{t("no_screen_text")}</Empty>}
      </main>
      <nav class="bar" aria-label={t("more")}>
        {entries().filter((it) => BAR_KEYS.includes(it.nav.key)).map((it) => (
          <a key={it.path} href={target(it)} aria-current={at?.route === it ? "page" : undefined}>
            <Icon name={it.nav.icon} size={20} /><span>{pick(it.nav)}</span>
          </a>
        ))}
        <button type="button" onClick={openMenu}><Icon name="menu" size={20} /><span>{t("more")}</span></button>
      </nav>
      <Toasts />
      <Dialogs />
    </div>
  );
}

function Navigation({ at }: { at: Route | undefined }) {
  return (
    <div class="groups">
      {GROUPS.map((group) => {
        const inGroup = entries().filter((it) => it.nav.group === group);
        return inGroup.length > 0 && (
          <div class="group" key={group}>
            <h2 id={`nav-${group}`}>{t(group)}</h2>
            <ul aria-labelledby={`nav-${group}`}>
              {inGroup.map((it) => (
                <li key={it.path}>
                  <a href={target(it)} aria-current={isAt(it, at) ? "page" : undefined}>
                    <Icon name={it.nav.icon} size={17} /><span>{pick(it.nav)}</span><kbd aria-hidden="true">g {it.nav.key}</kbd>
                  </a>
                </li>
              ))}
            </ul>
          </div>
        );
      })}
    </div>
  );
}

/** A screen belongs to the entry that it names, else to that with the same first word. */
const isAt = (entry: Route, at: Route | undefined): boolean =>
  at === entry || (!!at && !at.nav && (at.within ?? at.path.split("/")[0]) === entry.path.split("/")[0]);

function SiteChoice() {
  if (sites.value.length < 2) return null;
  const choose = (name: string) => {
    chooseSite(name);
    // A screen of one object of another site has no meaning here: go to its list.
    const list = /^(sites|destinations|segments|profiles)\/./.exec(place.value.path)?.[1];
    if (list) go(link(list === "sites" ? "events" : list, { site: name }));
    else setParams({ site: name });
  };
  return (
    <label class="site-choice"><span class="sr">{t("site")}</span>
      <select value={site.value} onChange={(event) => choose(event.currentTarget.value)}>
        {sites.value.map((it) => <option key={it} value={it}>{it}</option>)}
      </select>
    </label>
  );
}

function Account() {
  const it = me.value;
  return (
    <div class="account">
      <Preferences />
      <div class="who">
        <span class="avatar" aria-hidden="true">{it?.name.slice(0, 1).toUpperCase()}</span>
        <span class="name"><b>{it?.name}</b><small>{it && role(it.role)}</small></span>
        <Button kind="quiet" icon="keyboard" only title={`${t("help")} (?)`} onClick={openHelp}>{t("help")}</Button>
        <Button kind="quiet" icon="out" only title={t("leave")} onClick={() => void leave()}>{t("leave")}</Button>
      </div>
      <small class="version">{t("version", { version: it?.version ?? "" })}</small>
    </div>
  );
}

function openMenu() {
  const { path } = place.value;
  void openDialog((close) => <Menu close={close} from={path} />);
}

function Menu({ close, from }: { close: () => void; from: string }) {
  useEffect(() => {
    if (place.value.path !== from) close();
  }, [place.value.path]);
  const at = found();
  return (
    <div class="menu" onClick={(event) => (event.target as Element).closest("a") && close()}>
      <DialogTitle close={close}>{t("menu")}</DialogTitle>
      <Navigation at={at?.route} />
      <Account />
    </div>
  );
}

function keys(): KeyBinding[] {
  return [
    { keys: "/", text: () => t("key_search"), run: () => document.querySelector<HTMLElement>("main [data-search]")?.focus() },
    { keys: "j", text: () => t("key_step"), run: () => step(1) },
    { keys: "k", text: () => t("key_step"), run: () => step(-1) },
    { keys: "?", text: () => t("key_help"), run: openHelp },
    ...entries().map((it): KeyBinding => ({
      keys: `g ${it.nav.key}`, text: () => t("key_go", { name: pick(it.nav) }), run: () => go(target(it)),
    })),
  ];
}

function openHelp() {
  void openDialog((close) => (
    <>
      <DialogTitle close={close}>{t("keys")}</DialogTitle>
      {screenKeys.value.length > 0 && <KeyList title={t("here")} keys={screenKeys.value} />}
      <KeyList title={t("everywhere")} keys={[
        ...globalKeys.value.filter((it) => it.keys.length === 1),
        { keys: "Enter", text: () => t("key_open"), run: () => {} },
        { keys: "Esc", text: () => t("key_close"), run: () => {} },
        ...globalKeys.value.filter((it) => it.keys.length > 1),
      ]} />
      <p class="muted">{t("zone", { zone })} <a href="licences.txt" target="_blank" rel="noopener">{t("licences")}</a></p>
    </>
  ));
}

function KeyList({ title, keys }: { title: string; keys: KeyBinding[] }) {
  return (
    <section class="keylist">
      <h3>{title}</h3>
      <dl>
        {keys.map((it) => (
          <div key={it.keys}><dt>{it.keys.split(" ").map((key) => <kbd key={key}>{key}</kbd>)}</dt><dd>{it.text()}</dd></div>
        ))}
      </dl>
    </section>
  );
}

const screens = new Map<string, ComponentType<ScreenProps>>();

/** A screen of a file of its own, which is loaded once. */
function Lazy({ name, load, params }: { name: string; load: Route["screen"]; params: Record<string, string> }) {
  const [, setLoaded] = useState(0);
  const [fault, setFault] = useState<unknown>(null);
  const Component = screens.get(name);
  const fetchIt = () => {
    setFault(null);
    load().then(
      (module) => {
        screens.set(name, module.default);
        setLoaded((it) => it + 1);
      },
      setFault,
    );
  };
  useEffect(() => {
    if (!Component) fetchIt();
  }, [name]);
  if (Component) return <Component params={params} />;
  // Either the network, or the gateway has a newer console than this page: both are cured by loading it again.
  return fault ? <Fault fault={asProblem(fault)} retry={() => location.reload()} /> : <Loading />;
}
