//! The client id and the session of an event, as GA4 distinguishes visitors (`docs/contracts/destinations.md` 1.2
//! and 1.3).
//!
//! A client id is two positive numbers joined by a full stop. It is never the user's id and never a UUID: the
//! first would merge devices, the second is not documented by Google.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::VENDOR;
use super::settings::Ga4Settings;
use crate::beacon_format::is_blank;
use tagway_core::event::EnrichedEvent;

/// A session of GA4's. Its id should be its start in seconds, but any positive number is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ga4Session {
    pub(super) id: u64,
    pub(super) number: Option<u64>,
}

/// Returns the client id: the client's, that of gtag's cookie, else a pair made of the visitor's own
/// identity, always the same for the same visitor. `None` for an event without any id.
pub(super) fn client_id(event: &EnrichedEvent) -> Option<String> {
    let stated = |value: Option<&Value>| value.and_then(Value::as_str).and_then(pair);
    let option = VENDOR
        .options(event)
        .and_then(|options| options.get("clientId").or(options.get("client_id")));
    let cookie = event.event.facts.cookies.get("_ga").map(String::as_str).and_then(pair);
    stated(option)
        .or(cookie)
        .or_else(|| stated(event.context(&["clientIds", "ga4", "clientId"])))
        .or_else(|| stated(event.context(&["clientIds", "ga4", "client_id"])))
        .or_else(|| minted(event))
        .or_else(|| {
            let id = event.event.anonymous_id.as_deref().or(event.event.user_id.as_deref())?;
            let (first, second) = numbers(id);
            Some(format!("{first}.{second}"))
        })
}

/// Returns the last two parts of gtag's value (`GA1.1.X.Y`, or `X.Y` itself), if they are numbers.
fn pair(text: &str) -> Option<String> {
    let mut parts = text.rsplit('.');
    let (second, first) = (parts.next()?, parts.next()?);
    let is_number = |part: &str| {
        part.len() <= 20
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && part.bytes().any(|byte| byte != b'0')
    };
    let is_bare = parts.next().is_none();
    let is_pair = is_number(first) && is_number(second) && (is_bare || text.starts_with("GA1."));
    is_pair.then(|| format!("{first}.{second}"))
}

/// Makes a pair for the visitor of the gateway's cookie, if the event is that visitor's.
fn minted(event: &EnrichedEvent) -> Option<String> {
    let visitor = event.event.facts.visitor.as_ref()?;
    // An anonymous id other than the cookie's is another client's, which must stay the same client wherever
    // it calls from.
    if event.event.anonymous_id.as_ref().is_some_and(|id| *id != visitor.id) {
        return None;
    }
    let (first, _) = numbers(&visitor.id);
    Some(format!("{first}.{}", visitor.since.as_second().max(1)))
}

/// Makes two positive numbers of 31 bits that stand for the id.
fn numbers(id: &str) -> (u32, u32) {
    let digest: [u8; 32] = Sha256::digest(id.as_bytes()).into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    let positive = |bytes: [u8; 4]| (u32::from_be_bytes(bytes) >> 1).max(1);
    (positive([a, b, c, d]), positive([e, f, g, h]))
}

/// Returns the session, in the contract's order of sources; that of the gateway's cookie comes last.
pub(super) fn session(event: &EnrichedEvent, settings: &Ga4Settings) -> Option<Ga4Session> {
    let option =
        |key: &str| VENDOR.options(event).and_then(|options| options.get(key)).and_then(positive);
    if let Some(id) = option("session_id").or_else(|| option("sessionId")) {
        return Some(Ga4Session {
            id,
            number: option("session_number").or_else(|| option("sessionNumber")),
        });
    }
    let cookie = event.event.facts.cookies.get(&settings.session_cookie);
    if let Some(session) = cookie.and_then(|value| cookie_session(value)) {
        return Some(session);
    }
    let context = |key: &str| event.context(&[key]).and_then(positive);
    if let Some(id) = context("sessionId") {
        return Some(Ga4Session { id, number: context("sessionNumber") });
    }
    let property = |key: &str| event.property(key).and_then(positive);
    if let Some(id) = property("session_id") {
        return Some(Ga4Session { id, number: property("session_number") });
    }
    let own = event.event.facts.session?;
    Some(Ga4Session { id: u64::try_from(own.id).ok()?, number: Some(own.number.into()) })
}

/// Returns true if a property is not empty and no session of GA4's: a player has sessions, too.
pub(super) fn is_no_session(value: &Value) -> bool {
    positive(value).is_none() && !is_blank(value)
}

/// Reads gtag's session cookie: `GS1.1.ID.NUMBER....` or `GS2.1.sID$oNUMBER$...`.
fn cookie_session(value: &str) -> Option<Ga4Session> {
    let number = |text: &str| text.parse().ok().filter(|number: &u64| *number > 0);
    let mut parts = value.splitn(3, '.');
    let (version, _, rest) = (parts.next()?, parts.next()?, parts.next()?);
    if version == "GS1" {
        let mut fields = rest.split('.');
        let id = number(fields.next()?)?;
        return Some(Ga4Session { id, number: fields.next().and_then(number) });
    }
    if version != "GS2" {
        return None;
    }
    let field =
        |letter: char| rest.split('$').find_map(|field| number(field.strip_prefix(letter)?));
    Some(Ga4Session { id: field('s')?, number: field('o') })
}

/// Reads a positive whole number, written as one or as text.
fn positive(value: &Value) -> Option<u64> {
    let number = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_id_pairs_are_read_from_cookies_and_alone() {
        for (text, expected) in [
            ("GA1.1.1763984794.1795434662", Some("1763984794.1795434662")),
            ("GA1.2-2.5.6", Some("5.6")),
            ("1763984794.1795434662", Some("1763984794.1795434662")),
            ("GA1.2-2.abc.def", None),
            ("0.1795434662", None),
            ("1.2.3", None),
            ("f2b6c1de-7f", None),
            ("", None),
        ] {
            assert_eq!(pair(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn sessions_are_read_from_both_forms_of_the_cookie() {
        let session = |id, number| Some(Ga4Session { id, number });
        assert_eq!(
            cookie_session("GS1.1.1795434661.1.0.1795434669.0.0.0"),
            session(1_795_434_661, Some(1))
        );
        assert_eq!(
            cookie_session("GS2.1.s1747323152$o28$g0$t1747323152$j60$l0$h69286059"),
            session(1_747_323_152, Some(28))
        );
        assert_eq!(cookie_session("GS2.1.s1747323152"), session(1_747_323_152, None));
        for bad in ["", "GS3.1.s1$o2", "GS1.1.x.1", "GS2.1.o2", "GS1"] {
            assert_eq!(cookie_session(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_numbers_of_an_id_are_stable_and_positive() {
        assert_eq!(numbers("user-42"), numbers("user-42"));
        assert_ne!(numbers("user-42"), numbers("user-43"));
        let (first, second) = numbers("");
        assert!(first > 0 && second > 0);
    }
}
