//! A body's text, scanned once before anything parses it.
//!
//! The client's objects are copied into the journal without building them, so text that a copying parser accepts
//! and a reader of the journal does not must be handled here: escapes of half a surrogate pair are repaired,
//! integers too long for any reader become texts, and text with numbers or keys that a reader may refuse is marked,
//! so that its messages are read as a reader would. Plain text, which is nearly all, costs one scan.
//!
//! A body that is nested too deep, or not UTF-8, is not refused here: only one of its messages may be at fault, and
//! the others are good.

use std::borrow::Cow;
use std::slice::Iter;

use memchr::memmem;

use super::readable::{PRIVATE_KEY, is_readable};
use crate::beacon::BeaconDecodeError;
use tagway_core::event::RawJsonObject;
use tagway_core::values::digits;

/// The longest run of digits that cannot be too large for a reader: the largest double has 309.
const MAX_DIGITS: usize = 300;

/// The longest run of digits that always fits a reader's integers.
const INTEGER_DIGITS: usize = 18;

/// A body's text without halves of surrogate pairs.
#[derive(Debug)]
pub struct BodyText<'t> {
    content: BodyTextContent<'t>,
    is_plain: bool,
    is_deep: bool,
}

#[derive(Debug)]
enum BodyTextContent<'t> {
    Utf8(Cow<'t, str>),
    /// A text that is not all UTF-8.
    Other(Cow<'t, [u8]>),
}

impl<'t> BodyText<'t> {
    /// Scans a body, whose objects and lists should be nested at most `max_depth` deep.
    ///
    /// # Errors
    ///
    /// Fails if the body is empty.
    pub fn scan(body: &'t [u8], max_depth: usize) -> Result<Self, BeaconDecodeError> {
        if body.is_empty() {
            return Err(BeaconDecodeError::Malformed("the body is empty"));
        }
        let mut look = BodyTextScan::default();
        look.scan_text(body, max_depth);
        let is_plain = !look.is_odd && memmem::find(body, PRIVATE_KEY.as_bytes()).is_none();
        let mut bytes = Cow::Borrowed(body);
        if look.has_surrogates {
            replace_lone_surrogates(bytes.to_mut());
        }
        if look.has_long_integers
            && let Cow::Owned(quoted) = digits::quote_long_integers(&bytes)
        {
            bytes = Cow::Owned(quoted);
        }
        let content = match bytes {
            Cow::Borrowed(bytes) => match str::from_utf8(bytes) {
                Ok(text) => BodyTextContent::Utf8(Cow::Borrowed(text)),
                Err(_) => BodyTextContent::Other(Cow::Borrowed(bytes)),
            },
            Cow::Owned(bytes) => match String::from_utf8(bytes) {
                Ok(text) => BodyTextContent::Utf8(Cow::Owned(text)),
                Err(error) => BodyTextContent::Other(Cow::Owned(error.into_bytes())),
            },
        };
        Ok(Self { content, is_plain, is_deep: look.is_deep })
    }

    /// Returns the text, if all of it is UTF-8.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.content {
            BodyTextContent::Utf8(text) => Some(text),
            BodyTextContent::Other(_) => None,
        }
    }

    /// Returns the text's bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.content {
            BodyTextContent::Utf8(text) => text.as_bytes(),
            BodyTextContent::Other(bytes) => bytes,
        }
    }

    /// Returns true if every reader can parse all of it, provided that it is JSON.
    pub(super) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Returns true if something in it is nested too deep.
    pub(super) fn is_deep(&self) -> bool {
        self.is_deep
    }
}

/// Returns true if objects and lists are nested at most `max_depth` deep: readers build trees by recursion.
pub(super) fn is_within(text: &str, max_depth: usize) -> bool {
    let mut look = BodyTextScan::default();
    look.scan_text(text.as_bytes(), max_depth);
    !look.is_deep
}

/// Returns true if every reader can parse an object that was written from a tree, nested at most so deep.
pub fn is_readable_object(object: &RawJsonObject, max_depth: usize) -> bool {
    let text = object.text();
    let may_be_reserved = || memmem::find(text.as_bytes(), PRIVATE_KEY.as_bytes()).is_some();
    is_within(text, max_depth) && (!may_be_reserved() || is_readable(text))
}

/// The findings of one pass. Brackets and digits count outside of strings only. Text that is not JSON gets a result
/// as well, and then fails to parse.
#[derive(Default)]
struct BodyTextScan {
    /// True if there are escapes of surrogates.
    has_surrogates: bool,
    /// True if there may be an integer too long for readers' integers.
    has_long_integers: bool,
    /// True if a number may be too large, or an escape may hide a key.
    is_odd: bool,
    /// True if objects and lists are nested too deep.
    is_deep: bool,
}

impl BodyTextScan {
    fn scan_text(&mut self, text: &[u8], max_depth: usize) {
        let (mut depth, mut digits) = (0_usize, 0_usize);
        let mut bytes = text.iter();
        while let Some(byte) = bytes.next() {
            match byte {
                b'0'..=b'9' => {
                    digits += 1;
                    self.has_long_integers |= digits > INTEGER_DIGITS;
                    self.is_odd |= digits > MAX_DIGITS;
                    continue;
                }
                b'e' | b'E' => self.is_odd |= digits > 0,
                b'{' | b'[' => {
                    depth += 1;
                    self.is_deep |= depth > max_depth;
                }
                b'}' | b']' => depth = depth.saturating_sub(1),
                b'"' => self.string(&mut bytes),
                _ => {}
            }
            digits = 0;
        }
    }

