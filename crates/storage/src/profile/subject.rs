//! All data known of one person, for the person's right to see it.

use std::collections::BTreeMap;

use super::Identity;
use crate::journal::PersonNameKind;
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
