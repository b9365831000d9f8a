//! A text field that accepts the types which clients really send.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A field that should be text. Numbers and booleans are read as their text; a list or an object is ignored and
/// counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LooseText<'a> {
    /// Missing or null.
    #[default]
    Absent,
    /// Text, or the text of a number or a boolean.
    Text(Cow<'a, str>),
    /// A list or an object.
    Wrong,
}

impl LooseText<'_> {
    /// Returns the text; `None` if there is none.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Absent | Self::Wrong => None,
        }
    }

    /// Returns the text as an owned one; `None` if there is none.
    pub(super) fn into_text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.into_owned()),
            Self::Absent | Self::Wrong => None,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for LooseText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A missing member is one without content.
        deserializer.deserialize_option(LooseTextVisitor)
    }
}

struct LooseTextVisitor;

impl<'de> Visitor<'de> for LooseTextVisitor {
    type Value = LooseText<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(LooseText::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(LooseText::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(LooseText::Text(Cow::Owned(number.to_string())))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(LooseText::Text(Cow::Owned(number.to_string())))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(LooseText::Text(Cow::Owned(number.to_string())))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(LooseText::Text(Cow::Borrowed(if value { "true" } else { "false" })))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(LooseText::Absent)
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(LooseText::Absent)
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<Self::Value, D::Error> {
        value.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(LooseText::Wrong)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(LooseText::Wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_booleans_are_text_and_other_types_are_wrong() {
        let read = |text| serde_json::from_str::<LooseText<'_>>(text).unwrap();
        assert_eq!(read("\"a\""), LooseText::Text("a".into()));
        assert_eq!(read("\"\\u0061\""), LooseText::Text("a".into()));
        assert_eq!(read("12"), LooseText::Text("12".into()));
        assert_eq!(read("-1.5"), LooseText::Text("-1.5".into()));
        assert_eq!(read("true"), LooseText::Text("true".into()));
        assert_eq!(read("null"), LooseText::Absent);
        for wrong in ["[]", "[1,[2]]", "{\"a\":{\"b\":1}}"] {
            assert_eq!(read(wrong), LooseText::Wrong, "{wrong}");
        }
    }
}
