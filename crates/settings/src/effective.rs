//! The effective value of each described setting, with its source: the default, a line of the user's file, or an
//! environment variable. Secrets are shown as set or not set, and so is each text that comes of a file or of a
//! variable whose name indicates a secret.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::{Map, Value, json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::credentials::is_credential_name;
use super::description::{Setting, SettingKind, SettingsTable};
use super::former_names::lookup_former;
use super::layer::{FoundSetting, SettingsLayer, join, json_of, lookup};
use super::source::{ConfigEnvironment, ConfigFile};

/// The forms in which a secret is shown.
const SET: &str = "set";
const NOT_SET: &str = "not set";

/// The source of a setting's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingSource {
    /// The embedded default file, or the description.
    Default,
    /// The user's file.
    File,
    /// An environment variable that the user's file names.
    Environment,
}

impl SettingSource {
    /// Returns the name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
        }
    }
}

/// A setting with its effective value.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectiveSetting {
    /// The key with its tables: `sites[0].destinations[1].consent`.
    pub path: String,
    /// The value; null if it is not set and has no default. A secret is `set` or `not set`.
    pub value: Value,
    /// The source of the value.
    pub source: SettingSource,
    /// The user's file, if it sets the value.
    pub file: Option<String>,
    /// The line in this file, from 1.
    pub line: Option<usize>,
    /// The first environment variable, or `file:PATH`, that the value names.
    pub variable: Option<String>,
    /// True if the value is not shown.
    pub is_secret: bool,
    /// The meaning.
    pub doc: &'static str,
}

/// A list of tables whose members inherit the values of another table.
struct InheritedTables {
    /// The key of the list.
    list: &'static str,
    /// The key of the table with its defaults.
    defaults: &'static str,
}

/// The lists with defaults; the table of defaults is beside the list, or at the root.
const INHERITED: &[InheritedTables] = &[
    InheritedTables { list: "sites", defaults: "site_defaults" },
    InheritedTables { list: "destinations", defaults: "destination_defaults" },
    InheritedTables { list: "integrations", defaults: "integration_defaults" },
];

/// Returns the effective value of each setting that the table describes, in its order. `files` are parsed files,
/// the most specific first and the embedded default last.
pub fn effective_settings(
    table: &SettingsTable,
    files: &[(&ConfigFile, &Spanned<DeTable<'_>>)],
    environment: &ConfigEnvironment,
) -> Vec<EffectiveSetting> {
    let root: Vec<SettingsLayer<'_>> =
        files.iter().map(|(file, table)| layer(file, table)).collect();
    let embedded = files.last().map(|(file, _)| file.name.as_str()).unwrap_or_default();
    let mut listing = EffectiveListing { environment, embedded, root: &root, rows: Vec::new() };
    listing.list_table("", &root, &table.settings().collect::<Vec<_>>());
    listing.rows
}

/// Returns the table of a list whose `name` is this one as TOML, as the user's file has it, without secrets: the
/// tables of a path such as `["sites", "destinations"]`, with the name at each step.
pub fn named_table(
    table: &SettingsTable,
    (file, parsed): (&ConfigFile, &Spanned<DeTable<'_>>),
    steps: &[(&str, &str)],
) -> Option<String> {
    let mut settings: Vec<&'static Setting> = table.settings().collect();
    let mut found = layer(file, parsed);
    for (list, name) in steps {
        let setting = settings.iter().find(|it| it.name == *list)?;
        let SettingKind::Tables(inner) = setting.kind else { return None };
        settings = inner.settings().collect();
        let items = tables_of(&lookup(&found, list)?);
        let is_named = |it: &SettingsLayer<'_>| {
            lookup(it, "name").is_some_and(|value| value.value.as_str() == Some(name))
        };
        found = items.into_iter().find(is_named)?;
    }
    let header: Vec<&str> = steps.iter().map(|(list, _)| *list).collect();
    let body = toml_table(&found, &settings);
    let text = toml::to_string(&nest(&header, Value::Object(body))).ok()?;
    Some(text)
}

/// Returns a value as the only member of a list at this path.
fn nest(path: &[&str], value: Value) -> Value {
    match path {
        [] => value,
        [last] => json!({ *last: [value] }),
        [first, rest @ ..] => json!({ *first: [nest(rest, value)] }),
    }
}

fn layer<'a>(file: &'a ConfigFile, table: &'a Spanned<DeTable<'a>>) -> SettingsLayer<'a> {
    let span: Range<usize> = table.span();
    SettingsLayer { source: file, table: table.get_ref(), span, path: String::new() }
}

