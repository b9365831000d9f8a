//! The suppression list: the names of people whose events are no longer accepted or sent.
//!
//! A name is stored as its digest alone, so that the list of those who asked to be forgotten does not
//! show who they are. A digest of a guessable name, such as an e-mail address, can be found by
//! guessing: the list is as private as the folder it is in.
//!
//! The request path and delivery read an immutable set; while it is empty that is one load and one
//! comparison.

use std::borrow::Cow;
use std::collections::HashSet;

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};

use super::SiteId;
use tagway_core::event::identity::{self, IdentityKind};
use tagway_core::event::{Event, EventKind, is_identifying_id};
use tagway_core::values::{email, unicode};

/// The kind of a name. Any client can name its device after another person, so a name means nothing
/// without its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PersonNameKind {
    /// A user id.
    User,
    /// The id of a device: an anonymous id, a cookie, an id of a vendor.
    Device,
    /// An e-mail address, or its SHA-256 digest in hexadecimal digits.
    Email,
}

impl PersonNameKind {
    /// All kinds, the surest first.
    pub const ALL: [Self; 3] = [Self::User, Self::Device, Self::Email];

    /// Returns the kind of name under which an event carries an identity of this kind.
    pub const fn of(kind: IdentityKind) -> Self {
        match kind {
            IdentityKind::User => Self::User,
            IdentityKind::Email => Self::Email,
            IdentityKind::Anonymous
            | IdentityKind::Visitor
            | IdentityKind::Ga
            | IdentityKind::Fbp
            | IdentityKind::Device(_) => Self::Device,
        }
    }
}

/// The digest of one name of a person at one site, with its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PersonNameDigest([u8; 32]);

impl PersonNameDigest {
    /// Returns the key of a name. The space around it, Unicode composition, and the case of an e-mail
    /// address and what else its normalisation removes do not matter.
    pub fn new(site: SiteId, kind: PersonNameKind, name: &str) -> Self {
        let read = (kind == PersonNameKind::Email).then(|| email::identity(name)).flatten();
        let name = read.map_or_else(|| unicode::composed(name.trim()), Cow::Owned);
        Self::of_spelling(site, kind, &name)
    }

    /// Returns the keys under which a name may be on the list: its own, and those of its spellings,
    /// which were once stored as written.
    pub fn all(site: SiteId, kind: PersonNameKind, name: &str) -> impl Iterator<Item = Self> {
        let is_plain = name.is_ascii() && kind != PersonNameKind::Email;
        let spellings = if is_plain { Vec::new() } else { unicode::spellings(name.trim()) };
        let spellings = spellings.into_iter().map(move |it| Self::of_spelling(site, kind, &it));
        std::iter::once(Self::new(site, kind, name)).chain(spellings)
    }

    /// Returns true if a name is among these under one of its keys.
    pub fn is_among(names: &HashSet<Self>, site: SiteId, kind: PersonNameKind, name: &str) -> bool {
        Self::all(site, kind, name).any(|key| names.contains(&key))
    }

