//! Checks that a reader of the journal can parse the values copied into it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The key by which `serde_json` passes unread text through a reader: a client that wrote it could have its text
/// parsed as another value, or make the reader fail.
pub(super) const PRIVATE_KEY: &str = "$serde_json::private::RawValue";

/// Returns true if `serde_json::Value` reads the value with the same meaning. Walks through it without building it.
pub(super) fn is_readable(json: &str) -> bool {
    serde_json::from_str::<ReadableJson>(json).is_ok()
}

struct ReadableJson;

impl<'de> Deserialize<'de> for ReadableJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReadableJsonVisitor)
    }
}

struct ReadableJsonVisitor;

impl<'de> Visitor<'de> for ReadableJsonVisitor {
    type Value = ReadableJson;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_str<E: Error>(self, _text: &str) -> Result<ReadableJson, E> {
        Ok(ReadableJson)
    }

    fn visit_i64<E: Error>(self, _number: i64) -> Result<ReadableJson, E> {
        Ok(ReadableJson)
    }

    fn visit_u64<E: Error>(self, _number: u64) -> Result<ReadableJson, E> {
        Ok(ReadableJson)
    }

    fn visit_f64<E: Error>(self, _number: f64) -> Result<ReadableJson, E> {
        Ok(ReadableJson)
    }

    fn visit_bool<E: Error>(self, _value: bool) -> Result<ReadableJson, E> {
        Ok(ReadableJson)
    }

    fn visit_unit<E: Error>(self) -> Result<ReadableJson, E> {
        Ok(ReadableJson)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<ReadableJson, A::Error> {
        while items.next_element::<ReadableJson>()?.is_some() {}
        Ok(ReadableJson)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<ReadableJson, A::Error> {
        while entries.next_entry::<UnreservedKey, ReadableJson>()?.is_some() {}
        Ok(ReadableJson)
    }
}

struct UnreservedKey;

impl<'de> Deserialize<'de> for UnreservedKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(UnreservedKeyVisitor)
    }
}

struct UnreservedKeyVisitor;

impl Visitor<'_> for UnreservedKeyVisitor {
    type Value = UnreservedKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key that is not reserved")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<UnreservedKey, E> {
        if key == PRIVATE_KEY { Err(E::custom("a reserved key")) } else { Ok(UnreservedKey) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readable_values_are_those_that_a_reader_parses() {
        for good in ["{}", r#"{"a":[1,-2,1e5,1.5,true,null,"\u00e9"],"b":{"":{}}}"#, "1e-999"] {
            assert!(is_readable(good), "{good}");
        }
        let digits = "1".repeat(310);
        for bad in [
            "1e999",
            r#"{"a":[{"b":-1e400}]}"#,
            &digits,
            r#"{"a":"\ud83d"}"#,
            r#"{"a":{"$serde_json::private::RawValue":"1"}}"#,
            r#"[{"\u0024serde_json::private::RawValue":"{"}]"#,
        ] {
            assert!(!is_readable(bad), "{bad}");
        }
    }

    #[test]
    fn private_key_of_the_reader_is_refused() {
        let text = format!("{{\"{PRIVATE_KEY}\":\"[1]\"}}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(value.is_array(), "the key has another name in this version: {value}");
    }
}