/// The listing of effective values.
struct EffectiveListing<'l, 'a> {
    environment: &'l ConfigEnvironment,
    /// The name of the embedded default file.
    embedded: &'l str,
    root: &'l [SettingsLayer<'a>],
    rows: Vec<EffectiveSetting>,
}

impl<'a> EffectiveListing<'_, 'a> {
    fn list_table(
        &mut self,
        path: &str,
        layers: &[SettingsLayer<'a>],
        settings: &[&'static Setting],
    ) {
        for setting in settings {
            let own = join(path, setting.name);
            match setting.kind {
                SettingKind::Table(table) => {
                    self.list_table(&own, &below(layers, setting.name), &all(table));
                }
                SettingKind::Tables(table) => self.list_tables(&own, layers, setting.name, table),
                SettingKind::NamedTables(table) => {
                    let named = below(layers, setting.name);
                    let keys = named.iter().flat_map(|layer| layer.table.iter());
                    let names: BTreeSet<String> =
                        keys.map(|(key, _)| key.get_ref().to_string()).collect();
                    for name in names {
                        self.list_table(&join(&own, &name), &below(&named, &name), &all(table));
                    }
                }
                SettingKind::TableBy(key, variants) => {
                    let chosen = layers.iter().find_map(|layer| lookup(layer, key));
                    let chosen = chosen.and_then(|found| found.value.as_str());
                    let variant = variants().into_iter().find(|it| Some(it.value) == chosen);
                    let Some(variant) = variant else { continue };
                    let settings: Vec<_> = variant.lists.into_iter().flatten().collect();
                    self.list_table(&own, &below(layers, setting.name), &settings);
                }
                _ => self.list_setting(own, layers, setting),
            }
        }
    }

    /// Lists the tables of the most specific layer that has the list, each over its defaults.
    fn list_tables(
        &mut self,
        path: &str,
        layers: &[SettingsLayer<'a>],
        name: &str,
        table: &'static SettingsTable,
    ) {
        let Some(found) = layers.iter().find_map(|layer| lookup(layer, name)) else { return };
        let inherited = INHERITED.iter().find(|it| it.list == name);
        let defaults = inherited.map(|it| {
            let beside = below(layers, it.defaults);
            if beside.is_empty() { below(self.root, it.defaults) } else { beside }
        });
        let defaults = defaults.unwrap_or_default();
        for (index, item) in tables_of(&found).into_iter().enumerate() {
            let item: Vec<_> = [item].into_iter().chain(defaults.iter().cloned()).collect();
            self.list_table(&format!("{path}[{index}]"), &item, &all(table));
        }
    }

    fn list_setting(
        &mut self,
        path: String,
        layers: &[SettingsLayer<'a>],
        setting: &'static Setting,
    ) {
        let found = layers.iter().find_map(|layer| {
            lookup(layer, setting.name).or_else(|| Some(lookup_former(layer, setting.name)?.0))
        });
        let is_declared = matches!(setting.kind, SettingKind::Secret | SettingKind::Secrets);
        let mut row = EffectiveSetting {
            path,
            value: Value::Null,
            source: SettingSource::Default,
            file: None,
            line: None,
            variable: None,
            is_secret: is_declared,
            doc: setting.doc,
        };
        let Some(found) = found else {
            row.value = match is_declared {
                true => NOT_SET.into(),
                false => setting.default_value().unwrap_or_default(),
            };
            return self.rows.push(row);
        };
        if found.source.name != self.embedded {
            row.file = Some(found.source.name.clone());
            row.line = Some(found.source.line_at(found.span.start));
            row.variable = first_variable(found.value);
            row.source = match row.variable {
                Some(_) => SettingSource::Environment,
                None => SettingSource::File,
            };
        }
        row.is_secret |= names_secret(found.value);
        row.value = match row.is_secret {
            true => SET.into(),
            false => self.shown(found.value, setting.kind),
        };
        self.rows.push(row);
    }

    /// Returns a value as it is shown: expanded, without secrets.
    fn shown(&self, value: &DeValue<'_>, kind: SettingKind) -> Value {
        let json = json_of(value, self.environment).unwrap_or_default();
        match (kind, json) {
            (SettingKind::HeaderTable | SettingKind::TextTable, Value::Object(mut fields)) => {
                for (_, value) in fields.iter_mut().filter(|(name, _)| is_credential_name(name)) {
                    *value = SET.into();
                }
                Value::Object(fields)
            }
            (_, json) => json,
        }
    }
}

fn all(table: &SettingsTable) -> Vec<&'static Setting> {
    table.settings().collect()
}

/// Returns the tables under a key, in every layer that has it.
fn below<'a>(layers: &[SettingsLayer<'a>], key: &str) -> Vec<SettingsLayer<'a>> {
    let found = layers.iter().filter_map(|layer| table_of(lookup(layer, key)?));
    found.collect()
}

