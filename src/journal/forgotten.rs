//! Who has been forgotten: the names of people whose events are no longer taken or sent.
//!
//! A name is kept as its digest alone, so that the list of those who asked to be forgotten does not
//! say who they are. A digest of a guessable name, such as an e-mail address, can be found by
//! guessing: the list is as private as the folder it is in.
//!
//! The request path and delivery look at an immutable set; while nobody is forgotten that is one
//! load and one comparison.

use std::borrow::Cow;
use std::collections::HashSet;

use arc_swap::ArcSwap;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::SiteId;
use crate::event::Event;

/// The digest of one name of a person at one site: a user id, a device's id, an e-mail address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameKey([u8; 32]);

impl NameKey {
    /// The key of a name. Of what looks like an e-mail address neither case nor the space around it
    /// matters.
    pub fn new(site: SiteId, name: &str) -> Self {
        let name = if name.contains('@') {
            Cow::Owned(name.trim().to_lowercase())
        } else {
            Cow::Borrowed(name)
        };
        let mut digest = Sha256::new();
        digest.update(site.0.to_be_bytes());
        digest.update(name.as_bytes());
        Self(digest.finalize().into())
    }

    pub(super) fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// Everybody who is forgotten, at all sites.
#[derive(Debug, Default)]
pub struct Forgotten(ArcSwap<HashSet<NameKey>>);

impl Forgotten {
    /// Whether the event carries a name of somebody who is forgotten.
    pub fn names(&self, site: SiteId, event: &Event) -> bool {
        let keys = self.0.load();
        let is_in = |name: &str| keys.contains(&NameKey::new(site, name));
        !keys.is_empty() && names_of(event).into_iter().any(is_in)
    }

    /// The same of an event as the journal keeps it.
    pub fn names_in(&self, site: SiteId, body: &[u8]) -> bool {
        let keys = self.0.load();
        !keys.is_empty() && carries(&keys, site, body)
    }

    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.0.load().is_empty()
    }

    pub(super) fn replace(&self, keys: HashSet<NameKey>) {
        self.0.store(keys.into());
    }
}

/// Whether a journal's record carries one of these names.
pub(super) fn carries(keys: &HashSet<NameKey>, site: SiteId, body: &[u8]) -> bool {
    // What cannot be read carries no name that could be recognised.
    let Ok(glance) = serde_json::from_slice::<Glance>(body) else { return false };
    glance.names().any(|name| keys.contains(&NameKey::new(site, name)))
}

fn names_of(event: &Event) -> Vec<&str> {
    let visitor = event.facts.visitor.as_ref().map(|visitor| visitor.id.as_str());
    let ids = [event.user_id.as_deref(), event.anonymous_id.as_deref(), visitor];
    let context = event.context.as_ref().and_then(|context| context.get("traits")?.as_object());
    let said = [event.traits.as_ref(), event.properties.as_ref(), context].into_iter().flatten();
    let emails = said.filter_map(|said| said.get("email")?.as_str());
    ids.into_iter().flatten().chain(event.previous_id.as_deref()).chain(emails).collect()
}

/// What of a record names its person.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Glance {
    user_id: Option<String>,
    anonymous_id: Option<String>,
    previous_id: Option<String>,
    traits: Option<Said>,
    properties: Option<Said>,
    context: Option<Context>,
    #[serde(default)]
    facts: Facts,
}

#[derive(Deserialize)]
struct Said {
    email: Option<Value>,
}

#[derive(Deserialize)]
struct Context {
    traits: Option<Value>,
}

#[derive(Default, Deserialize)]
struct Facts {
    visitor: Option<Visitor>,
}

#[derive(Deserialize)]
struct Visitor {
    id: String,
}

impl Glance {
    fn names(&self) -> impl Iterator<Item = &str> {
        let visitor = self.facts.visitor.as_ref().map(|visitor| visitor.id.as_str());
        let ids = [self.user_id.as_deref(), self.anonymous_id.as_deref(), visitor];
        let said = [&self.traits, &self.properties].into_iter().flatten();
        let said = said.filter_map(|said| said.email.as_ref());
        let context = self.context.as_ref().and_then(|it| it.traits.as_ref()?.get("email"));
        let emails = said.chain(context).filter_map(Value::as_str);
        ids.into_iter().flatten().chain(self.previous_id.as_deref()).chain(emails)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: SiteId = SiteId(1);

    fn record(more: &str) -> String {
        format!(
            r#"{{"type":"track","messageId":"m","timestamp":"2026-11-23T10:00:00Z",
                "receivedAt":"2026-11-23T10:00:00Z",{more}}}"#
        )
    }

    #[test]
    fn an_event_is_a_persons_by_any_of_its_names_in_both_forms() {
        let forgotten = Forgotten::default();
        forgotten.replace(["ann", "ann@x.example"].map(|it| NameKey::new(SITE, it)).into());
        for (more, is_hers) in [
            (r#""userId":"ann""#, true),
            (r#""anonymousId":"ann""#, true),
            (r#""previousId":"ann","userId":"b""#, true),
            (r#""userId":"b","traits":{"email":" Ann@X.example"}"#, true),
            (r#""userId":"b","properties":{"email":"ann@x.example"}"#, true),
            (r#""userId":"b","context":{"traits":{"email":"ann@x.example"}}"#, true),
            (r#""userId":"b","properties":{"email":7,"name":"ann"}"#, false),
            (r#""userId":"Ann""#, false),
        ] {
            let record = record(more);
            let event: Event = serde_json::from_str(&record).unwrap();
            assert_eq!(forgotten.names_in(SITE, record.as_bytes()), is_hers, "{more}");
            assert_eq!(forgotten.names(SITE, &event), is_hers, "{more}");
            assert!(!forgotten.names(SiteId(2), &event), "another site's people");
        }
    }
}
