//! The rows of a batch in memory: read before it, written after it, so that it costs a few round trips
//! however many events it has.
//!
//! Every profile that is here is here with all its names. What is asked for and not here is
//! [`Missing`]; nothing is guessed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::super::details::Details;
use super::super::rows::{Link, NameRank, Person, Rows};
use super::super::stitch::{Binding, Held, Mate};
use super::super::tallies::Pending;
use super::super::traits::{Room, Said, Traits, read_ranks, written};
use super::super::{Identity, IdentityKind, ProfileId};
use crate::event::SenderRank;

/// Something was asked for that was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missing;

/// An identity's kind and value.
pub(super) type NameKey = (String, String);

/// An identity. Times are milliseconds since 1970.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) profile: i64,
    pub(super) since: i64,
    pub(super) claimed: i64,
    pub(super) seen: i64,
    pub(super) client: Option<String>,
    pub(super) rank: SenderRank,
}

/// A profile.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    pub(super) person: Person,
    /// Its traits, their times and their ranks, as they are written.
    pub(super) traits: String,
    pub(super) trait_times: String,
    pub(super) trait_ranks: String,
    pub(super) details: Details,
    pub(super) names: BTreeSet<NameKey>,
    pub(super) has_activity: bool,
}

/// What was read, and what becomes of it.
#[derive(Debug, Default)]
pub(super) struct Set {
    pub(super) people: HashMap<i64, Kept>,
    /// By identity: whose it is, or that it is nobody's.
    pub(super) names: HashMap<NameKey, Option<Name>>,
    /// The numbers of events' names, and why they are counted; of those that are not none.
    pub(super) events: HashMap<String, Option<(i64, NameRank)>>,
    /// The number of counted names, by the number of the reason.
    pub(super) events_counted: BTreeMap<i64, usize>,
    /// Numbers for new profiles.
    pub(super) numbers: std::collections::VecDeque<i64>,
    pub(super) changes: Written,
}

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) people: BTreeSet<i64>,
    pub(super) removed: BTreeSet<i64>,
    pub(super) names: BTreeSet<NameKey>,
    /// Under numbers below zero, until they have one.
    pub(super) events: Vec<(String, NameRank)>,
    /// Names that are counted for a better reason.
    pub(super) raised: BTreeMap<String, NameRank>,
    /// Whose activity is now whose, in order.
    pub(super) moves: Vec<(i64, i64)>,
    pub(super) counted: Pending,
}

impl Set {
    fn kept(&self, profile: ProfileId) -> Result<&Kept, Missing> {
        self.people.get(&profile.0).ok_or(Missing)
    }

    /// To change it.
    fn change(&mut self, profile: ProfileId) -> Result<&mut Kept, Missing> {
        self.changes.people.insert(profile.0);
        self.people.get_mut(&profile.0).ok_or(Missing)
    }

    fn name(&self, name: &NameKey) -> Result<Option<&Name>, Missing> {
        self.names.get(name).map(Option::as_ref).ok_or(Missing)
    }
}

fn key(identity: &Identity) -> NameKey {
    (identity.kind.name().into_owned(), identity.value.clone())
}

impl Rows for Set {
    type Error = Missing;

    fn binding(&mut self, identity: &Identity) -> Result<Option<Binding>, Missing> {
        let Some(name) = self.name(&key(identity))? else { return Ok(None) };
        let kept = self.kept(ProfileId(name.profile))?;
        Ok(Some(Binding {
            profile: ProfileId(name.profile),
            is_known: kept.person.user_id.is_some(),
            person: kept.person.rank,
            rank: name.rank,
            since: name.since,
            claimed: name.claimed,
            seen: name.seen,
        }))
    }

    fn mate(&mut self, profile: ProfileId, client: &str) -> Result<Option<Mate>, Missing> {
        let mut newest: Option<Mate> = None;
        // By value: of those seen at the same time the first stays.
        for key in &self.kept(profile)?.names {
            let Some(name) = self.name(key)? else { continue };
            let is_mate = key.0 == "anonymous" && name.client.as_deref() == Some(client);
            if is_mate && newest.as_ref().is_none_or(|(_, seen)| name.seen > *seen) {
                newest = Some((key.1.clone(), name.seen));
            }
        }
        Ok(newest)
    }

