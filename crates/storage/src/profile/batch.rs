//! Applies updates in one transaction: reads their bindings, decides by the rules, writes the results.
//! The backend stores the rows ([`ProfileRows`]).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde_json::Value;

use super::details::ActivityProvenance;
use super::rows::{IdentityLink, ProfileRows};
use super::statement_cache::{StatementCacheDelta, UnchangedStatementCache};
use super::stitch::{self, BindingUpdate, StitchDecision, UpdateBindings, UpdateOwner};
use super::tallies::TallyBuffer;
use super::traits::{ProfileTraits, TraitChanges, TraitProvenance};
use super::{
    Identity, IdentityKind, LAST_SEEN_LAG_MS, ProfileChanges, ProfileId, ProfileLimits,
    ProfileUpdate,
};
use crate::journal::SiteId;
use tagway_core::event::SenderRank;

/// Some updates in one transaction, and the changes they made.
pub(super) struct UpdateBatch<'r, R> {
    rows: R,
    site: SiteId,
    limits: ProfileLimits,
    statement_cache: &'r UnchangedStatementCache,
    cache_delta: StatementCacheDelta,
    changes: ProfileChanges,
    tallies: TallyBuffer,
    claimed_profiles: ClaimedProfileDelta,
}

/// The change in the number of profiles made by claims alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ClaimedProfileDelta {
    /// Profiles created, including those that were merged since.
    pub(super) made: u64,
    /// The change in the number.
    pub(super) more: i64,
}

/// The outcome of a batch.
pub(super) struct UpdateBatchOutcome<R> {
    pub(super) rows: R,
    pub(super) changes: ProfileChanges,
    /// The statements to remember after the commit.
    pub(super) cache_delta: StatementCacheDelta,
    pub(super) claimed_profiles: ClaimedProfileDelta,
}

impl<'r, R: ProfileRows> UpdateBatch<'r, R> {
    pub(super) fn new(
        rows: R,
        site: SiteId,
        limits: ProfileLimits,
        repeats: &'r UnchangedStatementCache,
    ) -> Self {
        let (notes, changes) = (StatementCacheDelta::default(), ProfileChanges::default());
        let tallies = TallyBuffer::new(limits.event_names);
        let census = ClaimedProfileDelta::default();
        Self {
            rows,
            site,
            limits,
            statement_cache: repeats,
            cache_delta: notes,
            changes,
            tallies,
            claimed_profiles: census,
        }
    }

    /// Writes the counts.
    pub(super) fn finish(self) -> Result<UpdateBatchOutcome<R>, R::Error> {
        let Self {
            mut rows,
            cache_delta: notes,
            mut changes,
            tallies,
            claimed_profiles: census,
            ..
        } = self;
        changes.names_refused = tallies.refused;
        changes.counted = tallies.write(&mut rows)?;
        Ok(UpdateBatchOutcome { rows, changes, cache_delta: notes, claimed_profiles: census })
    }

    pub(super) fn apply(&mut self, update: &ProfileUpdate) -> Result<(), R::Error> {
        let statement = self.statement_cache.hash_statement(self.site, update);
        let changed =
            self.statement_cache.holder(statement, stitch::time(update), &self.cache_delta);
        if let Some((holder, rank)) = changed {
            return self.count(holder, update, rank);
        }
        let bound = self.look_up(update)?;
        let verdict = stitch::decide_stitch(update, &bound, |profile, client| {
            self.rows.latest_anonymous_id(profile, client)
        })?;
        let profile = match verdict.holder {
            UpdateOwner::Profile(profile) => profile,
            UpdateOwner::New => {
                self.claimed_profiles.made += 1;
                self.claimed_profiles.more += 1;
                self.rows.create_profile(stitch::time(update))?
            }
            UpdateOwner::Nobody => return Ok(()),
        };
        for other in &verdict.absorbed {
            self.absorb(*other, profile, update, &verdict)?;
        }
        self.count(profile, update, verdict.rank)?;
        self.update_details(profile, update, &verdict)?;
        let due = [
            self.update_profile_row(profile, update, &verdict)?,
            self.bind_identities(profile, update, &bound, &verdict)?,
            self.apply_traits(profile, update, verdict.rank)?,
        ];
        // A repeated alias is the latest again, so it is not remembered.
        let due = if update.previous.is_some() { None } else { due.into_iter().min().flatten() };
        if let Some(due) = due {
            let times = stitch::time(update)..due;
            self.cache_delta.remember_statement(profile, verdict.rank, statement, times);
        }
        Ok(())
    }

