//! Settings of visitors for tests.

use super::VisitorSettings;
use tagway_settings::{ConfigEnvironment, ConfigErrorReport, ConfigFile, SettingsSection};

/// Reads visitor settings from this text over the defaults.
pub fn settings_of(text: &str) -> VisitorSettings {
    let report = ConfigErrorReport::default();
    let environment = ConfigEnvironment::default();
    let defaults = "cookies = true\ncookie_name = \"_tw\"\ncookie_max_age = \"400d\"\n\
                    session_idle = \"30m\"\nclick_id_max_age = \"90d\"\n\
                    cookie_consent = [\"analytics\"]\nclick_id_consent = [\"advertising\"]\n";
    let sources =
        [text, defaults].map(|text| ConfigFile { name: "test".to_owned(), text: text.to_owned() });
    let tables: Vec<_> = sources.iter().map(|source| source.parse(&report)).collect();
    let mut section =
        SettingsSection::root(sources.iter().zip(&tables).collect(), &environment, &report);
    let settings = VisitorSettings::read(&mut section);
    drop(section);
    assert!(report.is_empty(), "{:?}", report.into_errors());
    settings
}

/// The key that verifies login proofs.
pub const LOGIN_KEY: &str = "the-login-key-of-the-shop";

/// Returns the settings of a shop, with a secret and a login key.
pub fn settings() -> VisitorSettings {
    settings_of(&format!(
        "secret = \"0123456789abcdef\"\ncookie_domain = \"shop.example\"\nlogin_key = \"{LOGIN_KEY}\""
    ))
}
