//! Parameters within Google's limits (`contracts/destinations.md` 1.2).

use serde_json::Value;

use crate::event::Object;
use crate::vendors::email::{is_email, without_emails};

/// Parameters of one event, those of the session and the time included.
pub(super) const MAX_PARAMS: usize = 25;

/// Characters of a parameter's name.
pub(super) const MAX_NAME_CHARS: usize = 40;

/// Characters of a text.
pub(super) const MAX_TEXT_CHARS: usize = 100;

/// The texts that may be longer.
pub(super) const LONG_TEXTS: [(&str, usize); 3] =
    [("page_title", 300), ("page_referrer", 420), ("page_location", 1000)];

/// What no name of an event, a parameter or a user property may start with.
pub(super) const RESERVED_PREFIXES: [&str; 5] = ["_", "firebase_", "ga_", "google_", "gtag."];

/// A parameter name that is Google's own.
pub(super) const RESERVED_PARAM: &str = "firebase_conversion";

/// The parameters of one event. What cannot be sent is left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Params {
    object: Object,
    max: usize,
}

impl Params {
    /// No parameters yet, room for `max`.
    pub(super) fn new(max: usize) -> Self {
        Self { object: Object::new(), max }
    }

    /// Adds a parameter of the mapping, if its value can be sent. The first of a name counts.
    pub(super) fn add(&mut self, name: &str, value: Option<Value>) {
        let Some(value) = value.and_then(|value| sendable(name, value)) else { return };
        if self.object.len() < self.max {
            self.object.entry(name).or_insert(value);
        }
    }

    /// Adds a parameter whose name is the client's.
    pub(super) fn add_custom(&mut self, name: &str, value: &Value) {
        if let Some(name) = custom_name(name) {
            self.add(&name, Some(value.clone()));
        }
    }

    /// Adds the properties under their own names, objects flattened one level.
    pub(super) fn add_properties(&mut self, properties: &Object, except: &[&str]) {
        for (name, value) in properties.iter().filter(|(name, _)| !except.contains(&name.as_str()))
        {
            match value {
                Value::Object(inner) => {
                    for (inner_name, value) in inner {
                        self.add_custom(&format!("{name}_{inner_name}"), value);
                    }
                }
                value => self.add_custom(name, value),
            }
        }
    }

    /// Adds the list of items.
    pub(super) fn add_items(&mut self, items: Vec<Value>) {
        if !items.is_empty() && self.object.len() < self.max {
            self.object.insert("items".to_owned(), Value::Array(items));
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.object.contains_key(name)
    }

    pub(super) fn into_object(self) -> Object {
        self.object
    }
}

/// The value as Google takes it: a number, or a text of some length. Lists and objects are neither.
fn sendable(name: &str, value: Value) -> Option<Value> {
    match value {
        Value::Number(number) => Some(Value::Number(number)),
        Value::Bool(value) => Some(Value::String(value.to_string())),
        Value::String(text) => {
            let is_url = matches!(name, "page_location" | "page_referrer");
            let text = if is_url { without_emails(text) } else { text };
            if text.is_empty() || is_email(&text) {
                return None;
            }
            let long = LONG_TEXTS.iter().find(|(long, _)| *long == name);
            Some(Value::String(cut(text, long.map_or(MAX_TEXT_CHARS, |(_, chars)| *chars))))
        }
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The client's name for a parameter as Google takes it, if it can be made so.
fn custom_name(name: &str) -> Option<String> {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = name.trim().chars().map(plain).collect();
    let is_reserved = RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || name == RESERVED_PARAM
        || matches!(name.as_str(), "items" | "timestamp_micros");
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic());
    (starts && !is_reserved && name.len() <= MAX_NAME_CHARS).then_some(name)
}

/// The text's first characters.
pub(super) fn cut(mut text: String, chars: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(chars) {
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_fit_or_left_out() {
        assert_eq!(custom_name("Gift Wrap").as_deref(), Some("Gift_Wrap"));
        assert_eq!(custom_name("a.b-c").as_deref(), Some("a_b_c"));
        assert_eq!(custom_name(&"a".repeat(40)), Some("a".repeat(40)));
        for bad in
            ["", "1a", "_a", "ga_x", "google_x", "firebase_x", "firebase_conversion", "ä", "items"]
        {
            assert_eq!(custom_name(bad), None, "{bad}");
        }
        assert_eq!(custom_name(&"a".repeat(41)), None);
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("äöü".to_owned(), 2), "äö");
        assert_eq!(cut("ab".to_owned(), 2), "ab");
    }
}
