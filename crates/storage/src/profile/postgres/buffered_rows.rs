//! The rows of a batch in memory: read before it, written after it, so that a batch costs a few round
//! trips however many events it has.
//!
//! Every loaded profile has all its names loaded. Access to a row that is not loaded is
//! [`RowNotLoadedError`]; nothing is guessed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::super::details::ProfileDetails;
use super::super::rows::{EventNameRank, IdentityLink, PendingTallies, ProfileRow, ProfileRows};
use super::super::stitch::{BindingUpdate, IdentityBinding, LatestAnonymousId};
use super::super::traits::{ProfileTraits, TraitByteLimits, TraitChanges, read_ranks, written};
use super::super::{Identity, IdentityKind, ProfileId};
use tagway_core::event::SenderRank;

/// The error of access to a row that was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowNotLoadedError;

/// The key of an identity: its kind and value.
pub(super) type IdentityKey = (String, String);

/// A row of `identities`. Times are milliseconds since 1970.
#[derive(Clone, Debug)]
pub(super) struct IdentityRow {
    pub(super) profile: i64,
    pub(super) since: i64,
    pub(super) claimed: i64,
    pub(super) seen: i64,
    pub(super) client: Option<String>,
    pub(super) rank: SenderRank,
}

/// A profile with its names, in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct BufferedProfile {
    pub(super) person: ProfileRow,
    /// The traits, their times and their ranks, as stored.
    pub(super) traits: String,
    pub(super) trait_times: String,
    pub(super) trait_ranks: String,
    pub(super) details: ProfileDetails,
    pub(super) names: BTreeSet<IdentityKey>,
    pub(super) has_activity: bool,
}

/// The rows of a batch, and the changes to write.
#[derive(Debug, Default)]
pub(super) struct PostgresProfileRows {
    pub(super) people: HashMap<i64, BufferedProfile>,
    /// By identity: its row, or `None` if it belongs to no profile.
    pub(super) names: HashMap<IdentityKey, Option<IdentityRow>>,
    /// The numbers of events' names, and why they are counted; `None` for names that are not.
    pub(super) events: HashMap<String, Option<(i64, EventNameRank)>>,
    /// The number of counted names, by the number of the reason.
    pub(super) events_counted: BTreeMap<i64, usize>,
    /// Numbers for new profiles, fetched ahead.
    pub(super) numbers: std::collections::VecDeque<i64>,
    pub(super) changes: PendingRowWrites,
}

/// The rows to write when the batch ends.
#[derive(Debug, Default)]
pub(super) struct PendingRowWrites {
    pub(super) people: BTreeSet<i64>,
    pub(super) removed: BTreeSet<i64>,
    pub(super) names: BTreeSet<IdentityKey>,
    /// New names, under negative numbers until they have one.
    pub(super) events: Vec<(String, EventNameRank)>,
    /// Names that are counted for a better reason.
    pub(super) raised: BTreeMap<String, EventNameRank>,
    /// Moves of activity from one profile to another, in order.
    pub(super) moves: Vec<(i64, i64)>,
    pub(super) counted: PendingTallies,
}

impl PostgresProfileRows {
    fn loaded_profile(&self, profile: ProfileId) -> Result<&BufferedProfile, RowNotLoadedError> {
        self.people.get(&profile.0).ok_or(RowNotLoadedError)
    }

    /// Returns a profile to change, and marks it as changed.
    fn change(&mut self, profile: ProfileId) -> Result<&mut BufferedProfile, RowNotLoadedError> {
        self.changes.people.insert(profile.0);
        self.people.get_mut(&profile.0).ok_or(RowNotLoadedError)
    }

    fn name(&self, name: &IdentityKey) -> Result<Option<&IdentityRow>, RowNotLoadedError> {
        self.names.get(name).map(Option::as_ref).ok_or(RowNotLoadedError)
    }
}

fn key(identity: &Identity) -> IdentityKey {
    (identity.kind.name().into_owned(), identity.value.clone())
}

impl ProfileRows for PostgresProfileRows {
    type Error = RowNotLoadedError;

    fn binding(
        &mut self,
        identity: &Identity,
    ) -> Result<Option<IdentityBinding>, RowNotLoadedError> {
        let Some(name) = self.name(&key(identity))? else { return Ok(None) };
        let kept = self.loaded_profile(ProfileId(name.profile))?;
        Ok(Some(IdentityBinding {
            profile: ProfileId(name.profile),
            is_known: kept.person.user_id.is_some(),
            person: kept.person.rank,
            rank: name.rank,
            since: name.since,
            claimed: name.claimed,
            seen: name.seen,
        }))
    }

    fn latest_anonymous_id(
        &mut self,
        profile: ProfileId,
        client: &str,
    ) -> Result<Option<LatestAnonymousId>, RowNotLoadedError> {
        let mut newest: Option<LatestAnonymousId> = None;
        // In the order of values: of those seen at the same time the first stays.
        for key in &self.loaded_profile(profile)?.names {
            let Some(name) = self.name(key)? else { continue };
            let is_mate = key.0 == "anonymous" && name.client.as_deref() == Some(client);
            if is_mate && newest.as_ref().is_none_or(|newest| name.seen > newest.seen) {
                newest = Some(LatestAnonymousId { value: key.1.clone(), seen: name.seen });
            }
        }
        Ok(newest)
    }