    /// Skips the rest of a string.
    fn string(&mut self, bytes: &mut Iter<'_, u8>) {
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' => return,
                b'\\' => match bytes.as_slice() {
                    [b'u', b'd' | b'D', ..] => self.has_surrogates = true,
                    // ASCII that needs no escape.
                    [b'u', b'0', b'0', b'2'..=b'7', ..] => self.is_odd = true,
                    _ => drop(bytes.next()),
                },
                _ => {}
            }
        }
    }
}

/// Replaces each escape of half a surrogate pair by that of U+FFFD, which is as long, as browsers do when they
/// encode text: `JSON.stringify` writes such halves for strings that were cut within an emoji.
fn replace_lone_surrogates(text: &mut [u8]) {
    const HALF: usize = "\\ud83d".len();
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| memchr::memchr(b'\\', rest)) {
        at += found;
        let second = unit(text, at + HALF);
        at += match unit(text, at) {
            Some(0xd800..=0xdbff) if matches!(second, Some(0xdc00..=0xdfff)) => 2 * HALF,
            Some(0xd800..=0xdfff) => {
                if let Some(half) = text.get_mut(at..at + HALF) {
                    half.copy_from_slice(br"\ufffd");
                }
                HALF
            }
            _ => 2,
        };
    }
}

/// Returns the UTF-16 unit of the escape at a position, if there is one.
fn unit(text: &[u8], at: usize) -> Option<u16> {
    let digits = text.get(at..)?.strip_prefix(br"\u")?.get(..4)?;
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    is_hex.then(|| u16::from_str_radix(str::from_utf8(digits).ok()?, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_at_most(max: usize, text: &[u8]) -> bool {
        is_within(str::from_utf8(text).unwrap(), max)
    }

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        assert!(is_at_most(2, br#"{"a":[1,2],"b":[3]}"#));
        assert!(!is_at_most(1, br#"{"a":[1]}"#));
        assert!(is_at_most(1, br#"{"a":"[[[[\"[["}"#));
        assert!(is_at_most(1, br#"{"a\\":"\\","b":"["}"#));
        assert!(is_at_most(0, b"12"));
        assert!(!is_at_most(64, &[b'['; 65]));
        assert!(is_at_most(3, b"]]]]{{{"));
    }

    #[test]
    fn halves_of_surrogate_pairs_are_repaired_and_all_else_stays() {
        for (text, expected) in [
            (r#""a\ud83d""#, "a\u{fffd}"),
            (r#""\ude00a""#, "\u{fffd}a"),
            (r#""\uD83D\uDE00""#, "\u{1f600}"),
            (r#""\ud83d\ud83d\ude00\ud83d\\""#, "\u{fffd}\u{1f600}\u{fffd}\\"),
            (r#""\\ud83d\u00e9\n\"é""#, "\\ud83dé\n\"é"),
            (r#""\ud83d\n""#, "\u{fffd}\n"),
        ] {
            let text = BodyText::scan(text.as_bytes(), 1).unwrap();
            assert_eq!(serde_json::from_slice::<String>(text.bytes()).unwrap(), expected);
        }
        for broken in [r#""\ud83"#, r#""\udé23""#, "\"\\", "\\"] {
            assert_eq!(BodyText::scan(broken.as_bytes(), 1).unwrap().text(), Some(broken));
        }
    }

    #[test]
    fn only_numbers_and_keys_that_a_reader_may_refuse_are_odd() {
        let is_plain = |text: &str| BodyText::scan(text.as_bytes(), 9).unwrap().is_plain();
        let digits = "1".repeat(310);
        for odd in [
            "1e999",
            "[1.5E5]",
            &digits,
            r#"{"$serde_json::private::RawValue":1}"#,
            r#"{"\u0024serde_json":1}"#,
        ] {
            assert!(!is_plain(odd), "{odd}");
        }
        for plain in [r#"{"a":true,"1e5":[null,-1.25],"b":"1e999\u00e9\n"}"#, &"1".repeat(300)] {
            assert!(is_plain(plain), "{plain}");
        }
    }

    #[test]
    fn long_integers_become_texts_and_other_bytes_stay() {
        let text =
            BodyText::scan(b"[89440000000000012345, 1.5, \"89440000000000012345\"]", 1).unwrap();
        let expected = "[\"89440000000000012345\", 1.5, \"89440000000000012345\"]";
        assert_eq!(text.text(), Some(expected));
        let text = BodyText::scan(b"[\"Z\xfc\", 89440000000000012345, \"\\ud83d\"]", 1).unwrap();
        assert_eq!(text.text(), None);
        assert_eq!(text.bytes(), b"[\"Z\xfc\", \"89440000000000012345\", \"\\ufffd\"]");
        assert!(BodyText::scan(b"[[1]]", 1).unwrap().is_deep());
    }
}
