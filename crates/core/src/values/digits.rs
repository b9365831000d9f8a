//! Integers in JSON that fit no integer type of a reader. Ids of twenty digits and more would be rounded to
//! doubles, and two people would become one: such a literal is turned into a text before it is parsed.

use std::borrow::Cow;

use serde_json::Value;

/// The most digits that fit a reader's integers in every case.
const SAFE_DIGITS: usize = 18;

/// Returns true if a text may contain an integer that a reader rounds. Digits in strings count too: the
/// result only decides if a closer look is worth its time.
pub fn may_have_long_integers(json: &[u8]) -> bool {
    // Of each row that is too long, one of these bytes is a digit: most of the text is not even read.
    let mut at = SAFE_DIGITS;
    while let Some(byte) = json.get(at) {
        if byte.is_ascii_digit() {
            let before = json.get(..at).unwrap_or_default().iter().rev();
            let after = json.get(at..).unwrap_or_default().iter();
            let before = before.take_while(|byte| byte.is_ascii_digit()).take(SAFE_DIGITS).count();
            let after =
                after.take_while(|byte| byte.is_ascii_digit()).take(SAFE_DIGITS + 1).count();
            if before + after > SAFE_DIGITS {
                return true;
            }
        }
        at += SAFE_DIGITS + 1;
    }
    false
}

/// Returns the same JSON, with integers that fit neither signed nor unsigned 64 bits as texts of their digits.
/// Numbers with a fraction or an exponent stay numbers. Text that is not JSON stays invalid.
pub fn keep_long_integers(json: &[u8]) -> Cow<'_, [u8]> {
    if may_have_long_integers(json) { quote_long_integers(json) } else { Cow::Borrowed(json) }
}

/// Does the same without the first check, for texts that probably contain such integers.
pub fn quote_long_integers(json: &[u8]) -> Cow<'_, [u8]> {
    let mut quoted: Vec<u8> = Vec::new();
    // The end of the copied bytes, and the position of the reader.
    let (mut copied, mut at) = (0, 0);
    while let Some(rest) = json.get(at..) {
        match rest.first() {
            None => break,
            Some(b'"') => at += string_length(rest).unwrap_or(rest.len()),
            Some(b'-' | b'0'..=b'9') => {
                let is_part = |byte: &u8| {
                    byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E')
                };
                let length = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
                let (number, _) = rest.split_at_checked(length).unwrap_or_default();
                if is_long_integer(number) {
                    quoted.extend_from_slice(json.get(copied..at).unwrap_or_default());
                    quoted.push(b'"');
                    quoted.extend_from_slice(number);
                    quoted.push(b'"');
                    copied = at + length;
                }
                at += length.max(1);
            }
            Some(_) => at += 1,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    quoted.extend_from_slice(json.get(copied..).unwrap_or_default());
    Cow::Owned(quoted)
}

/// Parses JSON into a value whose integers keep their digits.
///
/// # Errors
///
/// Returns the parser's error if the text is not valid JSON.
pub fn parse(json: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(&keep_long_integers(json))
}

/// Returns true if a number's text is an integer that a reader would round.
fn is_long_integer(number: &[u8]) -> bool {
    let digits = number.strip_prefix(b"-").unwrap_or(number);
    let is_integer = digits.len() > SAFE_DIGITS && digits.iter().all(u8::is_ascii_digit);
    // JSON allows no leading zero.
    if !is_integer || digits.first() == Some(&b'0') {
        return false;
    }
    let Ok(text) = str::from_utf8(number) else { return false };
    text.parse::<u64>().is_err() && text.parse::<i64>().is_err()
}

/// Returns the length of the JSON string at a text's start, with its quotation marks; `None` if it has no end.
pub fn string_length(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    while let Some(found) = text.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        if text.get(at + found) == Some(&b'"') {
            return Some(at + found + 1);
        }
        at += found + 2;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn parse_keeps_the_digits_of_long_integers_only() {
        for (text, expected) in [
            ("89440000000000012345", json!("89440000000000012345")),
            ("-9223372036854775809", json!("-9223372036854775809")),
            ("18446744073709551615", json!(u64::MAX)),
            ("-9223372036854775808", json!(i64::MIN)),
            (
                r#"{"a":[123456789012345678901234567890],"b":1}"#,
                json!({ "a": ["123456789012345678901234567890"], "b": 1 }),
            ),
            (
                r#"{"a":"x\"89440000000000012345","b":[1,"\\"]}"#,
                json!({ "a": "x\"89440000000000012345", "b": [1, "\\"] }),
            ),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap(), expected, "{text}");
        }
        for number in
            ["1.23456789012345678901", "12345678901234567890.5", "123456789012345678901e3"]
        {
            assert!(parse(number.as_bytes()).unwrap().is_f64(), "{number}");
        }
        for broken in ["[0089440000000000012345]", "\"89440000000000012345", "{\"a\":-}", "\"\\"] {
            assert!(parse(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    proptest! {
        #[test]
        fn parse_keeps_every_integer_exact(digits in "-?[1-9][0-9]{0,40}") {
            let value = parse(format!("[{digits}]").as_bytes()).unwrap();
            let text = value[0].as_str().map_or_else(|| value[0].to_string(), str::to_owned);
            prop_assert_eq!(text, digits);
        }

        #[test]
        fn may_have_long_integers_finds_rows_at_every_place(before in "[a-z]{0,40}", length in 0_usize..60) {
            let text = format!("{before}{}{before}", "7".repeat(length));
            prop_assert_eq!(may_have_long_integers(text.as_bytes()), length > SAFE_DIGITS);
        }

        #[test]
        fn keep_long_integers_accepts_any_bytes(bytes: Vec<u8>, likely in "[-0-9\"\\\\\\[\\],]{0,60}") {
            let _ = keep_long_integers(&bytes);
            let _ = keep_long_integers(likely.as_bytes());
        }
    }
}
