//! Settings that have a new name. A file may use the former name for one release: the setting is read,
//! and a warning names the new one. A file that has both names means the new one, and the former is a mistake.
//!
//! Settings that have become constants of the program are listed as well: a file may have them for one release, and a
//! warning says which value is used.

use super::headers::without_places;
use super::layer::{FoundSetting, SettingsLayer, lookup};

/// A setting with a new name.
pub(super) struct FormerName {
    /// The last parts of the paths of the tables that have it.
    pub(super) tables: &'static [&'static str],
    pub(super) former: &'static str,
    pub(super) name: &'static str,
}

/// A setting that is a constant of the program now.
pub(super) struct RetiredSetting {
    /// The last parts of the paths of the tables that had it.
    pub(super) tables: &'static [&'static str],
    pub(super) key: &'static str,
    /// The value in use, as a warning shows it.
    pub(super) value: &'static str,
}

const fn retired(
    tables: &'static [&'static str],
    key: &'static str,
    value: &'static str,
) -> RetiredSetting {
    RetiredSetting { tables, key, value }
}

const DESTINATIONS: &[&str] = &["destinations", "destination_defaults"];
const PROXY: &[&str] = &["proxy"];
const SCRIPTS: &[&str] = &["scripts"];

/// Renamed in release 0.2; release 0.3 reads the new names alone.
pub(super) const FORMER_NAMES: &[FormerName] = &[
    FormerName { tables: PROXY, former: "silence", name: "idle_timeout" },
    FormerName { tables: PROXY, former: "upload_silence", name: "upload_idle_timeout" },
    FormerName { tables: SCRIPTS, former: "absent", name: "negative_ttl" },
    FormerName { tables: SCRIPTS, former: "fresh_min", name: "min_ttl" },
    FormerName { tables: SCRIPTS, former: "fresh_max", name: "max_ttl" },
    FormerName { tables: SCRIPTS, former: "fetches", name: "max_concurrent_fetches" },
    FormerName {
        tables: &["profiles", "source"],
        former: "lookups",
        name: "max_concurrent_lookups",
    },
    FormerName { tables: DESTINATIONS, former: "linger", name: "batch_delay" },
    FormerName { tables: DESTINATIONS, former: "hold", name: "consent_wait" },
    FormerName { tables: DESTINATIONS, former: "hold_identity", name: "identity_wait" },
    FormerName { tables: DESTINATIONS, former: "unauthorised_probe", name: "auth_retry_interval" },
    FormerName { tables: &["segments"], former: "evaluate_time", name: "evaluation_timeout" },
    FormerName {
        tables: &["limits"],
        former: "unproven_per_second",
        name: "unverified_requests_per_second",
    },
];

/// Constants since release 0.2; release 0.3 refuses the keys as unknown.
pub(super) const RETIRED_SETTINGS: &[RetiredSetting] = &[
    retired(&["limits"], "client_entries", "100_000"),
    retired(&["limits"], "decoders", "one for each core"),
    retired(&["limits"], "http2_resets", "64"),
    retired(&["limits"], "json_depth", "64"),
    retired(&["journal"], "dedupe_entries", "1_000_000"),
    retired(&["journal"], "poison_starts", "3"),
    retired(&["egress"], "idle_per_host", "128"),
    retired(&["segments"], "batch", "2000"),
    retired(&["segments"], "realtime_people", "1000"),
    retired(&["segments"], "recheck", "\"24h\""),
    retired(&["admin"], "body_time", "\"10s\""),
    retired(&["admin"], "header_time", "\"10s\""),
    retired(&["admin"], "heartbeat", "\"10s\""),
    retired(&["admin"], "reserve", "8"),
    retired(&["tls"], "handshake_time", "\"10s\""),
    retired(PROXY, "idle_connections", "128"),
    retired(PROXY, "inline_bytes", "\"64KiB\""),
    retired(PROXY, "ping_interval", "\"15s\""),
    retired(PROXY, "ping_timeout", "\"10s\""),
    retired(PROXY, "stream_bytes", "\"256KiB\""),
    retired(PROXY, "streams", "100"),
    retired(&["source"], "refresh_ahead", "0.8"),
    retired(DESTINATIONS, "mapping_bytes", "\"1MiB\""),
    retired(DESTINATIONS, "template_bytes", "\"64KiB\""),
    retired(&["settings"], "cached_contacts", "20_000"),
    retired(&["settings"], "cached_for", "\"1h\""),
];

