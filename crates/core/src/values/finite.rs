//! Replaces non-finite numbers in JSON. Python and other clients write `NaN`, `Infinity` and `-Infinity`, which
//! JSON does not know; each becomes `null`, as in JavaScript, and the rest of the message stays valid.

use memchr::memmem;

/// The spellings of non-finite numbers. The sign is part of `-Infinity`, so that no `-` remains before `null`.
const NON_FINITE: [&[u8]; 3] = [b"NaN", b"-Infinity", b"Infinity"];

/// Returns true if a spelling of a non-finite number is in the text, perhaps within a string. Much faster than
/// reading the text.
pub fn may_have_non_finite_numbers(json: &[u8]) -> bool {
    let is_there = |word: &[u8]| memmem::find(json, word).is_some();
    is_there(b"NaN") || is_there(b"Infinity")
}

/// Returns the JSON with `null` for each non-finite number, at most a third longer; `None` if it has no such
/// number. Takes linear time.
pub fn without_non_finite_numbers(json: &[u8]) -> Option<Vec<u8>> {
    let is_json = matches!(json.first(), Some(b'{' | b'['));
    if !is_json || !may_have_non_finite_numbers(json) {
        return None;
    }
    let mut clean = Vec::with_capacity(json.len() + json.len() / 3);
    let mut rest = json;
    let (mut is_string, mut is_changed) = (false, false);
    while let [byte, after @ ..] = rest {
        if is_string && *byte == b'\\' {
            let (pair, after) = rest.split_at(rest.len().min(2));
            clean.extend_from_slice(pair);
            rest = after;
            continue;
        }
        is_string ^= *byte == b'"';
        let number = NON_FINITE.iter().find_map(|word| rest.strip_prefix(*word));
        match number.filter(|after| !is_string && is_value(&clean, after)) {
            Some(after) => {
                clean.extend_from_slice(b"null");
                is_changed = true;
                rest = after;
            }
            None => {
                clean.push(*byte);
                rest = after;
            }
        }
    }
    is_changed.then_some(clean)
}

/// Returns true if the text between `before` and `after` is a complete value of an object or a list.
fn is_value(before: &[u8], after: &[u8]) -> bool {
    let starts = matches!(before.trim_ascii_end().last(), Some(b'[' | b',' | b':'));
    starts && matches!(after.trim_ascii_start().first(), Some(b']' | b',' | b'}'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn clean(json: &str) -> Option<String> {
        without_non_finite_numbers(json.as_bytes()).map(|json| String::from_utf8(json).unwrap())
    }

    #[test]
    fn non_finite_number_becomes_null() {
        for (json, expected) in [
            (r#"{"a":NaN}"#, r#"{"a":null}"#),
            (r#"[NaN, -Infinity ,Infinity]"#, r#"[null, null ,null]"#),
            (
                r#"{"NaN": NaN, "\"": "NaN, \\", "c" :Infinity}"#,
                r#"{"NaN": null, "\"": "NaN, \\", "c" :null}"#,
            ),
        ] {
            assert_eq!(clean(json).as_deref(), Some(expected), "{json}");
        }
    }

    #[test]
    fn text_without_non_finite_numbers_is_unchanged() {
        for json in [
            r#"{"a":1}"#,
            r#"{"a":"NaN","b":"[NaN]","c":"\",NaN,"}"#,
            "data=NaN",
            "NaN",
            "[1NaN]",
            "[NaNa]",
            "[NaN",
            "{NaN:1}",
            "[--Infinity]",
            "",
        ] {
            assert_eq!(clean(json), None, "{json}");
        }
    }

    proptest! {
        #[test]
        fn valid_json_is_unchanged_and_growth_is_at_most_a_third(
            bytes in prop_oneof![
                any::<Vec<u8>>(),
                r#"[\[{](NaN|-?Infinity|[\[\]{},: "\\]){0,30}"#.prop_map(String::into_bytes),
            ],
        ) {
            let is_json = serde_json::from_slice::<Value>(&bytes).is_ok();
            if let Some(clean) = without_non_finite_numbers(&bytes) {
                prop_assert!(!is_json);
                prop_assert!(clean.len() <= bytes.len() + bytes.len() / 3);
            }
        }
    }
}
