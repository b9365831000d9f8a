//! Settings that have a new name. A file may use the former name for one release: the setting is read,
//! and a warning names the new one. A file that has both names means the new one, and the former is a mistake.

use super::headers::without_places;
use super::layer::{FoundSetting, SettingsLayer, lookup};

/// A setting with a new name.
struct FormerName {
    /// The last parts of the paths of the tables that have it.
    tables: &'static [&'static str],
    former: &'static str,
    name: &'static str,
}

const DESTINATIONS: &[&str] = &["destinations", "destination_defaults"];
const PROXY: &[&str] = &["proxy"];
const SCRIPTS: &[&str] = &["scripts"];

/// Renamed in release 0.2; release 0.3 reads the new names alone.
const FORMER_NAMES: &[FormerName] = &[
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
            (scripts.duration("negative_ttl"), scripts.integer("max_concurrent_fetches", 1..=9))
        });
        assert_eq!(value, (Duration::from_secs(7), 3));
        assert!(mistakes.is_empty(), "{mistakes:?}");
        let expected = "user:2: scripts.absent: is now named negative_ttl; \
            the former name works until the next release";
        assert_eq!(warnings.first().map(String::as_str), Some(expected));
        assert_eq!(warnings.len(), 2, "{warnings:?}");
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
