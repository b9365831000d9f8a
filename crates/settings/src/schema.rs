//! The JSON Schema of a configuration file, for editors, made from the descriptions of its settings.
//!
//! It holds what one value or one key can get wrong: names, types, units, ranges, words, missing keys. Relations between
//! settings, and the content of languages such as rules and templates, are checked by the program alone.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::description::{Setting, SettingKind, SettingsTable, SettingsVariant};
use super::former_names::{FORMER_NAMES, RETIRED_SETTINGS};

/// A text that contains a variable or a file: its value is known only to the program.
const EXPANDED: &str = r"\$\{";

const DURATION: &str = r"^\s*([0-9]+(ms|s|m|h|d))+\s*$";
const POSITIVE_DURATION: &str =
    r"^\s*(0+(ms|s|m|h|d))*0*[1-9][0-9]*(ms|s|m|h|d)([0-9]+(ms|s|m|h|d))*\s*$";
const SIZE: &str = r"^\s*[0-9]+\s*(B|[KMGT]i?B)\s*$";

/// The dialect that editors for TOML understand.
const DIALECT: &str = "http://json-schema.org/draft-07/schema#";

/// Returns the JSON Schema of a file with these tables.
pub fn json_schema(root: &'static SettingsTable) -> Value {
    let mut writer = SchemaWriter::default();
    let settings: Vec<_> = root.settings().collect();
    let mut schema = writer.table("", &settings, true);
    put(&mut schema, "$schema", DIALECT);
    put(&mut schema, "title", "Configuration of Tagway");
    put(&mut schema, "definitions", Value::Object(writer.definitions));
    schema
}

/// The tables that the schema has so far, each once under a name.
#[derive(Default)]
struct SchemaWriter {
    definitions: Map<String, Value>,
    names: HashMap<(*const SettingsTable, bool), String>,
}

impl SchemaWriter {
    /// Returns a reference to the schema of the table under this key. `is_whole`: the table is not completed by another
    /// one with defaults, so that its required keys must be there.
    fn reference(&mut self, key: &str, below: &'static SettingsTable, is_whole: bool) -> Value {
        let place = (std::ptr::from_ref(below), is_whole);
        let name = match self.names.get(&place) {
            Some(name) => name.clone(),
            None => {
                let mut name = key.to_owned();
                while self.definitions.contains_key(&name) {
                    name.push('_');
                }
                self.definitions.insert(name.clone(), Value::Null);
                self.names.insert(place, name.clone());
                let schema = self.table(key, &below.settings().collect::<Vec<_>>(), is_whole);
                self.definitions.insert(name.clone(), schema);
                name
            }
        };
        json!({ "$ref": format!("#/definitions/{name}") })
    }