fn table_of(found: FoundSetting<'_>) -> Option<SettingsLayer<'_>> {
    let FoundSetting { source, value, span, path } = found;
    Some(SettingsLayer { source, table: value.as_table()?, span, path })
}

fn tables_of<'a>(found: &FoundSetting<'a>) -> Vec<SettingsLayer<'a>> {
    let items = found.value.as_array().into_iter().flatten().enumerate();
    items.filter_map(|(index, item)| table_of(found.item(index, item))).collect()
}

/// Calls `visit` with each text of a value until it returns something.
fn find_text<T>(value: &DeValue<'_>, visit: &mut impl FnMut(&str) -> Option<T>) -> Option<T> {
    match value {
        DeValue::String(text) => visit(text),
        DeValue::Array(items) => items.iter().find_map(|item| find_text(item.get_ref(), visit)),
        DeValue::Table(table) => {
            table.iter().find_map(|(_, value)| find_text(value.get_ref(), visit))
        }
        _ => None,
    }
}

/// Returns the names of a text's variables; `$${` is a literal `${`.
fn variables(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, tail)) = after.split_once('}') else { break };
        if before.ends_with('$') {
            rest = after;
            continue;
        }
        names.push(name);
        rest = tail;
    }
    names
}

fn first_variable(value: &DeValue<'_>) -> Option<String> {
    find_text(value, &mut |text| variables(text).first().map(|name| (*name).to_owned()))
}

/// Returns true if the value comes of a file, or of a variable whose name indicates a secret.
fn names_secret(value: &DeValue<'_>) -> bool {
    let is_secret = |name: &&str| name.starts_with("file:") || is_credential_name(name);
    find_text(value, &mut |text| variables(text).iter().any(is_secret).then_some(())).is_some()
}

/// Returns a table as the file has it, its variables unexpanded and its secrets as `set`.
fn toml_table(layer: &SettingsLayer<'_>, settings: &[&'static Setting]) -> Map<String, Value> {
    let mut shown = Map::new();
    for (key, value) in layer.table.iter() {
        let (key, value) = (key.get_ref().as_ref(), value.get_ref());
        let found = settings.iter().find(|it| it.name == key || is_former_of(layer, it, key));
        // What is not described is not read, and may be anything.
        let Some(setting) = found else { continue };
        let inner = lookup(layer, key);
        let value = match setting.kind {
            SettingKind::Secret | SettingKind::Secrets => SET.into(),
            SettingKind::Table(table) => inner
                .and_then(table_of)
                .map(|layer| Value::Object(toml_table(&layer, &all(table))))
                .unwrap_or_default(),
            SettingKind::Tables(table) => {
                let items = inner.as_ref().map(tables_of).unwrap_or_default();
                items.iter().map(|it| Value::Object(toml_table(it, &all(table)))).collect()
            }
            SettingKind::TableBy(choice, variants) => {
                let chosen = lookup(layer, choice).and_then(|it| it.value.as_str());
                let variant = variants().into_iter().find(|it| Some(it.value) == chosen);
                let lists = variant.into_iter().flat_map(|it| it.lists).flatten();
                let settings: Vec<_> = lists.collect();
                inner
                    .and_then(table_of)
                    .map(|layer| Value::Object(toml_table(&layer, &settings)))
                    .unwrap_or_default()
            }
            SettingKind::HeaderTable | SettingKind::TextTable => {
                let mut fields = raw_json(value);
                for (name, value) in fields.as_object_mut().into_iter().flatten() {
                    if is_credential_name(name) {
                        *value = SET.into();
                    }
                }
                fields
            }
            _ => raw_json(value),
        };
        if !value.is_null() {
            shown.insert(key.to_owned(), value);
        }
    }
    shown
}

/// Returns true if the key is the former name of the setting.
fn is_former_of(layer: &SettingsLayer<'_>, setting: &Setting, key: &str) -> bool {
    lookup_former(layer, setting.name).is_some_and(|(_, former)| former == key)
}

