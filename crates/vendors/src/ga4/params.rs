//! Parameters within Google's limits (`docs/contracts/destinations.md` 1.2).

use serde_json::Value;

use crate::beacon_format::is_blank;
use crate::email::{is_email, without_emails};
use tagway_core::event::{DroppedFields, FieldDropReason, JsonObject};

/// The most parameters of one event, those of the session and the time included.
pub(super) const MAX_PARAMS: usize = 25;

/// The most characters of a parameter's name.
pub(super) const MAX_NAME_CHARS: usize = 40;

/// The most characters of a text.
pub(super) const MAX_TEXT_CHARS: usize = 100;

/// The texts with higher limits, and those limits.
pub(super) const LONG_TEXTS: [(&str, usize); 3] =
    [("page_title", 300), ("page_referrer", 420), ("page_location", 1000)];

/// The prefixes that no name of an event, a parameter or a user property may have.
pub(super) const RESERVED_PREFIXES: [&str; 5] = ["_", "firebase_", "ga_", "google_", "gtag."];

/// The parameter name that is Google's own.
pub(super) const RESERVED_PARAM: &str = "firebase_conversion";

/// The prefix of a name that begins with no letter.
const NAME_PREFIX: &str = "e_";

/// The parameters of one event, or the fields of one item. Values that cannot be sent are dropped.
#[derive(Debug)]
pub(super) struct Ga4ParamBuilder<'d> {
    object: JsonObject,
    max: usize,
    dropped: &'d mut DroppedFields,
    /// The number of the product whose fields these are.
    product: Option<usize>,
}

impl<'d> Ga4ParamBuilder<'d> {
    /// Makes a builder without parameters, with room for `max`.
    pub(super) fn new(max: usize, dropped: &'d mut DroppedFields) -> Self {
        Self { object: JsonObject::new(), max, dropped, product: None }
    }

    /// Makes a builder without fields for the product with this number.
    pub(super) fn of_product(max: usize, dropped: &'d mut DroppedFields, product: usize) -> Self {
        Self { product: Some(product), ..Self::new(max, dropped) }
    }

    /// Adds a parameter of the mapping, if its value can be sent. The first of a name counts.
    pub(super) fn add(&mut self, name: &str, value: Option<Value>) {
        if let Some(value) = value {
            self.put(name, name, value);
        }
    }

    /// Adds a parameter with the client's name.
    pub(super) fn add_custom(&mut self, written: &str, value: &Value) {
        if is_blank(value) {
            return;
        }
        match param_name(written) {
            Some(name) if self.object.contains_key(&name) => {
                self.drop(written, FieldDropReason::NameTaken);
            }
            Some(name) => self.put(&name, written, value.clone()),
            None => self.drop(written, FieldDropReason::NameNotAllowed),
        }
    }

