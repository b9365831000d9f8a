//! The checks of Google's validation endpoint (`docs/contracts/destinations.md` 1.2 and 1.5), as a pure function:
//! for tests of the mapping, and for a local stand-in of the endpoint.

use serde_json::Value;

use super::commerce::{MAX_ITEM_FIELDS, MAX_ITEMS};
use super::device_context::CATEGORIES;
use super::map::is_user_property;
use super::params::{
    LONG_TEXTS, MAX_NAME_CHARS, MAX_PARAMS, MAX_TEXT_CHARS, RESERVED_PARAM, RESERVED_PREFIXES,
    is_name,
};
use super::rules::RESERVED_EVENTS;
use crate::digest::is_sha256;
use tagway_core::event::JsonObject;

/// The names of a device's fields.
const DEVICE: [&str; 9] = [
    "category",
    "language",
    "screen_resolution",
    "operating_system",
    "operating_system_version",
    "model",
    "brand",
    "browser",
    "browser_version",
];

/// The events whose value has no currency.
const VIRTUAL: [&str; 2] = ["earn_virtual_currency", "spend_virtual_currency"];

/// One objection, in the words of the validation endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ga4ValidationMessage {
    /// The path of the field: `events[0].params.x`.
    pub field_path: String,
    /// The fault, in words.
    pub description: String,
    /// The kind of the fault: `VALUE_INVALID`, `NAME_RESERVED`, ...
    pub validation_code: &'static str,
}

/// Returns all faults of a body.
pub fn validate(body: &Value) -> Vec<Ga4ValidationMessage> {
    let mut objections = Ga4Validator(Vec::new());
    let Some(body) = body.as_object() else {
        objections.add("", "the body is no object", "VALUE_INVALID");
        return objections.0;
    };
    let client_id = body.get("client_id").and_then(Value::as_str).unwrap_or_default();
    if !is_client_id(client_id) {
        objections.add("client_id", "two positive numbers and a full stop", "VALUE_INVALID");
    }
    for (name, value) in body {
        if value.is_null() || value.as_str() == Some("") {
            objections.add(name, "must not be empty", "VALUE_REQUIRED");
        }
    }
    objections.device(body.get("device"));
    objections.user_properties(body.get("user_properties"));
    objections.user_data(body);
    match body.get("events").and_then(Value::as_array) {
        Some(events) if (1..=super::MAX_EVENTS).contains(&events.len()) => {
            for (index, event) in events.iter().enumerate() {
                objections.event(&format!("events[{index}]"), event);
            }
        }
        _ => objections.add("events", "1 to 25 events", "EXCEEDED_MAX_ENTITIES"),
    }
    objections.0
}

struct Ga4Validator(Vec<Ga4ValidationMessage>);

impl Ga4Validator {
    fn add(&mut self, path: &str, description: &str, validation_code: &'static str) {
        let (field_path, description) = (path.to_owned(), description.to_owned());
        self.0.push(Ga4ValidationMessage { field_path, description, validation_code });
    }

    fn event(&mut self, path: &str, event: &Value) {
        let name = event.get("name").and_then(Value::as_str).unwrap_or_default();
        self.name(&format!("{path}.name"), name);
        if RESERVED_EVENTS.contains(&name) {
            self.add(&format!("{path}.name"), "is reserved", "NAME_RESERVED");
        }
        let Some(params) = event.get("params") else { return };
        let Some(params) = params.as_object() else {
            return self.add(&format!("{path}.params"), "is no object", "VALUE_INVALID");
        };
        if params.len() > MAX_PARAMS {
            self.add(&format!("{path}.params"), "at most 25", "EXCEEDED_MAX_ENTITIES");
        }
        for (name, value) in params {
            let path = format!("{path}.params.{name}");
            match (name.as_str(), value) {
                ("items", Value::Array(items)) => self.items(&path, items),
                _ => self.param(&path, name, value),
            }
        }
        let has_currency = params.get("currency").and_then(Value::as_str).is_some();
        let is_virtual = VIRTUAL.contains(&name);
        if is_virtual && params.contains_key("currency") {
            self.add(&format!("{path}.params.currency"), "of no currency", "VALUE_INVALID");
        }
        if params.contains_key("value") && !has_currency && !is_virtual {
            self.add(&format!("{path}.params.currency"), "value needs it", "VALUE_REQUIRED");
        }
        if matches!(name, "purchase" | "refund") && !params.contains_key("transaction_id") {
            self.add(&format!("{path}.params.transaction_id"), "is required", "VALUE_REQUIRED");
        }
    }

