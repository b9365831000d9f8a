//! Reports a section's mistakes with their positions and the part of a value that may be shown. A value
//! that was expanded from the environment is shown as the file has it, never expanded.

use toml::Spanned;
use toml::de::DeValue;

use super::former_names::lookup_retired;
use super::headers::without_places;
use super::layer::{FoundSetting, SettingStep, join, written};
use super::report::{ConfigError, NO_SETTING, nearest, shown};
use super::section::SettingsSection;
use super::source::ConfigFile;

impl<'a> SettingsSection<'a> {
    /// Notes a mistake about a key's value that only the caller can detect. The value is not shown: the
    /// message says what may be shown of it.
    pub fn error(&mut self, key: &str, message: &str) {
        match self.find(key) {
            // Reported where it was read: the caller got a placeholder, not the user's value.
            Some(found) if !self.is_complete(&found) => {}
            Some(found) => self.error_at(&found, message),
            None => {
                let Some((source, offset)) = self.place else { return };
                self.note(source, offset, join(&self.path, key), message.to_owned());
            }
        }
    }

    /// Notes a mistake about one text that was read under `key`, alone or in a list, and quotes it as the file
    /// has it: its expansion may be a secret. So may `better`, the suggestion, which is shown only if the file
    /// has the text literally.
    pub fn error_about(&mut self, key: &str, text: &str, message: &str, better: Option<&str>) {
        let Some(found) = self.find(key) else { return };
        let items = found.value.as_array().into_iter().flatten().enumerate();
        let items = items.map(|(index, item)| found.item(index, item));
        let place = items.chain([found.clone()]).find(|place| {
            let completed = place.value.as_str().map(|raw| self.environment.expand(raw));
            // Names ignore case, and their readers may change it.
            completed.is_some_and(|full| full.is_ok_and(|full| full.eq_ignore_ascii_case(text)))
        });
        let place = place.unwrap_or(found);
        let is_literal = place.value.as_str().is_some_and(|raw| raw.eq_ignore_ascii_case(text));
        let hint = hint(better.filter(|_| is_literal));
        self.error_at(&place, &format!("{} {message}{hint}", written(&place)));
    }

    /// Notes a mistake about the value at `steps` within the value of a key.
    pub fn error_within(&mut self, key: &str, steps: &[SettingStep], message: &str) {
        if let Some(found) = self.find(key) {
            self.error_at(&found.follow(steps), message);
        }
    }

    /// Notes such a mistake about a text, and quotes it as the file has it; `better`, the suggestion, is shown
    /// only if the file has the text literally.
    pub fn error_about_within(
        &mut self,
        key: &str,
        steps: &[SettingStep],
        message: &str,
        better: Option<&str>,
    ) {
        let Some(found) = self.find(key).map(|found| found.follow(steps)) else { return };
        let raw = found.value.as_str().unwrap_or_default();
        let is_literal = self.environment.expand(raw).is_ok_and(|text| text == raw);
        let hint = hint(better.filter(|_| is_literal));
        self.error_at(&found, &format!("{} {message}{hint}", written(&found)));
    }

    /// Notes that a word written under `key` is not one of `names`, with the nearest of them and the others.
    pub fn unknown_name(&mut self, key: &str, written: &str, what: &str, names: &[&str]) {
        self.unknown_word(key, written, what, (names, None));
    }

    /// Notes the same with a suggestion, for a word that is another name of a known thing.
    pub fn unknown_word(
        &mut self,
        key: &str,
        written: &str,
        what: &str,
        (names, meant): (&[&str], Option<&str>),
    ) {
        let meant = meant.or_else(|| nearest(written, names.iter().copied()));
        let hint = match (hint(meant), names.join(", ")) {
            (hint, names) if names.is_empty() => hint,
            (hint, names) if hint.is_empty() => format!("; valid names: {names}"),
            (hint, names) => format!("{hint} Valid names: {names}"),
        };
        let seen = self.find(key).map(|found| found.quote(written));
        let seen = seen.unwrap_or_else(|| shown(written));
        self.error(key, &format!("there is no {what} {seen}{hint}"));
    }

    /// Returns true if every string of the value can be expanded. One that cannot is reported where it is
    /// read.
    fn is_complete(&self, found: &FoundSetting<'a>) -> bool {
        let items = found.value.as_array().into_iter().flatten().map(Spanned::get_ref);
        let mut texts = items.chain([found.value]).filter_map(DeValue::as_str);
        texts.all(|text| self.environment.expand(text).is_ok())
    }

    /// Notes a wrong type. The value is shown only if it cannot be a secret, as one of a string setting might.
    pub(super) fn wrong_type(&self, found: &FoundSetting<'a>, expected: &str) {
        let kind = found.value.type_str();
        let seen = match found.value {
            DeValue::Integer(integer) if !expected.contains("string") => {
                format!(" {}", integer.as_str())
            }
            DeValue::Float(float) if !expected.contains("string") => format!(" {}", float.as_str()),
            DeValue::Boolean(value) => format!(" {value}"),
            DeValue::String(_) => format!(" {}", written(found)),
            _ => String::new(),
        };
        self.error_at(found, &format!("expected {expected}, found the {kind}{seen}"));
    }

    pub(super) fn error_at(&self, found: &FoundSetting<'a>, message: &str) {
        if found.span.is_empty() && !found.value.is_table() {
            // The parser's placeholder for a syntax error, which is reported already.
            return;
        }
        self.note(found.source, found.span.start, found.path.clone(), message.to_owned());
    }

    /// Warns that a setting is under the former name of `key`.
    pub(super) fn warn_of_former_name(&self, found: &FoundSetting<'a>, key: &str) {
        let former = found.path.rsplit('.').next().unwrap_or_default();
        let message = format!(
            "`{former}` is now named `{key}`; the former name works until the next release"
        );
        self.warn(found.source, found.span.start, found.path.clone(), message);
    }

    fn warn(&self, source: &ConfigFile, offset: usize, key: String, message: String) {
        let line = source.line_at(offset);
        self.report.add_warning(ConfigError { file: source.name.clone(), line, key, message });
    }

    pub(super) fn note(&self, source: &ConfigFile, offset: usize, key: String, message: String) {
        let line = source.line_at(offset);
        self.report.add(ConfigError { file: source.name.clone(), line, key, message });
    }
}

impl Drop for SettingsSection<'_> {
    fn drop(&mut self) {
        self.report.add_settings(&self.path, &self.read_keys);
        for layer in &self.layers {
            for (key, _) in layer.table.iter() {
                if self.read_keys.contains(key.get_ref().as_ref()) {
                    continue;
                }
                if let Some(value) = lookup_retired(&layer.path, key.get_ref()) {
                    let message = format!(
                        "is no setting any more: the program uses {value}; remove the line"
                    );
                    let path = join(&layer.path, key.get_ref());
                    self.warn(layer.source, key.span().start, path, message);
                    continue;
                }
                let hint = match self.report.owner_of(key.get_ref(), &self.path) {
                    Some(owner) => format!("; it belongs in [{}]", without_places(&owner)),
                    None => hint(nearest(key.get_ref(), self.read_keys.iter().map(String::as_str))),
                };
                let message = format!("{NO_SETTING}{hint}");
                let path = join(&layer.path, key.get_ref());
                self.note(layer.source, key.span().start, path, message);
            }
        }
    }
}

pub(super) fn hint(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default()
}
