//! One rule of a mapping: a condition on events, and the changes to them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::globs::GlobPatterns;
use super::names::LookupPath;
use super::omissions::MappingDiagnostics;
use super::path::{EventPath, EventPathError, MappingDraft, roots};
use super::template::{CompiledTemplates, TemplateHandle};
use crate::digest::sha256;
use tagway_core::event::EventKind;
use tagway_core::values::time::read as read_time;
use tagway_core::values::{email, unicode};
use tagway_settings::{Setting, SettingsSection};

/// The described settings of `[[sites.destinations.mapping.rules]]`.
pub(super) const RULE_SETTINGS: &[Setting] = &[
    Setting::texts("events")
        .example("[\"Order Completed\"]")
        .doc("the events of the rule; a rule may have types and where as well"),
    Setting::text("rename").example("Purchase").doc("the event's new name"),
    Setting::tree("set")
        .example("{ \"properties.label\" = \"{{ properties.price }} {{ properties.currency }}\" }")
        .doc("members with new values; a text is a template"),
    Setting::tree("move")
        .example("{ \"properties.old\" = \"properties.new\" }")
        .doc("members under new paths"),
    Setting::tree("convert")
        .example("{ \"properties.price\" = \"number\" }")
        .doc("text, integer, boolean, lower, upper, rfc3339, unix, unix_ms"),
    Setting::texts("hash")
        .example("[\"traits.email\"]")
        .doc("SHA-256 of the text, trimmed and in lower case"),
    Setting::texts("drop")
        .example("[\"properties.products.*.cost\"]")
        .doc("members that are left out"),
    Setting::texts("types")
        .example("[\"track\", \"page\"]")
        .doc("kinds of events of the rule; all by default"),
    Setting::text("where")
        .example("properties.revenue > 10")
        .doc("a condition, as that of the destination"),
];

/// The condition of a mapping or of one rule.
#[derive(Debug)]
pub(super) struct MappingCondition {
    events: GlobPatterns,
    types: Vec<EventKind>,
    holds: Option<TemplateHandle>,
    /// The values that `where` looks up.
    lookups: BTreeSet<LookupPath>,
}

/// The target form of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ValueConversion {
    Text,
    Number,
    Integer,
    Boolean,
    Lower,
    Upper,
    Rfc3339,
    UnixSeconds,
    UnixMilliseconds,
}

const CONVERSIONS: &[(&str, ValueConversion)] = &[
    ("text", ValueConversion::Text),
    ("number", ValueConversion::Number),
    ("integer", ValueConversion::Integer),
    ("boolean", ValueConversion::Boolean),
    ("lower", ValueConversion::Lower),
    ("upper", ValueConversion::Upper),
    ("rfc3339", ValueConversion::Rfc3339),
    ("unix", ValueConversion::UnixSeconds),
    ("unix_ms", ValueConversion::UnixMilliseconds),
];

/// The new value of a path.
#[derive(Debug)]
enum AssignedValue {
    Constant(Value),
    Template(TemplateHandle),
}

/// One rule of `[[sites.destinations.mapping.rules]]`.
#[derive(Debug)]
pub(super) struct MappingRule {
    pub(super) condition: MappingCondition,
    set: Vec<(EventPath, AssignedValue)>,
    moved: Vec<(EventPath, EventPath)>,
    converted: Vec<(EventPath, ValueConversion)>,
    hashed: Vec<EventPath>,
    dropped: Vec<EventPath>,
    /// The names of its events, as far as the rule states them.
    names: Vec<String>,
    /// The values that its templates look up.
    lookups: BTreeSet<LookupPath>,
}

impl MappingCondition {
    /// Reads `types` and `where`, and `events` if the condition is a rule's own.
    pub(super) fn read(
        section: &mut SettingsSection<'_>,
        with_events: bool,
        templates: &mut CompiledTemplates,
    ) -> Self {
        let events = if with_events { section.strings("events") } else { Vec::new() };
        let mut types = Vec::new();
        for name in section.strings("types") {
            match EventKind::from_name(&name) {
                Some(kind) => types.push(kind),
                None => {
                    let names = EventKind::ALL.map(EventKind::name);
                    section.unknown_name("types", &name, "type of event", &names);
                }
            }
        }
        let compiled = section.opt_string("where").and_then(|text| {
            let compiled = templates.expression(&text);
            compiled.map_err(|mistakes| note(section, "where", &mistakes)).ok()
        });
        let (holds, lookups) = compiled.unzip();
        Self {
            events: GlobPatterns::new(&events),
            types,
            holds,
            lookups: lookups.unwrap_or_default(),
        }
    }