    fn create_profile(&mut self, at: i64) -> Result<ProfileId, RowNotLoadedError> {
        let number = self.numbers.pop_front().ok_or(RowNotLoadedError)?;
        let person =
            ProfileRow { first_seen: Some(at), last_seen: Some(at), ..ProfileRow::default() };
        let empty = || "{}".to_owned();
        let kept = BufferedProfile {
            person,
            traits: empty(),
            trait_times: empty(),
            trait_ranks: empty(),
            ..BufferedProfile::default()
        };
        self.people.insert(number, kept);
        self.changes.people.insert(number);
        Ok(ProfileId(number))
    }

    fn read_profile_row(&mut self, profile: ProfileId) -> Result<ProfileRow, RowNotLoadedError> {
        Ok(self.loaded_profile(profile)?.person.clone())
    }

    fn put_profile_row(
        &mut self,
        profile: ProfileId,
        person: &ProfileRow,
    ) -> Result<(), RowNotLoadedError> {
        self.change(profile)?.person = person.clone();
        Ok(())
    }

    fn claim_all(&mut self, profile: ProfileId, at: i64) -> Result<(), RowNotLoadedError> {
        for key in self.loaded_profile(profile)?.names.clone() {
            if let Some(name) = self.names.get_mut(&key).ok_or(RowNotLoadedError)? {
                name.claimed = name.claimed.max(at);
                self.changes.names.insert(key);
            }
        }
        Ok(())
    }

    fn bind(
        &mut self,
        identity: &Identity,
        profile: ProfileId,
        held: BindingUpdate,
        client: Option<&str>,
        at: i64,
    ) -> Result<(), RowNotLoadedError> {
        let key = key(identity);
        let known = self.names.get_mut(&key).ok_or(RowNotLoadedError)?;
        let client = client.map(str::to_owned);
        let before = known.take();
        let BindingUpdate { since, claimed, rank } = held;
        let name = match &before {
            Some(before) => IdentityRow {
                profile: profile.0,
                since,
                claimed,
                seen: at.max(before.seen),
                client: client.or_else(|| before.client.clone()),
                rank,
            },
            None => IdentityRow { profile: profile.0, since, claimed, seen: at, client, rank },
        };
        *known = Some(name);
        if let Some(before) = before
            && let Some(kept) = self.people.get_mut(&before.profile)
        {
            kept.names.remove(&key);
        }
        self.people.get_mut(&profile.0).ok_or(RowNotLoadedError)?.names.insert(key.clone());
        self.changes.names.insert(key);
        Ok(())
    }

    fn raise(
        &mut self,
        identity: &Identity,
        profile: ProfileId,
        held: BindingUpdate,
    ) -> Result<(), RowNotLoadedError> {
        let key = key(identity);
        if let Some(name) = self.names.get_mut(&key).ok_or(RowNotLoadedError)?
            && name.profile == profile.0
            && name.rank < held.rank
        {
            (name.rank, name.claimed, name.since) = (held.rank, held.claimed, held.since);
            self.changes.names.insert(key);
        }
        Ok(())
    }

    fn evict(
        &mut self,
        profile: ProfileId,
        kind: IdentityKind,
        below: SenderRank,
    ) -> Result<Option<String>, RowNotLoadedError> {
        let kind = kind.name();
        let mut first: Option<(SenderRank, i64, &IdentityKey)> = None;
        for key in self.loaded_profile(profile)?.names.iter().filter(|(own, _)| *own == kind) {
            let Some(name) = self.name(key)? else { continue };
            let place = (name.rank, name.seen, key);
            if name.rank < below && first.is_none_or(|first| place < first) {
                first = Some(place);
            }
        }
        let Some((_, _, (kind, value))) = first else { return Ok(None) };
        let (kind, value) = (kind.clone(), value.clone());
        self.unbind(&kind, &value)?;
        Ok(Some(value))
    }

    fn count_identities(
        &mut self,
        profile: ProfileId,
        kind: IdentityKind,
        limit: usize,
    ) -> Result<usize, RowNotLoadedError> {
        let kind = kind.name();
        let names = self.loaded_profile(profile)?.names.iter();
        Ok(names.filter(|(own, _)| *own == kind).take(limit).count())
    }

    fn names_of(&mut self, profile: ProfileId) -> Result<Vec<IdentityLink>, RowNotLoadedError> {
        let link = |key: &IdentityKey| {
            let rank = self.name(key)?.ok_or(RowNotLoadedError)?.rank;
            Ok(IdentityLink { kind: key.0.clone(), value: key.1.clone(), rank })
        };
        self.loaded_profile(profile)?.names.iter().map(link).collect()
    }

