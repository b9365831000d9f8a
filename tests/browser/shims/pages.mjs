// The inline code that the vendors tell sites to put into their pages, with the address of the script as
// the only change (and without the integrity of a file that is not meant), and the calls of a shop.

import { readFileSync } from "node:fs";
import { ORDER } from "../clients/pages/order.mjs";

const installed = (path) => readFileSync(new URL(`../node_modules/${path}`, import.meta.url), "utf8");
const order = JSON.stringify(ORDER);

const ITEMS = `[{item_id: "p1", item_name: "Lamp", price: 12.75, quantity: 2}]`;

/** By vendor: the snippet for the script at an address, calls before it, calls after it. */
export const PAGES = {
  ga4: {
    snippet: (src) => `</script><script async src="${src}"></script><script>
      window.dataLayer = window.dataLayer || [];
      function gtag(){dataLayer.push(arguments);}
      gtag('js', new Date());
      gtag('consent', 'default', { ad_storage: 'denied', analytics_storage: 'granted' });
      gtag('config', 'G-SHOP1', { user_id: 'u-ga4', user_properties: { plan: 'pro' } });`,
    before: `gtag('event', 'purchase', { transaction_id: 'o-1', value: 25.5, currency: 'EUR', items: ${ITEMS},
        event_callback: () => { window.answered = (window.answered || 0) + 1; } });
      gtag('event', 'conversion', { send_to: 'AW-1/x' });`,
    after: `gtag('consent', 'update', { ad_storage: 'granted' });
      gtag('get', 'G-SHOP1', 'client_id', (id) => { window.got = [/^\\d+\\.\\d+$/.test(id)]; });
      gtag('unheard', 'of');
      gtag('event', 'left', { how: 'link' });`,
  },
  meta: {
    snippet: (src) => `!function(f,b,e,v,n,t,s)
      {if(f.fbq)return;n=f.fbq=function(){n.callMethod?
      n.callMethod.apply(n,arguments):n.queue.push(arguments)};
      if(!f._fbq)f._fbq=n;n.push=n;n.loaded=!0;n.version='2.0';
      n.queue=[];t=b.createElement(e);t.async=!0;
      t.src=v;s=b.getElementsByTagName(e)[0];
      s.parentNode.insertBefore(t,s)}(window, document,'script','${src}');
      fbq('consent', 'revoke');
      fbq('init', '1234567890', { em: 'a@b.example', external_id: 'u-meta' });
      fbq('track', 'PageView');`,
    before: `fbq('track', 'Purchase', { value: 25.5, currency: 'EUR', content_type: 'product',
        contents: [{ id: 'p1', quantity: 2, item_price: 12.75 }] }, { eventID: 'e-1' });`,
    after: `fbq('consent', 'grant'); fbq('unheard', 'of');
      fbq('trackSingleCustom', '1234567890', 'left', { how: 'link' });`,
  },
  mixpanel: {
    snippet: (src) => `window.MIXPANEL_CUSTOM_LIB_URL = '${src}';
      ${installed("mixpanel-browser/dist/mixpanel-jslib-snippet.min.js")};
      mixpanel.init('0f1e2d3c4b5a69788796a5b4c3d2e1f0', { track_pageview: true, loaded: (it) => { window.loaded = it.get_distinct_id; } });`,
    before: `mixpanel.identify('u-mixpanel');
      mixpanel.people.set({ $email: 'a@b.example', plan: 'pro' });
      mixpanel.set_group('company', 'acme');
      mixpanel.get_group('company', 'acme').set({ tier: 'gold' });
      mixpanel.register({ shop: 'lamps' });
      mixpanel.track('Order Completed', ${order});`,
    after: `mixpanel.opt_out_tracking(); mixpanel.start_session_recording();
      window.got = mixpanel.get_distinct_id();
      mixpanel.track('left', { how: 'link' });`,
  },
  amplitude: {
    snippet: (src) => `${installed("@amplitude/analytics-browser/lib/scripts/amplitude-snippet-min.js")
      .replace(/c\.integrity="[^"]*",c\.crossOrigin="anonymous",/, "")
      .replace(/https:\/\/cdn\.amplitude\.com\/[^"]*/, src)}
      amplitude.init('0123456789abcdef0123456789abcdef');`,
    before: `amplitude.setUserId('u-amplitude');
      amplitude.identify(new amplitude.Identify().set('plan', 'pro').add('visits', 1));
      amplitude.setGroup('company', 'acme');
      amplitude.track('Order Completed', ${order}).promise.then((result) => { window.answered = result.code; });
      amplitude.revenue(new amplitude.Revenue().setProductId('p1').setPrice(12.75).setQuantity(2).setRevenueType('sale'));`,
    after: `amplitude.setOptOut(true); amplitude.setTransport('beacon');
      amplitude.flush().promise.then(() => { window.got = true; });
      amplitude.track('left', { how: 'link' });`,
  },
  segment: {
    snippet: (src) => `!function(){var analytics=window.analytics=window.analytics||[];if(!analytics.initialize)if(analytics.invoked)window.console&&console.error&&console.error("Segment snippet included twice.");else{analytics.invoked=!0;analytics.methods=["trackSubmit","trackClick","trackLink","trackForm","pageview","identify","reset","group","track","ready","alias","debug","page","once","off","on","addSourceMiddleware","addIntegrationMiddleware","setAnonymousId","addDestinationMiddleware"];analytics.factory=function(e){return function(){var t=Array.prototype.slice.call(arguments);t.unshift(e);analytics.push(t);return analytics}};for(var e=0;e<analytics.methods.length;e++){var key=analytics.methods[e];analytics[key]=analytics.factory(key)}analytics.load=function(key,e){var t=document.createElement("script");t.type="text/javascript";t.async=!0;t.src="${src}";var n=document.getElementsByTagName("script")[0];n.parentNode.insertBefore(t,n);analytics._loadOptions=e};analytics.SNIPPET_VERSION="4.13.1";
      analytics.load("shop");
      analytics.page("Lamps");
      }}();`,
    before: `analytics.identify('u-segment', { email: 'a@b.example', plan: 'pro' });
      analytics.group('acme', { tier: 'gold' });
      analytics.track('Order Completed', ${order});`,
    after: `analytics.debug(); analytics.track('left', { how: 'link' }, () => { window.answered = 1; });`,
  },
  posthog: {
    snippet: (src) => `!function(t,e){var o,n,p,r;e.__SV||(window.posthog=e,e._i=[],e.init=function(i,s,a){function g(t,e){var o=e.split(".");2==o.length&&(t=t[o[0]],e=o[1]),t[e]=function(){t.push([e].concat(Array.prototype.slice.call(arguments,0)))}}(p=t.createElement("script")).type="text/javascript",p.crossOrigin="anonymous",p.async=!0,p.src="${src}",(r=t.getElementsByTagName("script")[0]).parentNode.insertBefore(p,r);var u=e;for(void 0!==a?u=e[a]=[]:a="posthog",u.people=u.people||[],u.toString=function(t){var e="posthog";return"posthog"!==a&&(e+="."+a),t||(e+=" (stub)"),e},u.people.toString=function(){return u.toString(1)+".people (stub)"},o="init capture register register_once unregister getFeatureFlag getFeatureFlagPayload isFeatureEnabled reloadFeatureFlags onFeatureFlags identify setPersonProperties group resetGroups reset get_distinct_id getGroups alias set_config startSessionRecording stopSessionRecording captureException opt_in_capturing opt_out_capturing has_opted_in_capturing has_opted_out_capturing debug people.set people.set_once".split(" "),n=0;n<o.length;n++)g(u,o[n]);e._i.push([i,s,a])},e.__SV=1)}(document,window.posthog||[]);
      posthog.init('phc_shop', { api_host: 'https://eu.i.posthog.com' });`,
    before: `posthog.identify('u-posthog', { email: 'a@b.example', plan: 'pro' });
      posthog.group('company', 'acme', { tier: 'gold' });
      posthog.onFeatureFlags((flags) => { window.answered = flags.length; });
      posthog.capture('Order Completed', ${order});`,
    after: `posthog.opt_out_capturing(); posthog.startSessionRecording();
      window.got = [posthog.isFeatureEnabled('x'), posthog.getFeatureFlag('x') === undefined, posthog.get_distinct_id()];
      posthog.capture('left', { how: 'link' });`,
  },
  intercom: {
    snippet: (src) => `window.intercomSettings = { app_id: 'shop', user_id: 'u-intercom', email: 'a@b.example', plan: 'pro', user_hash: 'proof', company: { company_id: 'acme', tier: 'gold' } };
      (function(){var w=window;var ic=w.Intercom;if(typeof ic==="function"){ic('reattach_activator');ic('update',w.intercomSettings);}else{var d=document;var i=function(){i.c(arguments);};i.q=[];i.c=function(args){i.q.push(args);};w.Intercom=i;var l=function(){var s=d.createElement('script');s.type='text/javascript';s.async=true;s.src='${src}';var x=d.getElementsByTagName('script')[0];x.parentNode.insertBefore(s,x);};if(document.readyState==='complete'){l();}else if(w.attachEvent){w.attachEvent('onload',l);}else{w.addEventListener('load',l,false);}}})();`,
    before: `Intercom('trackEvent', 'Order Completed', ${order});`,
    after: `Intercom('hide'); Intercom('trackEvent', 'left', { how: 'link' });`,
  },
  drift: {
    snippet: (src) => `"use strict";
      !function(){var t=window.driftt=window.drift=window.driftt||[];if(!t.init){if(t.invoked)return void(window.console&&console.error&&console.error("Drift snippet included twice."));t.invoked=!0,t.methods=["identify","config","track","reset","debug","show","ping","page","hide","off","on"],t.factory=function(e){return function(){var n=Array.prototype.slice.call(arguments);return n.unshift(e),t.push(n),t}},t.methods.forEach(function(e){t[e]=t.factory(e)}),t.load=function(t){var o=document.createElement("script");o.type="text/javascript",o.async=!0,o.crossorigin="anonymous",o.src="${src}";var i=document.getElementsByTagName("script")[0];i.parentNode.insertBefore(o,i)}}}();
      drift.SNIPPET_VERSION='0.3.1';
      drift.load('shop');`,
    before: `drift.page(); drift.identify('u-drift', { email: 'a@b.example', plan: 'pro' });
      drift.track('Order Completed', ${order});`,
    after: `drift.on('ready', (api) => { window.answered = typeof api.openChat; }); drift.debug();
      drift.track('left', { how: 'link' });`,
  },
};
