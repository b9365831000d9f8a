//! What was said lately of people who have not changed since: most of what is said is said again, and
//! then it is not even looked up.
//!
//! A statement is remembered when all its identities are its holder's, and forgotten when anything
//! changes of the holder: an identity comes or goes, a trait, the user id. Nothing is remembered
//! before it is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::sync::Cache;

use super::{Activity, ProfileId, ProfileUpdate};
use crate::event::SenderRank;
use crate::journal::SiteId;

/// Statements, and profiles, that are remembered: about 120 bytes each. What is forgotten is looked up.
const MAX_REMEMBERED: u64 = 50_000;

/// What was said lately.
pub(super) struct UnchangedStatementCache {
    said: Cache<u64, CachedStatement>,
    /// The state that each profile is in, as a number that no other has or had.
    states: Cache<ProfileId, u64>,
    next: AtomicU64,
    hashes: RandomState,
}

#[derive(Clone, Copy)]
struct CachedStatement {
    holder: ProfileId,
    /// The effective rank of the statement.
    rank: SenderRank,
    state: u64,
    /// When saying it changes nothing, in milliseconds since 1970.
    from: i64,
    due: i64,
}

/// What one transaction says and changes.
#[derive(Default)]
pub(super) struct StatementCacheDelta {
    changed: BTreeSet<ProfileId>,
    said: BTreeMap<ProfileId, Vec<(u64, SenderRank, Range<i64>)>>,
}

impl Default for UnchangedStatementCache {
    fn default() -> Self {
        Self {
            said: Cache::new(MAX_REMEMBERED),
            states: Cache::new(MAX_REMEMBERED),
            next: AtomicU64::new(0),
            hashes: RandomState::new(),
        }
    }
}

impl UnchangedStatementCache {
    /// What the update says, apart from when, as one number.
    pub(super) fn statement(&self, site: SiteId, update: &ProfileUpdate) -> u64 {
        let ProfileUpdate {
            at: _,
            rank,
            user,
            previous,
            email,
            devices,
            traits,
            activity: sighting,
        } = update;
        let devices: Vec<_> = devices.iter().map(|d| (&d.identity, &d.client)).collect();
        let traits: Vec<_> = traits.iter().map(|(key, value)| (key, value.to_string())).collect();
        let seen = sighting.as_ref().map(Activity::statement);
        let who = (site, rank, user, previous, email);
        self.hashes.hash_one((who, devices, traits, seen))
    }

    /// Whose it is, and what it is worth, if it was said before and saying it again at this time changes
    /// nothing.
    pub(super) fn holder(
        &self,
        statement: u64,
        at: i64,
        notes: &StatementCacheDelta,
    ) -> Option<(ProfileId, SenderRank)> {
        let said = self.said.get(&statement)?;
        let is_known = (said.from..said.due).contains(&at)
            && !notes.changed.contains(&said.holder)
            && self.states.get(&said.holder) == Some(said.state);
        is_known.then_some((said.holder, said.rank))
    }

    /// Takes the notes of a transaction that is committed.
    pub(super) fn commit_delta(&self, notes: StatementCacheDelta) {
        for profile in notes.changed {
            self.states.insert(profile, self.new_state());
        }
        for (holder, said) in notes.said {
            let state = self.states.get_with(holder, || self.new_state());
            for (statement, rank, Range { start, end }) in said {
                let said = CachedStatement { holder, rank, state, from: start, due: end };
                self.said.insert(statement, said);
            }
        }
    }

    /// Forgets what these have said.
    pub(super) fn forget(&self, profiles: &BTreeSet<ProfileId>) {
        for profile in profiles {
            self.states.insert(*profile, self.new_state());
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.said.invalidate_all();
        self.states.invalidate_all();
    }

    fn new_state(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

impl StatementCacheDelta {
    /// Something of the profile is no more as it was.
    pub(super) fn change(&mut self, profile: ProfileId) {
        self.changed.insert(profile);
        self.said.remove(&profile);
    }

    /// These profiles are no more.
    pub(super) fn forget(&mut self, profiles: &BTreeSet<ProfileId>) {
        for profile in profiles {
            self.change(*profile);
        }
    }

    /// The holder has all that the statement says; at these times there is nothing to note of it.
    pub(super) fn remember_statement(
        &mut self,
        (holder, rank): (ProfileId, SenderRank),
        statement: u64,
        times: Range<i64>,
    ) {
        self.said.entry(holder).or_default().push((statement, rank, times));
    }
}