    fn table(&mut self, key: &str, settings: &[&'static Setting], is_whole: bool) -> Value {
        let (mut properties, mut conditions) = (Map::new(), Vec::new());
        // Several lists of a table may describe the same key.
        let mut names = HashSet::new();
        let settings: Vec<&'static Setting> =
            settings.iter().copied().filter(|it| names.insert(it.name)).collect();
        for setting in &settings {
            properties.insert(setting.name.to_owned(), self.setting(setting));
            if let SettingKind::TableBy(by, variants) = setting.kind {
                let variants = variants();
                let names: Vec<&str> = variants.iter().map(|it| it.value).collect();
                properties
                    .insert(by.to_owned(), json!({ "anyOf": [{ "enum": names }, expanded()] }));
                for SettingsVariant { value, lists } in variants {
                    let settings: Vec<&Setting> = lists.into_iter().flatten().collect();
                    conditions.push(self.variant(setting.name, (by, value), &settings, is_whole));
                }
            }
        }
        for former in FORMER_NAMES.iter().filter(|it| it.tables.contains(&key)) {
            if let Some(mut schema) = properties.get(former.name).cloned() {
                put(&mut schema, "deprecated", true);
                properties.insert(former.former.to_owned(), schema);
            }
        }
        for retired in RETIRED_SETTINGS.iter().filter(|it| it.tables.contains(&key)) {
            properties.insert(retired.key.to_owned(), json!({ "deprecated": true }));
        }
        let mut schema =
            json!({ "type": "object", "properties": properties, "additionalProperties": false });
        let required: Vec<&str> =
            settings.iter().filter(|it| it.is_required).map(|it| it.name).collect();
        if is_whole && !required.is_empty() {
            put(&mut schema, "required", json!(required));
        }
        if !conditions.is_empty() {
            put(&mut schema, "allOf", Value::Array(conditions));
        }
        schema
    }

    /// Returns the condition on the table `name` where `key` has this value. In client mode only the page calls the
    /// vendor: no key of the table is required then, and others may stay.
    fn variant(
        &mut self,
        name: &str,
        (key, value): (&str, &str),
        settings: &[&'static Setting],
        is_whole: bool,
    ) -> Value {
        let is_value = json!({ "properties": { key: { "const": value } }, "required": [key] });
        let is_client =
            json!({ "properties": { "mode": { "const": "client" } }, "required": ["mode"] });
        let mut then = json!({ "properties": { name: self.table(name, settings, is_whole) } });
        if is_whole && settings.iter().any(|setting| setting.is_required) {
            put(&mut then, "required", json!([name]));
        }
        json!({ "if": { "allOf": [is_value, { "not": is_client }] }, "then": then })
    }

    fn setting(&mut self, setting: &'static Setting) -> Value {
        let text = || json!({ "type": "string" });
        let mut schema = match &setting.kind {
            SettingKind::Text | SettingKind::Secret | SettingKind::Path | SettingKind::Form(_) => {
                text()
            }
            SettingKind::Word(words) => json!({ "anyOf": [{ "enum": words }, expanded()] }),
            SettingKind::Boolean => json!({ "type": "boolean" }),
            SettingKind::Integer(min, i64::MAX) => json!({ "type": "integer", "minimum": min }),
            SettingKind::Integer(min, max) => {
                json!({ "type": "integer", "minimum": min, "maximum": max })
            }
            SettingKind::Number(min, max) => {
                json!({ "type": "number", "minimum": min, "maximum": max })
            }
            SettingKind::Duration => pattern(DURATION),
            SettingKind::PositiveDuration => pattern(POSITIVE_DURATION),
            SettingKind::Size => pattern(SIZE),
            SettingKind::Texts | SettingKind::Secrets => {
                json!({ "type": "array", "items": text() })
            }
            SettingKind::TextTable | SettingKind::HeaderTable => {
                json!({ "type": "object", "additionalProperties": text() })
            }
            SettingKind::Tree => json!({}),
            SettingKind::TableBy(..) => json!({ "type": "object" }),
            SettingKind::Table(below) => return self.reference(setting.name, below, false),
            SettingKind::Tables(below) => {
                json!({ "type": "array", "items": self.reference(setting.name, below, true) })
            }
            SettingKind::NamedTables(below) => {
                let each = self.reference(setting.name, below, false);
                json!({ "type": "object", "additionalProperties": each })
            }
        };
        if !setting.doc.is_empty() {
            put(&mut schema, "description", setting.doc);
        }
        if let Some(value) = setting.default_value() {
            put(&mut schema, "default", value);
        }
        if let SettingKind::Form(form) = setting.kind {
            put(&mut schema, "title", form);
        }
        schema
    }
}

/// Sets a keyword of a schema.
fn put(schema: &mut Value, keyword: &str, value: impl Into<Value>) {
    if let Value::Object(keywords) = schema {
        keywords.insert(keyword.to_owned(), value.into());
    }
}

/// Returns the schema of a text whose value only the program knows.
fn expanded() -> Value {
    json!({ "type": "string", "pattern": EXPANDED })
}

/// Returns the schema of a text of one form, or one that is expanded.
fn pattern(form: &str) -> Value {
    json!({ "type": "string", "pattern": format!("({form})|{EXPANDED}") })
}
