//! The settings of the script proxy, `[scripts]`.

use std::num::NonZeroU32;
use std::time::Duration;

use tagway_settings::{Setting, SettingsSection};

/// The described settings of `[scripts]`.
pub const SCRIPT_PROXY_SETTINGS: &[Setting] = &[
    Setting::size("cache_bytes")
        .default("64MiB")
        .doc("memory for fetched scripts, and as much again for scripts as served"),
    Setting::size("disk_bytes")
        .default("256MiB")
        .doc("limit of the cache on disk; the oldest files are deleted"),
    Setting::size("script_bytes")
        .default("4MiB")
        .doc("limit of one script; vendors' largest have about 1 MiB"),
    Setting::positive_duration("timeout")
        .default("10s")
        .doc("the time for one fetch, from its start to the last byte"),
    Setting::integer("max_concurrent_fetches", 1, 1_000)
        .default("16")
        .doc("limit of fetches at once; further ones fail until \"retry\" is over"),
    Setting::integer("new_per_minute", 1, 1_000_000).default("300").doc(
        "limit of scripts of one vendor at one site that clients may cause to be \
             fetched, at once or in a minute. A page with a messenger has about 50; an \
             attacker could invent any number of addresses. Above it, 502 for these scripts",
    ),
    Setting::duration("min_ttl")
        .default("1m")
        .doc("a script is served for at least this long without a check for changes"),
    Setting::duration("max_ttl")
        .default("15m")
        .doc("the longest such time; between the two, the vendor's max-age applies"),
    Setting::duration("stale_if_error")
        .default("30d")
        .doc("the time for which a script is served while the vendor does not answer"),
    Setting::duration("retry")
        .default("10s")
        .doc("the time without calls to a vendor after a failed fetch"),
    Setting::duration("negative_ttl")
        .default("1m")
        .doc("the time for which a vendor's \"not found\" is cached"),
];

/// The table `[scripts]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptProxySettings {
    /// The memory for scripts in bytes, for fetched and for served ones each.
    pub cache_bytes: u64,
    /// The disk space for fetched scripts, in bytes.
    pub disk_bytes: u64,
    /// The largest script, in bytes.
    pub script_bytes: usize,
    /// The time limit of one fetch.
    pub timeout: Duration,
    /// Concurrent fetches.
    pub fetches: usize,
    /// Uncached scripts a minute that a site's visitors may request from a vendor.
    pub new_per_minute: NonZeroU32,
    /// The shortest time between revalidations of a script, whatever the vendor's `max-age`.
    pub min_ttl: Duration,
    /// The longest time between revalidations.
    pub max_ttl: Duration,
    /// The time that a script is served after its last confirmation while the vendor is unavailable.
    pub stale_if_error: Duration,
    /// The wait after a failed fetch.
    pub retry: Duration,
    /// The time that the absence of a script is cached.
    pub negative_ttl: Duration,
}

impl ScriptProxySettings {
    /// Reads `[scripts]`.
    pub fn read(section: &mut SettingsSection<'_>) -> Self {
        section.describe(SCRIPT_PROXY_SETTINGS);
        Self {
            cache_bytes: section.size("cache_bytes"),
            disk_bytes: section.size("disk_bytes"),
            script_bytes: section.byte_count("script_bytes"),
            timeout: section.duration("timeout"),
            fetches: section.integer("max_concurrent_fetches"),
            new_per_minute: NonZeroU32::new(section.integer("new_per_minute"))
                .unwrap_or(NonZeroU32::MIN),
            min_ttl: section.duration("min_ttl"),
            max_ttl: section.duration("max_ttl"),
            stale_if_error: section.duration("stale_if_error"),
            retry: section.duration("retry"),
            negative_ttl: section.duration("negative_ttl"),
        }
    }

    /// For tests that fetch nothing.
    #[cfg(any(test, feature = "testing"))]
    pub fn small() -> Self {
        let second = Duration::from_secs(1);
        Self {
            cache_bytes: 1 << 20,
            disk_bytes: 1 << 20,
            script_bytes: 1 << 20,
            timeout: second,
            fetches: 1,
            new_per_minute: NonZeroU32::MIN.saturating_add(1),
            min_ttl: second,
            max_ttl: second,
            stale_if_error: second,
            retry: second,
            negative_ttl: second,
        }
    }
}