    fn items(&mut self, path: &str, items: &[Value]) {
        if items.len() > MAX_ITEMS {
            self.add(path, "at most 200", "EXCEEDED_MAX_ENTITIES");
        }
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let Some(item) = item.as_object() else {
                self.add(&path, "is no object", "VALUE_INVALID");
                continue;
            };
            if !item.contains_key("item_id") && !item.contains_key("item_name") {
                self.add(&path, "needs item_id or item_name", "VALUE_REQUIRED");
            }
            if item.len() > MAX_ITEM_FIELDS {
                self.add(&path, "too many fields", "EXCEEDED_MAX_ENTITIES");
            }
            self.numbers(&path, item);
            for (name, value) in item {
                self.param(&format!("{path}.{name}"), name, value);
            }
        }
    }

    fn numbers(&mut self, path: &str, item: &JsonObject) {
        for name in ["price", "discount"] {
            if item.get(name).is_some_and(|value| !value.is_number()) {
                self.add(&format!("{path}.{name}"), "must be a number", "VALUE_INVALID");
            }
        }
        for name in ["quantity", "index"] {
            if item.get(name).is_some_and(|value| !value.is_i64()) {
                self.add(&format!("{path}.{name}"), "must be a whole number", "VALUE_INVALID");
            }
        }
    }

    fn param(&mut self, path: &str, name: &str, value: &Value) {
        self.name(path, name);
        if name == RESERVED_PARAM {
            self.add(path, "is reserved", "NAME_RESERVED");
        }
        match value {
            Value::Number(_) => {}
            Value::String(text) => {
                let long = LONG_TEXTS.iter().find(|(long, _)| *long == name);
                let max = long.map_or(MAX_TEXT_CHARS, |(_, max)| *max);
                if text.is_empty() || text.chars().count() > max {
                    self.add(path, "empty or too long", "VALUE_OUT_OF_BOUNDS");
                }
            }
            _ => self.add(path, "must be a text or a number", "VALUE_INVALID"),
        }
    }

    fn name(&mut self, path: &str, name: &str) {
        if !is_name(name) || name.chars().count() > MAX_NAME_CHARS {
            self.add(path, "1 to 40 letters, digits and \"_\"", "NAME_INVALID");
        }
        if RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            self.add(path, "has a reserved prefix", "NAME_RESERVED");
        }
    }

    fn device(&mut self, device: Option<&Value>) {
        let Some(device) = device else { return };
        let fields = device.as_object().into_iter().flatten();
        let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        for (name, _) in
            fields.filter(|(name, value)| !DEVICE.contains(&name.as_str()) || !is_text(value))
        {
            self.add(&format!("device.{name}"), "is no text of a device", "VALUE_INVALID");
        }
        let category = device.get("category").and_then(Value::as_str);
        if category.is_some_and(|category| !CATEGORIES.contains(&category)) {
            self.add("device.category", "is no category", "VALUE_INVALID");
        }
    }

    fn user_data(&mut self, body: &JsonObject) {
        let Some(data) = body.get("user_data") else { return };
        if !body.contains_key("user_id") {
            self.add("user_data", "needs user_id", "VALUE_REQUIRED");
        }
        if !is_hashed(data) {
            self.add("user_data", "is not hashed", "VALUE_INVALID");
        }
    }

    fn user_properties(&mut self, properties: Option<&Value>) {
        let Some(properties) = properties.and_then(Value::as_object) else { return };
        if properties.len() > 25 {
            self.add("user_properties", "at most 25", "EXCEEDED_MAX_ENTITIES");
        }
        for (name, value) in properties {
            let path = format!("user_properties.{name}");
            if !is_user_property(name) {
                self.add(&path, "is no name for a user property", "NAME_INVALID");
            }
            let fits = match value.get("value") {
                Some(Value::String(text)) => (1..=36).contains(&text.chars().count()),
                Some(Value::Number(_) | Value::Bool(_)) => true,
                _ => false,
            };
            if !fits {
                self.add(&path, "must be a short value", "VALUE_INVALID");
            }
        }
    }
}

/// Returns true if every value under a key that names a digest is one.
fn is_hashed(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().all(|(name, value)| {
            if name.starts_with("sha256_") { is_digests(value) } else { is_hashed(value) }
        }),
        Value::Array(values) => values.iter().all(is_hashed),
        _ => true,
    }
}

fn is_digests(value: &Value) -> bool {
    match value {
        Value::Array(values) => !values.is_empty() && values.iter().all(is_digests),
        value => value.as_str().is_some_and(is_sha256),
    }
}

fn is_client_id(text: &str) -> bool {
    let is_positive = |part: &str| {
        part.bytes().all(|byte| byte.is_ascii_digit()) && part.bytes().any(|byte| byte != b'0')
    };
    text.split_once('.').is_some_and(|(first, second)| is_positive(first) && is_positive(second))
}
