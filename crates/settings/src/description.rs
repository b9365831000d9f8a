//! Descriptions of settings: name, type, default, unit and meaning of each key, once.
//!
//! A module describes the keys that it reads in a list of [`Setting`]s, and attaches the list to its section
//! ([`SettingsSection::describe`]): the section then takes ranges and defaults from there, and a key that is read
//! without a description is a mistake of the program. The composition of all lists is the tree of
//! [`SettingsTable`]s from which the reference pages, the comments of the default file and the JSON Schema are made.

use super::section::SettingsSection;

/// A table of the configuration: the lists of the modules that read it.
#[derive(Debug)]
pub struct SettingsTable(pub &'static [&'static [Setting]]);

impl SettingsTable {
    /// Returns the settings in the order of their lists.
    pub fn settings(&self) -> impl Iterator<Item = &'static Setting> + use<> {
        self.0.iter().copied().flatten()
    }

    /// Returns the description of a key.
    pub fn find(&self, name: &str) -> Option<&'static Setting> {
        self.settings().find(|setting| setting.name == name)
    }
}

/// One key of a table.
#[derive(Debug)]
pub struct Setting {
    /// The key.
    pub name: &'static str,
    /// The values that it takes.
    pub kind: SettingKind,
    /// The value without the key, as text: `7d`, `true`, `["analytics"]`. Texts are without their quotes.
    pub default: Option<&'static str>,
    /// A value for the reference, where there is no default; written as defaults are.
    pub example: Option<&'static str>,
    /// True if the key must be set.
    pub is_required: bool,
    /// The meaning, with the reason for the default where it is a limit.
    pub doc: &'static str,
}

/// The settings of a table for one value of another key.
#[derive(Clone, Debug)]
pub struct SettingsVariant {
    /// The value of the other key.
    pub value: &'static str,
    /// The lists of the table's settings.
    pub lists: Vec<&'static [Setting]>,
}

