//! The JSON Schema beside the program's own reading: what it refuses, the program refuses as well; and of the mistakes
//! that one value or key can have, each of every described setting, it refuses what the program refuses.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::tables::{each_described_table, json_schema};
use super::tests::load_text;
use tagway_settings::{Setting, SettingKind};

/// The program's schema, compiled.
struct SchemaValidator {
    schemas: boon::Schemas,
    root: boon::SchemaIndex,
}

impl SchemaValidator {
    fn new() -> Self {
        let mut compiler = boon::Compiler::new();
        compiler.add_resource("tagway.json", json_schema()).unwrap();
        let mut schemas = boon::Schemas::new();
        let root = compiler.compile("tagway.json", &mut schemas).unwrap();
        Self { schemas, root }
    }

    /// The schema's objection to a document, if it has one.
    fn fault(&self, document: &Value) -> Option<String> {
        self.schemas.validate(document, self.root).err().map(|error| error.to_string())
    }
}

/// A file with one setting of one table, and everything that makes it valid otherwise.
struct TrialFile {
    document: Value,
    /// The steps to the setting's table: keys, and 0 for the first table of a list.
    steps: Vec<String>,
}

impl TrialFile {
    fn new(path: &str, name: &str, settings: &[&'static Setting]) -> Self {
        let (path, vendor) = path.split_once(" of ").unwrap_or((path, "webhook"));
        let mut destination =
            json!({ "name": "d", "vendor": vendor, "settings": { "url": "https://a.example/" } });
        if vendor != "webhook" {
            let required = settings.iter().filter(|it| it.is_required);
            let values: Map<String, Value> = required
                .map(|it| {
                    (
                        it.name.to_owned(),
                        it.example.unwrap_or("x").replace(['$', '{', '}'], "").into(),
                    )
                })
                .collect();
            destination["settings"] = Value::Object(values);
            if vendor == "posthog" {
                destination["mode"] = "client".into();
            }
        }
        let document =
            json!({ "sites": [{ "name": "a", "hosts": ["*"], "destinations": [destination] }] });
        let mut steps: Vec<String> =
            path.split('.').filter(|it| !it.is_empty()).map(str::to_owned).collect();
        for (named, name) in [("vendors", "ga4"), ("channels", "ops")] {
            if let Some(at) = steps.iter().position(|it| it == named) {
                steps.insert(at + 1, name.to_owned());
            }
        }
        let mut trial = Self { document, steps };
        match (trial.steps.last().map(String::as_str), name) {
            (Some("source"), "key") => trial.set("kind", json!("redis")),
            (Some("source"), _) => trial.set("kind", json!("http")),
            (Some("certificates"), _) => {
                trial.set("cert", json!("a.pem"));
                trial.set("key", json!("b.pem"));
            }
            (Some("segments"), _) if path.starts_with(".sites") => {
                trial.set("name", json!("s"));
                trial.set("where", json!({ "trait": "a", "exists": true }));
                trial.set(if name == "cron" { "cron" } else { "every" }, json!("24h"));
            }
            (Some("sync"), _) => {
                let rule = json!({ "trait": "a", "exists": true });
                trial.document["sites"][0]["segments"] =
                    json!([{ "name": "s", "every": "24h", "where": rule }]);
                trial.set("destination", json!("d"));
            }
            (Some("integrations"), _) => trial.set("name", json!("i")),
            (Some("rules"), _) if path.starts_with(".alerts") => {
                trial.set("name", json!("backlog-age"));
            }
            (Some("ops"), "host" | "port" | "tls" | "user" | "password" | "from" | "to") => {
                trial.set("kind", json!("email"));
            }
            (Some("ops"), _) => {
                trial.set("kind", json!("webhook"));
                trial.set("url", json!("https://a.example/"));
            }
            _ => {}
        }
        trial
    }

    fn table(&mut self) -> &mut Map<String, Value> {
        let mut value = &mut self.document;
        for step in &self.steps {
            let is_list =
                ["sites", "destinations", "rules", "sync", "certificates", "integrations"]
                    .contains(&step.as_str())
                    || (step == "segments"
                        && self.steps.first().is_some_and(|first| first.starts_with("site")));
            let next = value.as_object_mut().unwrap().entry(step.clone());
            value = next.or_insert_with(|| if is_list { json!([{}]) } else { json!({}) });
            if let Value::Array(items) = value {
                value = &mut items[0];
            }
        }
        value.as_object_mut().unwrap()
    }

    fn set(&mut self, name: &str, value: Value) {
        self.table().insert(name.to_owned(), value);
    }

    /// The mistakes that the program reports; none if it accepts the file.
    fn mistakes(&self) -> Vec<String> {
        load_text(&toml::to_string(&self.document).unwrap()).err().unwrap_or_default()
    }
}

/// Values that a setting does not take.
fn wrong_values(kind: &SettingKind) -> Vec<Value> {
    match kind {
        SettingKind::Text | SettingKind::Secret | SettingKind::Path | SettingKind::Form(_) => {
            vec![json!(7)]
        }
        SettingKind::Word(_) => vec![json!(7), json!("no-such-word")],
        SettingKind::Boolean => vec![json!("yes")],
        SettingKind::Integer(min, max) => {
            let mut values = vec![json!("seven"), json!(1.5)];
            values.extend(min.checked_sub(1).map(Value::from));
            values.extend(max.checked_add(1).map(Value::from));
            values
        }
        SettingKind::Number(_, max) => vec![json!("seven"), json!(max + 1.0)],
        SettingKind::Duration => vec![json!(5), json!("5 minutes")],
        SettingKind::PositiveDuration => vec![json!(5), json!("5 minutes"), json!("0s")],
        SettingKind::Size => vec![json!(5), json!("5 megabytes")],
        SettingKind::Texts | SettingKind::Secrets => vec![json!("text"), json!([7])],
        SettingKind::TextTable | SettingKind::HeaderTable => vec![json!("text")],
        SettingKind::Tree => Vec::new(),
        SettingKind::Table(_)
        | SettingKind::Tables(_)
        | SettingKind::NamedTables(_)
        | SettingKind::TableBy(..) => vec![json!(7)],
    }
}

#[test]
fn schema_refuses_the_mistakes_of_values_and_keys_that_the_program_refuses() {
    let schema = SchemaValidator::new();
    let (mut faults, mut trials) = (Vec::new(), 0);
    each_described_table(&mut |path, settings| {
        // The same tables again, as defaults; and the values of a page-only vendor, of which others may stay.
        if path.starts_with(".site_defaults")
            || path.starts_with(".destination_defaults")
            || path.ends_with("posthog")
        {
            return;
        }
        let mut names = BTreeSet::new();
        for setting in settings.iter().filter(|it| names.insert(it.name)) {
            for value in wrong_values(&setting.kind) {
                let mut trial = TrialFile::new(path, setting.name, settings);
                trial.set(setting.name, value.clone());
                trials += 1;
                let mistakes = trial.mistakes();
                if schema.fault(&trial.document).is_none() {
                    faults.push(format!("the schema accepts {path}.{} = {value}", setting.name));
                }
                if !mistakes.iter().any(|it| it.contains(setting.name)) {
                    faults.push(format!(
                        "the program accepts {path}.{} = {value}: {mistakes:?}",
                        setting.name
                    ));
                }
            }
        }
        let mut trial = TrialFile::new(path, "no_such_setting", settings);
        trial.set("no_such_setting", json!(7));
        trials += 1;
        let mistakes = trial.mistakes();
        if schema.fault(&trial.document).is_none()
            || !mistakes.iter().any(|it| it.contains("no_such_setting"))
        {
            faults.push(format!("{path} takes unknown settings: {mistakes:?}"));
        }
    });
    assert!(trials > 500, "{trials}");
    assert!(faults.is_empty(), "{} of {trials}:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn schema_accepts_defaults_and_examples_of_settings() {
    let schema = SchemaValidator::new();
    each_described_table(&mut |path, settings| {
        if path.starts_with(".site_defaults") || path.starts_with(".destination_defaults") {
            return;
        }
        // The vendor decides over the settings beside it.
        for setting in settings.iter().filter(|it| it.name != "vendor") {
            let Some(value) =
                setting.toml_value().filter(|_| !matches!(setting.kind, SettingKind::Tree))
            else {
                continue;
            };
            let value: toml::Table = toml::from_str(&format!("value = {value}")).unwrap();
            let mut trial = TrialFile::new(path, setting.name, settings);
            trial.set(setting.name, serde_json::to_value(&value["value"]).unwrap());
            assert_eq!(schema.fault(&trial.document), None, "{path}.{}", setting.name);
        }
    });
}

#[test]
fn schema_accepts_the_default_file_and_the_examples() {
    let schema = SchemaValidator::new();
    let root = env!("CARGO_MANIFEST_DIR");
    let mut files = vec![format!("{root}/config/tagway.toml")];
    for entry in std::fs::read_dir(format!("{root}/examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "toml") {
            files.push(path.display().to_string());
        }
    }
    assert!(files.len() > 5, "{files:?}");
    for file in files {
        let table: toml::Table = toml::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let document = serde_json::to_value(table).unwrap();
        assert_eq!(schema.fault(&document), None, "{file}");
    }
}

#[test]
fn schema_accepts_former_and_retired_settings_as_deprecated() {
    let schema = SchemaValidator::new();
    let sites = "[[sites]]\nname = \"a\"\nhosts = [\"*\"]\n";
    for text in ["[scripts]\nabsent = \"7s\"\n", "[journal]\ndedupe_entries = 5\n"] {
        let text = format!("{text}{sites}");
        let table: toml::Table = toml::from_str(&text).unwrap();
        assert_eq!(schema.fault(&serde_json::to_value(table).unwrap()), None, "{text}");
        let settings = load_text(&text).unwrap();
        assert_eq!(settings.warnings.len(), 1, "{text}");
    }
}
