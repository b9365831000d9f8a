//! Redaction: no output shows a configured secret, in any encoding.
//!
//! Each secret that a load reads is added here, and so is each that a vendor issues later. All output for
//! people (logs, the live feed, dead letters, admin responses, panics, messages of the command line)
//! passes [`SecretRedactor::redact`], which removes:
//!
//! - the secret itself, and the credentials within it: the password of a URL, the token after
//!   `Bearer`, the password within `Basic`;
//! - its base64 (both alphabets, padded or not) at any offset within an encoded text, its hex, and its
//!   bytes as a list of numbers;
//! - all of these behind percent-encoding, JSON or Rust escapes and HTML entities, in any mixture
//!   and up to three levels deep.
//!
//! Secrets of fewer than [`MIN_SECRET_BYTES`] bytes are not searched: they would remove ordinary words from
//! every output. `tagway check` warns about them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use aho_corasick::AhoCorasick;
use parking_lot::RwLock;

use super::credentials;
use super::decoded::DecodedText;
use super::secret::SecretString;

/// The replacement of a secret in an output.
pub const HIDDEN: &str = "[secret]";

/// The shortest secret that is searched in outputs, in bytes.
pub const MIN_SECRET_BYTES: usize = 6;

/// The most remembered secrets issued at run time: an access token lives about an hour.
const PASSING_SECRETS: usize = 256;

/// The length of the pieces, in bytes, in which longer secrets such as private keys are searched.
const PIECE_BYTES: usize = 512;

/// A cut text may end with the beginning of a secret; a shorter beginning reveals nothing.
const MIN_BEGINNING: usize = 8;

/// The bytes read of a cut text beyond the part that is shown.
const BEYOND_CUT: usize = 4096;

/// The known secrets. Clones share them.
#[derive(Clone, Default)]
pub struct SecretRedactor(Arc<RwLock<KnownSecrets>>);

#[derive(Default)]
struct KnownSecrets {
    /// Secrets of the configuration and of earlier loads, whose settings may still be in use.
    configured: BTreeSet<Box<str>>,
    /// Secrets issued by vendors, the oldest first.
    passing: VecDeque<Box<str>>,
    /// The settings that were read as secrets; true if the value is too short.
    settings: BTreeMap<String, bool>,
    /// Built from the secrets on demand.
    matcher: Option<Arc<SecretMatcher>>,
}

impl SecretRedactor {
    /// Notes that the setting at this path is a secret, whether or not it is set.
    pub(super) fn declare(&self, setting: &str) {
        self.write(|known| {
            known.settings.entry(setting.to_owned()).or_default();
        });
    }

    /// Adds the value of a setting that was declared.
    pub(super) fn add_setting(&self, setting: &str, text: &str) {
        let is_short = text.len() < MIN_SECRET_BYTES;
        self.write(|known| known.settings.insert(setting.to_owned(), is_short));
        self.add_text(text);
    }

    /// Adds a secret that the program made or stores itself.
    pub fn add(&self, secret: &SecretString) {
        self.add_text(secret.expose());
    }

    /// Adds a newly issued secret, such as an access token. The oldest are forgotten.
    pub fn add_issued(&self, secret: &SecretString) {
        let text = secret.expose();
        let is_known = self.read(|known| known.passing.iter().any(|old| **old == *text));
        if is_known || text.len() < MIN_SECRET_BYTES {
            return;
        }
        self.write(|known| {
            known.passing.push_back(text.into());
            if known.passing.len() > PASSING_SECRETS {
                known.passing.pop_front();
            }
            known.matcher = None;
        });
    }

    pub(super) fn add_text(&self, text: &str) {
        let parts = credentials::within(text);
        self.write(|known| {
            for part in parts.into_iter().filter(|part| part.len() >= MIN_SECRET_BYTES) {
                if known.configured.insert(part.into()) {
                    known.matcher = None;
                }
            }
        });
    }

    /// The paths of the settings that were read as secrets, set or not.
    pub fn settings(&self) -> Vec<String> {
        self.read(|known| known.settings.keys().cloned().collect())
    }

    /// The paths of the secrets that are too short to be searched.
    pub fn too_short(&self) -> Vec<String> {
        self.read(|known| {
            let short = known.settings.iter().filter(|(_, is_short)| **is_short);
            short.map(|(path, _)| path.clone()).collect()
        })
    }