    fn count(
        &mut self,
        profile: ProfileId,
        update: &ProfileUpdate,
        rank: SenderRank,
    ) -> Result<(), R::Error> {
        let Some(seen) = &update.activity else { return Ok(()) };
        self.tallies.count(&mut self.rows, profile, seen, rank, stitch::time(update))
    }

    /// Applies the event's touch, device, place, consent and group to the profile.
    fn update_details(
        &mut self,
        profile: ProfileId,
        update: &ProfileUpdate,
        verdict: &StitchDecision,
    ) -> Result<(), R::Error> {
        let Some(seen) = &update.activity else { return Ok(()) };
        let mut known = self.rows.details(profile)?;
        if verdict.is_vouched {
            known.raise_to_proven();
        }
        let is_browser = |it: &&Identity| it.kind == IdentityKind::Visitor;
        let browser = update.devices.iter().map(|it| &it.identity).find(is_browser);
        let witness = ActivityProvenance {
            at: stitch::time(update),
            rank: verdict.rank,
            browser: browser.map(|it| it.value.as_str()),
        };
        if known.apply_activity(seen, witness) {
            self.rows.put_details(profile, &known)?;
            self.cache_delta.change(profile);
            self.changes.profiles.insert(profile);
        }
        Ok(())
    }

    fn look_up(&mut self, update: &ProfileUpdate) -> Result<UpdateBindings, R::Error> {
        let rows = &mut self.rows;
        let mut of = |identity: &Option<Identity>| match identity {
            Some(identity) => rows.binding(identity),
            None => Ok(None),
        };
        let (user, previous, email) =
            (of(&update.user)?, of(&update.previous)?, of(&update.email)?);
        let devices = update.devices.iter().map(|device| rows.binding(&device.identity));
        Ok(UpdateBindings { user, previous, email, devices: devices.collect::<Result<_, _>>()? })
    }

    /// Updates when the person was seen, and the profile's user id: its first, or that of the latest
    /// alias. Returns the time at which the row must be updated again.
    fn update_profile_row(
        &mut self,
        profile: ProfileId,
        update: &ProfileUpdate,
        verdict: &StitchDecision,
    ) -> Result<Option<i64>, R::Error> {
        let (at, mut person) = (stitch::time(update), self.rows.read_profile_row(profile)?);
        let is_first = person.first_seen.is_none_or(|first| at < first);
        let is_last = person.last_seen.is_none_or(|last| at - last >= LAST_SEEN_LAG_MS);
        let user = update.user.as_ref().map(|user| &user.value).filter(|user| {
            let said_at = if update.previous.is_some() { at } else { 0 };
            match &person.user_id {
                None => true,
                Some(known) => (said_at, *user) > (person.named_at, known) && said_at > 0,
            }
        });
        let is_surer = verdict.rank > person.rank;
        let is_sharing = verdict.is_shared && !person.is_shared;
        let is_news = is_first || is_last || user.is_some() || is_surer || is_sharing;
        if is_surer {
            self.claimed_profiles.more -= i64::from(person.rank == SenderRank::Claimed);
            person.rank = verdict.rank;
            self.cache_delta.change(profile);
        }
        person.is_shared |= verdict.is_shared;
        if is_first {
            person.first_seen = Some(at);
        }
        if is_last {
            person.last_seen = Some(at);
        }
        if let Some(user) = user {
            person.named_at = if update.previous.is_some() { at } else { 0 };
            if person.user_id.is_none() {
                self.rows.claim_all(profile, at)?;
            }
            if person.user_id.as_ref() != Some(user) {
                person.user_id = Some(user.clone());
                self.cache_delta.change(profile);
                self.changes.profiles.insert(profile);
            }
        }
        if is_news {
            self.rows.put_profile_row(profile, &person)?;
        }
        Ok(person.last_seen.map(|last| last + LAST_SEEN_LAG_MS))
    }

