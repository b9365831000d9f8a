//! The rows that a batch needs from a backend: profiles, their names and their activity. All in one
//! transaction; each change is visible to later reads.

use std::collections::BTreeMap;

use super::details::ProfileDetails;
use super::stitch::{BindingUpdate, IdentityBinding, LatestAnonymousId};
use super::traits::{ProfileTraits, TraitByteLimits, TraitChanges};
use super::{Identity, IdentityKind, ProfileId};
use tagway_core::event::{EventTally, SenderRank};

/// A profile's row, without traits and identities. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default)]
pub(super) struct ProfileRow {
    pub(super) user_id: Option<String>,
    /// The time at which one of the site's servers last stated the profile's user id; 0 if never.
    pub(super) named_at: i64,
    pub(super) first_seen: Option<i64>,
    pub(super) last_seen: Option<i64>,
    /// The highest rank of a statement about the profile.
    pub(super) rank: SenderRank,
    /// True if the profile may hold data of two people.
    pub(super) is_shared: bool,
}

/// An identity's kind and value, as stored, and the rank with which it is linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IdentityLink {
    pub(super) kind: String,
    pub(super) value: String,
    pub(super) rank: SenderRank,
}

/// The reason why a name of events is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EventNameRank {
    /// A claimed sender gave it.
    #[default]
    Claimed,
    /// A proven sender gave it.
    Proven,
    /// The site's settings use it.
    Reserved,
}

impl EventNameRank {
    /// Returns the stored number.
    pub(super) const fn number(self) -> i64 {
        match self {
            Self::Claimed => 0,
            Self::Proven => 1,
            Self::Reserved => 2,
        }
    }

    pub(super) const fn from_number(number: i64) -> Self {
        match number {
            2 => Self::Reserved,
            1 => Self::Proven,
            _ => Self::Claimed,
        }
    }
}

/// The collected counts, by profile, event and day.
pub(super) type PendingTallies = BTreeMap<(ProfileId, i64, i64), EventTally>;

/// The rows of one site in one transaction.
pub(super) trait ProfileRows {
    /// The error of a row that cannot be read or written.
    type Error;

    /// Returns the binding of an identity, if it belongs to a profile.
    fn binding(&mut self, identity: &Identity) -> Result<Option<IdentityBinding>, Self::Error>;

    /// Returns the newest anonymous id of a client with the profile.
    fn latest_anonymous_id(
        &mut self,
        profile: ProfileId,
        client: &str,
    ) -> Result<Option<LatestAnonymousId>, Self::Error>;

    /// Creates a profile, first seen at this time, under a number that no other has or had.
    fn create_profile(&mut self, at: i64) -> Result<ProfileId, Self::Error>;

    fn read_profile_row(&mut self, profile: ProfileId) -> Result<ProfileRow, Self::Error>;

    fn put_profile_row(
        &mut self,
        profile: ProfileId,
        person: &ProfileRow,
    ) -> Result<(), Self::Error>;

    /// Marks the identities of a profile as claimed by its user, from when it was anonymous.
    fn claim_all(&mut self, profile: ProfileId, at: i64) -> Result<(), Self::Error>;

    /// Binds an identity to the profile, seen at a time with a client.
    fn bind(
        &mut self,
        identity: &Identity,
        profile: ProfileId,
        held: BindingUpdate,
        client: Option<&str>,
        at: i64,
    ) -> Result<(), Self::Error>;

    /// Raises the rank with which an identity is linked, and sets its times, if the profile has it.
    fn raise(
        &mut self,
        identity: &Identity,
        profile: ProfileId,
        held: BindingUpdate,
    ) -> Result<(), Self::Error>;

    /// Removes the profile's identity of a kind that has the lowest rank below this one and was not
    /// seen for longest, if there is one. Returns its value.
    fn evict(
        &mut self,
        profile: ProfileId,
        kind: IdentityKind,
        below: SenderRank,
    ) -> Result<Option<String>, Self::Error>;

    /// Returns the number of identities of a kind that the profile has; `limit` if there are more.
    fn count_identities(
        &mut self,
        profile: ProfileId,
        kind: IdentityKind,
        limit: usize,
    ) -> Result<usize, Self::Error>;

    /// Returns the profile's identities, in the order of their kinds and values.
    fn names_of(&mut self, profile: ProfileId) -> Result<Vec<IdentityLink>, Self::Error>;

    /// Removes an identity.
    fn unbind(&mut self, kind: &str, value: &str) -> Result<(), Self::Error>;

    /// Moves an identity to another profile, which claims it.
    fn transfer_identity(
        &mut self,
        kind: &str,
        value: &str,
        into: ProfileId,
        claim: i64,
    ) -> Result<(), Self::Error>;

    /// Returns the profile's traits, and the changes if some did not fit its limits.
    fn traits(
        &mut self,
        profile: ProfileId,
        room: TraitByteLimits,
    ) -> Result<(ProfileTraits, TraitChanges), Self::Error>;

    fn put_traits(&mut self, profile: ProfileId, traits: &ProfileTraits)
    -> Result<(), Self::Error>;

    /// Returns the person's device, place, touches, consent and group.
    fn details(&mut self, profile: ProfileId) -> Result<ProfileDetails, Self::Error>;

    fn put_details(
        &mut self,
        profile: ProfileId,
        details: &ProfileDetails,
    ) -> Result<(), Self::Error>;

    /// Removes a profile that has neither identities nor activity any more.
    fn remove(&mut self, profile: ProfileId) -> Result<(), Self::Error>;

    /// Returns the number of an event's name and the reason why it is counted, if it is.
    fn event(&mut self, name: &str) -> Result<Option<(i64, EventNameRank)>, Self::Error>;

    /// Returns the number of names that are counted for this reason.
    fn events_counted(&mut self, rank: EventNameRank) -> Result<usize, Self::Error>;

    /// Adds a new name to the counted ones. Returns its number.
    fn add_event(&mut self, name: &str, rank: EventNameRank) -> Result<i64, Self::Error>;

    /// Raises the reason why a name is counted.
    fn raise_event(&mut self, name: &str, rank: EventNameRank) -> Result<(), Self::Error>;

    /// Moves the activity of one profile to another. Returns true if there was any.
    fn move_activity(&mut self, from: ProfileId, into: ProfileId) -> Result<bool, Self::Error>;

    /// Adds the counts, and writes what else is left for the end.
    fn finish(&mut self, counted: &PendingTallies) -> Result<(), Self::Error>;
}
