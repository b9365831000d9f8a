//! Personal data in texts, by patterns: e-mail and network addresses, ids, long runs of digits, and the values of
//! parameters with personal names. They are found behind percent-encoding, escapes and entities too.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::LazyLock;

use regex::bytes::{Captures, Regex};

use super::keys::KeyKind;
use tagway_core::feed::shortened;
use tagway_core::privacy;
use tagway_settings::DecodedText;

/// The replacement of a value of which nothing is shown.
pub(super) const MASKED: &str = "…";

/// The most bytes of a text that are searched: the longest that the listener shows. The rest is left out.
const TEXT_BYTES: usize = 1 << 20;

/// The patterns, in the order in which they count where several begin at one place.
const PATTERN: &str = concat!(
    r#"(?P<email>[^\s"<>()\[\]{},:;=&?/\\|@]+@[^\s"'<>()\[\]{},:;=&?/\\|@]+)"#,
    r"|(?P<uuid>[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12})",
    r"|(?P<date>\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)?)",
    r"|(?P<ip>\b(?:[0-9a-fA-F]{1,4}:|::?)(?:[0-9a-fA-F]{0,4}:){1,7}(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-fA-F]{0,4})\b|\d{1,3}(?:\.\d{1,3}){3})",
    r"|(?P<hash>[0-9a-fA-F]{32,})",
    r"|(?P<digits>\d(?:[ \x{a0}.()/-]{0,2}\d){6,})",
);

/// Members of JSON, also in a text that is cut: `"key": "value"`, `"key": 12`.
const MEMBER: &str =
    r#""(?P<key>[^"\\]{1,64})"\s*:\s*\[?\s*(?:"(?P<text>(?:[^"\\]|\\.)*)|(?P<number>\d+))"#;

/// Parameters of queries, forms and cookies: `key=value`.
const PARAMETER: &str =
    r#"(?:^|[?&;\s"])(?P<key>[A-Za-z0-9_.$\[\]-]{1,64})=(?P<text>[^&\s"<>#;]+)"#;

/// This machine's addresses, which are nobody's.
const LOCAL: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

struct TextPatterns {
    any: Regex,
    member: Regex,
    parameter: Regex,
}

#[expect(clippy::expect_used, reason = "constants, which a test compiles")]
static PATTERNS: LazyLock<TextPatterns> = LazyLock::new(|| TextPatterns {
    any: Regex::new(PATTERN).expect("a valid pattern"),
    member: Regex::new(MEMBER).expect("a valid pattern"),
    parameter: Regex::new(PARAMETER).expect("a valid pattern"),
});

/// A part of a text with its replacement.
struct MaskedSpan {
    range: Range<usize>,
    replacement: String,
}

/// Returns a text without the personal data that patterns and names of parameters show.
pub(super) fn mask_patterns(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let is_cut = end < text.len();
    let text = text.get(..end).unwrap_or_default();
    let mut spans = Vec::new();
    DecodedText::each_of(text, |view| find(view, &mut spans));
    let mut masked = replace(text, spans);
    if is_cut {
        masked.push_str(MASKED);
    }
    masked
}

/// Returns a personal value as it may be shown: an e-mail address as such, of others nothing.
pub(super) fn mask_value(text: &str) -> String {
    let text = text.trim();
    match text.split_once('@').or_else(|| text.split_once("%40")) {
        Some((local, domain)) if !local.is_empty() && domain.contains('.') => email(local),
        _ if text.is_empty() => String::new(),
        _ => MASKED.to_owned(),
    }
}

/// Returns an id as it may be shown: its beginning, or the address that it is, masked.
pub(super) fn mask_id(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let masked = mask_patterns(text);
    if masked == text { shortened(text) } else { masked }
}

fn email(local: &str) -> String {
    let first: String = local.chars().take(1).collect();
    format!("{first}…@…")
}

fn find(view: &DecodedText, spans: &mut Vec<MaskedSpan>) {
    let bytes = view.bytes();
    let mut add = |range: Range<usize>, replacement: String| {
        spans.push(MaskedSpan { range: view.source(&range), replacement });
    };
    for found in PATTERNS.any.captures_iter(bytes) {
        if let Some((range, replacement)) = of_pattern(&found) {
            add(range, replacement);
        }
    }
    for pattern in [&PATTERNS.member, &PATTERNS.parameter] {
        for found in pattern.captures_iter(bytes) {
            let key = found.name("key").map(|key| String::from_utf8_lossy(key.as_bytes()));
            let value = found.name("text").or_else(|| found.name("number"));
            let (Some(key), Some(value)) = (key, value) else { continue };
            let text = String::from_utf8_lossy(value.as_bytes());
            match KeyKind::of(&key) {
                KeyKind::Personal if !text.is_empty() => add(value.range(), mask_value(&text)),
                KeyKind::Id if !text.is_empty() => add(value.range(), shortened(&text)),
                _ => {}
            }
        }
    }
}

/// Returns the place of a pattern with its replacement; `None` for one that is no personal data.
fn of_pattern(found: &Captures<'_>) -> Option<(Range<usize>, String)> {
    let text = |name: &str| {
        let part = found.name(name)?;
        Some((part.range(), String::from_utf8_lossy(part.as_bytes()).into_owned()))
    };
    if let Some((range, address)) = text("email") {
        return Some((range, email(&address)));
    }
    if let Some((range, id)) = text("uuid").or_else(|| text("hash")) {
        return Some((range, shortened(&id)));
    }
    if let Some((range, address)) = text("ip") {
        return match address.parse::<IpAddr>() {
            Ok(address) if address.is_unspecified() || LOCAL.contains(&address) => None,
            Ok(address) => Some((range, privacy::truncate(address).to_string())),
            // Not an address, but maybe a telephone number with dots.
            Err(_) if address.chars().filter(char::is_ascii_digit).count() >= 7 => {
                Some((range, MASKED.to_owned()))
            }
            Err(_) => None,
        };
    }
    text("digits").map(|(range, _)| (range, MASKED.to_owned()))
}

/// Replaces the spans. Of those that overlap, the first and longest gives the replacement for all.
fn replace(text: &str, mut spans: Vec<MaskedSpan>) -> String {
    spans.sort_by_key(|span| (span.range.start, Reverse(span.range.end)));
    let mut out = String::with_capacity(text.len());
    let (mut written, mut masked) = (0, 0);
    for MaskedSpan { range, replacement } in spans {
        if range.start >= masked {
            out.push_str(text.get(written..range.start).unwrap_or_default());
            out.push_str(&replacement);
        }
        masked = masked.max(range.end);
        written = masked;
    }
    out.push_str(text.get(written..).unwrap_or_default());
    out
}
