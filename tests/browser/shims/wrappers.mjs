// The wrappers that sites install from npm, each as it is: the page's code, and the events that come of it. What a
// wrapper asks of its vendor's host is the gateway's (`library`), or nothing is there and /tw.js has the shims (`sdk`).

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const installed = (path) => readFileSync(new URL(`../node_modules/${path}`, import.meta.url), "utf8");
/** Runs a snippet as an inline script of the page. */
const inline = (code) => `{ const tag = document.createElement("script"); tag.textContent = ${JSON.stringify(code)}; document.head.append(tag); }`;
const react = `import React from "react"; import { createRoot } from "react-dom/client";
  const render = (element) => createRoot(document.body.appendChild(document.createElement("div"))).render(element);`;
const vue = `import { createApp, h } from "vue"; import { createRouter, createWebHistory } from "vue-router";
  const page = { render: () => h("p", "Lamps") };
  const router = createRouter({ history: createWebHistory(), routes: [{ path: "/:any(.*)*", name: "Lamps", component: page }] });`;

const PAGE = { type: "page" };
const WRAPPED = { event: "wrapped", properties: { n: 1 } };
const identify = (userId, traits = {}) => ({ type: "identify", userId, traits });
const group = (groupId) => ({ type: "group", groupId });

const late = (activated) => `
  window.got = 0;
  for (const text of ${JSON.stringify(activated)}) {
    const tag = document.createElement("script");
    tag.type = "text/plain"; tag.dataset.category = "analytics"; tag.dataset.type = "text/javascript"; tag.dataset.name = "analytics";
    tag.textContent = text; document.head.append(tag);
  }`;
const META = `!function(f,b,e,v,n,t,s){if(f.fbq)return;n=f.fbq=function(){n.callMethod?n.callMethod.apply(n,arguments):n.queue.push(arguments)};if(!f._fbq)f._fbq=n;
  n.push=n;n.loaded=!0;n.version='2.0';n.queue=[];t=b.createElement(e);t.async=!0;t.src=v;s=b.getElementsByTagName(e)[0];s.parentNode.insertBefore(t,s)}(window,document,'script','https://connect.facebook.net/en_US/fbevents.js');
  fbq('init', '1234567890'); fbq('trackCustom', 'wrapped', { n: 1 });`;
const MIXPANEL = `${installed("mixpanel-browser/dist/mixpanel-jslib-snippet.min.js")};
  mixpanel.init('0f1e2d3c4b5a69788796a5b4c3d2e1f0', { loaded: () => { window.got += 1; } }); mixpanel.track('wrapped', { n: 1 });`;
const ACTIVATED = [META, MIXPANEL];

