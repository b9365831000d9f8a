//! JSON that is measured before any of it is built: a few kilobytes of gzip hold millions of items, and a
//! tree takes up to 80 times its text.
//!
//! A list or an object is split into the texts of its items and members, which borrow from the body. Only one
//! event at a time becomes a tree, and only if the tree is within bounds.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::Value;
use serde_json::value::RawValue;

use super::lenient_json::{UnreadableItem, split_items, split_members};
use crate::beacon::{BeaconDecodeError, BeaconLimits};
use tagway_core::values::digits;

/// Bytes of an object's tree besides its members: room for the first ones, and their table.
const OBJECT_BYTES: usize = 512;

/// Bytes of a list's tree besides its items.
const LIST_BYTES: usize = 288;

/// Bytes of a member or an item, while its object or list grows.
const ITEM_BYTES: usize = 350;

/// The reason why a list is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonListError {
    /// It is no JSON list.
    NotAList,
    /// It has more items than it may.
    TooLong,
}

/// Returns the items of a list, unparsed. Stops at the first item beyond `max`.
///
/// # Errors
///
/// Fails if the text is no JSON list or has more than `max` items.
fn items(text: &[u8], max: usize) -> Result<Vec<&RawValue>, JsonListError> {
    let mut is_over = false;
    let mut reader = serde_json::Deserializer::from_slice(text);
    let items = reader.deserialize_seq(BoundedListVisitor { max, is_over: &mut is_over });
    match (items, is_over) {
        (_, true) => Err(JsonListError::TooLong),
        (Ok(items), false) if reader.end().is_ok() => Ok(items),
        _ => Err(JsonListError::NotAList),
    }
}

/// Returns the items of a list, unparsed, and those that are not JSON.
///
/// # Errors
///
/// Fails if the text is no list or has more than `max` items.
pub(super) fn split_list(
    text: &[u8],
    max: usize,
) -> Result<(Vec<&RawValue>, Vec<UnreadableItem>), JsonListError> {
    match items(text, max) {
        Ok(items) => Ok((items, Vec::new())),
        Err(JsonListError::NotAList) => split_items(text, max),
        Err(JsonListError::TooLong) => Err(JsonListError::TooLong),
    }
}

/// The stand-in for a record that is not JSON, next to others that are.
pub const UNREADABLE: &RawValue = RawValue::FALSE;

/// Returns the texts of the records of a JSON text that is one object or a list, unparsed. A record that is
/// not JSON is replaced by [`UNREADABLE`].
///
/// # Errors
///
/// Fails if the text is neither an object nor a list, or has too many records.
pub fn records<'t>(
    text: &'t [u8],
    bounds: &BeaconLimits,
) -> Result<Vec<&'t RawValue>, BeaconDecodeError> {
    match text.first() {
        Some(b'[') => {
            let (mut items, faults) = split_list(text, bounds.events_within(text.len())).map_err(
                |error| match error {
                    JsonListError::TooLong => BeaconDecodeError::TooMany,
                    JsonListError::NotAList => BeaconDecodeError::Malformed("the list is not JSON"),
                },
            )?;
            for (place, _) in faults {
                if let Some(item) = items.get_mut(place) {
                    *item = UNREADABLE;
                }
            }
            Ok(items)
        }
        Some(b'{') => {
            let one = serde_json::from_slice(text);
            one.map(|one| vec![one])
                .map_err(|_invalid| BeaconDecodeError::Malformed("it is not JSON"))
        }
        _ => Err(BeaconDecodeError::Malformed("it is neither a JSON object nor a list")),
    }
}

/// Returns the texts of these members of an object; the last of a name counts. `None` if the text is no
/// object. If one of its members is not JSON, each is the text between the commas.
pub fn members<'t, const N: usize>(
    text: &'t [u8],
    names: [&str; N],
) -> Option<[Option<&'t [u8]>; N]> {
    if text.first() != Some(&b'{') {
        return None;
    }
    let mut reader = serde_json::Deserializer::from_slice(text);
    match reader.deserialize_map(NamedMemberVisitor(names)) {
        Ok(found) if reader.end().is_ok() => Some(found.map(|raw| Some(raw?.get().as_bytes()))),
        _ => split_members(text, names),
    }
}

/// Returns a JSON string's text; `None` if the value is of another type.
pub fn string(json: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_slice::<BorrowedText<'_>>(json).ok().map(|text| text.0)
}

/// Parses a JSON value as a tree.
///
/// # Errors
///
/// Fails if the text or the tree is over the bounds of one event, or the text is not JSON.
pub fn tree(text: &[u8], bounds: &BeaconLimits) -> Result<Value, BeaconDecodeError> {
    if !fits([text], bounds) {
        return Err(BeaconDecodeError::TooLarge);
    }
    digits::parse(text).map_err(|_invalid| BeaconDecodeError::Malformed("it is not JSON"))
}

/// Returns true if texts that become one event are within its bounds, and so are their trees.
pub fn fits<'t>(texts: impl IntoIterator<Item = &'t [u8]>, bounds: &BeaconLimits) -> bool {
    let (mut bytes, mut tree) = (0_usize, 0_usize);
    for text in texts {
        bytes = bytes.saturating_add(text.len());
        if bytes > bounds.hit_bytes() {
            return false;
        }
        // A short text makes no large tree, whatever its content: nearly all are short.
        let most = text.len().saturating_mul(MAX_TREE_TIMES);
        tree = tree.saturating_add(if most <= bounds.tree_bytes() {
            most
        } else {
            max_tree_bytes(text)
        });
    }
    tree <= bounds.tree_bytes()
}

