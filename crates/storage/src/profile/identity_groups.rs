//! The groups of identities seen together recently, so that the projection need not read every event of
//! an unknown visitor: only the first that shows some identities together, and a later one from time to
//! time.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use memchr::memmem;
use moka::sync::Cache;
use serde_json::value::RawValue;

use super::identity::COOKIES;
use crate::journal::SiteId;
use tagway_core::event::{Event, EventFacts, RawJsonObject, RawMembers};

/// The most groups of identities that are remembered: about 100 bytes each. A group that was evicted
/// costs the projection one more read.
const MAX_GROUPS: u64 = 200_000;

/// The most identities whose user is remembered: about 100 bytes each.
const MAX_USERS: u64 = 200_000;

/// The time after which a known group counts as new again: the projection stores when identities were
/// seen to the hour.
const GROUP_TTL: Duration = Duration::from_secs(3600);

/// The groups of identities seen recently, and the user seen with each identity.
pub struct IdentityGroupCache {
    groups: Cache<u64, ()>,
    users: Cache<u64, u64>,
    hashes: RandomState,
}

impl Default for IdentityGroupCache {
    fn default() -> Self {
        let groups = Cache::builder().max_capacity(MAX_GROUPS).time_to_live(GROUP_TTL).build();
        let users = Cache::builder().max_capacity(MAX_USERS).time_to_idle(GROUP_TTL).build();
        Self { groups, users, hashes: RandomState::new() }
    }
}

impl IdentityGroupCache {
    /// Returns the group of identities that an event without a user id shows, if there are several and
    /// they were not seen together recently, or another user was seen with one of them meanwhile. The
    /// projection reads an event with a user id anyway.
    pub fn find_new_group(&self, site: SiteId, event: &Event<RawJsonObject>) -> Option<u64> {
        let identities = self.identities(site, event)?;
        let identities = identities.iter().flatten().copied();
        if let Some(user) = &event.user_id {
            let user = self.hashes.hash_one(user);
            for identity in identities {
                if self.users.get(&identity) != Some(user) {
                    self.users.insert(identity, user);
                }
            }
            return None;
        }
        let group: Vec<_> =
            identities.map(|identity| (identity, self.users.get(&identity))).collect();
        let group = self.hashes.hash_one(group);
        (!self.groups.contains_key(&group)).then_some(group)
    }

    /// Remembers groups whose events the projection will read.
    pub fn remember(&self, groups: impl IntoIterator<Item = u64>) {
        for group in groups {
            self.groups.insert(group, ());
        }
    }

    /// Returns the identities of an event that shows several, each as one number.
    fn identities(&self, site: SiteId, event: &Event<RawJsonObject>) -> Option<[Option<u64>; 9]> {
        let EventFacts { visitor, cookies, .. } = &event.facts;
        let context = event.context.as_ref().map_or("", RawJsonObject::text);
        // Parsed only if there is something to find: most contexts are long, and contain neither.
        let holds = |name: &str| memmem::find(context.as_bytes(), name.as_bytes()).is_some();
        // A key may be written with escapes.
        let has_ids = holds("\"clientIds\"") || holds("\"device\"") || holds("\\u00");
        let anonymous = event.anonymous_id.as_deref();
        let visitor = visitor.as_ref().map(|visitor| visitor.id.as_str());
        let [ajs, ga, fbp, third, fourth] =
            COOKIES.map(|name| cookies.get(name).map(String::as_str));
        let is_alone = visitor.is_none_or(|visitor| anonymous.is_none_or(|id| id == visitor));
        let has_cookies = [ajs, ga, fbp, third, fourth].iter().any(Option::is_some);
        if is_alone && !has_cookies && !has_ids {
            return None;
        }
        let stated =
            if has_ids { RawMembers::read(context, &["clientIds", "device"]) } else { None };
        let part = |key| stated.as_ref().and_then(|stated| stated.get(key)).map(RawValue::get);
        let (ids, device) = (part("clientIds"), part("device"));
        let mut place = 0_u8;
        Some([anonymous, visitor, ajs, ga, fbp, third, fourth, ids, device].map(|value| {
            place += 1;
            value.map(|value| self.hashes.hash_one((site, place, value)))
        }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(anonymous: &str, cookies: serde_json::Value, context: &str) -> Event<RawJsonObject> {
        let text = json!({
            "type": "track", "messageId": "m", "anonymousId": anonymous,
            "timestamp": "2026-11-23T10:00:00Z", "receivedAt": "2026-11-23T10:00:00Z",
            "facts": {
                "visitor": { "id": "v", "since": "2026-11-23T10:00:00Z" }, "cookies": cookies,
            },
        });
        let event: Event = serde_json::from_value(text).unwrap();
        let context = RawJsonObject::new(&RawValue::from_string(context.to_owned()).unwrap());
        let Event { kind, message_id, anonymous_id, timestamp, received_at, facts, .. } = event;
        Event {
            kind,
            message_id,
            event: None,
            name: None,
            category: None,
            user_id: None,
            anonymous_id,
            group_id: None,
            previous_id: None,
            timestamp,
            received_at,
            original_timestamp: None,
            sent_at: None,
            properties: None,
            traits: None,
            context,
            integrations: None,
            facts,
        }
    }

    #[test]
    fn identities_seen_together_are_new_once() {
        let company = IdentityGroupCache::default();
        let is_news = |event: &Event<RawJsonObject>| {
            let group = company.find_new_group(SiteId(1), event);
            company.remember(group);
            group.is_some()
        };
        assert!(!is_news(&event("v", json!({}), "{}")), "one id alone tells nothing");
        let others = [
            event("a", json!({}), "{}"),
            event("b", json!({}), "{}"),
            event("v", json!({ "_ga": "GA1.1.5.6" }), "{}"),
            event("v", json!({}), r#"{ "clientIds": { "mixpanel": "m" } }"#),
            event("v", json!({}), r#"{ "clientIds": { "mixpanel": "n" } }"#),
            event("v", json!({}), r#"{ "device": { "id": "d" } }"#),
        ];
        for event in &others {
            assert!(is_news(event), "{event:?}");
            assert!(!is_news(event), "{event:?}");
        }
        let visit = json!({ "_ga": "GA1.1.5.6", "_ga_ABC": "GS1.1.3" });
        assert!(!is_news(&event("v", visit, r#"{ "page": {} }"#)), "the rest is not identities");
        let visitor = &others[0];
        let mut user = event("m", json!({}), "{}");
        user.user_id = Some("u".to_owned());
        assert!(!is_news(&user), "it is looked at anyway");
        assert!(is_news(visitor), "somebody signed in where they were seen");
        assert!(!is_news(&user) && !is_news(visitor), "it is the same one");
        user.user_id = Some("w".to_owned());
        assert!(!is_news(&user) && is_news(visitor), "and now another");
        let group = company.find_new_group(SiteId(2), &others[0]);
        assert!(group.is_some(), "of another site");
        assert_eq!(
            company.find_new_group(SiteId(2), &others[0]),
            group,
            "until the journal has it"
        );
    }
}
