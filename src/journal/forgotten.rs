//! Who has been forgotten: the names of people whose events are no longer taken or sent.
//!
//! A name is kept as its digest alone, so that the list of those who asked to be forgotten does not
//! say who they are. A digest of a guessable name, such as an e-mail address, can be found by
//! guessing: the list is as private as the folder it is in.
//!
//! The request path and delivery look at an immutable set; while nobody is forgotten that is one
//! load and one comparison.

use std::collections::HashSet;
use std::fmt::Write as _;

use arc_swap::ArcSwap;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::SiteId;
use crate::event::{Event, Kind, Object, names_somebody};

/// What a name is. Anybody can call their device what another person is called, so a name says nothing
/// without its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NameKind {
    /// A user id.
    User,
    /// The id of a device: an anonymous id, a cookie, an id of a vendor.
    Device,
    /// An e-mail address, or its SHA-256 digest in hexadecimal digits.
    Email,
}

impl NameKind {
    /// All kinds, the surest first.
    pub const ALL: [Self; 3] = [Self::User, Self::Device, Self::Email];
}

/// The digest of one name of a person at one site, with its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameKey([u8; 32]);

impl NameKey {
    /// The key of a name. The space around it does not matter, nor the case of an e-mail address.
    pub fn new(site: SiteId, kind: NameKind, name: &str) -> Self {
        let name = name.trim();
        let mut digest = Sha256::new();
        digest.update(site.0.to_be_bytes());
        match kind {
            NameKind::User => digest.update(b"u"),
            NameKind::Device => digest.update(b"d"),
            NameKind::Email => digest.update(b"e"),
        }
        if kind == NameKind::Email {
            // A profile knows the digest of the address only, and both are the same name.
            let address = name.to_lowercase();
            let is_digest = address.len() == 64 && address.bytes().all(|b| b.is_ascii_hexdigit());
            let address = if is_digest { address } else { hex(&Sha256::digest(address)) };
            digest.update(address);
        } else {
            digest.update(name);
        }
        Self(digest.finalize().into())
    }