    fn make(&mut self, at: i64) -> Result<ProfileId, Missing> {
        let number = self.numbers.pop_front().ok_or(Missing)?;
        let person = Person { first_seen: Some(at), last_seen: Some(at), ..Person::default() };
        let empty = || "{}".to_owned();
        let kept = Kept {
            person,
            traits: empty(),
            trait_times: empty(),
            trait_ranks: empty(),
            ..Kept::default()
        };
        self.people.insert(number, kept);
        self.changes.people.insert(number);
        Ok(ProfileId(number))
    }

    fn person(&mut self, profile: ProfileId) -> Result<Person, Missing> {
        Ok(self.kept(profile)?.person.clone())
    }

    fn put_person(&mut self, profile: ProfileId, person: &Person) -> Result<(), Missing> {
        self.change(profile)?.person = person.clone();
        Ok(())
    }

    fn claim_all(&mut self, profile: ProfileId, at: i64) -> Result<(), Missing> {
        for key in self.kept(profile)?.names.clone() {
            if let Some(name) = self.names.get_mut(&key).ok_or(Missing)? {
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
        held: Held,
        (client, at): (Option<&str>, i64),
    ) -> Result<(), Missing> {
        let key = key(identity);
        let known = self.names.get_mut(&key).ok_or(Missing)?;
        let client = client.map(str::to_owned);
        let before = known.take();
        let Held { since, claimed, rank } = held;
        let name = match &before {
            Some(before) => Name {
                profile: profile.0,
                since,
                claimed,
                seen: at.max(before.seen),
                client: client.or_else(|| before.client.clone()),
                rank,
            },
            None => Name { profile: profile.0, since, claimed, seen: at, client, rank },
        };
        *known = Some(name);
        if let Some(before) = before
            && let Some(kept) = self.people.get_mut(&before.profile)
        {
            kept.names.remove(&key);
        }
        self.people.get_mut(&profile.0).ok_or(Missing)?.names.insert(key.clone());
        self.changes.names.insert(key);
        Ok(())
    }

    fn raise(
        &mut self,
        identity: &Identity,
        profile: ProfileId,
        held: Held,
    ) -> Result<(), Missing> {
        let key = key(identity);
        if let Some(name) = self.names.get_mut(&key).ok_or(Missing)?
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
    ) -> Result<Option<String>, Missing> {
        let kind = kind.name();
        let mut first: Option<(SenderRank, i64, &NameKey)> = None;
        for key in self.kept(profile)?.names.iter().filter(|(own, _)| *own == kind) {
            let Some(name) = self.name(key)? else { continue };
            let place = (name.rank, name.seen, key);
            if name.rank < below && first.is_none_or(|first| place < first) {
                first = Some(place);
            }
        }
        let Some((_, _, (kind, value))) = first else { return Ok(None) };
        let (kind, value) = (kind.clone(), value.clone());
        self.unbind((&kind, &value))?;
        Ok(Some(value))
    }

    fn names_counted(
        &mut self,
        profile: ProfileId,
        kind: IdentityKind,
        limit: usize,
    ) -> Result<usize, Missing> {
        let kind = kind.name();
        let names = self.kept(profile)?.names.iter();
        Ok(names.filter(|(own, _)| *own == kind).take(limit).count())
    }

    fn names_of(&mut self, profile: ProfileId) -> Result<Vec<Link>, Missing> {
        let link = |key: &NameKey| {
            let rank = self.name(key)?.ok_or(Missing)?.rank;
            Ok(Link { kind: key.0.clone(), value: key.1.clone(), rank })
        };
        self.kept(profile)?.names.iter().map(link).collect()
    }

    fn unbind(&mut self, (kind, value): (&str, &str)) -> Result<(), Missing> {
        let key = (kind.to_owned(), value.to_owned());
        let before = self.names.get_mut(&key).ok_or(Missing)?.take();
        if let Some(kept) = before.and_then(|name| self.people.get_mut(&name.profile)) {
            kept.names.remove(&key);
        }
        self.changes.names.insert(key);
        Ok(())
    }

    fn hand_over(
        &mut self,
        (kind, value): (&str, &str),
        into: ProfileId,
        claim: i64,
    ) -> Result<(), Missing> {
        let key = (kind.to_owned(), value.to_owned());
        let name = self.names.get_mut(&key).ok_or(Missing)?.as_mut().ok_or(Missing)?;
        let before = std::mem::replace(&mut name.profile, into.0);
        name.claimed = name.claimed.max(claim);
        if let Some(kept) = self.people.get_mut(&before) {
            kept.names.remove(&key);
        }
        self.people.get_mut(&into.0).ok_or(Missing)?.names.insert(key.clone());
        self.changes.names.insert(key);
        Ok(())
    }

    fn traits(&mut self, profile: ProfileId, room: Room) -> Result<(Traits, Said), Missing> {
        let kept = self.kept(profile)?;
        let times: BTreeMap<_, _> = serde_json::from_str(&kept.trait_times).unwrap_or_default();
        let values = serde_json::from_str(&kept.traits).unwrap_or_default();
        let ranks = read_ranks(&kept.trait_ranks);
        Ok(Traits::new(values, (times, ranks), kept.traits.len(), room))
    }

    fn put_traits(&mut self, profile: ProfileId, traits: &Traits) -> Result<(), Missing> {
        let values = serde_json::to_string(&traits.values).map_err(|_unwritable| Missing)?;
        let times = serde_json::to_string(&traits.times).map_err(|_unwritable| Missing)?;
        let kept = self.change(profile)?;
        (kept.traits, kept.trait_times) = (values, times);
        kept.trait_ranks = written(&traits.ranks);
        Ok(())
    }

    fn details(&mut self, profile: ProfileId) -> Result<Details, Missing> {
        Ok(self.kept(profile)?.details.clone())
    }

    fn put_details(&mut self, profile: ProfileId, details: &Details) -> Result<(), Missing> {
        self.change(profile)?.details = details.clone();
        Ok(())
    }

    fn remove(&mut self, profile: ProfileId) -> Result<(), Missing> {
        self.people.remove(&profile.0).ok_or(Missing)?;
        self.changes.people.remove(&profile.0);
        self.changes.removed.insert(profile.0);
        Ok(())
    }

    fn event(&mut self, name: &str) -> Result<Option<(i64, NameRank)>, Missing> {
        self.events.get(name).copied().ok_or(Missing)
    }

    fn events_counted(&mut self, rank: NameRank) -> Result<usize, Missing> {
        Ok(self.events_counted.get(&rank.number()).copied().unwrap_or_default())
    }

    fn add_event(&mut self, name: &str, rank: NameRank) -> Result<i64, Missing> {
        self.changes.events.push((name.to_owned(), rank));
        let number = -i64::try_from(self.changes.events.len()).unwrap_or(i64::MAX);
        self.events.insert(name.to_owned(), Some((number, rank)));
        *self.events_counted.entry(rank.number()).or_default() += 1;
        Ok(number)
    }

    fn raise_event(&mut self, name: &str, rank: NameRank) -> Result<(), Missing> {
        let known = self.events.get_mut(name).and_then(Option::as_mut).ok_or(Missing)?;
        let before = std::mem::replace(&mut known.1, rank);
        let counted = self.events_counted.entry(before.number()).or_default();
        *counted = counted.saturating_sub(1);
        *self.events_counted.entry(rank.number()).or_default() += 1;
        self.changes.raised.insert(name.to_owned(), rank);
        Ok(())
    }

    fn move_activity(&mut self, from: ProfileId, into: ProfileId) -> Result<bool, Missing> {
        let has_any = self.kept(from)?.has_activity;
        if has_any {
            let into = self.people.get_mut(&into.0).ok_or(Missing)?;
            into.has_activity = true;
        }
        self.people.get_mut(&from.0).ok_or(Missing)?.has_activity = false;
        if has_any {
            self.changes.moves.push((from.0, into.0));
        }
        Ok(has_any)
    }

    fn finish(&mut self, counted: &Pending) -> Result<(), Missing> {
        self.changes.counted = counted.clone();
        Ok(())
    }
}
