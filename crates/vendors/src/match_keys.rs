//! The identifiers by which vendors match events with people, for the operators' measure of match quality.
//!
//! Each vendor lists its identifiers in [`Vendor::match_keys`](super::Vendor::match_keys), and shows what its request
//! for an event carries of them by [`Destination::match_data`](super::Destination::match_data). The weights follow the
//! vendors' own advice about parameters (`docs/contracts/destinations.md` 1.4 and 2.4).

use serde_json::{Value, json};

use crate::person::EventPerson;
use tagway_core::event::EnrichedEvent;

/// The contribution of an identifier to the vendor's matching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchWeight {
    /// It matches most people alone.
    High,
    /// It matches some people, or a browser.
    Medium,
    /// It only confirms a match by others.
    Low,
}

impl MatchWeight {
    /// Returns the name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }

    /// Returns its share of the score.
    pub const fn points(self) -> f64 {
        match self {
            Self::High => 4.0,
            Self::Medium => 2.0,
            Self::Low => 0.5,
        }
    }
}

/// One identifier of a vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatchKey {
    /// The identifier's name in the API: the same for all vendors.
    pub key: &'static str,
    /// The identifier's name for people.
    pub label: &'static str,
    /// Its place in [`Destination::match_data`](super::Destination::match_data), as a JSON pointer.
    pub pointer: &'static str,
    /// Its contribution.
    pub weight: MatchWeight,
    /// The beginning of a sentence that says how more events get it: an imperative.
    pub raise: &'static str,
}

/// Cures that several vendors share.
pub(crate) const RAISE_EMAIL: &str = "send `email` with identify, or with the event";
pub(crate) const RAISE_PHONE: &str =
    "send `phone` with identify, or with the event, with its country's prefix";
pub(crate) const RAISE_USER_ID: &str = "call identify with your `userId` at login and at orders";
pub(crate) const RAISE_BROWSER: &str =
    "load the SDK in the page, or pass `anonymousId` with events of servers";
pub(crate) const RAISE_IP: &str = "pass `context.ip` with events of servers";
pub(crate) const RAISE_USER_AGENT: &str = "pass `context.userAgent` with events of servers";
pub(crate) const RAISE_NAME: &str = "send `firstName` and `lastName` with identify";
pub(crate) const RAISE_ADDRESS: &str = "send `address` with identify, or with orders";

/// Describes an identifier.
pub(crate) const fn key(
    key: &'static str,
    label: &'static str,
    pointer: &'static str,
    weight: MatchWeight,
    raise: &'static str,
) -> MatchKey {
    MatchKey { key, label, pointer, weight, raise }
}

/// The identifiers of vendors that take the event's own, as [`person_data`] shows them.
pub(crate) const OWN_KEYS: &[MatchKey] = &[
    key("user_id", "User id", "/user_id", MatchWeight::High, RAISE_USER_ID),
    key("email", "E-mail address", "/email", MatchWeight::High, RAISE_EMAIL),
    key("phone", "Telephone number", "/phone", MatchWeight::Medium, RAISE_PHONE),
    key("anonymous_id", "Browser or device", "/anonymous_id", MatchWeight::Medium, RAISE_BROWSER),
    key("ip", "IP address", "/ip", MatchWeight::Low, RAISE_IP),
    key("user_agent", "Browser's name", "/user_agent", MatchWeight::Low, RAISE_USER_AGENT),
];

/// Returns the event's own identifiers, under the pointers of [`OWN_KEYS`].
pub(crate) fn person_data(event: &EnrichedEvent) -> Value {
    let person = EventPerson::of(event);
    json!({
        "user_id": event.user_id(),
        "email": person.email(),
        "phone": person.phone(),
        "anonymous_id": event.event.anonymous_id,
        "ip": event.ip(),
        "user_agent": event.user_agent(),
    })
}

/// Returns true if the data has the identifier.
pub fn carries(data: &Value, key: &MatchKey) -> bool {
    match data.pointer(key.pointer) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.trim().is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VENDORS;

    #[test]
    fn carries_needs_a_value() {
        let key = key("email", "", "/em", MatchWeight::High, "");
        for (data, expected) in [
            (json!({ "em": ["x"] }), true),
            (json!({ "em": "x" }), true),
            (json!({ "em": [] }), false),
            (json!({ "em": " " }), false),
            (json!({ "em": null }), false),
            (json!({ "ph": "x" }), false),
        ] {
            assert_eq!(carries(&data, &key), expected, "{data}");
        }
    }

    #[test]
    fn keys_of_a_vendor_have_names_and_places_of_their_own() {
        for vendor in VENDORS.iter().filter(|vendor| vendor.destination.is_some()) {
            let mut names: Vec<_> = vendor.match_keys.iter().map(|key| key.key).collect();
            let mut places: Vec<_> = vendor.match_keys.iter().map(|key| key.pointer).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            places.sort_unstable();
            places.dedup();
            assert_eq!((names.len(), places.len()), (count, count), "{}", vendor.name);
            assert!(places.iter().all(|place| place.starts_with('/')), "{}", vendor.name);
        }
    }
}
