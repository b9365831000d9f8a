//! Reads settings for tests.

use crate::{ConfigEnvironment, ConfigErrorReport, ConfigFile, SettingsSection};

/// Reads settings from a text, and returns the mistakes in it.
pub fn read<T>(text: &str, read: impl FnOnce(&mut SettingsSection<'_>) -> T) -> (T, Vec<String>) {
    let (report, environment) = (ConfigErrorReport::default(), ConfigEnvironment::default());
    let source = ConfigFile { name: "test".to_owned(), text: text.to_owned() };
    let table = source.parse(&report);
    let mut section = SettingsSection::root(vec![(&source, &table)], &environment, &report);
    let settings = read(&mut section);
    drop(section);
    let mistakes = report.into_errors().iter().map(ToString::to_string).collect();
    (settings, mistakes)
}

/// Reads settings from a text that must have no mistakes.
pub fn settings<T>(text: &str, reader: impl FnOnce(&mut SettingsSection<'_>) -> T) -> T {
    let (settings, mistakes) = read(text, reader);
    assert!(mistakes.is_empty(), "{mistakes:?}");
    settings
}