    /// Binds the update's identities to the profile. Returns the time at which they must be updated
    /// again; `None` if one of them is not bound to it.
    fn bind_identities(
        &mut self,
        profile: ProfileId,
        update: &ProfileUpdate,
        bound: &UpdateBindings,
        verdict: &StitchDecision,
    ) -> Result<Option<i64>, R::Error> {
        let at = stitch::time(update);
        let mut has_all = verdict.has_email && verdict.devices.iter().all(Option::is_some);
        let mut due = i64::MAX;
        let claimed = verdict.claim;
        let email_rank = stitch::email_rank(update, verdict.rank);
        let strong = [
            (&update.user, &bound.user, verdict.rank),
            (&update.previous, &bound.previous, verdict.rank),
            (&update.email, &bound.email, email_rank),
        ];
        let strong = strong.into_iter().filter_map(|(identity, binding, rank)| {
            let identity = identity.as_ref()?;
            let is_holders = identity.kind != IdentityKind::Email || verdict.has_email;
            let held = is_holders.then_some(BindingUpdate { since: 0, claimed, rank })?;
            // A link's rank is never lowered.
            let own = binding.filter(|known| known.profile == profile);
            let rank = own.map_or(rank, |known| known.rank.max(rank));
            Some((identity, None, binding, BindingUpdate { rank, ..held }))
        });
        let devices = update.devices.iter().zip(&bound.devices).zip(&verdict.devices);
        let devices = devices.filter_map(|((device, binding), held)| {
            Some((&device.identity, device.client.as_deref(), binding, (*held)?))
        });
        let all: Vec<_> = strong.chain(devices).collect();
        for (identity, client, binding, held) in all {
            let is_news = match binding {
                // The identity came with its profile, if there was room.
                Some(known) if verdict.absorbed.contains(&known.profile) => {
                    has_all = false;
                    if held.rank > known.rank {
                        self.rows.raise(identity, profile, held)?;
                    }
                    false
                }
                Some(known) if known.profile == profile => {
                    let is_news = held.has_new_facts(known, at);
                    // The next statement of any of their devices may take the claim over.
                    if is_news && (held.claimed > known.claimed || held.rank > known.rank) {
                        self.cache_delta.change(profile);
                    }
                    is_news
                }
                _ => {
                    if !self.has_room(profile, identity.kind, held.rank)? {
                        self.changes.identities_refused += 1;
                        has_all = false;
                        continue;
                    }
                    self.cache_delta.change(profile);
                    if let Some(known) = binding {
                        self.cache_delta.change(known.profile);
                    }
                    self.changes.identities.insert(identity.clone());
                    true
                }
            };
            if is_news {
                self.rows.bind(identity, profile, held, client, at)?;
            }
            let noted = binding.as_ref().filter(|_| !is_news);
            due = due.min(noted.map_or(at, |known| held.known_since(known, at)) + LAST_SEEN_LAG_MS);
        }
        Ok(has_all.then_some(due))
    }

    /// Returns true if the profile may have one more identity of a kind, linked with this rank. An
    /// identity of a lower rank is evicted for it.
    fn has_room(
        &mut self,
        profile: ProfileId,
        kind: IdentityKind,
        rank: SenderRank,
    ) -> Result<bool, R::Error> {
        let limit = self.limits.of(kind);
        if self.rows.count_identities(profile, kind, limit)? < limit {
            return Ok(true);
        }
        if rank == SenderRank::Claimed {
            return Ok(false);
        }
        let Some(value) = self.rows.evict(profile, kind, rank)? else { return Ok(false) };
        self.cache_delta.change(profile);
        self.changes.identities_refused += 1;
        self.changes.identities.insert(Identity { kind, value });
        Ok(true)
    }