    pub(super) fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// Everybody who is forgotten, at all sites.
#[derive(Debug, Default)]
pub struct Forgotten(ArcSwap<HashSet<NameKey>>);

impl Forgotten {
    /// Whether the event carries a name of somebody who is forgotten.
    pub fn names(&self, site: SiteId, event: &Event) -> bool {
        let keys = self.0.load();
        !keys.is_empty() && Names::of(event).are_in(&keys, site)
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
    glance.names().are_in(keys, site)
}

/// The names that an event carries.
struct Names<'e> {
    user: Option<&'e str>,
    /// The user id that one of the site's servers says the person had before.
    previous_user: Option<&'e str>,
    devices: [Option<&'e str>; 3],
    emails: [Option<&'e str>; 3],
}

impl<'e> Names<'e> {
    fn of(event: &'e Event) -> Self {
        let visitor = event.facts.visitor.as_ref().map(|visitor| visitor.id.as_str());
        let context = event.context.as_ref().and_then(|context| context.get("traits")?.as_object());
        let email = |said: Option<&'e Object>| said?.get("email")?.as_str();
        Self::new(
            [event.user_id.as_deref(), event.anonymous_id.as_deref(), visitor],
            event.previous_id.as_deref(),
            event.kind == Kind::Alias && event.facts.from_server,
            [email(event.traits.as_ref()), email(event.properties.as_ref()), email(context)],
        )
    }

    fn new(
        [user, anonymous, visitor]: [Option<&'e str>; 3],
        previous: Option<&'e str>,
        is_users_previous: bool,
        emails: [Option<&'e str>; 3],
    ) -> Self {
        // What a sloppy tag sends for nobody makes an event nobody's.
        let user = user.filter(|user| names_somebody(user));
        let previous_user = previous.filter(|_| is_users_previous);
        Self { user, previous_user, devices: [anonymous, visitor, previous], emails }
    }

    /// Whether the event is of one of these people. With a user id it is that user's, whatever else it
    /// carries: devices are shared, and addresses anybody can name.
    fn are_in(&self, keys: &HashSet<NameKey>, site: SiteId) -> bool {
        let is_in = |kind: NameKind, names: &[Option<&str>]| {
            names.iter().flatten().any(|name| keys.contains(&NameKey::new(site, kind, name)))
        };
        is_in(NameKind::User, &[self.user, self.previous_user])
            || self.user.is_none()
                && (is_in(NameKind::Device, &self.devices) || is_in(NameKind::Email, &self.emails))
    }
}

/// What of a record names its person.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Glance {
    #[serde(rename = "type", default)]
    kind: String,
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

impl Said {
    fn email(&self) -> Option<&str> {
        self.email.as_ref()?.as_str()
    }
}

#[derive(Deserialize)]
struct Context {
    traits: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Facts {
    #[serde(default)]
    from_server: bool,
    visitor: Option<Visitor>,
}

#[derive(Deserialize)]
struct Visitor {
    id: String,
}

impl Glance {
    fn names(&self) -> Names<'_> {
        let visitor = self.facts.visitor.as_ref().map(|visitor| visitor.id.as_str());
        let context = self.context.as_ref().and_then(|it| it.traits.as_ref()?.get("email"));
        Names::new(
            [self.user_id.as_deref(), self.anonymous_id.as_deref(), visitor],
            self.previous_id.as_deref(),
            self.kind == "alias" && self.facts.from_server,
            [
                self.traits.as_ref().and_then(Said::email),
                self.properties.as_ref().and_then(Said::email),
                context.and_then(Value::as_str),
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: SiteId = SiteId(1);

    fn record(more: &str) -> String {
        let kind = if more.contains(r#""type""#) { "" } else { r#""type":"track","# };
        format!(
            r#"{{{kind}"messageId":"m","timestamp":"2026-11-23T10:00:00Z",
                "receivedAt":"2026-11-23T10:00:00Z",{more}}}"#
        )
    }

    #[test]
    fn an_event_is_a_persons_by_any_of_its_names_in_both_forms() {
        let forgotten = Forgotten::default();
        forgotten.replace(
            [
                (NameKind::User, "ann"),
                (NameKind::Device, "phone"),
                (NameKind::Email, "ann@x.example"),
            ]
            .map(|(kind, name)| NameKey::new(SITE, kind, name))
            .into(),
        );
        let visitor = r#""facts":{"visitor":{"id":"phone","since":"2026-11-23T10:00:00Z"}}"#;
        let by_server = r#""type":"alias","facts":{"fromServer":true}"#;
        let digest = hex(&Sha256::digest("ann@x.example"));
        for (more, is_hers) in [
            (r#""userId":"ann""#, true),
            (r#""userId":" ann ","anonymousId":"others""#, true),
            (r#""anonymousId":"phone""#, true),
            (r#""userId":"null","anonymousId":"phone""#, true),
            (visitor, true),
            (r#""traits":{"email":" Ann@X.example"}"#, true),
            (r#""properties":{"email":"ann@x.example"}"#, true),
            (r#""context":{"traits":{"email":"ann@x.example"}}"#, true),
            (&format!(r#""traits":{{"email":"{digest}"}}"#), true),
            (&format!(r#""previousId":"ann","userId":"b",{by_server}"#), true),
            (r#""previousId":"phone","type":"alias""#, true),
            // What others call their devices, or say of themselves.
            (r#""anonymousId":"ann""#, false),
            (r#""userId":"phone""#, false),
            (r#""userId":"ann@x.example""#, false),
            (r#""previousId":"ann","userId":"b","type":"alias""#, false),
            (r#""userId":"b","anonymousId":"phone""#, false),
            (r#""userId":"b","traits":{"email":"ann@x.example"}"#, false),
            (r#""properties":{"email":7,"name":"ann"}"#, false),
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