    fn of_spelling(site: SiteId, kind: PersonNameKind, name: &str) -> Self {
        let mut digest = Sha256::new();
        digest.update(site.0.to_be_bytes());
        match kind {
            PersonNameKind::User => digest.update(b"u"),
            PersonNameKind::Device => digest.update(b"d"),
            PersonNameKind::Email => digest.update(b"e"),
        }
        if kind == PersonNameKind::Email {
            // A profile has only the digest of the address, and both are the same name.
            let address = name.to_lowercase();
            let is_digest = address.len() == 64 && address.bytes().all(|b| b.is_ascii_hexdigit());
            let address = if is_digest { address } else { hex::encode(Sha256::digest(address)) };
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

/// The digests of all suppressed names, at all sites.
#[derive(Debug, Default)]
pub struct SuppressionList(ArcSwap<HashSet<PersonNameDigest>>);

impl SuppressionList {
    /// Returns true if the event carries a suppressed name.
    pub fn matches_event(&self, site: SiteId, event: &Event) -> bool {
        let keys = self.0.load();
        !keys.is_empty() && EventPersonNames::of(event).are_in(&keys, site)
    }

    /// Returns true if an event, as the journal stores it, carries a suppressed name.
    pub fn matches_body(&self, site: SiteId, body: &[u8]) -> bool {
        let keys = self.0.load();
        // An unreadable record may be any person's.
        !keys.is_empty() && carries(&keys, site, body) != RecordNameMatch::No
    }

    /// Returns true if no name is suppressed.
    pub fn is_empty(&self) -> bool {
        self.0.load().is_empty()
    }

    pub(super) fn replace(&self, keys: HashSet<PersonNameDigest>) {
        self.0.store(keys.into());
    }
}

/// The result of matching a journal's record against names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordNameMatch {
    /// The record carries one of the names.
    Yes,
    /// The record carries none of the names.
    No,
    /// No reader of the journal can read the record, so its person is unknown.
    Unreadable,
}

/// Matches a journal's record against these names, parsed as every reader of the journal parses it.
pub(super) fn carries(
    keys: &HashSet<PersonNameDigest>,
    site: SiteId,
    body: &[u8],
) -> RecordNameMatch {
    match serde_json::from_slice::<Event>(body) {
        Ok(event) if EventPersonNames::of(&event).are_in(keys, site) => RecordNameMatch::Yes,
        Ok(_) => RecordNameMatch::No,
        Err(_) => RecordNameMatch::Unreadable,
    }
}

/// The names that an event carries: those by which profiles know its person, and the e-mail addresses
/// elsewhere in it.
struct EventPersonNames<'e> {
    user: Option<&'e str>,
    /// The person's previous user id, as one of the site's servers states it.
    previous_user: Option<&'e str>,
    devices: Vec<Cow<'e, str>>,
    emails: Vec<&'e str>,
}

impl<'e> EventPersonNames<'e> {
    fn of(event: &'e Event) -> Self {
        // A placeholder user id of a sloppy tag counts as no user id.
        let user = event.user_id.as_deref().filter(|user| is_identifying_id(user));
        let previous = event.previous_id.as_deref();
        let is_users_previous = event.kind == EventKind::Alias && event.facts.from_server;
        // As they are written, and as profiles store them.
        let visitor = event.facts.visitor.as_ref().map(|visitor| visitor.id.as_str());
        let written = [event.anonymous_id.as_deref(), visitor, previous].into_iter().flatten();
        let kept = identity::devices(event).into_iter().map(|it| Cow::Owned(it.identity.value));
        let context = event.context.as_ref().and_then(|context| context.get("traits")?.as_object());
        let said = [event.traits.as_ref(), event.properties.as_ref(), context];
        Self {
            user,
            previous_user: previous.filter(|_| is_users_previous),
            devices: written.map(Cow::Borrowed).chain(kept).collect(),
            emails: said.into_iter().filter_map(|said| said?.get("email")?.as_str()).collect(),
        }
    }