    /// Merges a profile into another: its data of the person, and its identities as far as there is
    /// room.
    fn absorb(
        &mut self,
        from: ProfileId,
        into: ProfileId,
        update: &ProfileUpdate,
        verdict: &StitchDecision,
    ) -> Result<(), R::Error> {
        self.cache_delta.change(from);
        self.cache_delta.change(into);
        let mut names = self.rows.names_of(from)?;
        names.sort_by_key(|link| Reverse(link.rank));
        // A known person's other data keeps its age, whichever of two aliases had a profile first.
        let is_known = names.iter().any(|link| link.kind == IdentityKind::User.name());
        let is_claimed = |kind: &str, value: &str| !is_known || update.names(kind, value);
        let mut room = BTreeMap::new();
        for IdentityLink { kind, value, rank } in names {
            let known = IdentityKind::from_name(&kind);
            let has_room = match known {
                None => false,
                Some(known) => {
                    let left = match room.get(&known) {
                        Some(left) => *left,
                        None => {
                            let limit = self.limits.of(known);
                            limit.saturating_sub(self.rows.count_identities(into, known, limit)?)
                        }
                    };
                    room.insert(known, left.saturating_sub(1));
                    left > 0 || self.has_room(into, known, rank)?
                }
            };
            if has_room {
                let claim = if is_claimed(&kind, &value) { verdict.claim } else { 0 };
                self.rows.transfer_identity(&kind, &value, into, claim)?;
            } else {
                self.changes.identities_refused += 1;
                self.rows.unbind(&kind, &value)?;
            }
            if let Some(kind) = known {
                self.changes.identities.insert(Identity { kind, value });
            }
        }
        self.absorb_person(from, into)?;
        let did_anything = self.tallies.join(&mut self.rows, from, into)?;
        let mut known = self.rows.details(into)?;
        let is_described = known.absorb(self.rows.details(from)?, verdict.rank);
        if is_described {
            self.rows.put_details(into, &known)?;
        }
        if did_anything || is_described {
            self.changes.profiles.insert(into);
        }
        let room = self.limits.into();
        let (mut own, changed) = self.rows.traits(into, room)?;
        let (theirs, _) = self.rows.traits(from, room)?;
        let changed = changed.union(own.merge(&theirs, room));
        self.rows.remove(from)?;
        self.changes.profiles.insert(from);
        self.put_traits(into, &own, changed)
    }

    /// Merges the rows of two people who are one: the earliest and the latest time, and the user id of
    /// the latest alias.
    fn absorb_person(&mut self, from: ProfileId, into: ProfileId) -> Result<(), R::Error> {
        let (mut own, theirs) =
            (self.rows.read_profile_row(into)?, self.rows.read_profile_row(from)?);
        own.first_seen = own.first_seen.into_iter().chain(theirs.first_seen).min();
        own.last_seen = own.last_seen.max(theirs.last_seen);
        let claims = [own.rank, theirs.rank].into_iter().filter(|it| *it == SenderRank::Claimed);
        self.claimed_profiles.more -= i64::try_from(claims.count()).unwrap_or_default();
        own.rank = own.rank.max(theirs.rank);
        self.claimed_profiles.more += i64::from(own.rank == SenderRank::Claimed);
        own.is_shared |= theirs.is_shared;
        if theirs.user_id.is_some()
            && (theirs.named_at, &theirs.user_id) > (own.named_at, &own.user_id)
        {
            (own.user_id, own.named_at) = (theirs.user_id, theirs.named_at);
            self.changes.profiles.insert(into);
        }
        self.rows.put_profile_row(into, &own)
    }

    /// Applies the update's traits. Returns the time at which they must be written again; `None` if one
    /// of them is not stored now.
    fn apply_traits(
        &mut self,
        profile: ProfileId,
        update: &ProfileUpdate,
        rank: SenderRank,
    ) -> Result<Option<i64>, R::Error> {
        if update.traits.is_empty() {
            return Ok(Some(i64::MAX));
        }
        let (at, room) = (stitch::time(update), self.limits.into());
        let (mut traits, changed) = self.rows.traits(profile, room)?;
        let changed = changed.union(traits.apply_statements(
            &update.traits,
            TraitProvenance { at, rank },
            room,
        ));
        self.put_traits(profile, &traits, changed)?;
        let due = |(key, value): (&String, &Value)| {
            if traits.rank(key) > rank {
                // The statement has no effect, whenever it is made.
                return Some(i64::MAX);
            }
            let is_known = traits.values.get(key).unwrap_or(&Value::Null) == value;
            let said_at = traits.times.get(key).filter(|said_at| is_known && **said_at <= at);
            said_at.map(|said_at| said_at + LAST_SEEN_LAG_MS)
        };
        Ok(update.traits.iter().map(due).min().flatten())
    }

    fn put_traits(
        &mut self,
        profile: ProfileId,
        traits: &ProfileTraits,
        changed: TraitChanges,
    ) -> Result<(), R::Error> {
        self.changes.traits_refused += changed.refused;
        if changed.is_changed {
            self.changes.profiles.insert(profile);
        }
        if !changed.is_changed && !changed.is_retimed {
            return Ok(());
        }
        self.cache_delta.change(profile);
        self.rows.put_traits(profile, traits)
    }
}
