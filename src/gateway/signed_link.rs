//! Tokens of links for people: signed with the site's secret, for one purpose, one site and a limited time.

use jiff::Timestamp;

use tagway_core::visitor::VisitorSettings;

/// The longest token that is checked; one is about 60 bytes, and a subject.
const MAX_TOKEN_BYTES: usize = 200;

/// Returns a token for a purpose, valid until `until`. A `subject` is in it as it is; it has no spaces.
///
/// No cookie may have the name of a purpose, so that neither can stand for the other.
pub(super) fn sign(
    keys: &VisitorSettings,
    purpose: &str,
    until: Timestamp,
    subject: Option<&str>,
) -> String {
    let mut payload = until.as_second().to_string();
    if let Some(subject) = subject {
        payload.push(' ');
        payload.push_str(subject);
    }
    keys.seal(purpose, payload.as_bytes())
}

/// Returns the subject of a token for the purpose, empty if it has none; `None` if the token is not one, or is no
/// longer valid.
pub(super) fn verify(
    keys: &VisitorSettings,
    purpose: &str,
    token: &str,
    now: Timestamp,
) -> Option<String> {
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let payload = keys.open(purpose, token).and_then(|bytes| String::from_utf8(bytes).ok())?;
    let (until, subject) = payload.split_once(' ').unwrap_or((&payload, ""));
    let until: i64 = until.parse().ok()?;
    (now.as_second() < until).then(|| subject.to_owned())
}
