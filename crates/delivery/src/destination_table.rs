//! Descriptions of the settings of `[[sites.destinations]]`.

use tagway_settings::Setting;

/// The described settings of `[destination_defaults]`.
pub const DESTINATION_SETTINGS: &[Setting] = &[
    Setting::text("name")
        .example("analytics")
        .required()
        .doc("1 to 64 characters of a-z, 0-9, \"_\" and \"-\", unique in the site"),
    Setting::text("vendor").example("ga4").required().doc("the vendor's name"),
    Setting::word("mode", &["server", "client", "both"]).default("server").doc(
        "\"server\": the gateway sends the events; \"client\": the vendor's own library \
             in the page sends them, and the gateway sends none; or \"both\", under the same \
             id",
    ),
    Setting::word("client_load", &["idle", "interaction", "now"]).default("idle").doc(
        "when the page loads that library: \"idle\" (after 2 s at the latest), at the \
             visitor's first \"interaction\", or \"now\"; never before there is an event for \
             it. Up to 100 events wait for it",
    ),
    Setting::form("client_script", "a URL")
        .example("https://cdn.shop.example/lib.js")
        .doc("the library's address, if not the vendor's below its mount"),
    Setting::boolean("paused").default("false").doc(
        "true: the gateway does not call the vendor; events wait as pending, and are \
             sent after a change to false unless they are older than max_age. Operators \
             pause and resume with `tagway destinations pause|resume`, which restarts and \
             reloads preserve; a pause in this file can only be ended in this file",
    ),
    Setting::texts("events")
        .default("[\"*\"]")
        .doc("names of the events that are sent, with * and ?; \"!x\" excludes"),
    Setting::texts("tags").example("[\"ga4\"]").doc(
        "vendors, with * and ?: of the events from vendors' tags in the page (beacons, \
             shims), only those of these vendors' tags are sent. By default only those of \
             the destination's own vendor, if the site names that vendor in sdk.shims or has \
             a table for it in vendors, else all: a page reports the same event to each of \
             its tags, and the destination would get it once per tag. Events of the SDK, the \
             Segment API and servers are always sent",
    ),
    Setting::texts("consent")
        .default("[]")
        .doc("categories that the visitor must have granted, e.g. [\"analytics\"]"),
    Setting::word("unknown_consent", &["allow", "deny", "hold"]).default("allow").doc(
        "\"allow\" or \"deny\" events of visitors whose consent choice is unknown, or \
             \"hold\" them",
    ),
    Setting::positive_duration("consent_wait")
        .default("30m")
        .doc("the time for which events are held for the visitor's choice: a session"),
    Setting::duration("identity_wait").default("0s").doc(
        "e.g. \"10m\": events of unknown visitors wait this long after their arrival for \
             the visitor's identity (a user id, or the profile's e-mail or phone). They are \
             sent at once when it is known, in their order and with their own times. At most \
             half of the age that the vendor accepts (below: max_age; GA4: 72 h). Up to \
             retry.parked_max events wait, about 300 bytes each",
    ),
    Setting::integer("queue_events", 1, 1_000_000)
        .default("2000")
        .doc("limit of events in memory; further waiting events use the disk only"),
    Setting::size("queue_bytes").default("8MiB").doc("limit of the bytes of events in memory"),
    Setting::duration("dead_report").default("5m").doc(
        "a warning reports new dead letters and their number at once, then at most once \
             in this time: a vendor may refuse thousands in a minute; \"0s\": no warnings",
    ),
    Setting::duration("auth_retry_interval")
        .default("1m")
        .doc("refused credentials are tried again in this interval"),
    Setting::integer("template_steps", 1000, 100_000_000).default("50_000").doc(
        "limit of steps of a condition or template below; 64 bytes of values are a step: \
             a few milliseconds. A loop over a long list of products takes a few thousand \
             steps",
    ),
    Setting::texts("types")
        .example("[\"track\", \"page\"]")
        .doc("kinds of events that are sent; all by default"),
    Setting::text("where")
        .example("properties.revenue > 10 and traits.plan != 'test'")
        .doc("a condition that its events meet"),
    Setting::form("endpoint", "a URL")
        .example("http://127.0.0.1:9999")
        .doc("replaces the vendor's base URL (tests, proxies, mocks)"),
    Setting::integer("batch_events", 1, 100_000).example("100").doc("limit of events in one batch"),
    Setting::duration("batch_delay")
        .example("200ms")
        .doc("the time for which an incomplete batch waits for more events"),
    Setting::duration("max_age").example("72h").doc("events older than this become dead letters"),
    Setting::integer("concurrency", 1, 1024)
        .example("16")
        .doc("limit of batches in progress at once"),
    Setting::integer("calls_per_second", 1, 1_000_000)
        .example("50")
        .doc("limit of calls per second"),
    Setting::duration("timeout").example("10s").doc("the time for one call, including its reply"),
];