    /// Returns true if the event belongs to one of these people. With a user id it is that user's,
    /// whatever else it carries: devices are shared, and any client can name any address.
    fn are_in(&self, keys: &HashSet<PersonNameDigest>, site: SiteId) -> bool {
        let is_in =
            |kind: PersonNameKind, name: &str| PersonNameDigest::is_among(keys, site, kind, name);
        let users = [self.user, self.previous_user];
        users.into_iter().flatten().any(|user| is_in(PersonNameKind::User, user))
            || self.user.is_none()
                && (self.devices.iter().any(|device| is_in(PersonNameKind::Device, device))
                    || self.emails.iter().any(|email| is_in(PersonNameKind::Email, email)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
    fn event_matches_any_of_its_names_in_both_forms() {
        let forgotten = SuppressionList::default();
        forgotten.replace(
            [
                (PersonNameKind::User, "ann"),
                (PersonNameKind::Device, "phone"),
                (PersonNameKind::Email, "ann@x.example"),
                (PersonNameKind::Device, "5.6"),
                (PersonNameKind::User, "jose\u{301}"),
                (PersonNameKind::Email, "Zo\u{eb}@x.example"),
            ]
            .map(|(kind, name)| PersonNameDigest::new(SITE, kind, name))
            .into(),
        );
        let visitor = r#""facts":{"visitor":{"id":"phone","since":"2026-11-23T10:00:00Z"}}"#;
        let by_server = r#""type":"alias","facts":{"fromServer":true}"#;
        let digest = hex::encode(Sha256::digest("ann@x.example"));
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        for (more, is_hers) in [
            (r#""userId":"ann""#, true),
            (r#""userId":" ann ","anonymousId":"others""#, true),
            (r#""anonymousId":"phone""#, true),
            (r#""userId":"null","anonymousId":"phone""#, true),
            (visitor, true),
            (r#""traits":{"email":" Ann@X.example"}"#, true),
            (r#""properties":{"email":"ann@x.example"}"#, true),
            ("\"traits\":{\"email\":\"ann@x.example\u{200b}\"}", true),
            (r#""traits":{"email":"Ann <mailto:ann@x.example>"}"#, true),
            ("\"userId\":\"jose\u{301}\"", true),
            ("\"userId\":\"jos\u{e9}\"", true),
            ("\"traits\":{\"email\":\"zoe\u{308}@x.example\"}", true),
            (r#""context":{"traits":{"email":"ann@x.example"}}"#, true),
            (&format!(r#""traits":{{"email":"{digest}"}}"#), true),
            (&format!(r#""previousId":"ann","userId":"b",{by_server}"#), true),
            (r#""previousId":"phone","type":"alias""#, true),
            // Of a key that is written twice the last value holds, as for every reader.
            (r#""traits":{"email":"a@x.example","email":"ann@x.example"}"#, true),
            (r#""properties":{"email":"a@x.example","email":"ann@x.example"}"#, true),
            (r#""context":{"traits":{"email":1,"email":"ann@x.example"}}"#, true),
            (r#""context":{"traits":{},"traits":{"email":"ann@x.example"}}"#, true),
            (r#""traits":{"\u0065m\u0061il":"ann@x.example","a":{"a":1,"a":2}}"#, true),
            (r#""traits":{"email":"ann@x.example","email":"a@x.example"}"#, false),
            (r#""traits":{"email":"ann@x.example","email":null}"#, false),
            (&format!(r#""traits":{{"a":{deep},"email":"ann@x.example"}}"#), true),
            // Vendors' ids, wherever they stand and however they are written.
            (r#""facts":{"cookies":{"_ga":"GA1.3.5.6"}}"#, true),
            (r#""context":{"clientIds":{"ga4":"5.6"}}"#, true),
            (r#""context":{"clientIds":{"ga4":{"client_id":"1.2","client_id":"5.6"}}}"#, true),
            (r#""context":{"clientIds":{"mixpanel":{"distinct_id":"phone"}}}"#, true),
            (r#""context":{"device":{"id":" phone "}}"#, true),
            (r#""facts":{"cookies":{"ajs_anonymous_id":"%22phone%22"}}"#, true),
            (r#""userId":"b","facts":{"cookies":{"_ga":"GA1.3.5.6"}}"#, false),
            // Names that others give their devices, or state of themselves.
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
            assert_eq!(forgotten.matches_body(SITE, record.as_bytes()), is_hers, "{more}");
            assert_eq!(forgotten.matches_event(SITE, &event), is_hers, "{more}");
            assert!(!forgotten.matches_event(SiteId(2), &event), "another site's people");
        }
    }

    #[test]
    fn unreadable_record_is_treated_as_suppressed() {
        let forgotten = SuppressionList::default();
        let unreadable = [r#"{"userId":"b""#, r#"{"type":"track","userId":"b"}"#, "\u{0}"];
        let too_large = record(r#""userId":"b","properties":{"n":1e999}"#);
        for body in unreadable.into_iter().chain([too_large.as_str()]) {
            assert!(!forgotten.matches_body(SITE, body.as_bytes()), "nobody is forgotten: {body}");
        }
        forgotten.replace([PersonNameDigest::new(SITE, PersonNameKind::User, "ann")].into());
        for body in unreadable.into_iter().chain([too_large.as_str()]) {
            assert!(forgotten.matches_body(SITE, body.as_bytes()), "{body}");
        }
    }

    /// Generates the text of an object with some of these members, some of them twice.
    fn object(members: &'static [&'static str]) -> impl Strategy<Value = String> {
        let member = proptest::sample::select(members);
        proptest::collection::vec(member, 0..4)
            .prop_map(|members| format!("{{{}}}", members.join(",")))
    }

    fn records() -> impl Strategy<Value = String> {
        let id =
            || proptest::sample::select(&["null", r#""ann""#, r#"" phone ""#, r#""NULL""#][..]);
        let said = || {
            object(&[
                r#""email":"Ann@x.example ""#,
                r#""email":"b@x.example""#,
                r#""\u0065mail":"c@x.example""#,
                r#""email":7"#,
                r#""name":{"email":"d@x.example"}"#,
            ])
        };
        let ids = object(&[
            r#""ga4":"5.6""#,
            r#""ga4":{"client_id":"7.8"}"#,
            r#""mixpanel":{"distinct_id":"m","distinct_id":"n"}"#,
            r#""tiktok":"t""#,
            r#""fbp":"fb.1.2.3""#,
            r#""made_up":"x""#,
        ]);
        let cookies = object(&[
            r#""_ga":"GA1.1.5.6""#,
            r#""ajs_anonymous_id":"%22a%22""#,
            r#""_ttp":"c""#,
            r#""_fbp":"fb.2.4.5""#,
        ]);
        let kind = proptest::sample::select(&["track", "identify", "group", "alias"][..]);
        (kind, [id(), id()], [said(), said(), said()], ids, cookies, any::<bool>()).prop_map(
            |(kind, [user, anonymous], [traits, properties, of_context], ids, cookies, server)| {
                record(&format!(
                    r#""type":"{kind}","userId":{user},"anonymousId":{anonymous},"traits":{traits},
                    "properties":{properties},"context":{{"clientIds":{{}},"traits":{of_context},
                    "device":{{"id":"d"}},"clientIds":{ids}}},
                    "facts":{{"cookies":{cookies},"fromServer":{server}}}"#
                ))
            },
        )
    }

    proptest! {
        /// Every name by which profiles know an event's person matches the suppression list.
        #[test]
        fn suppression_matches_all_names_that_profiles_know(record in records()) {
            let event: Event = serde_json::from_str(&record).unwrap();
            let mut identities = identity::identities(&event);
            identities.extend(identity::email(&event));
            let has_user = identities.iter().any(|it| it.kind == IdentityKind::User);
            let forgotten = SuppressionList::default();
            for known in &identities {
                let key = PersonNameDigest::new(SITE, PersonNameKind::of(known.kind), &known.value);
                forgotten.replace([key].into());
                let is_theirs = known.kind == IdentityKind::User || !has_user;
                prop_assert_eq!(forgotten.matches_body(SITE, record.as_bytes()), is_theirs, "{:?}", known);
                prop_assert_eq!(forgotten.matches_event(SITE, &event), is_theirs, "{:?}", known);
            }
            // Besides, an event matches by the addresses elsewhere in it.
            let names = EventPersonNames::of(&event);
            let known = |kind: PersonNameKind, name: &str| {
                let key = PersonNameDigest::new(SITE, kind, name);
                identities.iter().any(|it| PersonNameDigest::new(SITE, PersonNameKind::of(it.kind), &it.value) == key)
            };
            let somebodys = names.devices.iter().filter(|device| is_identifying_id(device));
            prop_assert!(somebodys.into_iter().all(|device| known(PersonNameKind::Device, device)));
            prop_assert!(names.user.is_none_or(|user| known(PersonNameKind::User, user)));
        }
    }
}
