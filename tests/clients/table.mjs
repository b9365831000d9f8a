const OFTEN = ["kill", "503", "429"];
const only = process.env.ONLY?.split(",");
const names = ["node/segment","node/segment_old","node/customerio","node/rudderstack","node/rudderstack_expo","node/posthog","node/mixpanel","node/amplitude","node/amplitude_old","node/amplitude_plain","node/jitsu","node/snowplow","node/snowplow_old","node/matomo","node/plausible","node/umami","python/segment","python/segment_old","python/rudderstack","python/posthog","python/mixpanel","python/mixpanel_buffered","python/amplitude","python/snowplow","python/matomo","python/piwik","python/umami"];
export const CLIENTS = Object.fromEntries(names.filter((n) => !only || only.includes(n)).map((n) => [n, { calls: [], retries: OFTEN }]));