/// The most bytes of a tree for a byte of its text: nested objects of one member each.
const MAX_TREE_TIMES: usize = 128;

/// Returns the most bytes that a JSON text takes as a tree, without building it.
fn max_tree_bytes(text: &[u8]) -> usize {
    let mut sum = text.len();
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        sum = sum.saturating_add(match byte {
            b'{' => OBJECT_BYTES,
            b'[' => LIST_BYTES,
            b',' => ITEM_BYTES,
            b'"' => {
                rest = behind_string(rest);
                continue;
            }
            _ => continue,
        });
    }
    sum
}

/// Returns the text after a string whose first quotation mark is consumed.
fn behind_string(mut text: &[u8]) -> &[u8] {
    while let Some(at) = memchr::memchr2(b'"', b'\\', text) {
        let is_end = text.get(at) == Some(&b'"');
        text = text.get(at + if is_end { 1 } else { 2 }..).unwrap_or_default();
        if is_end {
            return text;
        }
    }
    &[]
}

struct BoundedListVisitor<'f> {
    max: usize,
    is_over: &'f mut bool,
}

impl<'de> Visitor<'de> for BoundedListVisitor<'_> {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            if list.len() == self.max {
                *self.is_over = true;
                return Err(A::Error::custom("the list is too long"));
            }
            list.push(item);
        }
        Ok(list)
    }
}

struct NamedMemberVisitor<'n, const N: usize>([&'n str; N]);

impl<'de, const N: usize> Visitor<'de> for NamedMemberVisitor<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(place) = members.next_key_seed(KeyIndexSeed(&self.0))? {
            match place.and_then(|place| found.get_mut(place)) {
                Some(found) => *found = Some(members.next_value()?),
                None => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// Returns the index of a key among the names.
struct KeyIndexSeed<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for KeyIndexSeed<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyIndexSeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|name| *name == key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::beacon_format::test_support::BOUNDS;

    #[test]
    fn list_is_read_up_to_its_bound() {
        let texts = |text: &'static str, max| {
            let items = items(text.as_bytes(), max);
            items.map(|items| items.into_iter().map(RawValue::get).collect::<Vec<_>>())
        };
        assert_eq!(texts("[1, {\"a\":2} ,3]", 3), Ok(vec!["1", "{\"a\":2}", "3"]));
        assert_eq!(texts("[]", 0), Ok(vec![]));
        for bad in ["{}", "1", "", "[1,]", "[1] 2", "[1,[2]"] {
            assert_eq!(texts(bad, 3), Err(JsonListError::NotAList), "{bad}");
        }
        // The bytes after the bound are not even parsed.
        assert_eq!(texts("[1,2,3,4,garbage", 3), Err(JsonListError::TooLong));
    }

    #[test]
    fn members_are_found_unread_and_the_last_of_a_name_counts() {
        let find = |text: &'static str| {
            let found = members(text.as_bytes(), ["a", "b"])?;
            Some(found.map(|json| json.map(|json| str::from_utf8(json).unwrap())))
        };
        assert_eq!(find(r#"{"a":1,"c":[{"b":2}],"\u0061":[2, 3]}"#), Some([Some("[2, 3]"), None]));
        assert_eq!(find(r#"{"b":null}"#), Some([None, Some("null")]));
        assert_eq!(find(r#"{"a":NaN,"b":1}"#), Some([Some("NaN"), Some("1")]));
        for bad in ["", "[]", "{", "{\"a\"}", "{} x"] {
            assert_eq!(find(bad), None, "{bad}");
        }
    }

    #[test]
    fn trees_are_measured_before_they_are_built() {
        let many = format!("[{}1]", "1,".repeat(BOUNDS.tree_bytes() / MAX_TREE_TIMES));
        assert!(tree(many.as_bytes(), &BOUNDS) == Err(BeaconDecodeError::TooLarge), "32 KiB of it");
        let long = format!("\"{}\"", "x".repeat(BOUNDS.hit_bytes()));
        assert_eq!(tree(long.as_bytes(), &BOUNDS), Err(BeaconDecodeError::TooLarge));
        let commas = format!("[\"{}\\\",\"]", ",".repeat(BOUNDS.hit_bytes() / 2));
        assert!(tree(commas.as_bytes(), &BOUNDS).is_ok(), "those in texts are no items");
        assert_eq!(tree(b"[1,", &BOUNDS), Err(BeaconDecodeError::Malformed("it is not JSON")));
    }

    #[test]
    fn records_are_one_object_or_a_list() {
        let count = |text: &str| records(text.as_bytes(), &BOUNDS).map(|records| records.len());
        assert_eq!((count("{}"), count("[{},{}]")), (Ok(1), Ok(2)));
        assert_eq!(count("[{},{\"a\":NaN},{}]"), Ok(3), "the bad one stands for itself");
        let long = tree(b"{\"id\":89440000000000012345}", &BOUNDS).unwrap();
        assert_eq!(long["id"], "89440000000000012345");
        let many = format!("[{}1]", "1,".repeat(BOUNDS.events));
        assert_eq!(count(&many), Err(BeaconDecodeError::TooMany));
        assert!(count("7").is_err() && count("[").is_err() && count("").is_err());
    }
}
