//! The settings that take effect with the next start only.

use super::TagwaySettings;

/// Settings that a reload cannot change.
struct FixedSettings {
    /// The name in the log.
    name: &'static str,
    /// The keys and tables.
    paths: &'static [&'static str],
    /// Returns true if they differ.
    differ: fn(&TagwaySettings, &TagwaySettings) -> bool,
}

const FIXED: &[FixedSettings] = &[
    FixedSettings {
        name: "data_dir",
        paths: &["data_dir"],
        differ: |new, old| new.data_dir != old.data_dir,
    },
    FixedSettings {
        name: "listen.http",
        paths: &["listen.http"],
        differ: |new, old| new.edge.http != old.edge.http,
    },
    FixedSettings {
        name: "listen.https",
        paths: &["listen.https"],
        differ: |new, old| new.edge.https != old.edge.https,
    },
    FixedSettings {
        name: "listen.admin and [admin]",
        paths: &["listen.admin", "admin"],
        differ: |new, old| new.admin.differs_beyond_certificates(&old.admin),
    },
    FixedSettings {
        name: "[journal]",
        paths: &["journal"],
        differ: |new, old| new.journal != old.journal,
    },
    FixedSettings {
        name: "[scripts]",
        paths: &["scripts"],
        differ: |new, old| new.scripts != old.scripts,
    },
    FixedSettings {
        name: "[profiles]",
        paths: &["profiles"],
        differ: |new, old| new.profiles != old.profiles,
    },
    FixedSettings {
        name: "[postgres]",
        paths: &["postgres"],
        differ: |new, old| new.postgres != old.postgres,
    },
    FixedSettings {
        name: "[segments]",
        paths: &["segments"],
        differ: |new, old| new.segments != old.segments,
    },
    FixedSettings {
        name: "[log] format and level",
        paths: &["log.format", "log.level"],
        differ: |new, old| (new.log.format, &new.log.level) != (old.log.format, &old.log.level),
    },
];

/// Returns true if a change of the setting at this path takes effect with the next start only.
pub fn needs_restart(path: &str) -> bool {
    let is_in = |table: &&str| {
        let rest = path.strip_prefix(*table);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    FIXED.iter().flat_map(|it| it.paths).any(is_in)
}

impl TagwaySettings {
    /// The names of settings that only take effect with the next start and that differ from those that
    /// `running` started with.
    pub fn fixed_differences(&self, running: &Self) -> Vec<&'static str> {
        FIXED.iter().filter(|it| (it.differ)(self, running)).map(|it| it.name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::described_settings;

    #[test]
    fn fixed_paths_are_settings() {
        for path in FIXED.iter().flat_map(|it| it.paths) {
            let (table, name) = path.rsplit_once('.').unwrap_or(("", path));
            let is_described = described_settings(table, None).iter().any(|it| it.name == name);
            assert!(is_described, "{path}");
        }
        assert!(needs_restart("journal.retain") && needs_restart("listen.admin"));
        assert!(
            !needs_restart("sites[0].profiles.activity") && !needs_restart("log.access_sample")
        );
    }
}