    /// The text without the known secrets.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Some(matcher) = self.matcher() else { return Cow::Borrowed(text) };
        replaced(text, matcher.find(text))
    }

    /// The first characters of the text without the known secrets, and without the beginning of one at the
    /// end of a text that was cut before. An ellipsis replaces the rest.
    pub fn excerpt(&self, text: &str, max_chars: usize) -> String {
        let read = max_chars.saturating_mul(4).saturating_add(BEYOND_CUT);
        let end = text.char_indices().nth(read).map_or(text.len(), |(end, _)| end);
        let text = text.get(..end).unwrap_or(text);
        let redacted = match self.matcher() {
            None => Cow::Borrowed(text),
            Some(matcher) => {
                let mut spans = matcher.find(text);
                spans.extend(matcher.beginning_at_end(text));
                replaced(text, spans)
            }
        };
        match redacted.char_indices().nth(max_chars) {
            Some((end, _)) => format!("{}…", redacted.get(..end).unwrap_or_default()),
            None => redacted.into_owned(),
        }
    }

    fn matcher(&self) -> Option<Arc<SecretMatcher>> {
        if let Some(matcher) = self.read(|known| known.matcher.clone()) {
            return matcher.is_useful().then_some(matcher);
        }
        let matcher = self.write(|known| {
            let secrets = known.configured.iter().chain(&known.passing);
            known
                .matcher
                .insert(Arc::new(SecretMatcher::new(secrets.map(|secret| &**secret))))
                .clone()
        });
        matcher.is_useful().then_some(matcher)
    }

    fn read<T>(&self, look: impl FnOnce(&KnownSecrets) -> T) -> T {
        look(&self.0.read())
    }

    fn write<T>(&self, change: impl FnOnce(&mut KnownSecrets) -> T) -> T {
        change(&mut self.0.write())
    }
}

impl fmt::Debug for SecretRedactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redaction")
    }
}

/// Hides the spans in the text; they may overlap.
fn replaced(text: &str, mut spans: Vec<Range<usize>>) -> Cow<'_, str> {
    if spans.is_empty() {
        return Cow::Borrowed(text);
    }
    spans.sort_unstable_by_key(|span| (span.start, span.end));
    let mut out = String::with_capacity(text.len());
    let (mut written, mut hidden) = (0, 0);
    for span in spans {
        let (start, end) = (floor(text, span.start), ceil(text, span.end));
        if hidden == 0 || start > hidden {
            out.push_str(text.get(written..start).unwrap_or_default());
            out.push_str(HIDDEN);
        }
        hidden = end.max(hidden);
        written = hidden;
    }
    out.push_str(text.get(written..).unwrap_or_default());
    Cow::Owned(out)
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) && at > 0 {
        at -= 1;
    }
    at.min(text.len())
}

fn ceil(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) && at < text.len() {
        at += 1;
    }
    at.min(text.len())
}

/// Finds secrets in a text.
struct SecretMatcher {
    /// None if there are no secrets, or if building it failed.
    automaton: Option<AhoCorasick>,
    patterns: Vec<SecretPattern>,
}

/// One written form of a secret.
struct SecretPattern {
    text: Vec<u8>,
    /// True if it is the inner part of a base64 text, the rest of which is hidden with it.
    is_base64: bool,
}

impl SecretMatcher {
    fn new<'s>(secrets: impl Iterator<Item = &'s str>) -> Self {
        let mut texts = BTreeMap::new();
        for piece in secrets.flat_map(pieces) {
            add_patterns(piece, &mut texts);
        }
        let patterns: Vec<_> =
            texts.into_iter().map(|(text, is_base64)| SecretPattern { text, is_base64 }).collect();
        // Fails only beyond the crate's size limits; each pattern is then searched separately.
        let automaton = match patterns.as_slice() {
            [] => None,
            some => AhoCorasick::new(some.iter().map(|pattern| &pattern.text)).ok(),
        };
        Self { automaton, patterns }
    }

    fn is_useful(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// The ranges of the text that show a secret.
    fn find(&self, text: &str) -> Vec<Range<usize>> {
        let mut spans = Vec::new();
        DecodedText::each_of(text, |view| {
            let bytes = view.bytes();
            let mut extended = 0..0;
            self.each_in(bytes, |pattern, range| {
                if !pattern.is_base64 {
                    spans.push(view.source(&range));
                } else if extended.is_empty() || !extended.contains(&range.start) {
                    extended = whole_base64(bytes, range);
                    spans.push(view.source(&extended));
                }
            });
        });
        spans
    }

    fn each_in(&self, bytes: &[u8], mut found: impl FnMut(&SecretPattern, Range<usize>)) {
        if let Some(automaton) = &self.automaton {
            for hit in automaton.find_overlapping_iter(bytes) {
                if let Some(pattern) = self.patterns.get(hit.pattern().as_usize()) {
                    found(pattern, hit.range());
                }
            }
            return;
        }
        for pattern in &self.patterns {
            for at in memchr::memmem::find_iter(bytes, &pattern.text) {
                found(pattern, at..at + pattern.text.len());
            }
        }
    }

    /// The range at the text's end that is the beginning of a secret.
    fn beginning_at_end(&self, text: &str) -> Option<Range<usize>> {
        let whole = text.trim_end_matches('…').as_bytes();
        let beginning = |pattern: &SecretPattern| {
            let lengths = (MIN_BEGINNING..pattern.text.len()).rev();
            lengths.into_iter().find(|length| {
                pattern.text.get(..*length).is_some_and(|start| whole.ends_with(start))
            })
        };
        let length = self.patterns.iter().filter_map(beginning).max()?;
        Some(whole.len() - length..whole.len())
    }
}

