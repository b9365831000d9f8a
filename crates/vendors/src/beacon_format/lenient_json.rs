//! JSON that no parser takes as a whole, because one event in it is invalid: it has bytes that are not UTF-8,
//! or a number or a sign that JSON does not have. Such a text is split at its commas, so that the other
//! events are read.
//!
//! Only strings and brackets are examined: where they do not match, the events cannot be separated, and
//! nothing is read.

use serde_json::value::RawValue;

use super::scan::JsonListError;
use tagway_core::values::digits::string_length;

/// The index of an item that is invalid JSON, and the reason.
pub(super) type UnreadableItem = (usize, &'static str);

/// Returns the items of a list, unparsed. Each invalid item is replaced by `null`, and its reason is returned
/// as well. Stops at the first item beyond `max`.
///
/// # Errors
///
/// Fails if the text is no list or has more than `max` items.
pub(super) fn split_items(
    text: &[u8],
    max: usize,
) -> Result<(Vec<&RawValue>, Vec<UnreadableItem>), JsonListError> {
    let parts = TopLevelParts::of(text, b'[', b']').ok_or(JsonListError::NotAList)?;
    let (mut items, mut faults) = (Vec::new(), Vec::new());
    for part in parts {
        let part = part.ok_or(JsonListError::NotAList)?;
        if items.len() == max {
            return Err(JsonListError::TooLong);
        }
        let item = json(part).unwrap_or_else(|reason| {
            faults.push((items.len(), reason));
            RawValue::NULL
        });
        items.push(item);
    }
    Ok((items, faults))
}

/// Returns the texts of these members of an object, which may be invalid JSON; the last of a name counts.
/// `None` if the text is no object.
pub(super) fn split_members<'t, const N: usize>(
    text: &'t [u8],
    names: [&str; N],
) -> Option<[Option<&'t [u8]>; N]> {
    let mut found = [None; N];
    for part in TopLevelParts::of(text, b'{', b'}')? {
        let part = part?.trim_ascii_start();
        let key = part.get(..string_length(part)?)?;
        let value = part.get(key.len()..)?.trim_ascii_start().strip_prefix(b":")?;
        let Ok(key) = serde_json::from_slice::<String>(key) else { continue };
        let place = names.iter().position(|name| *name == key);
        if let Some(found) = place.and_then(|place| found.get_mut(place)) {
            *found = Some(value.trim_ascii());
        }
    }
    Some(found)
}

/// Checks that a text is JSON.
///
/// # Errors
///
/// Fails with the reason why it is not.
pub(super) fn json(text: &[u8]) -> Result<&RawValue, &'static str> {
    let text = str::from_utf8(text).map_err(|_other| "not_utf8")?;
    serde_json::from_str(text).map_err(|_other| "malformed")
}

/// The texts between a list's or an object's commas. A last `None` means that the brackets do not match.
struct TopLevelParts<'t> {
    rest: Option<&'t [u8]>,
    is_broken: bool,
}

impl<'t> TopLevelParts<'t> {
    fn of(text: &'t [u8], open: u8, close: u8) -> Option<Self> {
        let inner = text.trim_ascii().strip_prefix(&[open])?.strip_suffix(&[close])?;
        let is_empty = inner.trim_ascii().is_empty();
        Some(Self { rest: (!is_empty).then_some(inner), is_broken: false })
    }
}

impl<'t> Iterator for TopLevelParts<'t> {
    type Item = Option<&'t [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.rest.take().filter(|_| !self.is_broken)?;
        let (mut depth, mut at) = (0_usize, 0_usize);
        while let Some(byte) = text.get(at) {
            match byte {
                b'"' => match text.get(at..).and_then(string_length) {
                    Some(length) => {
                        at += length;
                        continue;
                    }
                    None => break,
                },
                b'{' | b'[' => depth += 1,
                b'}' | b']' => match depth.checked_sub(1) {
                    Some(less) => depth = less,
                    None => break,
                },
                b',' if depth == 0 => {
                    let (part, rest) = text.split_at_checked(at)?;
                    self.rest = rest.get(1..);
                    return Some(Some(part));
                }
                _ => {}
            }
            at += 1;
        }
        self.is_broken = at < text.len() || depth > 0;
        Some((!self.is_broken).then_some(text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &[u8]) -> Option<(Vec<&str>, Vec<UnreadableItem>)> {
        let (items, faults) = split_items(text, 9).ok()?;
        Some((items.into_iter().map(RawValue::get).collect(), faults))
    }

    #[test]
    fn invalid_item_does_not_lose_the_others() {
        for (bad, reason) in [
            (&b"{\"a\":\"Z\xfcrich\"}"[..], "not_utf8"),
            (b"{\"a\":\"\xed\xa0\xbd\xed\xb8\x80\"}", "not_utf8"),
            (b"{\"a\":NaN}", "malformed"),
            (b"{\"a\":[1,]}", "malformed"),
            (b"{\"a\":\"b\tc\"}", "malformed"),
            (b"{'a':1}", "malformed"),
            (b"", "malformed"),
        ] {
            let text = [br#"[{"a":"],\""} ,"#, bad, b", 2 ]"].concat();
            let expected = (vec![r#"{"a":"],\""}"#, "null", "2"], vec![(1, reason)]);
            assert_eq!(read(&text), Some(expected), "{}", String::from_utf8_lossy(&text));
        }
        assert_eq!(read(b" [ ] "), Some((vec![], vec![])));
        for broken in [&b"[{]"[..], b"[}]", b"[1},2]", b"[\"]", b"{}", b"", b"[1", b"[[1]"] {
            assert_eq!(read(broken), None, "{}", String::from_utf8_lossy(broken));
        }
        assert_eq!(split_items(b"[1,2,NaN]", 2).err(), Some(JsonListError::TooLong));
    }

    #[test]
    fn members_are_found_beside_bad_ones() {
        let text = b"{\"a\":1, \"batch\" : [NaN, {\"batch\":1}] ,\"b\":\"\xff\",\"\\u0061\":2}";
        let found = split_members(text, ["a", "batch", "c"]);
        assert_eq!(found, Some([Some(&b"2"[..]), Some(b"[NaN, {\"batch\":1}]"), None]));
        for broken in [&b"[]"[..], b"{1:2}", b"{\"a\"}", b"{\"a\":[}", b"{\"a"] {
            assert_eq!(split_members(broken, ["a"]), None, "{}", String::from_utf8_lossy(broken));
        }
    }

    proptest! {
        #[test]
        fn each_list_item_is_found(items in proptest::collection::vec("[0-9]{1,3}|\"[a-z,\\[]{0,5}\"|\\[[0-9]\\]", 0..8)) {
            let text = format!("[{}]", items.join(", "));
            let (found, faults) = split_items(text.as_bytes(), 9).unwrap();
            let is_number = |item: &String| !item.starts_with('0') || item.len() == 1;
            prop_assert_eq!(faults.len(), items.iter().filter(|item| !is_number(item)).count());
            prop_assert_eq!(found.len(), items.len());
        }

        #[test]
        fn any_bytes_are_split_within_bounds(bytes: Vec<u8>, likely in "[\\[\\]{},:\"\\\\a1 ]{0,60}") {
            for text in [&bytes[..], likely.as_bytes()] {
                prop_assert!(!split_items(text, 5).is_ok_and(|(items, _)| items.len() > 5));
                let is_object = text.trim_ascii().first() == Some(&b'{');
                prop_assert!(is_object || split_members(text, ["a"]).is_none());
            }
        }
    }
}
