//! Typed reading of one table, key by key.

use std::collections::BTreeSet;
use std::time::Duration;

use sha2::{Digest, Sha256};
use toml::Spanned;
use toml::de::DeTable;

use super::credentials::{is_credential_name, of_url};
use super::description::{Setting, SettingKind};
use super::errors::hint;
use super::former_names::lookup_former;
use super::layer::{
    FoundSetting, SettingsLayer, digest_table, flatten, join, json_of, lookup, written,
};
use super::redaction::SecretRedactor;
use super::report::{ConfigErrorReport, nearest};
use super::secret::SecretString;
use super::source::{ConfigEnvironment, ConfigFile};
use super::textual::TextualValue;
use super::units::{parse_duration, parse_size};

/// One table of the configuration, seen through its layers. Dropping it reports the keys that were not
/// read.
pub struct SettingsSection<'a> {
    pub(super) layers: Vec<SettingsLayer<'a>>,
    pub(super) path: String,
    /// The position for missing keys: the section's own table, or the nearest one around it.
    pub(super) place: Option<(&'a ConfigFile, usize)>,
    pub(super) report: &'a ConfigErrorReport,
    pub(super) environment: &'a ConfigEnvironment,
    pub(super) read_keys: BTreeSet<String>,
    /// The descriptions of its keys, as the modules that read it have attached them.
    pub(super) descriptions: Vec<&'static [Setting]>,
}

impl<'a> SettingsSection<'a> {
    /// The root of a stack of parsed files, the most specific first.
    pub fn root(
        files: Vec<(&'a ConfigFile, &'a Spanned<DeTable<'a>>)>,
        environment: &'a ConfigEnvironment,
        report: &'a ConfigErrorReport,
    ) -> Self {
        let layers: Vec<_> = files
            .into_iter()
            .map(|(source, table)| SettingsLayer {
                source,
                table: table.get_ref(),
                span: table.span(),
                path: String::new(),
            })
            .collect();
        let place = layers.first().map(|layer| (layer.source, layer.span.start));
        Self {
            layers,
            path: String::new(),
            place,
            report,
            environment,
            read_keys: BTreeSet::new(),
            descriptions: Vec::new(),
        }
    }

    /// The root of a file that the program itself makes, with the environment and report of this section.
    pub fn beside<'b>(
        &self,
        source: &'b ConfigFile,
        table: &'b Spanned<DeTable<'b>>,
    ) -> SettingsSection<'b>
    where
        'a: 'b,
    {
        SettingsSection::root(vec![(source, table)], self.environment, self.report)
    }

    /// The redactor that knows the secrets which this section and the others of the load have read.
    pub fn redaction(&self) -> &SecretRedactor {
        &self.environment.redaction
    }

