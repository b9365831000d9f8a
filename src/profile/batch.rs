//! Updates in one transaction: looks up, asks the rules, writes what they say. Where the rows are kept
//! is the backend's business ([`Rows`]).

use std::collections::BTreeMap;

use serde_json::Value;

use super::repeats::{Notes, Repeats};
use super::rows::Rows;
use super::stitch::{self, Bound, Held, Holder, Verdict};
use super::tallies::Tallies;
use super::traits::{Said, Traits};
use super::{Changes, Identity, IdentityKind, Limits, ProfileId, SEEN_EVERY_MS, Update};
use crate::journal::SiteId;

/// Some updates in one transaction, and what they changed.
pub(super) struct Batch<'r, R> {
    rows: R,
    site: SiteId,
    limits: Limits,
    repeats: &'r Repeats,
    notes: Notes,
    changes: Changes,
    tallies: Tallies,
}

impl<'r, R: Rows> Batch<'r, R> {
    pub(super) fn new(rows: R, site: SiteId, limits: Limits, repeats: &'r Repeats) -> Self {
        let (notes, changes) = (Notes::default(), Changes::default());
        let tallies = Tallies::new(limits.event_names);
        Self { rows, site, limits, repeats, notes, changes, tallies }
    }

    /// Writes what was counted. Returns the rows, what changed, and the notes to take once it is
    /// committed.
    pub(super) fn finish(self) -> Result<(R, Changes, Notes), R::Error> {
        let Self { mut rows, notes, mut changes, tallies, .. } = self;
        changes.names_refused = tallies.refused;
        changes.counted = tallies.write(&mut rows)?;
        Ok((rows, changes, notes))
    }

    pub(super) fn apply(&mut self, update: &Update) -> Result<(), R::Error> {
        let statement = self.repeats.statement(self.site, update);
        if let Some(holder) = self.repeats.holder(statement, stitch::time(update), &self.notes) {
            return self.count(holder, update);
        }
        let bound = self.look_up(update)?;
        let verdict =
            stitch::judge(update, &bound, |profile, client| self.rows.mate(profile, client))?;
        let profile = match verdict.holder {
            Holder::Profile(profile) => profile,
            Holder::New => self.rows.make(stitch::time(update))?,
            Holder::Nobody => return Ok(()),
        };
        for other in &verdict.absorbed {
            self.absorb(*other, profile, verdict.claim)?;
        }
        self.count(profile, update)?;
        self.describe(profile, update)?;
        let due = [
            self.note(profile, update)?,
            self.link(profile, update, &bound, &verdict)?,
            self.say(profile, update)?,
        ];
        // An alias said again is the latest again.
        let due = if update.previous.is_some() { None } else { due.into_iter().min().flatten() };
        if let Some(due) = due {
            self.notes.say(profile, statement, stitch::time(update)..due);
        }
        Ok(())
    }

    fn count(&mut self, profile: ProfileId, update: &Update) -> Result<(), R::Error> {
        let Some(seen) = &update.sighting else { return Ok(()) };
        self.tallies.count(&mut self.rows, profile, seen, stitch::time(update))
    }

    /// Takes what the event says of the person's device, place and ways.
    fn describe(&mut self, profile: ProfileId, update: &Update) -> Result<(), R::Error> {
        let Some(seen) = &update.sighting else { return Ok(()) };
        let mut known = self.rows.details(profile)?;
        if known.take(seen, stitch::time(update)) {
            self.rows.put_details(profile, &known)?;
            self.notes.change(profile);
            self.changes.profiles.insert(profile);
        }
        Ok(())
    }

    fn look_up(&mut self, update: &Update) -> Result<Bound, R::Error> {
        let rows = &mut self.rows;
        let mut of = |identity: &Option<Identity>| match identity {
            Some(identity) => rows.binding(identity),
            None => Ok(None),
        };
        let (user, previous, email) =
            (of(&update.user)?, of(&update.previous)?, of(&update.email)?);
        let devices = update.devices.iter().map(|device| rows.binding(&device.identity));
        Ok(Bound { user, previous, email, devices: devices.collect::<Result<_, _>>()? })
    }

