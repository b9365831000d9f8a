//! Updates in one transaction: looks up, asks the rules, writes what they say.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::Value;

use super::super::stitch::{self, Binding, Bound, Held, Holder, Verdict};
use super::super::traits::{Said, Traits};
use super::super::{Changes, Identity, IdentityKind, Limits, ProfileId, SEEN_EVERY_MS, Update};
use super::repeats::{Notes, Repeats};
use super::tallies::Tallies;
use super::{details, parse};
use crate::journal::SiteId;

/// Some updates in one transaction, and what they changed.
pub(super) struct Batch<'c> {
    connection: &'c Connection,
    site: SiteId,
    limits: Limits,
    repeats: &'c Repeats,
    notes: Notes,
    changes: Changes,
    tallies: Tallies,
    /// The number of the next profile, once one was made.
    next: Option<i64>,
}

/// What is kept of a profile besides its traits and identities.
struct Person {
    user_id: Option<String>,
    named_at: i64,
    first_seen: Option<i64>,
    last_seen: Option<i64>,
}

impl<'c> Batch<'c> {
    pub(super) fn new(
        connection: &'c Connection,
        site: SiteId,
        limits: Limits,
        repeats: &'c Repeats,
    ) -> Self {
        let (notes, changes) = (Notes::default(), Changes::default());
        let tallies = Tallies::new(site, limits.event_names);
        Self { connection, site, limits, repeats, notes, changes, tallies, next: None }
    }

    /// Writes what was counted. Returns what changed, and the notes to take once it is committed.
    pub(super) fn finish(self) -> rusqlite::Result<(Changes, Notes)> {
        let Self { connection, notes, mut changes, tallies, next, .. } = self;
        if let Some(next) = next {
            connection.prepare_cached("UPDATE profile_numbers SET next = ?")?.execute([next])?;
        }
        changes.names_refused = tallies.refused;
        changes.counted = tallies.write(connection)?;
        Ok((changes, notes))
    }