    /// Returns the condition that every event meets.
    pub(super) fn any() -> Self {
        let lookups = BTreeSet::new();
        Self { events: GlobPatterns::new(&[]), types: Vec::new(), holds: None, lookups }
    }

    /// Returns true if every event meets it.
    pub(super) fn is_any(&self) -> bool {
        self.events == GlobPatterns::new(&[]) && self.types.is_empty() && self.holds.is_none()
    }

    /// Returns the values that its `where` looks up.
    pub(super) fn lookups(&self) -> &BTreeSet<LookupPath> {
        &self.lookups
    }

    /// Returns true if it needs the event's content.
    pub(super) fn needs_content(&self) -> bool {
        self.holds.is_some()
    }

    /// Returns true if it applies to events of this kind and name.
    pub(super) fn is_for(&self, kind: EventKind, name: &str) -> bool {
        (self.types.is_empty() || self.types.contains(&kind)) && self.events.matches(name)
    }

    /// Returns true if the event meets its `where`.
    pub(super) fn holds(
        &self,
        templates: &CompiledTemplates,
        context: &minijinja::Value,
    ) -> Result<bool, minijinja::Error> {
        self.holds.as_ref().map_or(Ok(true), |holds| templates.holds(holds, context))
    }
}

impl MappingRule {
    pub(super) fn read(
        section: &mut SettingsSection<'_>,
        templates: &mut CompiledTemplates,
    ) -> Self {
        section.describe(RULE_SETTINGS);
        let condition = MappingCondition::read(section, true, templates);
        let (mut set, mut lookups) = (Vec::new(), BTreeSet::new());
        let rename = section.opt_string("rename");
        let is_name = |name: &String| !name.contains(['*', '?', '{']) && !name.starts_with('!');
        let mut names = section.strings("events");
        if let Some(name) = &rename {
            names = vec![name.clone()];
        }
        names.retain(is_name);
        let rename = rename.map(|name| ("event".to_owned(), name.into()));
        let rename: Vec<(String, Value)> = rename.into_iter().collect();
        for (key, values) in [("rename", rename), ("set", section.flat_values("set"))] {
            for (name, value) in values {
                let path = path(section, key, &name);
                let setting = setting(section, key, value, (templates, &mut lookups));
                set.extend(path.zip(setting));
            }
        }
        let mut moved = Vec::new();
        for (from, to) in section.flat_values("move") {
            let Some(to) = text(section, "move", &to) else { continue };
            moved.extend(path(section, "move", &from).zip(path(section, "move", &to)));
        }
        let mut converted = Vec::new();
        for (name, conversion) in section.flat_values("convert") {
            let path = path(section, "convert", &name);
            converted.extend(path.zip(conversion_of(section, &conversion)));
        }
        let mut paths = |key: &str| {
            let names = section.strings(key);
            names.iter().filter_map(|name| path(section, key, name)).collect()
        };
        let (hashed, dropped) = (paths("hash"), paths("drop"));
        Self { condition, set, moved, converted, hashed, dropped, names, lookups }
    }

    /// Returns the names of its events, as far as the rule states them.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns the values that it looks up in events, each with the key that does.
    pub(super) fn lookups(&self) -> impl Iterator<Item = (&'static str, LookupPath)> {
        let named = |key: &'static str, lookups: &BTreeSet<LookupPath>| {
            lookups.iter().map(|lookup| (key, lookup.clone())).collect::<Vec<_>>()
        };
        let paths = |key: &'static str, paths: Vec<&EventPath>| {
            paths.into_iter().map(|path| (key, path.lookup())).collect::<Vec<_>>()
        };
        named("where", &self.condition.lookups)
            .into_iter()
            .chain(named("set", &self.lookups))
            .chain(paths("move", self.moved.iter().map(|(from, _)| from).collect()))
            .chain(paths("convert", self.converted.iter().map(|(path, _)| path).collect()))
            .chain(paths("hash", self.hashed.iter().collect()))
            .chain(paths("drop", self.dropped.iter().collect()))
    }

    /// Returns the paths of the values that it sets, or moves others to.
    pub(super) fn written_paths(&self) -> impl Iterator<Item = LookupPath> {
        let set = self.set.iter().map(|(path, _)| path);
        set.chain(self.moved.iter().map(|(_, to)| to)).map(EventPath::lookup)
    }

    /// Returns true if it needs the event's content for more than changing it.
    pub(super) fn needs_content(&self) -> bool {
        let is_template = |(_, setting): &(EventPath, AssignedValue)| {
            matches!(setting, AssignedValue::Template(_))
        };
        self.condition.needs_content() || self.set.iter().any(is_template)
    }

    /// Changes the event: set, move, convert, hash, drop. A template without a value sets nothing.
    pub(super) fn apply(
        &self,
        draft: &mut MappingDraft,
        templates: &CompiledTemplates,
        context: &minijinja::Value,
        notes: &mut MappingDiagnostics<'_>,
    ) {
        for (path, setting) in &self.set {
            match setting {
                AssignedValue::Constant(value) => draft.put(path, value),
                AssignedValue::Template(handle) => {
                    let key = || format!("set \"{}\"", path.lookup().join("."));
                    let value = notes.value(key, templates.evaluate(handle, context));
                    if let Some(value) = value {
                        draft.put(path, &value);
                    }
                }
            }
        }
        for (from, to) in &self.moved {
            if let Some(value) = draft.take(from) {
                draft.put(to, &value);
            }
        }
        for (path, conversion) in &self.converted {
            draft.change(path, &|value| conversion.of(value));
        }
        for path in &self.hashed {
            draft.change(path, &digest_of);
        }
        for path in &self.dropped {
            draft.remove(path);
        }
    }
}

