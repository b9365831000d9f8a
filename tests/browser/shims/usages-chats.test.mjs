// Intercom and drift as wrappers, components and helpers write it.

import { testUsages } from "./usages.mjs";

const how = { settings: { shims: { intercom: { from: "", app_id: "shop" }, drift: { from: "", embed_id: "shop" } } } };
const shown = "[...document.querySelectorAll('body > div')].some((it) => it.shadowRoot)";
const INTERCOM = `(function(){var w=window;var ic=w.Intercom;if(typeof ic==="function"){ic('reattach_activator');ic('update',w.intercomSettings);}else{var i=function(){i.c(arguments);};i.q=[];i.c=function(args){i.q.push(args);};w.Intercom=i;}})()`;

/** A messenger that leaves in window.got what it hears besides the boot. */
const MESSENGER = "window.got = Intercom.q.map((it) => [...it]).slice(1); window.Intercom = () => {};";
const opens = Object.fromEntries([["showNews", 7], ["showTicket", 8], ["startSurvey", 9], ["startTour", 10]].map(([name, id]) =>
  [`${name} loads the messenger`, { late: `Intercom('boot', { app_id: 'shop' }); Intercom('${name}', ${id})`, real: MESSENGER, got: [[name, id]] }]));

testUsages("intercom", INTERCOM, {
  ...opens,
  "settings that come with the snippet": { init: "", snippet: `window.intercomSettings = { app_id: 'shop', user_id: 'u', plan: 'pro' }; ${INTERCOM}`, late: `window.got = [Intercom.booted, ${shown}]`, sends: [{ userId: "u", traits: { plan: "pro" } }], got: [true, true] },
  "a ping for new messages is no property": { init: "", calls: "Intercom('boot', { app_id: 'shop' }); Intercom('update', { last_request_at: 1796000000 }); Intercom('update', { theme_mode: 'dark', hide_default_launcher: true, vertical_padding: 20 }); window.got = 1;", got: 1 },
  "companies in a list, and one without an id": { calls: "Intercom('boot', { app_id: 'shop', user_id: 'u', companies: [{ company_id: 'a', tier: 1 }, { id: 'b' }, { name: 'none' }] });", sends: [{ userId: "u" }, { groupId: "a", traits: { tier: 1 } }, { groupId: "b" }] },
  "a user without an id": { calls: "Intercom('boot', { app_id: 'shop', email: 'a@b.example', created_at: 1796000000 });", sends: [{ traits: { email: "a@b.example", created_at: 1796000000 } }] },
  "callbacks of what has not happened, and none": { calls: "Intercom('boot', { app_id: 'shop' }); Intercom('onShow', () => {}); Intercom('onHide'); Intercom('onUserEmailSupplied', () => {}); Intercom('onUnreadCountChange', (n) => { window.got = n; }); Intercom('onUnreadCountChange'); Intercom('setAuthTokens', { a: 'b' });", got: 0 },
  "a callback that throws": { calls: "Intercom('onUnreadCountChange', () => { throw new Error('theirs'); }); Intercom('trackEvent', 'A');", sends: [{ event: "A" }], faults: /theirs/ },
  "hide and notifications, before anybody talks": { calls: "Intercom('boot', { app_id: 'shop' }); Intercom('hide'); Intercom('hideNotifications', true); Intercom('unheard', 1); window.got = 1;", got: 1 },
  "an event whose metadata is rich": { calls: "Intercom('trackEvent', 'order', { price: { amount: 1, currency: 'eur' }, link: { url: 'https://a.example/', value: 'x' } }); Intercom('trackEvent', 'bare', null);", sends: [{ event: "order", properties: { price: { amount: 1 } } }, { event: "bare" }] },
  "the visitor's id is what events carry": { late: "const id = Intercom('getVisitorId'); Intercom('trackEvent', 'A', { id }); window.got = typeof id", sends: [(it) => it.anonymousId === it.properties.id], got: "string" },
  "Intercom by call and apply": { calls: "window.Intercom.apply(window, ['trackEvent', 'A']); Intercom.call(null, 'trackEvent', 'B', { n: 1 });", sends: [{ event: "A" }, { event: "B", properties: { n: 1 } }] },
}, { how });

const DRIFT = `"use strict";!function(){var t=window.driftt=window.drift=window.driftt||[];if(!t.init){if(t.invoked)return void(window.console&&console.error&&console.error("Drift snippet included twice."));
  t.invoked=!0,t.methods=["identify","config","track","reset","debug","show","ping","page","hide","off","on"],t.factory=function(e){return function(){var n=Array.prototype.slice.call(arguments);return n.unshift(e),t.push(n),t}},t.methods.forEach(function(e){t[e]=t.factory(e)}),t.load=function(){}}}()`;

testUsages("drift", DRIFT, {
  "a component that takes the widget away": { late: `drift.unload(); const a = ${shown}; drift.show(); const b = ${shown}; drift.stop(); window.got = [a, b, ${shown}]`, got: [false, true, false] },
  "listeners of the API": { calls: "drift.on('ready', (api) => { api.on('chatOpen', () => {}); api.off('chatOpen'); window.got = [typeof api.openChat, typeof api.sidebar.open, typeof api.widget.hide]; });", got: ["function", "function", "function"] },
  "ready more than once, and what comes with it": { calls: "window.n = 0; drift.on('ready', (api, payload) => { n += typeof payload === 'object' ? 1 : 0; }); drift.on('ready', () => { n += 1; window.got = n; });", got: 2 },
  "a method that nobody heard of": { late: "drift.api.collectFormData?.({}); drift.collectFormData(); drift.track('A')", sends: [{ event: "A" }], warns: 1 },
  "identify, with what proves it, and attributes": { calls: "drift.identify(7, { email: 'a@b.example' }, { userJwt: 'x' });", late: "drift.api.setUserAttributes({ plan: 'pro' }); drift.setUserAttributes(null)", sends: [{ userId: "7", traits: { email: "a@b.example" } }, { traits: { plan: "pro" } }, {}] },
  "calls in a chain, and listeners of messages": { calls: "drift.on('message:sent', () => {}).track('A').page('Home'); drift.off('message:sent'); drift.on('emailCapture', () => {}); drift.ping({ a: 1 });", sends: [{ event: "A" }, { type: "page", name: "Home" }] },
  "a page without a snippet": { snippet: "", when: "after", calls: "drift.track('A'); driftt.track('B'); window.got = typeof drift.api.openChat;", sends: [{ event: "A" }, { event: "B" }], got: "function" },
}, { how });
