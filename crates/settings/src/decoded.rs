//! Views of a text with its percent-encoding, escapes and entities decoded, and with the position of each
//! byte in the original text.

use std::ops::Range;

/// The most nested encodings that are decoded: JSON within a form within a log line.
const MAX_DEPTH: usize = 3;

/// An encoding that leaves most of a text unchanged.
#[derive(Clone, Copy)]
enum TextEncoding {
    /// Percent-encoding: `%2F`.
    Percent,
    /// Escapes of JSON and Rust: `\"`, `\u00e4`, `\u{e4}`, `\xe4`.
    Escapes,
    /// Entities of HTML: `&amp;`, `&#38;`, `&#x26;`.
    Entities,
}

const ENCODINGS: [TextEncoding; 3] =
    [TextEncoding::Percent, TextEncoding::Escapes, TextEncoding::Entities];

/// A text with some encodings decoded.
pub struct DecodedText {
    bytes: Vec<u8>,
    /// The position of each byte in the original text, and its end after the last.
    places: Vec<usize>,
}

impl DecodedText {
    /// Calls `look` with the text unchanged, and with each way to decode it that makes a difference.
    pub fn each_of(text: &str, mut look: impl FnMut(&Self)) {
        let view = Self { bytes: text.as_bytes().to_vec(), places: (0..=text.len()).collect() };
        view.descend(MAX_DEPTH, &mut look);
    }

    fn descend(&self, depth: usize, look: &mut impl FnMut(&Self)) {
        look(self);
        if depth == 0 {
            return;
        }
        for encoding in ENCODINGS {
            if let Some(decoded) = self.decode(encoding) {
                decoded.descend(depth - 1, look);
            }
        }
    }

    /// The decoded bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The range of the original text that this range of bytes comes from.
    pub fn source(&self, range: &Range<usize>) -> Range<usize> {
        let place = |at: usize| self.places.get(at).copied().unwrap_or_default();
        place(range.start)..place(range.end)
    }

    /// Decodes this encoding, if the text contains any of it.
    fn decode(&self, encoding: TextEncoding) -> Option<Self> {
        let mark = match encoding {
            TextEncoding::Percent => b'%',
            TextEncoding::Escapes => b'\\',
            TextEncoding::Entities => b'&',
        };
        memchr::memchr(mark, &self.bytes)?;
        let mut decoded = Self {
            bytes: Vec::with_capacity(self.bytes.len()),
            places: Vec::with_capacity(self.places.len()),
        };
        let (mut at, mut is_other) = (0, false);
        while let Some(rest) = self.bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let place = self.places.get(at).copied().unwrap_or_default();
            let unit = match rest.first() {
                Some(byte) if *byte == mark => match encoding {
                    TextEncoding::Percent => percent(rest),
                    TextEncoding::Escapes => escape(rest),
                    TextEncoding::Entities => entity(rest),
                },
                _ => None,
            };
            let (bytes, length) = match unit {
                Some((DecodedUnit::Byte(byte), length)) => (vec![byte], length),
                Some((DecodedUnit::Char(c), length)) => (c.to_string().into_bytes(), length),
                None => {
                    decoded.bytes.extend(rest.first());
                    decoded.places.push(place);
                    at += 1;
                    continue;
                }
            };
            is_other = true;
            decoded.places.extend(std::iter::repeat_n(place, bytes.len()));
            decoded.bytes.extend(bytes);
            at += length;
        }
        decoded.places.extend(self.places.last());
        is_other.then_some(decoded)
    }
}

/// The byte or character that an escape or entity stands for.
enum DecodedUnit {
    Byte(u8),
    Char(char),
}

/// Decodes `%2F`, and returns its length in bytes.
fn percent(rest: &[u8]) -> Option<(DecodedUnit, usize)> {
    Some((DecodedUnit::Byte(u8::try_from(hex(rest.get(1..3)?)?).ok()?), 3))
}

/// Decodes an escape of JSON or Rust, and returns its length in bytes.
fn escape(rest: &[u8]) -> Option<(DecodedUnit, usize)> {
    let byte = match rest.get(1)? {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'f' => 12,
        b'0' => 0,
        b'x' => return Some((DecodedUnit::Byte(u8::try_from(hex(rest.get(2..4)?)?).ok()?), 4)),
        b'u' if rest.get(2) == Some(&b'{') => {
            let inner = rest.get(3..rest.len().min(10))?;
            let length = memchr::memchr(b'}', inner)?;
            return Some((
                DecodedUnit::Char(char::from_u32(hex(inner.get(..length)?)?)?),
                4 + length,
            ));
        }
        b'u' => {
            let high = hex(rest.get(2..6)?)?;
            if let Some(c) = char::from_u32(high) {
                return Some((DecodedUnit::Char(c), 6));
            }
            let low = rest.get(6..8).filter(|start| start == b"\\u").and(rest.get(8..12))?;
            let pair = [u16::try_from(high).ok()?, u16::try_from(hex(low)?).ok()?];
            let c = char::decode_utf16(pair).next()?.ok()?;
            return Some((DecodedUnit::Char(c), 12));
        }
        other if other.is_ascii_punctuation() => *other,
        _ => return None,
    };
    Some((DecodedUnit::Byte(byte), 2))
}

/// Decodes an HTML entity, and returns its length in bytes.
fn entity(rest: &[u8]) -> Option<(DecodedUnit, usize)> {
    let inner = rest.get(1..rest.len().min(12))?;
    let length = memchr::memchr(b';', inner)?;
    let name = std::str::from_utf8(inner.get(..length)?).ok()?;
    let c = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "sol" => '/',
        "plus" => '+',
        "equals" => '=',
        other => {
            let number = other.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?
        }
    };
    Some((DecodedUnit::Char(c), length + 2))
}

fn hex(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}
