//! The running settings with their sources, for operators. Secrets are not shown.

use super::tables::ROOT;
use super::{ConfigSource, TagwaySettings, embedded_file, parse_layers};
use tagway_settings::{
    ConfigErrorReport, ConfigFile, EffectiveSetting, effective_settings, named_table,
};

impl TagwaySettings {
    /// Returns the effective value of each setting, as these settings were loaded from `origin`.
    pub fn effective(&self, origin: &ConfigSource) -> Vec<EffectiveSetting> {
        let embedded = embedded_file();
        let files: Vec<&ConfigFile> = self.files.iter().chain([&embedded]).collect();
        // The files were read without mistakes before.
        let tables = parse_layers(&files, &ConfigErrorReport::default());
        let layers: Vec<_> = files.iter().copied().zip(&tables).collect();
        effective_settings(&ROOT, &layers, &origin.environment())
    }

    /// Returns a destination's table as TOML, without secrets; `None` if it is in no file, as that of a forwarded
    /// beacon.
    pub fn destination_table(&self, site: &str, destination: &str) -> Option<String> {
        let embedded = embedded_file();
        let file = self.files.first().unwrap_or(&embedded);
        let table = file.parse(&ConfigErrorReport::default());
        named_table(&ROOT, (file, &table), &[("sites", site), ("destinations", destination)])
    }
}
