//! A body's text, looked over once before anything parses it.
//!
//! The client's objects are copied into the journal without building them, so what a copying parser
//! lets pass and a reader of the journal does not must be met here: escapes of half a surrogate pair
//! are mended, and text with numbers or keys that a reader may refuse is marked, so that its
//! messages are read as a reader would. Plain text, which is nearly all, costs one look.

use std::borrow::Cow;
use std::slice::Iter;

use memchr::memmem;

use super::readable::PRIVATE_KEY;
use crate::gateway::rejection::Rejection;

/// Digits in a row that cannot be too large for a reader: the largest double has 309.
const MAX_DIGITS: usize = 300;

/// A body that is text, not nested too deep, without halves of surrogate pairs.
#[derive(Debug)]
pub(in crate::gateway) struct Text<'t> {
    text: Cow<'t, str>,
    is_plain: bool,
}

impl<'t> Text<'t> {
    /// Looks over a body.
    pub(in crate::gateway) fn look(body: &'t [u8], max_depth: usize) -> Result<Self, Rejection> {
        if body.is_empty() {
            return Err(Rejection::Malformed("the body is empty"));
        }
        let mut look = Look::default();
        if !look.over(body, max_depth) {
            return Err(Rejection::Malformed("the JSON is nested too deep"));
        }
        let text = str::from_utf8(body).map_err(|_invalid| Rejection::Malformed("not UTF-8"))?;
        let is_plain = !look.is_odd && memmem::find(body, PRIVATE_KEY.as_bytes()).is_none();
        let text = if look.has_surrogates { mend(text).into() } else { Cow::Borrowed(text) };
        Ok(Self { text, is_plain })
    }

    /// The text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether every reader can parse all of it, as long as it is JSON.
    pub(super) fn is_plain(&self) -> bool {
        self.is_plain
    }
}

/// What is found in one pass. Counts outside of strings what belongs there, so text that is not JSON
/// gets an answer as well, and then fails to parse.
#[derive(Default)]
struct Look {
    /// Whether there are escapes of surrogates.
    has_surrogates: bool,
    /// Whether there is a number that may be too large, or an escape that may hide a key.
    is_odd: bool,
}

impl Look {
    /// Whether objects and lists stand at most `max_depth` deep within each other: readers build
    /// trees by recursion.
    fn over(&mut self, text: &[u8], max_depth: usize) -> bool {
        let (mut depth, mut digits) = (0_usize, 0_usize);
        let mut bytes = text.iter();
        while let Some(byte) = bytes.next() {
            match byte {
                b'0'..=b'9' => {
                    digits += 1;
                    self.is_odd |= digits > MAX_DIGITS;
                    continue;
                }
                b'e' | b'E' => self.is_odd |= digits > 0,
                b'{' | b'[' => {
                    depth += 1;
                    if depth > max_depth {
                        return false;
                    }
                }
                b'}' | b']' => depth = depth.saturating_sub(1),
                b'"' => self.string(&mut bytes),
                _ => {}
            }
            digits = 0;
        }
        true
    }

    /// Passes over the rest of a string.
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

/// Replaces each escape of half a surrogate pair by the one of U+FFFD, as browsers do when they
/// encode text: `JSON.stringify` writes such halves for strings that were cut within an emoji.
fn mend(text: &str) -> String {
    const PAIR: usize = "ud83d\\ude00".len();
    const HALF: usize = "ud83d".len();
    let mut mended = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        mended.push_str(before);
        mended.push('\\');
        let second = || after.get(HALF..)?.strip_prefix('\\').and_then(unit);
        let (kept, length) = match unit(after) {
            Some(0xd800..=0xdbff) if matches!(second(), Some(0xdc00..=0xdfff)) => (None, PAIR),
            Some(0xd800..=0xdfff) => (Some("ufffd"), HALF),
            _ => (None, after.chars().next().map_or(0, char::len_utf8)),
        };
        let (escape, behind) = after.split_at_checked(length).unwrap_or((after, ""));
        mended.push_str(kept.unwrap_or(escape));
        rest = behind;
    }
    mended.push_str(rest);
    mended
}

/// The UTF-16 unit of an escape, whose backslash is gone.
fn unit(escape: &str) -> Option<u16> {
    u16::from_str_radix(escape.strip_prefix('u')?.get(..4)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_at_most(max: usize, text: &[u8]) -> bool {
        Look::default().over(text, max)
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
    fn halves_of_surrogate_pairs_are_mended_and_all_else_stays() {
        for (text, expected) in [
            (r#""a\ud83d""#, "a\u{fffd}"),
            (r#""\ude00a""#, "\u{fffd}a"),
            (r#""\uD83D\uDE00""#, "\u{1f600}"),
            (r#""\ud83d\ud83d\ude00\ud83d\\""#, "\u{fffd}\u{1f600}\u{fffd}\\"),
            (r#""\\ud83d\u00e9\n\"é""#, "\\ud83dé\n\"é"),
            (r#""\ud83d\n""#, "\u{fffd}\n"),
        ] {
            let text = Text::look(text.as_bytes(), 1).unwrap();
            assert_eq!(serde_json::from_str::<String>(text.text()).unwrap(), expected);
        }
        for broken in [r#""\ud83"#, r#""\udé23""#, "\"\\", "\\"] {
            assert_eq!(Text::look(broken.as_bytes(), 1).unwrap().text(), broken);
        }
    }

    #[test]
    fn only_numbers_and_keys_that_a_reader_may_refuse_are_odd() {
        let is_plain = |text: &str| Text::look(text.as_bytes(), 9).unwrap().is_plain();
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
}
