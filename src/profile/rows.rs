//! What the logic of a batch asks of a backend: the rows of profiles, of their names and of what they
//! did. All of one transaction, each change visible to what is asked after it.

use super::details::ProfileDetails;
use super::stitch::{BindingUpdate, IdentityBinding, LatestAnonymousId};
use super::tallies::PendingTallies;
use super::traits::{ProfileTraits, TraitByteLimits, TraitChanges};
use super::{Identity, IdentityKind, ProfileId};
use crate::event::SenderRank;

/// What is kept of a profile besides its traits and identities. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default)]
pub(super) struct ProfileRow {
    pub(super) user_id: Option<String>,
    /// When one of the site's servers last said by what user id it goes; 0 if never.
    pub(super) named_at: i64,
    pub(super) first_seen: Option<i64>,
    pub(super) last_seen: Option<i64>,
    /// The highest rank of what was said of it.
    pub(super) rank: SenderRank,
    /// True if the profile may hold data of two people.
    pub(super) is_shared: bool,
}

/// An identity's kind and value, as they are written, and the rank with which it is linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IdentityLink {
    pub(super) kind: String,
    pub(super) value: String,
    pub(super) rank: SenderRank,
}

/// Why a name of events is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EventNameRank {
    /// Claims gave it.
    #[default]
    Claimed,
    /// A proven sender gave it.
    Proven,
    /// The site's settings use it.
    Reserved,
}

impl EventNameRank {
    /// The stored number.
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

/// The rows of one site in one transaction.
pub(super) trait ProfileRows {
    /// Why rows cannot be had.
    type Error;

    /// To whom an identity belongs.
    fn binding(&mut self, identity: &Identity) -> Result<Option<IdentityBinding>, Self::Error>;

    /// The newest anonymous id of a client with the profile.
    fn latest_anonymous_id(
        &mut self,
        profile: ProfileId,
        client: &str,
    ) -> Result<Option<LatestAnonymousId>, Self::Error>;

    /// A new profile, first seen at this time, under a number that no other has or had.
    fn create_profile(&mut self, at: i64) -> Result<ProfileId, Self::Error>;

    fn read_profile_row(&mut self, profile: ProfileId) -> Result<ProfileRow, Self::Error>;

    fn put_profile_row(
        &mut self,
        profile: ProfileId,
        person: &ProfileRow,
    ) -> Result<(), Self::Error>;

    /// The user claims what their profile was known by while it was anonymous.
    fn claim_all(&mut self, profile: ProfileId, at: i64) -> Result<(), Self::Error>;

    /// Makes an identity name the profile, seen at a time with a client.
    fn bind(
        &mut self,
        identity: &Identity,
        profile: ProfileId,
        held: BindingUpdate,
        seen: (Option<&str>, i64),
    ) -> Result<(), Self::Error>;

    /// Raises the rank with which an identity is linked, and takes its times over, if the profile has it.
    fn raise(
        &mut self,
        identity: &Identity,
        profile: ProfileId,
        held: BindingUpdate,
    ) -> Result<(), Self::Error>;

    /// Removes the profile's identity of a kind that has the lowest rank below this one and was
    /// not seen for longest, if there is one. Returns its value.
    fn evict(
        &mut self,
        profile: ProfileId,
        kind: IdentityKind,
        below: SenderRank,
    ) -> Result<Option<String>, Self::Error>;

    /// How many identities of a kind the profile has; `limit` if there are more.
    fn count_identities(
        &mut self,
        profile: ProfileId,
        kind: IdentityKind,
        limit: usize,
    ) -> Result<usize, Self::Error>;

    /// The profile's identities, in the order of their kinds and values.
    fn names_of(&mut self, profile: ProfileId) -> Result<Vec<IdentityLink>, Self::Error>;

    /// Removes an identity, by kind and value.
    fn unbind(&mut self, name: (&str, &str)) -> Result<(), Self::Error>;

    /// Makes an identity, by kind and value, that of another profile, which claims it.
    fn transfer_identity(
        &mut self,
        name: (&str, &str),
        into: ProfileId,
        claim: i64,
    ) -> Result<(), Self::Error>;

    /// The profile's traits, and what was left out of them because there is no more room.
    fn traits(
        &mut self,
        profile: ProfileId,
        room: TraitByteLimits,
    ) -> Result<(ProfileTraits, TraitChanges), Self::Error>;

    fn put_traits(&mut self, profile: ProfileId, traits: &ProfileTraits)
    -> Result<(), Self::Error>;

    /// What is known of the person's device, place and ways.
    fn details(&mut self, profile: ProfileId) -> Result<ProfileDetails, Self::Error>;

    fn put_details(
        &mut self,
        profile: ProfileId,
        details: &ProfileDetails,
    ) -> Result<(), Self::Error>;

    /// Removes a profile that has neither identities nor activity any more.
    fn remove(&mut self, profile: ProfileId) -> Result<(), Self::Error>;

    /// The number of an event's name, if it is counted, and why it is.
    fn event(&mut self, name: &str) -> Result<Option<(i64, EventNameRank)>, Self::Error>;

    /// Returns the number of names that are counted for this reason.
    fn events_counted(&mut self, rank: EventNameRank) -> Result<usize, Self::Error>;

    /// Counts a new name from now on.
    fn add_event(&mut self, name: &str, rank: EventNameRank) -> Result<i64, Self::Error>;

    /// Counts a name for a better reason.
    fn raise_event(&mut self, name: &str, rank: EventNameRank) -> Result<(), Self::Error>;

    /// What one profile did was done by another; whether that was anything.
    fn move_activity(&mut self, from: ProfileId, into: ProfileId) -> Result<bool, Self::Error>;

    /// Adds what was counted, and what else is left for the end.
    fn finish(&mut self, counted: &PendingTallies) -> Result<(), Self::Error>;
}