    /// Returns true if the key is set in any layer.
    pub fn has(&mut self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Returns true if the key is not set in the most specific of several layers.
    pub fn is_default(&self, key: &str) -> bool {
        let mut layers = self.layers.iter();
        let is_set = |layer| lookup(layer, key).is_some() || lookup_former(layer, key).is_some();
        layers.next().is_none_or(|first| !is_set(first)) && layers.next().is_some()
    }

    /// A required string.
    pub fn string(&mut self, key: &str) -> String {
        match self.find(key) {
            Some(_) => self.opt_string(key).unwrap_or_default(),
            None => self.default_or_missing(key, |text| Some(text.to_owned())).unwrap_or_default(),
        }
    }

    /// A string, if set.
    pub fn opt_string(&mut self, key: &str) -> Option<String> {
        let found = self.find(key)?;
        self.text_of(&found)
    }

    /// A required secret.
    pub fn secret(&mut self, key: &str) -> SecretString {
        self.redaction().declare(&join(&self.path, key));
        self.required(key, Self::opt_secret)
    }

    /// A secret, if set. An empty one is a mistake: a variable without a value.
    pub fn opt_secret(&mut self, key: &str) -> Option<SecretString> {
        self.redaction().declare(&join(&self.path, key));
        let found = self.find(key)?;
        let text = self.text_of(&found)?;
        self.redaction().add_setting(&join(&self.path, key), &text);
        if text.is_empty() {
            self.error_at(&found, "must not be empty");
        }
        Some(SecretString::new(text))
    }

    /// A required value in its own textual form (addresses, URLs, networks). `placeholder` is
    /// returned after a mistake.
    pub fn parsed<T: TextualValue>(&mut self, key: &str, placeholder: T) -> T {
        match self.find_required(key) {
            Some(_) => self.opt_parsed(key).unwrap_or(placeholder),
            None => placeholder,
        }
    }

    /// A value in its own textual form, if set.
    pub fn opt_parsed<T: TextualValue>(&mut self, key: &str) -> Option<T> {
        let found = self.find(key)?;
        let text = self.text_of(&found)?;
        self.parse_text(&found, &text)
    }

    /// A list of values in their own textual form; empty if not set.
    pub fn parsed_list<T: TextualValue>(&mut self, key: &str) -> Vec<T> {
        let texts = self.texts(key);
        texts.iter().filter_map(|(found, text)| self.parse_text(found, text)).collect()
    }

    /// A list of strings; empty if not set.
    pub fn strings(&mut self, key: &str) -> Vec<String> {
        self.texts(key).into_iter().map(|(_, text)| text).collect()
    }

    /// A list of secrets, none of them empty text; no secrets if not set.
    pub fn secrets(&mut self, key: &str) -> Vec<SecretString> {
        self.redaction().declare(&join(&self.path, key));
        let texts = self.texts(key);
        for (found, text) in &texts {
            self.redaction().add_setting(&found.path, text);
        }
        for (found, _) in texts.iter().filter(|(_, text)| text.is_empty()) {
            self.error_at(found, "must not be empty");
        }
        texts.into_iter().map(|(_, text)| SecretString::new(text)).collect()
    }

    /// A digest of the whole section, expanded from the environment: equal digests mean equal settings. It
    /// reveals no value.
    pub fn fingerprint(&self) -> String {
        let mut digest = Sha256::new();
        for layer in &self.layers {
            digest_table(&mut digest, layer.table, self.environment);
        }
        hex::encode(digest.finalize())
    }

    /// A required duration (`"30s"`).
    pub fn duration(&mut self, key: &str) -> Duration {
        match self.find(key) {
            Some(_) => self.opt_duration(key).unwrap_or_default(),
            None => self.default_or_missing(key, parse_duration).unwrap_or_default(),
        }
    }

    /// A duration, if set.
    pub fn opt_duration(&mut self, key: &str) -> Option<Duration> {
        let time = self.united(key, parse_duration, "a duration such as \"30s\", \"5m\" or \"7d\"");
        let kind = self.description(key).map(|setting| setting.kind);
        if time.is_some_and(|time| time.is_zero())
            && matches!(kind, Some(SettingKind::PositiveDuration))
        {
            self.error(key, "must not be zero");
        }
        time
    }

    /// A required size in bytes (`"1MiB"`).
    pub fn size(&mut self, key: &str) -> u64 {
        match self.find(key) {
            Some(_) => self.opt_size(key).unwrap_or_default(),
            None => self.default_or_missing(key, parse_size).unwrap_or_default(),
        }
    }

    /// A size in bytes, if set.
    pub fn opt_size(&mut self, key: &str) -> Option<u64> {
        self.united(key, parse_size, "a size such as \"64KiB\" or \"20GiB\"")
    }

    /// A required size that fits memory.
    pub fn byte_count(&mut self, key: &str) -> usize {
        usize::try_from(self.size(key)).unwrap_or(usize::MAX)
    }

    /// A required word out of a closed list.
    pub fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> T {
        let fallback = choices.first().map(|(_, value)| *value);
        let of_text =
            |text: &str| choices.iter().find(|(name, _)| *name == text).map(|(_, it)| *it);
        let chosen = match self.find(key) {
            None => self.default_or_missing(key, of_text),
            Some(found) => self.text_of(&found).and_then(|text| {
                let value = of_text(&text);
                if value.is_none() {
                    let names = choices.iter().map(|(name, _)| *name);
                    let list = names.clone().collect::<Vec<_>>().join(", ");
                    let hint = hint(nearest(&text, names));
                    let written = written(&found);
                    self.error_at(&found, &format!("{written} is not one of {list}{hint}"));
                }
                value
            }),
        };
        match chosen.or(fallback) {
            Some(value) => value,
            None => unreachable!("a choice has at least one name"),
        }
    }

    /// A word out of a closed list, if set.
    pub fn opt_choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        self.has(key).then(|| self.choice(key, choices))
    }

