//! The ids of an event: its person in both of Mixpanel's identity systems, and its `$insert_id`
//! (`docs/contracts/destinations.md` 3.2 and 3.4).
//!
//! Ids are the event's own, never the profile's: a profile changes from one try to the next, and
//! Mixpanel recognises a repetition by the id among others. Mixpanel joins a visitor's events itself.

use std::borrow::Cow;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::settings::MixpanelIdMerge;
use crate::match_keys::MatchWeight::High;
use crate::match_keys::{MatchKey, RAISE_BROWSER, RAISE_USER_ID, key};
use tagway_core::event::EnrichedEvent;

/// The ids by which Mixpanel joins events.
pub(super) const MATCH_KEYS: &[MatchKey] = &[
    key("user_id", "Your own user id", "/user_id", High, RAISE_USER_ID),
    key("device_id", "Browser or device", "/device_id", High, RAISE_BROWSER),
];

/// Ids that Mixpanel rejects as mistakes.
const DISALLOWED: [&str; 16] = [
    "00000000-0000-0000-0000-000000000000",
    "anon",
    "anonymous",
    "nil",
    "none",
    "null",
    "n/a",
    "na",
    "undefined",
    "unknown",
    "0",
    "-1",
    "true",
    "false",
    "[]",
    "{}",
];

/// Characters of an id. Mixpanel cuts longer ones, which would merge two people.
const MAX_ID_CHARS: usize = 255;

/// The prefix of a device's id without a known user, in a project with simplified merging.
const DEVICE: &str = "$device:";

/// Bytes of an `$insert_id`.
const MAX_INSERT_ID: usize = 36;

/// The ids of one event that Mixpanel takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MixpanelIds<'e> {
    pub(super) user: Option<&'e str>,
    pub(super) device: Option<&'e str>,
}

impl<'e> MixpanelIds<'e> {
    pub(super) fn of(event: &'e EnrichedEvent) -> Self {
        let event = &*event.event;
        let device = event.anonymous_id.as_deref().filter(|id| is_allowed(id));
        Self {
            user: event.user_id.as_deref().filter(|id| is_allowed(id)),
            device: device.filter(|id| id.chars().count() + DEVICE.len() <= MAX_ID_CHARS),
        }
    }

    /// Returns the `distinct_id`: for an unknown visitor the empty text, which Mixpanel documents.
    pub(super) fn distinct(self, merge: MixpanelIdMerge) -> Cow<'e, str> {
        match (self.user, self.device, merge) {
            (Some(user), _, _) => user.into(),
            (None, Some(device), MixpanelIdMerge::Original) => device.into(),
            (None, Some(device), MixpanelIdMerge::Simplified) => format!("{DEVICE}{device}").into(),
            (None, None, _) => "".into(),
        }
    }

    /// Returns the user and the device, if both are known and differ.
    pub(super) fn pair(self) -> Option<(&'e str, &'e str)> {
        Some((self.user?, self.device?)).filter(|(user, device)| user != device)
    }
}

/// Returns true if Mixpanel takes the id.
pub(super) fn is_allowed(id: &str) -> bool {
    let trimmed = id.trim();
    !trimmed.is_empty() && !DISALLOWED.contains(&trimmed) && id.chars().count() <= MAX_ID_CHARS
}

/// Returns true if `$identify` takes the device's id, which must be a UUID of version 4.
pub(super) fn is_uuid_v4(id: &str) -> bool {
    id.len() == 36 && Uuid::try_parse(id).is_ok_and(|uuid| uuid.get_version_num() == 4)
}

/// Returns the `$insert_id` of a message: the message's own id if Mixpanel takes it, else its digest.
pub(super) fn insert_id(message_id: &str) -> String {
    let is_plain = (1..=MAX_INSERT_ID).contains(&message_id.len())
        && message_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_plain && is_allowed(message_id) {
        return message_id.to_owned();
    }
    hashed(message_id)
}

/// Returns the `$insert_id` of a further record of the same message.
pub(super) fn further_insert_id(message_id: &str, part: &str) -> String {
    hashed(&format!("{message_id}:{part}"))
}

fn hashed(text: &str) -> String {
    let mut digits = hex::encode(Sha256::digest(text.as_bytes()));
    digits.truncate(MAX_INSERT_ID);
    digits
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_support;

    #[test]
    fn insert_ids_are_the_messages_own_or_the_beginning_of_their_digest() {
        for own in ["m1", "0c6f0c33-9d3c-4a0f-a0d6-5e8b8d0e7c11", &"a".repeat(36)] {
            assert_eq!(insert_id(own), own);
        }
        let long = "ajs-next-1795435200000-0c6f0c33-9d3c-4a0f-a0d6-5e8b8d0e7c11";
        let all = hex::encode(Sha256::digest(long.as_bytes()));
        assert_eq!(Some(insert_id(long).as_str()), all.get(..36));
        for other in
            [&"a".repeat(37), "a_b", "ä", "null", "-1", "00000000-0000-0000-0000-000000000000"]
        {
            let made = insert_id(other);
            assert!(made.len() == 36 && made != *other, "{other}: {made}");
        }
        assert_ne!(further_insert_id("m", "0"), further_insert_id("m", "1"));
        // A message id that is a digest is hashed like any other text.
        let digest = crate::digest::sha256("mary").unwrap();
        assert_ne!(Some(insert_id(&digest).as_str()), digest.get(..36));
    }

    #[test]
    fn placeholder_ids_are_not_used() {
        let ids = |user: &str, device: &str| {
            let event = test_support::event(json!({ "userId": user, "anonymousId": device }));
            MixpanelIds::of(&event).distinct(MixpanelIdMerge::Simplified).into_owned()
        };
        assert_eq!(ids("u1", "a1"), "u1");
        assert_eq!(ids("null", "a1"), "$device:a1");
        assert_eq!(ids(" ", "anonymous"), "");
        assert_eq!(ids("NULL", "a1"), "NULL", "the list is as it is written");
        assert_eq!(ids(&"u".repeat(255), "a1"), "u".repeat(255));
        assert_eq!(ids(&"u".repeat(256), "a1"), "$device:a1");
        assert_eq!(ids("", &"a".repeat(248)), "");
    }

    #[test]
    fn is_uuid_v4_accepts_only_random_uuids() {
        assert!(is_uuid_v4("507f191e-810c-4197-9de8-60ea00000001"));
        for other in
            ["507f191e-810c-7197-9de8-60ea00000001", "507f191e810c41979de860ea00000001", "a1"]
        {
            assert!(!is_uuid_v4(other), "{other}");
        }
    }
}