/// The values of a setting.
#[derive(Clone, Copy, Debug)]
pub enum SettingKind {
    /// A text; `${NAME}` and `${file:PATH}` in it are replaced, as in all texts.
    Text,
    /// A text that is never shown.
    Secret,
    /// The path of a file or folder, from the configuration file's folder.
    Path,
    /// A text in a form of its own: an address, a URL, a network.
    Form(&'static str),
    /// One of these words.
    Word(&'static [&'static str]),
    /// `true` or `false`.
    Boolean,
    /// A whole number between two others, these included.
    Integer(i64, i64),
    /// A number between two others, these included.
    Number(f64, f64),
    /// A duration with its unit, such as `30s`.
    Duration,
    /// A duration above zero.
    PositiveDuration,
    /// A number of bytes with its unit, such as `64KiB`.
    Size,
    /// A list of texts.
    Texts,
    /// A list of texts that are never shown.
    Secrets,
    /// Texts under names of the user's choice.
    TextTable,
    /// Header fields and their values, of which credentials are never shown.
    HeaderTable,
    /// A value in a language of its own, or values of any type under names of the user's choice.
    Tree,
    /// A table below the key.
    Table(&'static SettingsTable),
    /// A list of tables below the key.
    Tables(&'static SettingsTable),
    /// A table whose settings depend on the value of another key: the key's name, and the settings for its values.
    TableBy(&'static str, fn() -> Vec<SettingsVariant>),
    /// Tables under names of the user's choice.
    NamedTables(&'static SettingsTable),
}

/// The greatest number of settings without a natural limit.
const UNLIMITED: i64 = i64::MAX;

impl Setting {
    const fn new(name: &'static str, kind: SettingKind) -> Self {
        Self { name, kind, default: None, example: None, is_required: false, doc: "" }
    }

    /// Describes a text.
    pub const fn text(name: &'static str) -> Self {
        Self::new(name, SettingKind::Text)
    }

    /// Describes a secret.
    pub const fn secret(name: &'static str) -> Self {
        Self::new(name, SettingKind::Secret)
    }

    /// Describes a path.
    pub const fn path(name: &'static str) -> Self {
        Self::new(name, SettingKind::Path)
    }

    /// Describes a text in a form of its own, which `form` names: "a URL".
    pub const fn form(name: &'static str, form: &'static str) -> Self {
        Self::new(name, SettingKind::Form(form))
    }

    /// Describes a word out of a closed list.
    pub const fn word(name: &'static str, words: &'static [&'static str]) -> Self {
        Self::new(name, SettingKind::Word(words))
    }

    /// Describes a yes or no.
    pub const fn boolean(name: &'static str) -> Self {
        Self::new(name, SettingKind::Boolean)
    }

    /// Describes a whole number from `min` to `max`.
    pub const fn integer(name: &'static str, min: i64, max: i64) -> Self {
        Self::new(name, SettingKind::Integer(min, max))
    }

    /// Describes a whole number from `min`.
    pub const fn integer_from(name: &'static str, min: i64) -> Self {
        Self::new(name, SettingKind::Integer(min, UNLIMITED))
    }

    /// Describes a number from `min` to `max`.
    pub const fn number(name: &'static str, min: f64, max: f64) -> Self {
        Self::new(name, SettingKind::Number(min, max))
    }

    /// Describes a duration, which may be zero.
    pub const fn duration(name: &'static str) -> Self {
        Self::new(name, SettingKind::Duration)
    }

    /// Describes a duration above zero.
    pub const fn positive_duration(name: &'static str) -> Self {
        Self::new(name, SettingKind::PositiveDuration)
    }

    /// Describes a number of bytes.
    pub const fn size(name: &'static str) -> Self {
        Self::new(name, SettingKind::Size)
    }

    /// Describes a list of texts.
    pub const fn texts(name: &'static str) -> Self {
        Self::new(name, SettingKind::Texts)
    }

    /// Describes a list of secrets.
    pub const fn secrets(name: &'static str) -> Self {
        Self::new(name, SettingKind::Secrets)
    }

    /// Describes texts under names of the user's choice.
    pub const fn text_table(name: &'static str) -> Self {
        Self::new(name, SettingKind::TextTable)
    }

    /// Describes header fields.
    pub const fn header_table(name: &'static str) -> Self {
        Self::new(name, SettingKind::HeaderTable)
    }

    /// Describes a value in a language of its own.
    pub const fn tree(name: &'static str) -> Self {
        Self::new(name, SettingKind::Tree)
    }

    /// Describes a table.
    pub const fn table(name: &'static str, table: &'static SettingsTable) -> Self {
        Self::new(name, SettingKind::Table(table))
    }

    /// Describes a list of tables.
    pub const fn tables(name: &'static str, table: &'static SettingsTable) -> Self {
        Self::new(name, SettingKind::Tables(table))
    }

    /// Describes tables under names of the user's choice.
    pub const fn named_tables(name: &'static str, table: &'static SettingsTable) -> Self {
        Self::new(name, SettingKind::NamedTables(table))
    }

    /// Describes a table whose settings depend on the value of `key`.
    pub const fn table_by(
        name: &'static str,
        key: &'static str,
        variants: fn() -> Vec<SettingsVariant>,
    ) -> Self {
        Self::new(name, SettingKind::TableBy(key, variants))
    }

    /// Sets the value without the key.
    pub const fn default(mut self, text: &'static str) -> Self {
        self.default = Some(text);
        self
    }

    /// Sets a value for the reference.
    pub const fn example(mut self, text: &'static str) -> Self {
        self.example = Some(text);
        self
    }

    /// Requires the key.
    pub const fn required(mut self) -> Self {
        self.is_required = true;
        self
    }

    /// Sets the meaning.
    pub const fn doc(mut self, text: &'static str) -> Self {
        self.doc = text;
        self
    }

    /// Returns the default as JSON.
    pub(super) fn default_value(&self) -> Option<serde_json::Value> {
        let text = self.default?;
        if self.kind.is_quoted() {
            return Some(text.into());
        }
        let document = toml::from_str::<toml::Table>(&format!("value = {text}")).ok()?;
        serde_json::to_value(document.get("value")?).ok()
    }

    /// Returns the default, or else the example, as the value of a TOML file.
    pub fn toml_value(&self) -> Option<String> {
        let text = self.default.or(self.example)?;
        Some(if self.kind.is_quoted() { format!("\"{text}\"") } else { text.to_owned() })
    }
}

impl SettingKind {
    /// Returns true if a value is one text.
    const fn is_quoted(&self) -> bool {
        use SettingKind::{Duration, Form, Path, PositiveDuration, Secret, Size, Text, Word};
        matches!(
            self,
            Text | Secret | Path | Form(_) | Word(_) | Duration | PositiveDuration | Size
        )
    }
}

impl SettingsSection<'_> {
    /// Attaches descriptions of keys. Every key that is read afterwards must be in one of the attached lists.
    pub fn describe(&mut self, settings: &'static [Setting]) {
        self.descriptions.push(settings);
    }

    /// Returns the description of a key; `None` if nothing of the section is described.
    pub(super) fn description(&self, key: &str) -> Option<&'static Setting> {
        self.descriptions.iter().copied().flatten().find(|it| it.name == key)
    }

    /// Returns the described default of a key.
    pub(super) fn default_of(&self, key: &str) -> Option<&'static str> {
        self.description(key)?.default
    }
}