    /// A boolean, if set.
    pub fn opt_boolean(&mut self, key: &str) -> Option<bool> {
        self.has(key).then(|| self.boolean(key))
    }

    /// A table, through all layers that have it; empty if none has.
    pub fn section(&mut self, key: &str) -> SettingsSection<'a> {
        self.read_keys.insert(key.to_owned());
        let mut layers = Vec::new();
        for layer in self.layers.clone() {
            let Some(found) = lookup(&layer, key) else { continue };
            layers.extend(self.one_table(found));
        }
        self.child(layers, join(&self.path, key))
    }

    /// A list of tables, from the most specific layer that has it; empty if none has. Each is layered over
    /// the table `defaults` of this section, if one is named.
    pub fn sections(&mut self, key: &str, defaults: Option<&str>) -> Vec<SettingsSection<'a>> {
        let below = match defaults {
            Some(name) => {
                let mut section = self.section(name);
                section.read_keys.clear();
                std::mem::take(&mut section.layers)
            }
            None => Vec::new(),
        };
        let Some(found) = self.find(key) else { return Vec::new() };
        let mut sections = Vec::new();
        for layer in self.tables(&found) {
            let path = layer.path.clone();
            let layers = [layer].into_iter().chain(below.iter().cloned()).collect();
            sections.push(self.child(layers, path));
        }
        sections
    }

    /// The same section with the tables of `defaults` beneath its own.
    pub fn over(mut self, defaults: &SettingsSection<'a>) -> Self {
        self.layers.extend(defaults.layers.iter().cloned());
        self
    }

    /// The tables under this one by name, from every layer: `[sites.vendors.NAME]`.
    pub fn children(&mut self) -> Vec<(String, SettingsSection<'a>)> {
        let names = self.names();
        names.into_iter().map(|name| (name.clone(), self.section(&name))).collect()
    }

    /// A table of strings under names of the user's choice; empty if not set. A name in a more
    /// specific layer hides the same name in the others.
    pub fn string_table(&mut self, key: &str) -> Vec<(String, String)> {
        let mut table = self.section(key);
        let names = table.names();
        let text = |name: String| table.opt_string(&name).map(|text| (name, text));
        names.into_iter().filter_map(text).collect()
    }

    /// A table of header fields. Fields whose names indicate a credential are secrets.
    pub fn header_table(&mut self, key: &str) -> Vec<(String, String)> {
        self.redaction().declare(&join(&join(&self.path, key), "authorization"));
        let fields = self.string_table(key);
        for (name, value) in fields.iter().filter(|(name, _)| is_credential_name(name)) {
            self.redaction().add_setting(&join(&join(&self.path, key), name), value);
        }
        fields
    }

    /// A value of any type, its strings expanded.
    pub fn tree(&mut self, key: &str) -> Option<serde_json::Value> {
        let found = self.find(key)?;
        let tree = json_of(found.value, self.environment);
        tree.map_err(|problem| self.error_at(&found, &problem)).ok()
    }

    /// A table of values of any type; nested tables become names with dots. Strings are expanded.
    pub fn flat_values(&mut self, key: &str) -> Vec<(String, serde_json::Value)> {
        let mut section = self.section(key);
        let mut values = Vec::new();
        for name in section.names() {
            let Some(found) = section.find(&name) else { continue };
            match json_of(found.value, self.environment) {
                Ok(value) => flatten(name, value, &mut values),
                Err(problem) => self.error_at(&found, &problem),
            }
        }
        values
    }

    /// Accepts all other keys of the table. For tables whose owner is itself a mistake.
    pub fn ignore_rest(&mut self) {
        self.layers.clear();
    }

    fn child(&self, layers: Vec<SettingsLayer<'a>>, path: String) -> SettingsSection<'a> {
        let (report, environment) = (self.report, self.environment);
        let place = layers.first().map(|layer| (layer.source, layer.span.start)).or(self.place);
        SettingsSection {
            layers,
            path,
            place,
            report,
            environment,
            read_keys: BTreeSet::new(),
            descriptions: Vec::new(),
        }
    }

    /// The names of all keys in any layer.
    fn names(&self) -> BTreeSet<String> {
        let keys = self.layers.iter().flat_map(|layer| layer.table.iter());
        keys.map(|(key, _)| key.get_ref().to_string()).collect()
    }

    pub(super) fn find(&mut self, key: &str) -> Option<FoundSetting<'a>> {
        self.read_keys.insert(key.to_owned());
        debug_assert!(
            self.descriptions.is_empty() || self.description(key).is_some(),
            "{}: a key is read without a description: {key}",
            self.path,
        );
        for layer in &self.layers {
            if let Some(found) = lookup(layer, key) {
                return Some(found);
            }
            if let Some((found, former)) = lookup_former(layer, key) {
                self.read_keys.insert(former.to_owned());
                self.warn_of_former_name(&found, key);
                return Some(found);
            }
        }
        None
    }

    /// The described default of a key that is not set; without one, a missing key is a mistake.
    pub(super) fn default_or_missing<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let Some(text) = self.default_of(key) else {
            self.error(key, "is required");
            return None;
        };
        read(text)
    }

    fn find_required(&mut self, key: &str) -> Option<FoundSetting<'a>> {
        let found = self.find(key);
        if found.is_none() {
            self.error(key, "is required");
        }
        found
    }

    fn required<T: Default>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Self, &str) -> Option<T>,
    ) -> T {
        match self.find_required(key) {
            Some(_) => read(self, key).unwrap_or_default(),
            None => T::default(),
        }
    }

    /// The expanded text of a string value; after a mistake, which is noted, `None`.
    pub(super) fn text_of(&self, found: &FoundSetting<'a>) -> Option<String> {
        let Some(text) = found.value.as_str() else {
            self.wrong_type(found, "a string");
            return None;
        };
        match self.environment.expand(text) {
            Ok(text) => {
                for credential in of_url(&text) {
                    self.redaction().add_text(&credential);
                }
                Some(text)
            }
            Err(error) => {
                self.error_at(found, &error.to_string());
                None
            }
        }
    }

    pub(super) fn texts(&mut self, key: &str) -> Vec<(FoundSetting<'a>, String)> {
        let Some(found) = self.find(key) else { return Vec::new() };
        let Some(items) = found.value.as_array() else {
            self.wrong_type(&found, "a list of strings");
            return Vec::new();
        };
        let items = items.iter().enumerate().map(|(index, item)| found.item(index, item));
        items.filter_map(|item| Some((item.clone(), self.text_of(&item)?))).collect()
    }

    fn united<T>(&mut self, key: &str, parse: fn(&str) -> Option<T>, expected: &str) -> Option<T> {
        let found = self.find(key)?;
        if found.value.as_str().is_none() {
            self.wrong_type(&found, expected);
            return None;
        }
        let text = self.text_of(&found)?;
        let value = parse(&text);
        if value.is_none() {
            self.error_at(&found, &format!("{} is not {expected}", written(&found)));
        }
        value
    }
}
