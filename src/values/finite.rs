//! Numbers that are none: `NaN`, `Infinity` and `-Infinity`, which Python and others write into JSON,
//! although JSON has no words for them. One such number costs only itself: it becomes `null`, as in
//! JavaScript.

use memchr::memmem;

/// What is written in place of a number. The sign of `-Infinity` goes with it.
const WORDS: [&[u8]; 3] = [b"NaN", b"-Infinity", b"Infinity"];

/// Returns the JSON with `null` in place of such numbers, at most a third longer; `None` if it has none.
pub fn without_non_finite_numbers(json: &[u8]) -> Option<Vec<u8>> {
    let is_json = matches!(json.first(), Some(b'{' | b'['));
    let is_there = |word: &[u8]| memmem::find(json, word).is_some();
    if !is_json || !(is_there(b"NaN") || is_there(b"Infinity")) {
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
        let number = WORDS.iter().find_map(|word| rest.strip_prefix(*word));
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

/// True if what stands between the two is a whole value.
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
    fn a_number_that_is_none_is_null() {
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
    fn other_text_stays() {
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
        fn json_stays_and_never_grows_by_more_than_a_third(
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