fn path(section: &mut SettingsSection<'_>, key: &str, text: &str) -> Option<EventPath> {
    match EventPath::parse(text) {
        Ok(path) => Some(path),
        Err(EventPathError::Root(root)) => {
            section.unknown_name(key, &root, "part of an event", &roots());
            None
        }
        Err(EventPathError::Form(problem)) => {
            section.error(key, &format!("a path {problem}"));
            None
        }
    }
}

fn setting(
    section: &mut SettingsSection<'_>,
    key: &str,
    value: Value,
    (templates, lookups): (&mut CompiledTemplates, &mut BTreeSet<LookupPath>),
) -> Option<AssignedValue> {
    match value {
        Value::String(text) if text.contains("{{") || text.contains("{%") => {
            let compiled = templates.template(&text);
            let compiled = compiled.map_err(|mistakes| note(section, key, &mistakes)).ok();
            let (handle, seen) = compiled?;
            lookups.extend(seen);
            Some(AssignedValue::Template(handle))
        }
        value => Some(AssignedValue::Constant(value)),
    }
}

fn note(section: &mut SettingsSection<'_>, key: &str, mistakes: &[String]) {
    for mistake in mistakes {
        section.error(key, mistake);
    }
}

fn text(section: &mut SettingsSection<'_>, key: &str, value: &Value) -> Option<String> {
    let text = value.as_str().map(str::to_owned);
    if text.is_none() {
        section.error(key, "each must be a string");
    }
    text
}

fn conversion_of(section: &mut SettingsSection<'_>, value: &Value) -> Option<ValueConversion> {
    let name = text(section, "convert", value)?;
    let found = CONVERSIONS.iter().find(|(known, _)| *known == name);
    if found.is_none() {
        let names: Vec<&str> = CONVERSIONS.iter().map(|(name, _)| *name).collect();
        section.unknown_name("convert", &name, "conversion", &names);
    }
    found.map(|(_, conversion)| *conversion)
}

impl ValueConversion {
    /// Returns the value in its new form; `None` if it has none, and then it stays as it is.
    fn of(self, value: &Value) -> Option<Value> {
        match self {
            Self::Text => plain(value).map(Value::String),
            Self::Number => crate::products::number(value).map(Value::Number),
            Self::Integer => crate::products::whole_number(value).map(Value::from),
            Self::Boolean => boolean(value).map(Value::Bool),
            Self::Lower => plain(value).map(|text| Value::String(text.to_lowercase())),
            Self::Upper => plain(value).map(|text| Value::String(text.to_uppercase())),
            Self::Rfc3339 => time(value).map(|time| Value::String(time.to_string())),
            Self::UnixSeconds => time(value).map(|time| time.as_second().into()),
            Self::UnixMilliseconds => time(value).map(|time| time.as_millisecond().into()),
        }
    }
}

/// Returns a value as text.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

fn boolean(value: &Value) -> Option<bool> {
    match plain(value)?.trim().to_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Reads a time in any of the forms that clients write.
fn time(value: &Value) -> Option<Timestamp> {
    read_time(&plain(value)?)
}

/// Returns the digest of a text, trimmed and in lower case, as most vendors require it.
fn digest_of(value: &Value) -> Option<Value> {
    let text = plain(value)?;
    let address = email::identity(&text);
    let text = address.unwrap_or_else(|| unicode::composed(text.trim()).to_lowercase());
    sha256(&text).map(Value::String)
}