    fn unbind(&mut self, kind: &str, value: &str) -> Result<(), RowNotLoadedError> {
        let key = (kind.to_owned(), value.to_owned());
        let before = self.names.get_mut(&key).ok_or(RowNotLoadedError)?.take();
        if let Some(kept) = before.and_then(|name| self.people.get_mut(&name.profile)) {
            kept.names.remove(&key);
        }
        self.changes.names.insert(key);
        Ok(())
    }

    fn transfer_identity(
        &mut self,
        kind: &str,
        value: &str,
        into: ProfileId,
        claim: i64,
    ) -> Result<(), RowNotLoadedError> {
        let key = (kind.to_owned(), value.to_owned());
        let name =
            self.names.get_mut(&key).ok_or(RowNotLoadedError)?.as_mut().ok_or(RowNotLoadedError)?;
        let before = std::mem::replace(&mut name.profile, into.0);
        name.claimed = name.claimed.max(claim);
        if let Some(kept) = self.people.get_mut(&before) {
            kept.names.remove(&key);
        }
        self.people.get_mut(&into.0).ok_or(RowNotLoadedError)?.names.insert(key.clone());
        self.changes.names.insert(key);
        Ok(())
    }

    fn traits(
        &mut self,
        profile: ProfileId,
        room: TraitByteLimits,
    ) -> Result<(ProfileTraits, TraitChanges), RowNotLoadedError> {
        let kept = self.loaded_profile(profile)?;
        let times: BTreeMap<_, _> = serde_json::from_str(&kept.trait_times).unwrap_or_default();
        let values = serde_json::from_str(&kept.traits).unwrap_or_default();
        let ranks = read_ranks(&kept.trait_ranks);
        Ok(ProfileTraits::new(values, times, ranks, kept.traits.len(), room))
    }

    fn put_traits(
        &mut self,
        profile: ProfileId,
        traits: &ProfileTraits,
    ) -> Result<(), RowNotLoadedError> {
        let values =
            serde_json::to_string(&traits.values).map_err(|_unwritable| RowNotLoadedError)?;
        let times =
            serde_json::to_string(&traits.times).map_err(|_unwritable| RowNotLoadedError)?;
        let kept = self.change(profile)?;
        (kept.traits, kept.trait_times) = (values, times);
        kept.trait_ranks = written(&traits.ranks);
        Ok(())
    }

    fn details(&mut self, profile: ProfileId) -> Result<ProfileDetails, RowNotLoadedError> {
        Ok(self.loaded_profile(profile)?.details.clone())
    }

    fn put_details(
        &mut self,
        profile: ProfileId,
        details: &ProfileDetails,
    ) -> Result<(), RowNotLoadedError> {
        self.change(profile)?.details = details.clone();
        Ok(())
    }

    fn remove(&mut self, profile: ProfileId) -> Result<(), RowNotLoadedError> {
        self.people.remove(&profile.0).ok_or(RowNotLoadedError)?;
        self.changes.people.remove(&profile.0);
        self.changes.removed.insert(profile.0);
        Ok(())
    }

    fn event(&mut self, name: &str) -> Result<Option<(i64, EventNameRank)>, RowNotLoadedError> {
        self.events.get(name).copied().ok_or(RowNotLoadedError)
    }

    fn events_counted(&mut self, rank: EventNameRank) -> Result<usize, RowNotLoadedError> {
        Ok(self.events_counted.get(&rank.number()).copied().unwrap_or_default())
    }

    fn add_event(&mut self, name: &str, rank: EventNameRank) -> Result<i64, RowNotLoadedError> {
        self.changes.events.push((name.to_owned(), rank));
        let number = -i64::try_from(self.changes.events.len()).unwrap_or(i64::MAX);
        self.events.insert(name.to_owned(), Some((number, rank)));
        *self.events_counted.entry(rank.number()).or_default() += 1;
        Ok(number)
    }

    fn raise_event(&mut self, name: &str, rank: EventNameRank) -> Result<(), RowNotLoadedError> {
        let known = self.events.get_mut(name).and_then(Option::as_mut).ok_or(RowNotLoadedError)?;
        let before = std::mem::replace(&mut known.1, rank);
        let counted = self.events_counted.entry(before.number()).or_default();
        *counted = counted.saturating_sub(1);
        *self.events_counted.entry(rank.number()).or_default() += 1;
        self.changes.raised.insert(name.to_owned(), rank);
        Ok(())
    }

    fn move_activity(
        &mut self,
        from: ProfileId,
        into: ProfileId,
    ) -> Result<bool, RowNotLoadedError> {
        let has_any = self.loaded_profile(from)?.has_activity;
        if has_any {
            let into = self.people.get_mut(&into.0).ok_or(RowNotLoadedError)?;
            into.has_activity = true;
        }
        self.people.get_mut(&from.0).ok_or(RowNotLoadedError)?.has_activity = false;
        if has_any {
            self.changes.moves.push((from.0, into.0));
        }
        Ok(has_any)
    }

    fn finish(&mut self, counted: &PendingTallies) -> Result<(), RowNotLoadedError> {
        self.changes.counted = counted.clone();
        Ok(())
    }
}
