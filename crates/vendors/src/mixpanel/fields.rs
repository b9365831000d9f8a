//! JSON objects written member by member, within Mixpanel's limits
//! (`docs/contracts/destinations.md` 3.2). Values that cannot be sent are left out: `null`, empty texts, and
//! values nested too deep. An order is rendered once per event and destination, so nothing is copied
//! first.

use serde::Serialize;
use serde::ser::Serializer;
use serde_json::Value;

use tagway_core::event::{FieldDropReason, JsonObject};

/// Properties of one event: fewer than 255.
pub(super) const MAX_PROPERTIES: usize = 254;

/// Limits on the size of values.
#[derive(Clone, Copy, Debug)]
pub(super) struct MixpanelValueLimits {
    /// Characters of a text; a longer one is cut, as Mixpanel itself would.
    chars: usize,
    /// Keys of an object, elements of a list: the surplus is left out.
    entries: usize,
    /// Levels of nested objects and lists.
    depth: usize,
}

impl MixpanelValueLimits {
    /// The limits of an event's properties.
    pub(super) const EVENT: Self = Self { chars: 255, entries: 254, depth: 3 };

    /// The limits of a profile, for which Mixpanel names none but the size of the whole.
    pub(super) const PROFILE: Self =
        Self { chars: usize::MAX, entries: usize::MAX, depth: usize::MAX };

    /// Returns true if anything of the value can be sent.
    pub(super) fn allow(self, value: &Value) -> bool {
        match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(_) | Value::Object(_) => self.depth > 0,
            Value::Bool(_) | Value::Number(_) => true,
        }
    }

    /// Returns the reason why a value that can be sent loses a part.
    fn loss(self, value: &Value) -> Option<FieldDropReason> {
        let inner = self.within();
        let of_entry = |entry: &Value| match entry {
            Value::Array(_) | Value::Object(_) if !inner.allow(entry) => {
                Some(FieldDropReason::Nested)
            }
            entry => inner.loss(entry),
        };
        match value {
            Value::String(text) => {
                (cut(text, self.chars).len() < text.len()).then_some(FieldDropReason::TooLong)
            }
            Value::Array(list) if list.len() > self.entries => {
                Some(FieldDropReason::TooManyParameters)
            }
            Value::Object(object) if object.len() > self.entries => {
                Some(FieldDropReason::TooManyParameters)
            }
            Value::Array(list) => list.iter().find_map(of_entry),
            Value::Object(object) => object.values().find_map(of_entry),
            Value::Null | Value::Bool(_) | Value::Number(_) => None,
        }
    }

    fn within(self) -> Self {
        Self { depth: self.depth.saturating_sub(1), ..self }
    }
}

/// A value within limits.
pub(super) struct MixpanelLimitedValue<'v>(pub(super) &'v Value, pub(super) MixpanelValueLimits);

impl Serialize for MixpanelLimitedValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(value, limits) = *self;
        let inner = limits.within();
        match value {
            Value::String(text) => serializer.serialize_str(cut(text, limits.chars)),
            Value::Array(list) => {
                let elements = list.iter().filter(|element| inner.allow(element));
                let elements = elements.take(limits.entries);
                serializer.collect_seq(elements.map(|element| MixpanelLimitedValue(element, inner)))
            }
            Value::Object(object) => {
                let members =
                    object.iter().filter(|(name, value)| is_name(name) && inner.allow(value));
                let members = members.take(limits.entries);
                serializer.collect_map(
                    members.map(|(name, value)| (name, MixpanelLimitedValue(value, inner))),
                )
            }
            other => other.serialize(serializer),
        }
    }
}

/// Returns true if this name may have the value: `$geo_source` takes only one.
pub(super) fn is_geo_source(name: &str, value: &Value) -> bool {
    name != "$geo_source" || value.is_null() || value == "reverse_geocoding"
}

/// Returns the text's first `chars` characters.
pub(super) fn cut(text: &str, chars: usize) -> &str {
    if text.len() <= chars {
        return text;
    }
    match text.char_indices().nth(chars) {
        Some((end, _)) => text.get(..end).unwrap_or(text),
        None => text,
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
}

/// An object being written at the end of a buffer.
pub(super) struct MixpanelObjectWriter<'b> {
    out: &'b mut Vec<u8>,
    count: usize,
}

impl<'b> MixpanelObjectWriter<'b> {
    /// Writes the beginning of an object.
    pub(super) fn open(out: &'b mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, count: 0 }
    }