/// The pieces in which a long secret is searched; a short one is one piece.
fn pieces(secret: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = secret;
    while rest.len() >= PIECE_BYTES + MIN_SECRET_BYTES {
        let (piece, after) = rest.split_at(floor(rest, PIECE_BYTES));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

/// Adds the forms in which the secret may be written.
fn add_patterns(secret: &str, patterns: &mut BTreeMap<Vec<u8>, bool>) {
    let json = serde_json::Value::from(secret).to_string();
    let json = json.trim_start_matches('"').strip_suffix('"').unwrap_or_default().to_owned();
    let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    for text in BTreeSet::from([secret.to_owned(), json, form]) {
        for encoded in credentials::base64_forms(text.as_bytes()) {
            patterns.entry(encoded).or_insert(true);
        }
        let hex = hex::encode(&text);
        patterns.insert(hex.to_ascii_uppercase().into_bytes(), false);
        patterns.insert(hex.into_bytes(), false);
        patterns.insert(text.into_bytes(), false);
    }
    patterns.insert(secret.replace(' ', "+").into_bytes(), false);
    let numbers: Vec<String> = secret.bytes().map(|byte| byte.to_string()).collect();
    patterns.insert(numbers.join(", ").into_bytes(), false);
}

/// The range of the whole base64 text around this part.
fn whole_base64(bytes: &[u8], part: Range<usize>) -> Range<usize> {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
    let before = bytes.get(..part.start).unwrap_or_default();
    let after = bytes.get(part.end..).unwrap_or_default();
    let start = part.start - before.iter().rev().take_while(|byte| is_base64(byte)).count();
    let more = after.iter().take_while(|byte| is_base64(byte) || **byte == b'=').count();
    start..part.end + more
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    fn knowing(secrets: &[&str]) -> SecretRedactor {
        let redaction = SecretRedactor::default();
        for secret in secrets {
            redaction.add(&SecretString::new(*secret));
        }
        redaction
    }

    const ODD: &str = "s3cr&t \"q\\uote\"/+ä<%>";

    fn lower(percent: &str) -> String {
        let parts = percent.split('%').enumerate();
        let part = |(index, part): (usize, &str)| match (index, part.get(..2)) {
            (0, _) | (_, None) => part.to_owned(),
            (_, Some(hex)) => {
                format!("%{}{}", hex.to_lowercase(), part.get(2..).unwrap_or_default())
            }
        };
        parts.map(part).collect()
    }

    #[test]
    fn redaction_hides_a_secret_in_every_encoding() {
        for secret in ["hunter2-hunter", "abcdef", ODD, "ключ-от-всего"] {
            let redaction = knowing(&[secret]);
            let json = serde_json::Value::from(secret).to_string();
            let percent = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
            let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
            let hex: String = secret.bytes().map(|byte| format!("{byte:02X}")).collect();
            let mut written = vec![
                secret.to_owned(),
                json.clone(),
                serde_json::Value::from(json.as_str()).to_string(),
                format!("{secret:?}"),
                format!("{:?}", bytes::Bytes::copy_from_slice(secret.as_bytes())),
                format!("{:?}", secret.as_bytes()),
                lower(&percent),
                lower(&form),
                utf8_percent_encode(&percent, NON_ALPHANUMERIC).to_string(),
                utf8_percent_encode(&json, NON_ALPHANUMERIC).to_string(),
                percent,
                form,
                hex.to_lowercase(),
                hex,
                secret.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;"),
                secret.replace('&', "&#38;").replace('"', "&#x22;").replace('/', "&#X2F;"),
                secret.replace('\\', "\\\\").replace('/', "\\/").replace('"', "\\u0022"),
            ];
            for before in ["", "u", "us", "usr", "user:"] {
                for after in ["", ":", "::", "\"}"] {
                    let whole = format!("{before}{secret}{after}");
                    written.push(STANDARD.encode(&whole));
                    written.push(STANDARD_NO_PAD.encode(&whole));
                    written.push(URL_SAFE_NO_PAD.encode(&whole));
                    let encoded = STANDARD.encode(&whole);
                    written.push(utf8_percent_encode(&encoded, NON_ALPHANUMERIC).to_string());
                    written.push(STANDARD.encode(serde_json::json!({ "k": whole }).to_string()));
                }
            }
            for text in written {
                let around = format!("before {text} after");
                let shown = redaction.redact(&around);
                assert!(shown.contains(HIDDEN), "{secret}: {around}");
                let rest = shown.replace(HIDDEN, "");
                assert!(rest.len() <= "before  after".len() + 8, "{secret}: {around}: {shown}");
                assert!(shown.starts_with("before ") && shown.ends_with(" after"), "{shown}");
            }
        }
    }

    #[test]
    fn redaction_knows_the_credentials_within_a_secret() {
        let basic = format!("Basic {}", STANDARD.encode("account:pa55-w0rd"));
        let redaction = knowing(&[
            "Bearer t0ken-of-it",
            &basic,
            "postgres://me:p%40ss-word@db.example/tagway?sslmode=require",
        ]);
        for text in ["t0ken-of-it", "pa55-w0rd", "p@ss-word", "p%40ss-word", "account:pa55-w0rd"] {
            assert_eq!(redaction.redact(text), HIDDEN, "{text}");
        }
        for text in ["Bearer", "account", "db.example", "tagway", "require"] {
            assert_eq!(redaction.redact(text), text);
        }
    }

    #[test]
    fn overlapping_secrets_are_hidden_completely() {
        let redaction = knowing(&["abcdefgh", "efghijkl"]);
        assert_eq!(redaction.redact("-abcdefghijkl-"), "-[secret]-");
        assert_eq!(redaction.redact("abcdefgh efghijkl"), "[secret] [secret]");
    }

    #[test]
    fn an_excerpt_does_not_end_with_the_beginning_of_a_secret() {
        let redaction = knowing(&["a-long-secret-token"]);
        assert_eq!(redaction.excerpt("bad a-long-secret-t", 100), "bad [secret]");
        assert_eq!(redaction.excerpt("bad a-long-secret-t…", 100), "bad [secret]…");
        assert_eq!(redaction.excerpt("bad a-long-secret-token, sorry", 14), "bad [secret], …");
        assert_eq!(redaction.excerpt("bad a-long", 100), "bad a-long");
    }

    #[test]
    fn short_secrets_are_not_redacted_but_listed() {
        let redaction = SecretRedactor::default();
        redaction.declare("sites[0].secret");
        redaction.add_setting("sites[0].server_token", "order");
        redaction.add_setting("admin.key", "long enough");
        assert_eq!(redaction.redact("an order"), "an order");
        assert_eq!(redaction.too_short(), ["sites[0].server_token"]);
        assert_eq!(redaction.settings(), ["admin.key", "sites[0].secret", "sites[0].server_token"]);
    }

    #[test]
    fn passing_secrets_are_bounded_and_the_newest_are_hidden() {
        let redaction = SecretRedactor::default();
        for n in 0..PASSING_SECRETS + 1 {
            redaction.add_issued(&SecretString::new(format!("token-{n:04}")));
        }
        assert_eq!(redaction.redact("token-0000"), "token-0000");
        assert_eq!(redaction.redact(&format!("token-{PASSING_SECRETS:04}")), HIDDEN);
    }

    #[test]
    fn a_private_key_is_hidden_in_pieces() {
        let key: String =
            (0..3000).map(|n| char::from(b'a' + u8::try_from(n * n % 26).unwrap())).collect();
        let redaction = knowing(&[&key]);
        assert_eq!(redaction.redact(&key), HIDDEN);
        assert_eq!(redaction.redact(&STANDARD.encode(&key)), HIDDEN);
    }

    proptest! {
        #[test]
        fn redaction_never_shows_the_secret_and_never_panics(
            secret in "[ -~äß€]{6,40}", before in ".{0,40}", after in ".{0,40}",
        ) {
            let redaction = knowing(&[&secret]);
            let text = format!("{before}{secret}{after}");
            prop_assert!(redaction.redact(&text).contains(HIDDEN));
            let encoded = STANDARD.encode(&text);
            prop_assert!(redaction.redact(&encoded).contains(HIDDEN), "{}", encoded);
            let percent = utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string();
            prop_assert!(redaction.redact(&percent).contains(HIDDEN), "{}", percent);
            redaction.redact(&after);
        }
    }
}
