//! The recent statements about people who have not changed since: most statements repeat earlier ones,
//! and these are not even looked up.
//!
//! A statement is remembered when all its identities belong to its profile, and forgotten when that
//! profile changes: an identity is added or removed, a trait, the user id. Nothing is remembered before
//! it is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::sync::Cache;

use super::{Activity, ProfileId, ProfileUpdate};
use crate::journal::SiteId;
use tagway_core::event::SenderRank;

/// The most statements, and profiles, that are remembered: about 120 bytes each. An evicted one is looked up again.
const MAX_REMEMBERED: u64 = 50_000;

/// The recent statements that change nothing when they are repeated.
pub(super) struct UnchangedStatementCache {
    statements: Cache<u64, CachedStatement>,
    /// The state of each profile, as a number that is never reused.
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
    /// The times between which repeating it changes nothing, in milliseconds since 1970.
    from: i64,
    due: i64,
}

/// The statements and changed profiles of one transaction.
#[derive(Default)]
pub(super) struct StatementCacheDelta {
    changed: BTreeSet<ProfileId>,
    statements: BTreeMap<ProfileId, Vec<(u64, SenderRank, Range<i64>)>>,
}

impl Default for UnchangedStatementCache {
    fn default() -> Self {
        Self {
            statements: Cache::new(MAX_REMEMBERED),
            states: Cache::new(MAX_REMEMBERED),
            next: AtomicU64::new(0),
            hashes: RandomState::new(),
        }
    }
}

impl UnchangedStatementCache {
    /// Returns a hash of the update without its time.
    pub(super) fn hash_statement(&self, site: SiteId, update: &ProfileUpdate) -> u64 {
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

    /// Returns the profile and the effective rank of a statement, if it is remembered and repeating it
    /// at this time changes nothing.
    pub(super) fn holder(
        &self,
        statement: u64,
        at: i64,
        notes: &StatementCacheDelta,
    ) -> Option<(ProfileId, SenderRank)> {
        let cached = self.statements.get(&statement)?;
        let is_known = (cached.from..cached.due).contains(&at)
            && !notes.changed.contains(&cached.holder)
            && self.states.get(&cached.holder) == Some(cached.state);
        is_known.then_some((cached.holder, cached.rank))
    }

    /// Applies the statements and changes of a committed transaction.
    pub(super) fn commit_delta(&self, notes: StatementCacheDelta) {
        for profile in notes.changed {
            self.states.insert(profile, self.new_state());
        }
        for (holder, cached) in notes.statements {
            let state = self.states.get_with(holder, || self.new_state());
            for (statement, rank, Range { start, end }) in cached {
                let cached = CachedStatement { holder, rank, state, from: start, due: end };
                self.statements.insert(statement, cached);
            }
        }
    }

    /// Forgets the statements of these profiles.
    pub(super) fn forget(&self, profiles: &BTreeSet<ProfileId>) {
        for profile in profiles {
            self.states.insert(*profile, self.new_state());
        }
    }

    /// Forgets all statements.
    pub(super) fn clear(&self) {
        self.statements.invalidate_all();
        self.states.invalidate_all();
    }

    fn new_state(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

impl StatementCacheDelta {
    /// Records that the profile changed.
    pub(super) fn change(&mut self, profile: ProfileId) {
        self.changed.insert(profile);
        self.statements.remove(&profile);
    }

    /// Records that these profiles were removed.
    pub(super) fn forget(&mut self, profiles: &BTreeSet<ProfileId>) {
        for profile in profiles {
            self.change(*profile);
        }
    }

    /// Remembers a statement that its profile has in full; it changes nothing at these times.
    pub(super) fn remember_statement(
        &mut self,
        holder: ProfileId,
        rank: SenderRank,
        statement: u64,
        times: Range<i64>,
    ) {
        self.statements.entry(holder).or_default().push((statement, rank, times));
    }
}