    pub(super) fn apply(&mut self, update: &Update) -> rusqlite::Result<()> {
        let statement = self.repeats.statement(self.site, update);
        if let Some(holder) = self.repeats.holder(statement, stitch::time(update), &self.notes) {
            return self.count(holder, update);
        }
        let bound = self.look_up(update)?;
        let verdict = stitch::judge(update, &bound, |profile, client| self.mate(profile, client))?;
        let profile = match verdict.holder {
            Holder::Profile(profile) => profile,
            Holder::New => self.make(stitch::time(update))?,
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

    fn count(&mut self, profile: ProfileId, update: &Update) -> rusqlite::Result<()> {
        let Some(seen) = &update.sighting else { return Ok(()) };
        self.tallies.count(self.connection, profile, seen, stitch::time(update))
    }

    /// Takes what the event says of the person's device, place and ways.
    fn describe(&mut self, profile: ProfileId, update: &Update) -> rusqlite::Result<()> {
        let Some(seen) = &update.sighting else { return Ok(()) };
        let mut known = details::read(self.connection, profile)?;
        if known.take(seen, stitch::time(update)) {
            details::write(self.connection, profile, &known)?;
            self.notes.change(profile);
            self.changes.profiles.insert(profile);
        }
        Ok(())
    }

    fn look_up(&self, update: &Update) -> rusqlite::Result<Bound> {
        let of = |identity: &Option<Identity>| match identity {
            Some(identity) => self.binding(identity),
            None => Ok(None),
        };
        let devices = update.devices.iter().map(|device| self.binding(&device.identity));
        Ok(Bound {
            user: of(&update.user)?,
            previous: of(&update.previous)?,
            email: of(&update.email)?,
            devices: devices.collect::<Result<_, _>>()?,
        })
    }

    /// To whom an identity belongs.
    fn binding(&self, identity: &Identity) -> rusqlite::Result<Option<Binding>> {
        let read = |row: &Row<'_>| {
            Ok(Binding {
                profile: ProfileId(row.get(0)?),
                is_known: row.get(1)?,
                since: row.get(2)?,
                claimed: row.get(3)?,
                seen: row.get(4)?,
            })
        };
        self.connection
            .prepare_cached(
                "SELECT i.profile, p.user_id IS NOT NULL, i.since, i.claimed, i.seen
                 FROM identities i JOIN profiles p ON p.id = i.profile
                 WHERE i.site = ? AND i.kind = ? AND i.value = ?",
            )?
            .query_row((self.site.0, identity.kind.name(), &identity.value), read)
            .optional()
    }

    /// The newest anonymous id of a client with the profile.
    fn mate(&self, profile: ProfileId, client: &str) -> rusqlite::Result<Option<stitch::Mate>> {
        self.connection
            .prepare_cached(
                "SELECT value, seen FROM identities
                 WHERE profile = ? AND site = ? AND kind = 'anonymous' AND client = ?
                 ORDER BY seen DESC, value LIMIT 1",
            )?
            .query_row((profile.0, self.site.0, client), |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
    }

    fn make(&mut self, at: i64) -> rusqlite::Result<ProfileId> {
        let number = match self.next {
            Some(next) => next,
            None => self
                .connection
                .prepare_cached("SELECT next FROM profile_numbers")?
                .query_row([], |row| row.get(0))?,
        };
        self.connection
            .prepare_cached(
                "INSERT INTO profiles (id, site, first_seen, last_seen) VALUES (?1, ?2, ?3, ?3)",
            )?
            .execute((number, self.site.0, at))?;
        self.next = Some(number + 1);
        Ok(ProfileId(number))
    }

    fn person(&self, profile: ProfileId) -> rusqlite::Result<Person> {
        let read = |row: &Row<'_>| {
            Ok(Person {
                user_id: row.get(0)?,
                named_at: row.get(1)?,
                first_seen: row.get(2)?,
                last_seen: row.get(3)?,
            })
        };
        self.connection
            .prepare_cached(
                "SELECT user_id, named_at, first_seen, last_seen FROM profiles WHERE id = ?",
            )?
            .query_row([profile.0], read)
    }

    fn put(&self, profile: ProfileId, person: &Person) -> rusqlite::Result<()> {
        let Person { user_id, named_at, first_seen, last_seen } = person;
        self.connection
            .prepare_cached(
                "UPDATE profiles SET user_id = ?, named_at = ?, first_seen = ?, last_seen = ?
                 WHERE id = ?",
            )?
            .execute((user_id, named_at, first_seen, last_seen, profile.0))
            .map(drop)
    }

    /// Notes when the person was seen, and by what user id the profile goes: its first, or that of the
    /// latest alias. Returns when it is to be noted again.
    fn note(&mut self, profile: ProfileId, update: &Update) -> rusqlite::Result<Option<i64>> {
        let (at, mut person) = (stitch::time(update), self.person(profile)?);
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
                self.claim_all(profile, at)?;
            }
            if person.user_id.as_ref() != Some(user) {
                person.user_id = Some(user.clone());
                self.notes.change(profile);
                self.changes.profiles.insert(profile);
            }
        }
        if is_news {
            self.put(profile, &person)?;
        }
        Ok(person.last_seen.map(|last| last + SEEN_EVERY_MS))
    }

    /// The user claims what their profile was known by while it was anonymous.
    fn claim_all(&self, profile: ProfileId, at: i64) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("UPDATE identities SET claimed = max(claimed, ?) WHERE profile = ?")?
            .execute((at, profile.0))
            .map(drop)
    }

    /// Makes the update's identities name the profile. Returns when that is to be noted again; `None`
    /// if one of them does not.
    fn link(
        &mut self,
        profile: ProfileId,
        update: &Update,
        bound: &Bound,
        verdict: &Verdict,
    ) -> rusqlite::Result<Option<i64>> {
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
                Some(known) if known.profile == profile => held.is_news(known, at),
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
                self.bind(identity, profile, held, (client, at))?;
            }
            let noted = binding.as_ref().filter(|_| !is_news);
            due = due.min(noted.map_or(at, |known| held.noted(known, at)) + SEEN_EVERY_MS);
        }
        Ok(has_all.then_some(due))
    }

    fn bind(
        &self,
        identity: &Identity,
        profile: ProfileId,
        held: Held,
        (client, at): (Option<&str>, i64),
    ) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO identities (site, kind, value, profile, since, claimed, seen, client)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT (site, kind, value) DO UPDATE SET
                     profile = excluded.profile, since = excluded.since,
                     claimed = max(claimed, excluded.claimed), seen = max(seen, excluded.seen),
                     client = coalesce(excluded.client, client)",
            )?
            .execute((
                self.site.0,
                identity.kind.name(),
                &identity.value,
                profile.0,
                held.since,
                held.claimed,
                at,
                client,
            ))
            .map(drop)
    }

    /// How many more identities of a kind the profile may be known by.
    fn room(&self, profile: ProfileId, kind: IdentityKind) -> rusqlite::Result<usize> {
        let limit = self.limits.of(kind);
        let names: usize = self
            .connection
            .prepare_cached(
                "SELECT count(*) FROM (SELECT 1 FROM identities
                     WHERE profile = ? AND site = ? AND kind = ? LIMIT ?)",
            )?
            .query_row((profile.0, self.site.0, kind.name(), limit), |row| row.get(0))?;
        Ok(limit - names)
    }

    /// Puts a profile into another: what it knows of the person, and its identities as far as there is
    /// room.
    fn absorb(&mut self, from: ProfileId, into: ProfileId, claim: i64) -> rusqlite::Result<()> {
        self.notes.change(from);
        self.notes.change(into);
        let mut room = BTreeMap::new();
        for (kind, value) in self.names_of(from)? {
            let known = IdentityKind::from_name(&kind);
            let left = match known {
                None => 0,
                Some(known) => match room.get(&known) {
                    Some(left) => *left,
                    None => self.room(into, known)?,
                },
            };
            let identity = (self.site.0, &kind, &value);
            if left == 0 {
                self.changes.identities_refused += 1;
                self.connection
                    .prepare_cached(
                        "DELETE FROM identities WHERE site = ? AND kind = ? AND value = ?",
                    )?
                    .execute(identity)?;
            } else {
                self.connection
                    .prepare_cached(
                        "UPDATE identities SET profile = ?4, claimed = max(claimed, ?5)
                         WHERE site = ?1 AND kind = ?2 AND value = ?3",
                    )?
                    .execute((self.site.0, &kind, &value, into.0, claim))?;
            }
            if let Some(kind) = known {
                room.insert(kind, left.saturating_sub(1));
                self.changes.identities.insert(Identity { kind, value });
            }
        }
        self.absorb_person(from, into)?;
        let did_anything = self.tallies.join(self.connection, from, into)?;
        let before = details::read(self.connection, into)?;
        let mut known = before.clone();
        known.absorb(&details::read(self.connection, from)?);
        if known != before {
            details::write(self.connection, into, &known)?;
        }
        if did_anything || known != before {
            self.changes.profiles.insert(into);
        }
        let (mut own, said) = self.traits(into)?;
        let (theirs, _) = self.traits(from)?;
        let said = said.and(own.merge(&theirs, self.limits.traits_bytes));
        self.connection.prepare_cached("DELETE FROM profiles WHERE id = ?")?.execute([from.0])?;
        self.changes.profiles.insert(from);
        self.put_traits(into, &own, said)
    }

    /// Of two people who are one, the earliest and the latest time, and the user id of the latest alias.
    fn absorb_person(&mut self, from: ProfileId, into: ProfileId) -> rusqlite::Result<()> {
        let (mut own, theirs) = (self.person(into)?, self.person(from)?);
        own.first_seen = own.first_seen.into_iter().chain(theirs.first_seen).min();
        own.last_seen = own.last_seen.max(theirs.last_seen);
        if theirs.user_id.is_some()
            && (theirs.named_at, &theirs.user_id) > (own.named_at, &own.user_id)
        {
            (own.user_id, own.named_at) = (theirs.user_id, theirs.named_at);
            self.changes.profiles.insert(into);
        }
        self.put(into, &own)
    }

    fn names_of(&self, profile: ProfileId) -> rusqlite::Result<Vec<(String, String)>> {
        self.connection
            .prepare_cached("SELECT kind, value FROM identities WHERE profile = ?")?
            .query_map([profile.0], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect()
    }

    fn traits(&self, profile: ProfileId) -> rusqlite::Result<(Traits, Said)> {
        let limit = self.limits.traits_bytes;
        self.connection
            .prepare_cached("SELECT traits, trait_times FROM profiles WHERE id = ?")?
            .query_row([profile.0], |row| {
                let text = row.get_ref(0)?.as_str()?;
                let times = serde_json::from_str(row.get_ref(1)?.as_str()?).unwrap_or_default();
                Ok(Traits::new(parse(text), times, text.len(), limit))
            })
    }

    /// Takes what the update says of the person. Returns when that is to be noted again; `None` if not
    /// all of it is known now.
    fn say(&mut self, profile: ProfileId, update: &Update) -> rusqlite::Result<Option<i64>> {
        if update.traits.is_empty() {
            return Ok(Some(i64::MAX));
        }
        let (mut traits, said) = self.traits(profile)?;
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
    ) -> rusqlite::Result<()> {
        self.changes.traits_refused += said.refused;
        if said.is_changed {
            self.changes.profiles.insert(profile);
        }
        if !said.is_changed && !said.is_retimed {
            return Ok(());
        }
        self.notes.change(profile);
        let text = |value: Result<String, serde_json::Error>| {
            value.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
        };
        let values = text(serde_json::to_string(&traits.values))?;
        let times = text(serde_json::to_string(&traits.times))?;
        self.connection
            .prepare_cached("UPDATE profiles SET traits = ?, trait_times = ? WHERE id = ?")?
            .execute((values, times, profile.0))
            .map(drop)
    }
}