    /// Adds a member without any limit.
    pub(super) fn put<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        let before = self.out.len();
        if self.count > 0 {
            self.out.push(b',');
        }
        let written = serde_json::to_writer(&mut *self.out, name).and_then(|()| {
            self.out.push(b':');
            serde_json::to_writer(&mut *self.out, value)
        });
        match written {
            Ok(()) => self.count += 1,
            // Texts and JSON values always serialise; any other value is dropped, not the event.
            Err(_) => self.out.truncate(before),
        }
    }

    /// Adds a value of the client's, if it can be sent and there is room. Returns the reason if a part of it
    /// is lost; an empty value needs none.
    pub(super) fn put_value(&mut self, name: &str, value: &Value) -> Option<FieldDropReason> {
        if !MixpanelValueLimits::EVENT.allow(value) {
            return None;
        }
        if !is_name(name) {
            return Some(FieldDropReason::NameNotAllowed);
        }
        if !self.has_room() {
            return Some(FieldDropReason::TooManyParameters);
        }
        self.put(name, &MixpanelLimitedValue(value, MixpanelValueLimits::EVENT));
        MixpanelValueLimits::EVENT.loss(value)
    }

    /// Adds a text, if there is one and there is room.
    pub(super) fn put_text(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text.filter(|text| !text.is_empty())
            && self.has_room()
        {
            self.put(name, cut(text, MixpanelValueLimits::EVENT.chars));
        }
    }

    /// Adds a member that is an object of its own.
    pub(super) fn put_object(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut MixpanelObjectWriter<'_>),
    ) {
        if self.count > 0 {
            self.out.push(b',');
        }
        self.count += 1;
        // These names are the gateway's own and need no escapes.
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        let mut inner = MixpanelObjectWriter::open(self.out);
        write(&mut inner);
        inner.close();
    }

    /// Adds an object of profile properties.
    pub(super) fn put_profile(&mut self, name: &str, properties: &JsonObject) {
        let members =
            properties.iter().filter(|(_, value)| MixpanelValueLimits::PROFILE.allow(value));
        self.put_object(name, |fields| {
            for (name, value) in members {
                fields.put(name, &MixpanelLimitedValue(value, MixpanelValueLimits::PROFILE));
            }
        });
    }

    /// Writes the end of the object.
    pub(super) fn close(self) {
        self.out.push(b'}');
    }

    fn has_room(&self) -> bool {
        self.count < MAX_PROPERTIES
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fit(value: &Value) -> Value {
        serde_json::to_value(MixpanelLimitedValue(value, MixpanelValueLimits::EVENT)).unwrap()
    }

    #[test]
    fn values_lose_what_mixpanel_would_refuse() {
        let deep = json!({ "b": [{ "c": [1], "d": { "e": 1 }, "f": 1, "g": null }, null, ""] });
        assert_eq!(fit(&deep), json!({ "b": [{ "f": 1 }] }), "the third level is the last");
        assert_eq!(fit(&json!("ä".repeat(256))), json!("ä".repeat(255)));
        assert_eq!(fit(&json!("ä".repeat(255))), json!("ä".repeat(255)));
        assert_eq!(fit(&json!(vec![1; 300])), json!(vec![1; 254]));
        let wide: JsonObject = (0..300).map(|n| (n.to_string(), json!(n))).collect();
        assert_eq!(fit(&Value::Object(wide)).as_object().unwrap().len(), 254);
        assert_eq!(fit(&json!({ "": 1, "a": "" })), json!({}));
    }

    #[test]
    fn put_value_returns_the_reason_of_a_loss() {
        let mut out = Vec::new();
        let mut fields = MixpanelObjectWriter::open(&mut out);
        for (value, reason) in [
            (json!("x".repeat(256)), Some(FieldDropReason::TooLong)),
            (json!([{ "a": "x".repeat(256) }]), Some(FieldDropReason::TooLong)),
            (json!(vec![1; 255]), Some(FieldDropReason::TooManyParameters)),
            (json!({ "a": { "b": { "c": 1, "d": {} } } }), Some(FieldDropReason::Nested)),
            (json!({ "a": { "b": { "c": null, "d": "" } } }), None),
        ] {
            assert_eq!(fields.put_value("a", &value), reason, "{value}");
        }
        assert_eq!(fields.put_value("", &json!(1)), Some(FieldDropReason::NameNotAllowed));
        (0..MAX_PROPERTIES).for_each(|_| fields.put("n", &1));
        assert_eq!(fields.put_value("a", &json!(1)), Some(FieldDropReason::TooManyParameters));
    }

    #[test]
    fn an_object_is_written_member_by_member() {
        let mut out = Vec::new();
        let mut fields = MixpanelObjectWriter::open(&mut out);
        fields.put_text("a\"b", Some("1"));
        fields.put_text("none", None);
        assert_eq!(fields.put_value("null", &Value::Null), None);
        fields.put_object("c", |inner| inner.put("d", &2));
        fields.close();
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"a\"b":"1","c":{"d":2}}"#);
    }
}