    /// Notes when the person was seen, and by what user id the profile goes: its first, or that of the
    /// latest alias. Returns when it is to be noted again.
    fn note(&mut self, profile: ProfileId, update: &Update) -> Result<Option<i64>, R::Error> {
        let (at, mut person) = (stitch::time(update), self.rows.person(profile)?);
        let is_first = person.first_seen.is_none_or(|first| at < first);
        let is_last = person.last_seen.is_none_or(|last| at - last >= SEEN_EVERY_MS);
        let user = update.user.as_ref().map(|user| &user.value).filter(|user| {
            let said_at = if update.previous.is_some() { at } else { 0 };
            match &person.user_id {
                None => true,
                Some(known) => (said_at, *user) > (person.named_at, known) && said_at > 0,
            }
        });
        let is_news = is_first || is_last || user.is_some();
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
                self.notes.change(profile);
                self.changes.profiles.insert(profile);
            }
        }
        if is_news {
            self.rows.put_person(profile, &person)?;
        }
        Ok(person.last_seen.map(|last| last + SEEN_EVERY_MS))
    }

    /// Makes the update's identities name the profile. Returns when that is to be noted again; `None`
    /// if one of them does not.
    fn link(
        &mut self,
        profile: ProfileId,
        update: &Update,
        bound: &Bound,
        verdict: &Verdict,
    ) -> Result<Option<i64>, R::Error> {
        let at = stitch::time(update);
        let mut has_all = verdict.has_email && verdict.devices.iter().all(Option::is_some);
        let mut due = i64::MAX;
        let claimed = verdict.claim;
        let strong = [
            (&update.user, &bound.user),
            (&update.previous, &bound.previous),
            (&update.email, &bound.email),
        ];
        let strong = strong.into_iter().filter_map(|(identity, binding)| {
            let identity = identity.as_ref()?;
            let is_holders = identity.kind != IdentityKind::Email || verdict.has_email;
            Some((identity, None, binding, is_holders.then_some(Held { since: 0, claimed })?))
        });
        let devices = update.devices.iter().zip(&bound.devices).zip(&verdict.devices);
        let devices = devices.filter_map(|((device, binding), held)| {
            Some((&device.identity, device.client.as_deref(), binding, (*held)?))
        });
        let all: Vec<_> = strong.chain(devices).collect();
        for (identity, client, binding, held) in all {
            let is_news = match binding {
                // It came with its profile, if there was room.
                Some(known) if verdict.absorbed.contains(&known.profile) => {
                    has_all = false;
                    false
                }
                Some(known) if known.profile == profile => {
                    let is_news = held.is_news(known, at);
                    // The next statement of any of their devices may take the claim over.
                    if is_news && held.claimed > known.claimed {
                        self.notes.change(profile);
                    }
                    is_news
                }
                _ => {
                    if self.room(profile, identity.kind)? == 0 {
                        self.changes.identities_refused += 1;
                        has_all = false;
                        continue;
                    }
                    self.notes.change(profile);
                    if let Some(known) = binding {
                        self.notes.change(known.profile);
                    }
                    self.changes.identities.insert(identity.clone());
                    true
                }
            };
            if is_news {
                self.rows.bind(identity, profile, held, (client, at))?;
            }
            let noted = binding.as_ref().filter(|_| !is_news);
            due = due.min(noted.map_or(at, |known| held.noted(known, at)) + SEEN_EVERY_MS);
        }
        Ok(has_all.then_some(due))
    }

    /// How many more identities of a kind the profile may be known by.
    fn room(&mut self, profile: ProfileId, kind: IdentityKind) -> Result<usize, R::Error> {
        let limit = self.limits.of(kind);
        Ok(limit.saturating_sub(self.rows.names_counted(profile, kind, limit)?))
    }

    /// Puts a profile into another: what it knows of the person, and its identities as far as there is
    /// room.
    fn absorb(&mut self, from: ProfileId, into: ProfileId, claim: i64) -> Result<(), R::Error> {
        self.notes.change(from);
        self.notes.change(into);
        let mut room = BTreeMap::new();
        for (kind, value) in self.rows.names_of(from)? {
            let known = IdentityKind::from_name(&kind);
            let left = match known {
                None => 0,
                Some(known) => match room.get(&known) {
                    Some(left) => *left,
                    None => self.room(into, known)?,
                },
            };
            if left == 0 {
                self.changes.identities_refused += 1;
                self.rows.unbind((&kind, &value))?;
            } else {
                self.rows.hand_over((&kind, &value), into, claim)?;
            }
            if let Some(kind) = known {
                room.insert(kind, left.saturating_sub(1));
                self.changes.identities.insert(Identity { kind, value });
            }
        }
        self.absorb_person(from, into)?;
        let did_anything = self.tallies.join(&mut self.rows, from, into)?;
        let before = self.rows.details(into)?;
        let mut known = before.clone();
        known.absorb(&self.rows.details(from)?);
        if known != before {
            self.rows.put_details(into, &known)?;
        }
        if did_anything || known != before {
            self.changes.profiles.insert(into);
        }
        let limit = self.limits.traits_bytes;
        let (mut own, said) = self.rows.traits(into, limit)?;
        let (theirs, _) = self.rows.traits(from, limit)?;
        let said = said.and(own.merge(&theirs, limit));
        self.rows.remove(from)?;
        self.changes.profiles.insert(from);
        self.put_traits(into, &own, said)
    }

    /// Of two people who are one, the earliest and the latest time, and the user id of the latest alias.
    fn absorb_person(&mut self, from: ProfileId, into: ProfileId) -> Result<(), R::Error> {
        let (mut own, theirs) = (self.rows.person(into)?, self.rows.person(from)?);
        own.first_seen = own.first_seen.into_iter().chain(theirs.first_seen).min();
        own.last_seen = own.last_seen.max(theirs.last_seen);
        if theirs.user_id.is_some()
            && (theirs.named_at, &theirs.user_id) > (own.named_at, &own.user_id)
        {
            (own.user_id, own.named_at) = (theirs.user_id, theirs.named_at);
            self.changes.profiles.insert(into);
        }
        self.rows.put_person(into, &own)
    }

    /// Takes what the update says of the person. Returns when that is to be noted again; `None` if not
    /// all of it is known now.
    fn say(&mut self, profile: ProfileId, update: &Update) -> Result<Option<i64>, R::Error> {
        if update.traits.is_empty() {
            return Ok(Some(i64::MAX));
        }
        let (mut traits, said) = self.rows.traits(profile, self.limits.traits_bytes)?;
        let at = stitch::time(update);
        let said = said.and(traits.say(&update.traits, at, self.limits.traits_bytes));
        self.put_traits(profile, &traits, said)?;
        let due = |(key, value): (&String, &Value)| {
            let is_known = traits.values.get(key).unwrap_or(&Value::Null) == value;
            let said_at = traits.times.get(key).filter(|said_at| is_known && **said_at <= at);
            said_at.map(|said_at| said_at + SEEN_EVERY_MS)
        };
        Ok(update.traits.iter().map(due).min().flatten())
    }

    fn put_traits(
        &mut self,
        profile: ProfileId,
        traits: &Traits,
        said: Said,
    ) -> Result<(), R::Error> {
        self.changes.traits_refused += said.refused;
        if said.is_changed {
            self.changes.profiles.insert(profile);
        }
        if !said.is_changed && !said.is_retimed {
            return Ok(());
        }
        self.notes.change(profile);
        self.rows.put_traits(profile, traits)
    }
}