    /// Adds the properties under their own names, objects flattened one level.
    pub(super) fn add_properties(
        &mut self,
        properties: &JsonObject,
        is_used: impl Fn(&str) -> bool,
    ) {
        for (name, value) in properties.iter().filter(|(name, _)| !is_used(name)) {
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
        if items.is_empty() {
        } else if self.object.len() < self.max {
            self.object.insert("items".to_owned(), Value::Array(items));
        } else {
            self.drop("products", FieldDropReason::TooManyParameters);
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.object.contains_key(name)
    }

    /// Returns the collector of dropped fields, for values that are read besides the parameters.
    pub(super) fn dropped(&mut self) -> &mut DroppedFields {
        self.dropped
    }

    pub(super) fn into_object(self) -> JsonObject {
        self.object
    }

    fn put(&mut self, name: &str, written: &str, value: Value) {
        let value = match sendable(name, value) {
            Ga4ParamValue::Whole(value) => value,
            Ga4ParamValue::Nothing => return,
            Ga4ParamValue::Not(reason) => return self.drop(written, reason),
            Ga4ParamValue::Cut(value) => {
                self.drop(written, FieldDropReason::TooLong);
                value
            }
        };
        if self.object.contains_key(name) {
        } else if self.object.len() < self.max {
            self.object.insert(name.to_owned(), value);
        } else {
            self.drop(written, FieldDropReason::TooManyParameters);
        }
    }

    fn drop(&mut self, written: &str, reason: FieldDropReason) {
        match self.product {
            Some(number) => self.dropped.add(&format!("products[{number}].{written}"), reason),
            None => self.dropped.add(written, reason),
        }
    }
}

/// A value in the form that Google takes.
enum Ga4ParamValue {
    Whole(Value),
    /// The first characters of a text.
    Cut(Value),
    /// An empty text or `null`.
    Nothing,
    Not(FieldDropReason),
}

/// Converts a value to the form that Google takes: a number, or a text of limited length. Lists and objects
/// are neither.
fn sendable(name: &str, value: Value) -> Ga4ParamValue {
    match value {
        Value::Number(number) => Ga4ParamValue::Whole(Value::Number(number)),
        Value::Bool(value) => Ga4ParamValue::Whole(Value::String(value.to_string())),
        Value::String(text) => {
            let is_url = matches!(name, "page_location" | "page_referrer");
            let text = if is_url { without_emails(text) } else { text };
            if text.trim().is_empty() {
                return Ga4ParamValue::Nothing;
            }
            if is_email(&text) {
                return Ga4ParamValue::Not(FieldDropReason::Personal);
            }
            let long = LONG_TEXTS.iter().find(|(long, _)| *long == name);
            let bytes = text.len();
            let text = cut(text, long.map_or(MAX_TEXT_CHARS, |(_, chars)| *chars));
            let is_whole = text.len() == bytes;
            let text = Value::String(text);
            if is_whole { Ga4ParamValue::Whole(text) } else { Ga4ParamValue::Cut(text) }
        }
        Value::Null => Ga4ParamValue::Nothing,
        Value::Array(_) | Value::Object(_) => Ga4ParamValue::Not(FieldDropReason::Nested),
    }
}

/// Makes a valid parameter name of the client's, if possible.
fn param_name(written: &str) -> Option<String> {
    let name = fit_name(written)?;
    let is_reserved = RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || name == RESERVED_PARAM
        || matches!(name.as_str(), "items" | "timestamp_micros");
    (!is_reserved).then_some(name)
}

/// Makes a valid name of an event or a parameter of the client's: letters of any language, digits and `_`;
/// other characters become a `_`, a name that begins with no letter gets [`NAME_PREFIX`] in front, and a long
/// one is cut. `None` if no letter and no digit is left.
pub(super) fn fit_name(written: &str) -> Option<String> {
    let written = written.trim();
    let mut name = String::with_capacity(written.len() + NAME_PREFIX.len());
    if !written.starts_with(char::is_alphabetic) {
        name.push_str(NAME_PREFIX);
    }
    let (mut says_something, mut is_gap) = (false, false);
    for c in written.chars() {
        if is_name_char(c) {
            if is_gap && !name.ends_with('_') && c != '_' {
                name.push('_');
            }
            name.push(c);
            says_something |= c != '_';
        }
        is_gap = !is_name_char(c);
    }
    says_something.then(|| cut(name, MAX_NAME_CHARS))
}

/// Returns true if a name has only characters that Google takes.
pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(char::is_alphabetic) && name.chars().all(is_name_char)
}

fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns the text's first characters.
pub(super) fn cut(mut text: String, chars: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(chars) {
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_made_valid_or_dropped() {
        for (written, expected) in [
            ("Gift Wrap", "Gift_Wrap"),
            ("a.b-c", "a_b_c"),
            ("a__b", "a__b"),
            ("Home | Nav", "Home_Nav"),
            ("Newsletter: subscribed", "Newsletter_subscribed"),
            ("Added to list (mobile)", "Added_to_list_mobile"),
            ("loyaltyTier", "loyaltyTier"),
            ("Formulaire envoyé", "Formulaire_envoyé"),
            ("お問い合わせ", "お問い合わせ"),
            ("2FA enabled", "e_2FA_enabled"),
            ("_a", "e__a"),
            ("(x)", "e_x"),
        ] {
            assert_eq!(param_name(written).as_deref(), Some(expected), "{written}");
            assert!(is_name(expected), "{expected}");
        }
        for length in [40, 41, 400] {
            assert_eq!(param_name(&"ä".repeat(length)), Some("ä".repeat(40)));
        }
        for bad in ["", "_", "🎉", "ga_x", "google_x", "firebase_x", "firebase_conversion", "items"]
        {
            assert_eq!(param_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn invalid_and_surplus_values_are_dropped_with_their_reason() {
        let mut dropped = DroppedFields::default();
        let mut params = Ga4ParamBuilder::new(3, &mut dropped);
        params.add("page_title", Some(json!("t".repeat(301))));
        let properties = json!({ "page_title": "x", "used": 1, "none": "", "mail": "jo@mail.example",
            "ga_x": 1, "list": [1], "a": { "b": 1, "c": { "d": 1 } }, "flag": true, "more": 1 });
        params.add_properties(properties.as_object().unwrap(), |name| name == "used");
        let expected = json!({ "page_title": "t".repeat(300), "a_b": 1, "flag": "true" });
        assert_eq!(Value::Object(params.into_object()), expected);
        let dropped: Vec<String> = dropped.listed().iter().map(ToString::to_string).collect();
        assert_eq!(
            dropped,
            [
                "page_title (too_long)",
                "page_title (name_taken)",
                "mail (personal)",
                "ga_x (name_not_allowed)",
                "list (nested)",
                "a_c (nested)",
                "more (too_many_parameters)",
            ]
        );
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("äöü".to_owned(), 2), "äö");
        assert_eq!(cut("ab".to_owned(), 2), "ab");
    }
}