/// Returns the value that the program uses in place of a retired setting of the table at this path.
pub(super) fn lookup_retired(path: &str, key: &str) -> Option<&'static str> {
    let path = without_places(path);
    let table = path.rsplit('.').next().unwrap_or_default();
    let is_it = |it: &&RetiredSetting| it.key == key && it.tables.contains(&table);
    RETIRED_SETTINGS.iter().find(is_it).map(|it| it.value)
}

/// Returns the value under the former name of `key` in this layer, with that name.
pub(super) fn lookup_former<'a>(
    layer: &SettingsLayer<'a>,
    key: &str,
) -> Option<(FoundSetting<'a>, &'static str)> {
    let path = without_places(&layer.path);
    let table = path.rsplit('.').next().unwrap_or_default();
    let of_key = |it: &&FormerName| it.name == key && it.tables.contains(&table);
    let former = FORMER_NAMES.iter().find(of_key)?.former;
    Some((lookup(layer, former)?, former))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::read_with_warnings;

    #[test]
    fn former_name_is_read_with_a_warning_that_names_the_new_one() {
        let text = "[scripts]\nabsent = \"7s\"\nfetches = 3\n";
        let (value, mistakes, warnings) = read_with_warnings(&[text], |root| {
            let mut scripts = root.section("scripts");
            (scripts.duration("negative_ttl"), scripts.integer("max_concurrent_fetches"))
        });
        assert_eq!(value, (Duration::from_secs(7), 3));
        assert!(mistakes.is_empty(), "{mistakes:?}");
        let expected = "user:2: scripts.absent: `absent` is now named `negative_ttl`; \
            the former name works until the next release";
        assert_eq!(warnings.first().map(String::as_str), Some(expected));
        assert_eq!(warnings.len(), 2, "{warnings:?}");
    }

    #[test]
    fn retired_setting_is_ignored_with_a_warning_that_has_the_value_in_use() {
        let text = "[journal]\ndedupe_entries = 5\n[egress]\ndedupe_entries = 5\n";
        let (_, mistakes, warnings) = read_with_warnings(&[text], |root| {
            root.section("journal");
            root.section("egress");
        });
        let expected = "user:2: journal.dedupe_entries: is no setting any more: the program uses \
            1_000_000; remove the line";
        assert_eq!(warnings, [expected]);
        assert_eq!(mistakes, ["user:4: egress.dedupe_entries: unknown setting"]);
    }

    #[test]
    fn former_name_beside_the_new_one_is_a_mistake() {
        let text = "[scripts]\nabsent = \"7s\"\nnegative_ttl = \"8s\"\n";
        let (value, mistakes, warnings) =
            read_with_warnings(&[text], |root| root.section("scripts").duration("negative_ttl"));
        assert_eq!(value, Duration::from_secs(8));
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn former_name_in_another_table_is_no_setting() {
        let text = "[journal]\nabsent = \"7s\"\n";
        let (_, mistakes, _) = read_with_warnings(&[text], |root| {
            root.section("journal").opt_duration("negative_ttl")
        });
        assert!(mistakes.concat().contains("unknown setting"), "{mistakes:?}");
    }

    #[test]
    fn former_name_in_the_file_wins_over_the_new_one_in_the_default() {
        let texts = ["[scripts]\nabsent = \"7s\"\n", "[scripts]\nnegative_ttl = \"1m\"\n"];
        let (value, ..) = read_with_warnings(&texts, |root| {
            let mut scripts = root.section("scripts");
            (scripts.is_default("negative_ttl"), scripts.duration("negative_ttl"))
        });
        assert_eq!(value, (false, Duration::from_secs(7)));
    }
}