const amplitude = (path) => inline(installed(path).replace(/\w\.integrity="[^"]*",\w\.crossOrigin="anonymous",/, "").replace(/\.js\.gz/, ".js"));
const segment = (path) => `${inline(require(path).min({ apiKey: "shop", page: true }))}
  analytics.ready(() => { window.got = 1; }); analytics.identify("u-1", { plan: "pro" }); analytics.group("acme"); analytics.track("wrapped", { n: 1 }, () => { window.answered = 1; });`;
const analytics = (plugin, name, config, more = "") => `import Analytics from "analytics"; import plugin from "@analytics/${plugin}";
  const analytics = Analytics({ app: "shop", plugins: [plugin(${config})] });
  analytics.page(); analytics.identify("u-1", { plan: "pro" }); analytics.track("wrapped", { n: 1 }, () => { window.got = 1; }); ${more}`;

/** By wrapper: the page's code, the events in any order, and what is left in window.got. */
export const WRAPPERS = {
  "react-ga4": { got: 1, events: [PAGE, identify("u-1"), { event: "Wrapped" }, WRAPPED], code: `
    import ReactGA from "react-ga4";
    ReactGA.initialize([{ trackingId: "G-SHOP1", gtagOptions: { send_page_view: false } }, { trackingId: "AW-1" }]);
    ReactGA.set({ userId: "u-1" });
    ReactGA.send({ hitType: "pageview", page: "/lamps", title: "Lamps" });
    ReactGA.event({ category: "shop", action: "wrapped", label: "l", value: 1 });
    ReactGA.event("wrapped", { n: 1 });
    ReactGA.gtag("get", "G-SHOP1", "client_id", (it) => { window.got = it ? 1 : 0; });` },
  "vue-gtag 3": { got: 1, events: [PAGE, identify("u-1"), WRAPPED], code: `${vue}
    import { createGtag, event, set, query, consent, pageview } from "vue-gtag";
    createApp(page).use(router).use(createGtag({ tagId: "G-SHOP1", pageTracker: { router, sendPageView: true }, hooks: { "config:init:before": () => consent("default", { analytics_storage: "granted" }) } })).mount(document.body.appendChild(document.createElement("div")));
    set({ user_id: "u-1" });
    event("wrapped", { n: 1, event_callback: () => { window.got = 1; } });` },
  "vue-gtag 2, with a data layer of its own": { got: 1, events: [PAGE, identify("u-1"), WRAPPED], code: `${vue}
    import VueGtag, { event, set } from "vue-gtag-2";
    createApp(page).use(router).use(VueGtag, { globalDataLayerName: "dl", globalObjectName: "tag", config: { id: "G-SHOP1" } }, router).mount(document.body.appendChild(document.createElement("div")));
    router.isReady().then(() => setTimeout(() => { set({ user_id: "u-1" }); event("wrapped", { n: 1, event_callback: () => { window.got = 1; } }); }, 50));` },
  "ga-4-react": { got: "G-SHOP1", events: [PAGE, { event: "wrapped" }, { event: "plain" }], code: `
    import GA4React from "ga-4-react";
    new GA4React("G-SHOP1", { send_page_view: false }).initialize().then((ga) => {
      ga.pageview("/lamps", "Lamps"); ga.event("wrapped", "label", "category"); ga.gtag("event", "plain", { n: 1, event_callback: (id) => { window.got = id; } });
    });` },
  "@next/third-parties, GoogleAnalytics": { got: 1, events: [PAGE, WRAPPED], code: `${react}
    import { GoogleAnalytics, sendGAEvent } from "@next/third-parties/google";
    render(React.createElement(GoogleAnalytics, { gaId: "G-SHOP1" }));
    const wait = setInterval(() => { if (!window.dataLayer?.length) return; clearInterval(wait); sendGAEvent("event", "wrapped", { n: 1, event_callback: () => { window.got = 1; } }); }, 20);` },
  "@next/third-parties, GoogleTagManager beside gtag": { only: "sdk", got: 1, events: [PAGE], code: `${react}
    import { GoogleTagManager, sendGTMEvent } from "@next/third-parties/google";
    render(React.createElement(GoogleTagManager, { gtmId: "GTM-SHOP1", dataLayer: { page: "home" } }));
    sendGTMEvent({ event: "wrapped", eventCallback: () => { window.got = 1; }, eventTimeout: 500 });
    gtag("config", "G-SHOP1");` },
  "react-gtm-module beside gtag": { only: "sdk", got: 1, events: [PAGE], code: `
    import TagManager from "react-gtm-module";
    TagManager.initialize({ gtmId: "GTM-SHOP1", dataLayer: { page: "home" }, events: { sendUserData: "yes" } });
    TagManager.dataLayer({ dataLayer: { event: "wrapped", eventCallback: () => { window.got = 1; } } });
    gtag("config", "G-SHOP1");` },
  "gatsby-plugin-google-gtag's code": { got: 1, events: [PAGE, PAGE, WRAPPED], code: `
    { const tag = document.createElement("script"); tag.async = true; tag.src = "https://www.googletagmanager.com/gtag/js?id=G-SHOP1"; document.head.append(tag); }
    ${inline("window.dataLayer = window.dataLayer || []; function gtag() { dataLayer.push(arguments); } gtag('js', new Date()); gtag('config', 'G-SHOP1', { send_page_view: false, anonymize_ip: true });")}
    const update = (path) => { if (typeof gtag === "function") window.gtag("event", "page_view", { page_path: path }); };
    update("/one"); history.pushState({}, "", "/two"); setTimeout(() => { update("/two"); gtag("event", "wrapped", { n: 1, event_callback: () => { window.got = 1; } }); }, 32);` },
  "analytics and its plugin for Google": { got: 1, events: [PAGE, identify("u-1"), identify("u-1", { plan: "pro" }), WRAPPED], code: analytics("google-analytics", "google-analytics", `{ measurementIds: ["G-SHOP1"] }`) },
  "react-facebook-pixel": { got: 1, events: [PAGE, WRAPPED, { event: "Order Completed" }, { event: "single" }], code: `
    import { default as ReactPixel } from "react-facebook-pixel";
    ReactPixel.init("1234567890", { em: "a@b.example" }, { autoConfig: false, debug: false });
    ReactPixel.pageView(); ReactPixel.trackCustom("wrapped", { n: 1 }); ReactPixel.track("Purchase", { value: 1, currency: "EUR" });
    ReactPixel.trackSingleCustom("1234567890", "single", {}); ReactPixel.grantConsent(); ReactPixel.fbq("set", "agent", "x"); window.got = 1;` },
  // Its settings are there before its queue, which says the same again.
  "react-use-intercom": { got: "string", more: { library: [group("acme"), identify("u-1")] }, events: [identify("u-1", { plan: "pro" }), group("acme"), identify("u-1"), WRAPPED], code: `${react}
    import { IntercomProvider, useIntercom } from "react-use-intercom";
    function Home() {
      const { update, trackEvent, getVisitorId, show, hide, showNewMessage } = useIntercom();
      React.useEffect(() => { const timer = setInterval(() => { if (!window.tagway?.loaded.intercom) return; clearInterval(timer); update({ customAttributes: { plan: "gold" }, userId: "u-1" }); trackEvent("wrapped", { n: 1 }); hide(); window.got = typeof getVisitorId(); }, 50); return () => clearInterval(timer); }, []);
      return null;
    }
    render(React.createElement(IntercomProvider, { appId: "shop", autoBoot: true, autoBootProps: { userId: "u-1", company: { companyId: "acme" }, hideDefaultLauncher: true, customAttributes: { plan: "pro" } }, onUnreadCountChange() {}, shouldInitialize: true }, React.createElement(Home)));` },
  "@intercom/messenger-js-sdk": { got: 1, events: [identify("u-1", { plan: "pro" }), WRAPPED], code: `
    import Intercom, { trackEvent, update, onShow, onHide, onUnreadCountChange, hide, getVisitorId } from "@intercom/messenger-js-sdk";
    Intercom({ app_id: "shop", user_id: "u-1", plan: "pro" });
    const wait = setInterval(() => { if (!window.tagway?.loaded) return; clearInterval(wait); setTimeout(() => { trackEvent("wrapped", { n: 1 }); onShow(() => {}); onHide(() => {}); onUnreadCountChange(() => { window.got = 1; }); hide(); getVisitorId(); }, 100); }, 20);` },
  "analytics and its plugin for Intercom": { events: [identify("u-1"), WRAPPED], got: 1, code: analytics("intercom", "intercom", `{ appId: "shop" }`) },
  "react-drift": { got: 1, events: [identify("u-1", { plan: "pro" }), WRAPPED, PAGE], code: `${react}
    import { Drift } from "react-drift";
    render(React.createElement(Drift, { appId: "shop" }));
    const wait = setInterval(() => { if (!window.drift) return; clearInterval(wait); drift.identify("u-1", { plan: "pro" }); drift.track("wrapped", { n: 1 }); drift.page("Home"); drift.on("ready", (api) => { window.got = 1; api.widget.hide(); }); }, 20);` },
  "mixpanel-browser's snippet": { got: 2, events: [PAGE, identify("u-1"), { type: "identify", traits: { plan: "pro" } }, WRAPPED], code: `window.got = 0;
    ${inline(installed("mixpanel-browser/dist/mixpanel-jslib-snippet.min.js"))}
    mixpanel.init("0f1e2d3c4b5a69788796a5b4c3d2e1f0", { track_pageview: true, loaded: (it) => { window.got += it.get_distinct_id() ? 1 : 0; } });
    mixpanel.identify("u-1"); mixpanel.people.set({ plan: "pro" }); mixpanel.track("wrapped", { n: 1 }, {}, () => { window.got += 1; });` },
  // With anything at window.mixpanel the plugin believes that it has been initialised, and does not do it.
  "analytics and its plugin for Mixpanel": { only: "library", got: 1, events: [{}, identify("u-1"), {}, WRAPPED], code: analytics("mixpanel", "mixpanel", `{ token: "0f1e2d3c4b5a69788796a5b4c3d2e1f0" }`) },
  "Amplitude's snippet 2": { got: 200, events: [PAGE, identify("u-1"), identify("u-1", { plan: "pro" }), group("acme"), WRAPPED], code: `
    ${amplitude("@amplitude/analytics-browser/lib/scripts/amplitude-snippet-min.js")}
    amplitude.init("0123456789abcdef0123456789abcdef", "u-1"); amplitude.identify(new amplitude.Identify().set("plan", "pro")); amplitude.setGroup("company", "acme");
    amplitude.track("wrapped", { n: 1 }).promise.then((it) => { window.got = it.code; });` },
  "Amplitude's snippet 1": { got: 200, events: [PAGE, identify("u-1"), WRAPPED], code: `
    ${amplitude("amplitude-snippet-1/lib/scripts/amplitude-snippet-min.js")}
    amplitude.init("0123456789abcdef0123456789abcdef", undefined, { defaultTracking: { pageViews: true } }); amplitude.setUserId("u-1");
    amplitude.track("wrapped", { n: 1 }).promise.then((it) => { window.got = it.code; });` },
  // With anything at window.amplitude the plugin believes that it has been initialised, and tells it nothing.
  "analytics and its plugin for Amplitude": { only: "library", got: 1, events: [{ event: "Page View" }, identify("u-1"), identify("u-1", { plan: "pro" }), WRAPPED],
    code: analytics("amplitude", "amplitude", `{ apiKey: "0123456789abcdef0123456789abcdef", customScriptSrc: "https://cdn.amplitude.com/libs/amplitude-8.1.0-min.gz.js" }`) },
  "@segment/snippet 5": { got: 1, events: [PAGE, identify("u-1", { plan: "pro" }), group("acme"), WRAPPED], code: segment("@segment/snippet") },
  "@segment/snippet 4": { got: 1, events: [PAGE, identify("u-1", { plan: "pro" }), group("acme"), WRAPPED], code: segment("segment-snippet-4") },
  "analytics and its plugin for Segment": { got: 1, events: [PAGE, identify("u-1", { plan: "pro" }), WRAPPED], code: analytics("segment", "segment", `{ writeKey: "shop" }`) },
  "PostHogProvider over the snippet": { got: ["blue", true, "u-1"], events: [PAGE, identify("u-1", { plan: "pro" }), WRAPPED], code: `${react}
    import { PostHogProvider, usePostHog, useFeatureFlagVariantKey, useFeatureFlagEnabled } from "posthog-js/react";
    POSTHOG
    posthog.init("phc_shop", { bootstrap: { featureFlags: { color: "blue", on: true } }, loaded: (client) => {
      function Home() {
        const client = usePostHog(); const color = useFeatureFlagVariantKey("color"); const on = useFeatureFlagEnabled("on");
        React.useEffect(() => { client.identify("u-1", { plan: "pro" }); client.capture("wrapped", { n: 1 }); window.got = [color, on, client.get_distinct_id()]; }, []);
        return null;
      }
      render(React.createElement(PostHogProvider, { client }, React.createElement(Home)));
    } });` },
  "vanilla-cookieconsent": { only: "sdk", got: 1, events: [WRAPPED, WRAPPED], code: `${late(ACTIVATED)}
    import * as CookieConsent from "vanilla-cookieconsent";
    CookieConsent.run({ categories: { necessary: { enabled: true, readOnly: true }, analytics: {} }, language: { default: "en", translations: { en: { consentModal: { title: "Cookies", acceptAllBtn: "Accept" }, preferencesModal: { title: "Cookies", sections: [] } } } } })
      .then(() => CookieConsent.acceptCategory("all"));` },
  klaro: { only: "sdk", got: 1, events: [WRAPPED, WRAPPED], code: `${late(ACTIVATED)}
    import * as klaro from "klaro/dist/klaro-no-css";
    const config = { acceptAll: true, services: [{ name: "analytics", purposes: ["analytics"] }], translations: { en: { purposes: { analytics: "Analytics" } } }, lang: "en" };
    klaro.setup(config); const manager = klaro.getManager(config); manager.updateConsent("analytics", true); manager.saveAndApplyConsents();` },
};
