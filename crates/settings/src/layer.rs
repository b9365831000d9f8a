//! One file's table in a section's stack, and a value found in it.

use std::ops::Range;

use serde_json::Value;
use sha2::{Digest, Sha256};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::shown;
use super::source::{ConfigEnvironment, ConfigFile};

/// One file's table.
#[derive(Clone)]
pub(super) struct SettingsLayer<'a> {
    pub(super) source: &'a ConfigFile,
    pub(super) table: &'a DeTable<'a>,
    pub(super) span: Range<usize>,
    /// The table's path in this layer's own file.
    pub(super) path: String,
}

/// A value and its position.
#[derive(Clone)]
pub(super) struct FoundSetting<'a> {
    pub(super) source: &'a ConfigFile,
    pub(super) value: &'a DeValue<'a>,
    pub(super) span: Range<usize>,
    /// The key's path in its own file.
    pub(super) path: String,
}

/// One step into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingStep {
    /// The value of this key in a table.
    Key(String),
    /// The element at this index of a list.
    Index(usize),
}

impl SettingStep {
    /// The path of these steps from `start`.
    pub fn join(start: &str, steps: &[Self]) -> String {
        let mut path = start.to_owned();
        for step in steps {
            path = match step {
                Self::Key(key) => join(&path, key),
                Self::Index(index) => format!("{path}[{index}]"),
            };
        }
        path
    }
}

/// The value under `key` in this layer.
pub(super) fn lookup<'a>(layer: &SettingsLayer<'a>, key: &str) -> Option<FoundSetting<'a>> {
    let (_, value) = layer.table.iter().find(|(name, _)| name.get_ref() == key)?;
    let path = join(&layer.path, key);
    Some(FoundSetting { source: layer.source, value: value.get_ref(), span: value.span(), path })
}

impl<'a> FoundSetting<'a> {
    /// The element `index` of this list.
    pub(super) fn item(&self, index: usize, item: &'a Spanned<DeValue<'a>>) -> FoundSetting<'a> {
        let path = format!("{}[{index}]", self.path);
        FoundSetting { source: self.source, value: item.get_ref(), span: item.span(), path }
    }

    /// The value at these steps, or the deepest one on the way.
    pub(super) fn follow(&self, steps: &[SettingStep]) -> FoundSetting<'a> {
        let Some((step, rest)) = steps.split_first() else { return self.clone() };
        let next = match step {
            SettingStep::Key(key) => self.value.as_table().and_then(|table| {
                let (_, value) = table.iter().find(|(name, _)| name.get_ref() == key)?;
                let (source, path) = (self.source, join(&self.path, key));
                Some(FoundSetting { source, value: value.get_ref(), span: value.span(), path })
            }),
            SettingStep::Index(index) => {
                let items = self.value.as_array();
                items.and_then(|items| items.get(*index)).map(|item| self.item(*index, item))
            }
        };
        next.map_or_else(|| self.clone(), |next| next.follow(rest))
    }

    /// The text that a message may show of an expanded text: the text if the file has it literally,
    /// otherwise the file's form, because the expansion may be a secret.
    pub(super) fn quote(&self, text: &str) -> String {
        let items = self.value.as_array().into_iter().flatten();
        let mut texts = items.map(Spanned::get_ref).chain([self.value]).filter_map(DeValue::as_str);
        if texts.any(|raw| raw == text) { shown(text) } else { written(self) }
    }
}

/// The value as the file has it: the expansion of a string may be a secret.
pub(super) fn written(found: &FoundSetting<'_>) -> String {
    found.value.as_str().map_or_else(|| "of that name".to_owned(), shown)
}

/// The path of `key` under `path`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Feeds the whole expanded table to the digest.
pub(super) fn digest_table(
    digest: &mut Sha256,
    table: &DeTable<'_>,
    environment: &ConfigEnvironment,
) {
    digest.update(b"{");
    for (key, value) in table.iter() {
        digest.update(key.get_ref().as_bytes());
        digest.update(b"=");
        digest_value(digest, value.get_ref(), environment);
    }
    digest.update(b"}");
}

fn digest_value(digest: &mut Sha256, value: &DeValue<'_>, environment: &ConfigEnvironment) {
    match value {
        DeValue::Table(table) => digest_table(digest, table, environment),
        DeValue::Array(items) => {
            digest.update(b"[");
            for item in items.iter() {
                digest_value(digest, item.get_ref(), environment);
            }
            digest.update(b"]");
        }
        DeValue::String(text) => {
            // A string that cannot be expanded is reported where it is read.
            let text = environment.expand(text).unwrap_or_default();
            digest.update(text.len().to_le_bytes());
            digest.update(text);
        }
        other => digest.update(format!("{other:?};")),
    }
}

/// The value as JSON, its strings expanded; otherwise the error message.
pub(super) fn json_of(
    value: &DeValue<'_>,
    environment: &ConfigEnvironment,
) -> Result<Value, String> {
    let float = |text: &str| text.replace('_', "").parse::<f64>().ok();
    let json = match value {
        DeValue::String(text) => {
            environment.expand(text).map_err(|error| error.to_string())?.into()
        }
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Integer(_) => integer_of(value).map_or(Value::Null, Value::from),
        DeValue::Float(number) => float(number.as_str()).map_or(Value::Null, Value::from),
        DeValue::Array(items) => {
            let items = items.iter().map(|item| json_of(item.get_ref(), environment));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => {
            let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                Ok((key_text(key), json_of(value.get_ref(), environment)?))
            };
            Value::Object(table.iter().map(entry).collect::<Result<_, String>>()?)
        }
        DeValue::Datetime(time) => Value::String(time.to_string()),
    };
    if json.is_null() { Err("is a number that JSON cannot represent".to_owned()) } else { Ok(json) }
}

fn key_text(key: &Spanned<std::borrow::Cow<'_, str>>) -> String {
    key.get_ref().to_string()
}

/// Adds the value under its name, and the values within a table under names with dots.
pub(super) fn flatten(name: String, value: Value, into: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                flatten(format!("{name}.{key}"), value, into);
            }
        }
        value => into.push((name, value)),
    }
}

/// A whole number, written in any base.
pub(super) fn integer_of(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok()
}