/// Returns a value as the file has it: strings are not expanded.
fn raw_json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Array(items) => items.iter().map(|item| raw_json(item.get_ref())).collect(),
        DeValue::Table(table) => {
            let entries = table.iter();
            entries.map(|(key, it)| (key.get_ref().to_string(), raw_json(it.get_ref()))).collect()
        }
        other => json_of(other, &ConfigEnvironment::default()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::ConfigErrorReport;
    use super::*;

    static DESTINATION: SettingsTable = SettingsTable(&[&[
        Setting::text("name"),
        Setting::texts("consent").default("[]"),
        Setting::duration("max_age").example("72h"),
        Setting::secret("key"),
        Setting::header_table("headers"),
    ]]);
    static SITE: SettingsTable = SettingsTable(&[&[
        Setting::text("name").doc("the site's name"),
        Setting::secret("secret"),
        Setting::tables("destinations", &DESTINATION),
    ]]);
    static ROOT: SettingsTable = SettingsTable(&[&[
        Setting::path("data_dir").default("data"),
        Setting::size("size").default("1MiB"),
        Setting::table("destination_defaults", &DESTINATION),
        Setting::tables("sites", &SITE),
    ]]);

    const USERS: &str = r#"data_dir = "/var/${PLACE}"
[[sites]]
name = "shop"
secret = "hush-hush"
[[sites.destinations]]
name = "ads"
key = "${ADS_KEY}"
headers = { authorization = "Bearer hush-hush", accept = "a" }
consent = ["marketing"]
[[sites.destinations]]
name = "${file:/run/name}"
"#;

    fn files() -> (ConfigFile, ConfigFile) {
        let file = |name: &str, text: &str| ConfigFile { name: name.into(), text: text.into() };
        (file("tagway.toml", USERS), file("default", "[destination_defaults]\nmax_age = \"1h\"\n"))
    }

    fn rows() -> Vec<EffectiveSetting> {
        let report = ConfigErrorReport::default();
        let (user, embedded) = files();
        let (of_user, of_embedded) = (user.parse(&report), embedded.parse(&report));
        let environment = ConfigEnvironment {
            variables: [("PLACE", "lib"), ("ADS_KEY", "hush-hush")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..ConfigEnvironment::default()
        };
        effective_settings(&ROOT, &[(&user, &of_user), (&embedded, &of_embedded)], &environment)
    }

    fn row(path: &str) -> EffectiveSetting {
        rows().into_iter().find(|row| row.path == path).unwrap_or_else(|| panic!("{path}"))
    }

    #[test]
    fn value_has_its_source_and_line() {
        let folder = row("data_dir");
        assert_eq!((folder.value, folder.source), ("/var/lib".into(), SettingSource::Environment));
        assert_eq!((folder.line, folder.variable.as_deref()), (Some(1), Some("PLACE")));
        let size = row("size");
        assert_eq!(
            (size.value, size.source, size.file),
            ("1MiB".into(), SettingSource::Default, None)
        );
        let consent = row("sites[0].destinations[0].consent");
        assert_eq!((consent.value, consent.line), (json!(["marketing"]), Some(9)));
        let age = row("sites[0].destinations[0].max_age");
        assert_eq!((age.value, age.source), ("1h".into(), SettingSource::Default), "inherited");
        assert_eq!(row("sites[0].name").doc, "the site's name");
    }

    #[test]
    fn secrets_are_set_or_not_set() {
        for (path, value) in [
            ("sites[0].secret", "set"),
            ("sites[0].destinations[0].key", "set"),
            ("sites[0].destinations[1].key", "not set"),
            ("sites[0].destinations[1].name", "set"),
        ] {
            let row = row(path);
            assert_eq!((row.value, row.is_secret), (value.into(), true), "{path}");
        }
        let fields = row("sites[0].destinations[0].headers").value;
        assert_eq!(fields, json!({ "authorization": "set", "accept": "a" }));
        assert!(!format!("{:?}", rows()).contains("hush"));
    }

    #[test]
    fn table_is_shown_without_secrets() {
        let (user, _) = files();
        let parsed = user.parse(&ConfigErrorReport::default());
        let steps = |name| [("sites", "shop"), ("destinations", name)];
        let text = named_table(&ROOT, (&user, &parsed), &steps("ads")).unwrap();
        assert!(
            text.contains("[[sites.destinations]]") && text.contains("key = \"set\""),
            "{text}"
        );
        assert!(text.contains("marketing") && !text.contains("hush"), "{text}");
        assert_eq!(named_table(&ROOT, (&user, &parsed), &steps("other")), None);
    }
}
