//! `[scripts]`.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::settings::Section;

/// `[scripts]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Memory for scripts, of each: as fetched, and as served.
    pub cache_bytes: u64,
    /// Disk for scripts as fetched.
    pub disk_bytes: u64,
    /// The longest script.
    pub script_bytes: usize,
    /// How long one fetch may take.
    pub timeout: Duration,
    /// Fetches under way at once.
    pub fetches: usize,
    /// Scripts a minute that a site's visitors may ask a vendor for that are not at hand.
    pub new_per_minute: NonZeroU32,
    /// The shortest and longest time a script is served without asking whether it changed.
    pub fresh_min: Duration,
    /// See `min_ttl`.
    pub fresh_max: Duration,
    /// How long it is served when the vendor cannot be asked.
    pub stale_if_error: Duration,
    /// How long the vendor is left alone after a fetch that failed.
    pub retry: Duration,
    /// How long the vendor's word that there is no such script is believed.
    pub absent: Duration,
}

impl Settings {
    /// Reads `[scripts]`.
    pub fn read(section: &mut Section<'_>) -> Self {
        Self {
            cache_bytes: section.size("cache_bytes"),
            disk_bytes: section.size("disk_bytes"),
            script_bytes: section.byte_count("script_bytes"),
            timeout: section.positive_duration("timeout"),
            fetches: section.integer("max_concurrent_fetches", 1..=1_000),
            new_per_minute: NonZeroU32::new(section.integer("new_per_minute", 1..=1_000_000))
                .unwrap_or(NonZeroU32::MIN),
            fresh_min: section.duration("min_ttl"),
            fresh_max: section.duration("max_ttl"),
            stale_if_error: section.duration("stale_if_error"),
            retry: section.duration("retry"),
            absent: section.duration("negative_ttl"),
        }
    }

    /// For tests that fetch nothing.
    #[cfg(test)]
    pub(crate) fn small() -> Self {
        let second = Duration::from_secs(1);
        Self {
            cache_bytes: 1 << 20,
            disk_bytes: 1 << 20,
            script_bytes: 1 << 20,
            timeout: second,
            fetches: 1,
            new_per_minute: NonZeroU32::MIN.saturating_add(1),
            fresh_min: second,
            fresh_max: second,
            stale_if_error: second,
            retry: second,
            absent: second,
        }
    }
}
