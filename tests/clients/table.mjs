// What each client's calls come to (its driver's calls()), and what it does when the gateway cannot take
// something. Clients that do not try again may lose what they sent at that moment, and must say so.

/** The calls of the Segment spec. */
const SPEC = ["identify u1", "track Order Completed u1", "page Home u1", "screen Start nobody", "group u1 acme", "alias u1"];
const SPEC_OF_PYTHON = [...SPEC.filter((call) => !call.startsWith("screen")), "screen Start u1"];
const ALWAYS = ["kill", "503", "429"];
const SNOWPLOW = {
  calls: ["page u1", "screen Start u1", "track play u1", "track order_completed u1"],
  retries: ALWAYS,
};
const MATOMO = {
  numberOf: ({ event, properties }) => (event === "Lamp Seen" ? properties.label ?? properties.name : undefined),
};
const MIXPANEL_PROFILES = [...Array(9).fill("identify u1"), ...Array(5).fill("group nobody acme")];
const MIXPANEL_OF_PYTHON = ["track Order Completed u1", "track Imported u1", "alias a1", ...MIXPANEL_PROFILES];
const PIWIK_NUMBER = /^Lamp Seen (\d+)$/;

export const CLIENTS = {
  "node/segment": { calls: SPEC, retries: ALWAYS, knowsKeys: true },
  "node/segment_old": { calls: SPEC, retries: ALWAYS, knowsKeys: true, tries: 2 },
  // It takes a 401 for a fault that passes.
  "node/customerio": { calls: SPEC, retries: ALWAYS, knowsKeys: true, tries: 11 },
  "node/rudderstack": { calls: SPEC, retries: ALWAYS },
  "node/rudderstack_expo": { calls: SPEC, retries: ["503", "429"] },
  "node/posthog": {
    calls: ["identify u1", "identify u1", "identify u1", "track Order Completed u1", "page u1", "group u1 acme",
      "track Exception Raised u1", "track At Once u1", "alias a1"],
    retries: ALWAYS,
  },
  "node/mixpanel": {
    calls: ["track Order Completed u1", "track First u1", "track Second u1", "track Imported u1", "track Third u1",
      "track Fourth u1", "alias a1", ...MIXPANEL_PROFILES],
    erases: true,
  },
  "node/amplitude": {
    calls: ["track Order Completed u1", "track Logged u1", "identify u1", "group u1 acme", "group u1 acme",
      "track Order Completed u1"],
    retries: ["503", "429"],
  },
  // It gives up on a 429 after a few seconds.
  "node/amplitude_old": { calls: ["track Order Completed u1", "identify u1", "group nobody acme"], retries: ["503"] },
  "node/amplitude_plain": {
    calls: ["track Order Completed u1", "track First u1", "track Second u1", "identify u1", "identify u1"],
  },
  "node/jitsu": { calls: ["identify u1", "track Order Completed u1", "page u1", "group u1 acme"], tellsAddress: false },
  "node/snowplow": SNOWPLOW,
  "node/snowplow_old": { ...SNOWPLOW, showsKey: false },
  "node/matomo": {
    ...MATOMO,
    calls: ["page u1", "track play u1", "track Order Completed u1", "track Products Searched u1"],
  },
  "node/plausible": {
    calls: ["page nobody", "track Order Completed nobody"], showsKey: false, isNameless: true,
  },
  "node/umami": {
    calls: ["page u1", "track Order Completed nobody", "identify nobody"], showsKey: false,
  },
  "python/segment": { calls: SPEC_OF_PYTHON, retries: ALWAYS, knowsKeys: true },
  // These two wait for ever for what is too long for themselves.
  "python/segment_old": { calls: SPEC_OF_PYTHON, retries: ALWAYS, knowsKeys: true, longest: 0 },
  "python/rudderstack": { calls: SPEC_OF_PYTHON, retries: ALWAYS, longest: 0 },
  "python/posthog": {
    calls: ["identify u1", "identify u1", "track Order Completed u1", "page u1", "group u1 acme", "alias u1",
      "track Exception Raised u1"],
    retries: ALWAYS,
    // What is longer it leaves out, and tells its log alone.
    longest: 900_000,
  },
  "python/mixpanel": { calls: MIXPANEL_OF_PYTHON, erases: true },
  // What is refused it keeps at the head of its queue, as does matomo.
  "python/mixpanel_buffered": { calls: MIXPANEL_OF_PYTHON, retries: ALWAYS, longest: 500_000, keepsRefused: true, erases: true },
  "python/amplitude": {
    calls: ["track Order Completed u1", "identify u1", "group u1 acme", "group u1 acme", "track Order Completed u1"],
    retries: ["503", "429"],
    // It loses what was under way on a connection that breaks, and reports nothing.
    isSilent: true,
  },
  "python/snowplow": SNOWPLOW,
  "python/matomo": {
    ...MATOMO,
    longest: 500_000, keepsRefused: true,
    calls: ["page u1", "track play u1", "track Goal Conversion u1", "track Products Searched u1",
      "track Outbound Link Clicked u1", "track Order Completed u1"],
  },
  "python/piwik": {
    numberOf: ({ properties }) => PIWIK_NUMBER.exec(properties?.title)?.[1], isNameless: true,
    calls: ["page nobody", "track Outbound Link Clicked nobody", "track Goal Conversion nobody",
      "track Order Completed nobody"],
  },
  "python/umami": { calls: ["page u1", "track Order Completed u1", "track revenue u1"], refusesNaN: true, many: 40, showsKey: false },
};
