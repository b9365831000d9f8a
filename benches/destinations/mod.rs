//! A vendor's destination, built from settings like in a configuration.

use tagway_settings::{ConfigEnvironment, ConfigErrorReport, ConfigFile, SettingsSection};
use tagway_vendors::{Destination, find};
use url::Url;

/// The vendor's destination with these settings, which calls `endpoint` instead of the vendor.
pub(crate) fn build(vendor: &str, settings: &str, endpoint: Option<Url>) -> Box<dyn Destination> {
    let (report, environment) = (ConfigErrorReport::default(), ConfigEnvironment::default());
    let source = ConfigFile { name: vendor.to_owned(), text: settings.to_owned() };
    let table = source.parse(&report);
    let mut section = SettingsSection::root(vec![(&source, &table)], &environment, &report);
    let destination = find(vendor).unwrap().destination.unwrap()(&mut section, endpoint);
    drop(section);
    assert!(report.into_errors().is_empty());
    destination
}
