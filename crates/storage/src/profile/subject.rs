//! All data known of one person, for the person's right to see it.

use std::collections::{BTreeMap, HashSet};

use super::{Identity, IdentityKind};
use crate::journal::{PersonNameDigest, PersonNameKind, SiteId};
use tagway_core::event::{ComputedAttributes, EventTally, JsonObject, SenderRank};
use tagway_core::values::{email, unicode};

/// All data known of one person.
#[derive(Clone, Debug, PartialEq)]
pub struct SubjectProfile {
    /// The id by which the site knows the person.
    pub user_id: Option<String>,
    /// The highest rank of a statement about them.
    pub rank: SenderRank,
    /// The person's names, each with the rank with which it is linked.
    pub identities: Vec<(Identity, SenderRank)>,
    /// The stored traits.
    pub traits: JsonObject,
    /// The ranks of the traits' senders. A missing one is claimed.
    pub trait_ranks: BTreeMap<String, SenderRank>,
    /// The attributes computed of their events.
    pub computed: ComputedAttributes,
    /// Their activity, day by day.
    pub activity: Vec<DailyActivity>,
}

/// The count of one event of one person on one day.
#[derive(Clone, Debug, PartialEq)]
pub struct DailyActivity {
    /// The event's name.
    pub event: String,
    /// The day, in days since 1970 UTC.
    pub day: i64,
    /// The number, times and sum of these events.
    pub tally: EventTally,
}

impl SubjectProfile {
    /// Returns every name that events of this person may carry. An address among the traits alone is
    /// none: it may be another person's.
    pub fn names(&self) -> impl Iterator<Item = (PersonNameKind, &str)> {
        let identities = self.identities.iter();
        let identities = identities.map(|(it, _)| (PersonNameKind::of(it.kind), it.value.as_str()));
        identities.chain(self.user_id.as_deref().map(|user| (PersonNameKind::User, user)))
    }
}

/// An identity of a profile, as it is stored, of a person who may be to be erased.
pub(super) struct SubjectIdentity<'r> {
    pub(super) kind: &'r str,
    pub(super) value: &'r str,
    /// True if the profile has a user id.
    pub(super) is_known: bool,
    /// The address among the traits of a profile without a user id.
    pub(super) email_trait: Option<&'r str>,
}

impl SubjectIdentity<'_> {
    /// Returns true if one of these names is the profile's. A user to be erased is among the names: any other user is
    /// another person.
    pub(super) fn is_among(&self, names: &HashSet<PersonNameDigest>, site: SiteId) -> bool {
        // An identity of a vendor that was removed counts as a device's.
        let kind = IdentityKind::from_name(self.kind);
        let kind = kind.map_or(PersonNameKind::Device, PersonNameKind::of);
        let is_in = |kind, name: &str| PersonNameDigest::is_among(names, site, kind, name);
        let is_named = is_in(kind, self.value) && (kind == PersonNameKind::User || !self.is_known);
        is_named || self.email_trait.is_some_and(|address| is_in(PersonNameKind::Email, address))
    }
}

/// Returns the addresses under which a name may stand among traits, in lower case: none if it is no address.
pub(super) fn addresses(name: &str) -> Vec<String> {
    if !name.contains('@') {
        return Vec::new();
    }
    let written = unicode::spellings(name.trim()).into_iter().map(|it| it.to_lowercase());
    let mut all: Vec<String> = written.collect();
    all.extend(email::identity(name).filter(|address| !all.contains(address)));
    all
}
