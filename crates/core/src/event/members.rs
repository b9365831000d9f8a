//! Chosen members of an object's text, unparsed: each with its last value, as in a reader that builds
//! trees. Stores only the chosen ones, however many others there are.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The chosen members of an object.
#[derive(Debug)]
pub struct RawMembers<'t>(BTreeMap<&'static str, &'t RawValue>);

impl<'t> RawMembers<'t> {
    /// Reads the members with these keys from the text of an object; `None` for any other text.
    pub fn read(text: &'t str, keys: &[&'static str]) -> Option<Self> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let members = MemberSelector(keys).deserialize(&mut reader).ok()?;
        reader.end().ok()?;
        Some(Self(members))
    }

    /// Returns the unparsed value of the key.
    pub fn get(&self, key: &str) -> Option<&'t RawValue> {
        self.0.get(key).copied()
    }

    /// Returns the text of an object with the chosen members alone.
    pub fn to_text(&self) -> Option<String> {
        serde_json::to_string(&self.0).ok()
    }
}

struct MemberSelector<'k>(&'k [&'static str]);

impl<'t> DeserializeSeed<'t> for MemberSelector<'_> {
    type Value = BTreeMap<&'static str, &'t RawValue>;

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'t> Visitor<'t> for MemberSelector<'_> {
    type Value = BTreeMap<&'static str, &'t RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            match self.0.iter().find(|chosen| **chosen == key) {
                Some(chosen) => drop(members.insert(*chosen, map.next_value()?)),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::JsonObject;

    #[test]
    fn read_keeps_the_last_value_of_each_member_as_in_a_tree() {
        let text = r#"{"a":1,"b":{"c":1,"c":2},"\u0061":[2],"b":null,"a" : {"d":3},"e":4}"#;
        let members = RawMembers::read(text, &["a", "b", "f"]).unwrap();
        let once: JsonObject = serde_json::from_str(&members.to_text().unwrap()).unwrap();
        let mut tree: JsonObject = serde_json::from_str(text).unwrap();
        tree.remove("e");
        assert_eq!(once, tree);
        assert_eq!(members.get("a").map(RawValue::get), Some(r#"{"d":3}"#));
        assert!(members.get("e").is_none() && members.get("f").is_none());
        for other in ["[1]", "{", r#"{"a":1}}"#, r#"{"a":1} 2"#] {
            assert!(RawMembers::read(other, &["a"]).is_none(), "{other}");
        }
    }
}
