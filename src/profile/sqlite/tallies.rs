//! How often each person did what: counted in memory over a transaction's events, written at its end.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OptionalExtension};

use super::super::{Counted, ProfileId, Sighting};
use crate::event::Tally;
use crate::journal::SiteId;

const DAY_MS: i64 = 86_400_000;

/// The tallies of one transaction.
pub(super) struct Tallies {
    site: SiteId,
    /// Names of one site at most.
    max_names: usize,
    /// The numbers of names met so far; `None` of those for which there is no room.
    numbers: HashMap<String, Option<i64>>,
    names: HashMap<i64, String>,
    /// How many more names there is room for, once that was asked.
    room: Option<usize>,
    pending: BTreeMap<(ProfileId, i64, i64), Tally>,
    pub(super) refused: u64,
}

impl Tallies {
    pub(super) fn new(site: SiteId, max_names: usize) -> Self {
        Self {
            site,
            max_names,
            numbers: HashMap::new(),
            names: HashMap::new(),
            room: None,
            pending: BTreeMap::new(),
            refused: 0,
        }
    }

    /// Counts what somebody did.
    pub(super) fn count(
        &mut self,
        connection: &Connection,
        profile: ProfileId,
        seen: &Sighting,
        at: i64,
    ) -> rusqlite::Result<()> {
        let (day, tally) = (at.div_euclid(DAY_MS), Tally::one(at, seen.value));
        // The site's own settings bound how many counters there are.
        let names = seen.counters.iter().map(|name| (name, true));
        for (name, is_settings) in std::iter::once((&seen.name, false)).chain(names) {
            match self.number(connection, name, is_settings)? {
                None => self.refused += 1,
                Some(event) => {
                    let known = self.pending.entry((profile, event, day));
                    known.and_modify(|known| known.add(tally)).or_insert(tally);
                }
            }
        }
        Ok(())
    }

    /// The number of a name, made if there is room for it.
    fn number(
        &mut self,
        connection: &Connection,
        name: &str,
        is_settings: bool,
    ) -> rusqlite::Result<Option<i64>> {
        if let Some(number) = self.numbers.get(name) {
            return Ok(*number);
        }
        let known = connection
            .prepare_cached("SELECT id FROM event_names WHERE site = ? AND name = ?")?
            .query_row((self.site.0, name), |row| row.get(0))
            .optional()?;
        let number = match known {
            Some(number) => Some(number),
            None if is_settings || self.has_room(connection)? => {
                connection
                    .prepare_cached("INSERT INTO event_names (site, name) VALUES (?, ?)")?
                    .execute((self.site.0, name))?;
                self.room = self.room.map(|room| room.saturating_sub(1));
                Some(connection.last_insert_rowid())
            }
            None => None,
        };
        if let Some(number) = number {
            self.names.insert(number, name.to_owned());
        }
        self.numbers.insert(name.to_owned(), number);
        Ok(number)
    }

    fn has_room(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        if self.room.is_none() {
            let taken: usize = connection
                .prepare_cached("SELECT count(*) FROM event_names WHERE site = ?")?
                .query_row([self.site.0], |row| row.get(0))?;
            self.room = Some(self.max_names.saturating_sub(taken));
        }
        Ok(self.room.is_some_and(|room| room > 0))
    }

    /// What one did was done by another, who is the same person. Whether that was anything.
    pub(super) fn join(
        &mut self,
        connection: &Connection,
        from: ProfileId,
        into: ProfileId,
    ) -> rusqlite::Result<bool> {
        let theirs = self.pending.range((from, i64::MIN, i64::MIN)..=(from, i64::MAX, i64::MAX));
        let theirs: Vec<_> = theirs.map(|(key, tally)| (*key, *tally)).collect();
        let is_counting = !theirs.is_empty();
        for ((from, event, day), tally) in theirs {
            self.pending.remove(&(from, event, day));
            let known = self.pending.entry((into, event, day));
            known.and_modify(|known| known.add(tally)).or_insert(tally);
        }
        // `WHERE true` tells the parser that no join condition follows.
        connection
            .prepare_cached(
                "INSERT INTO activity (profile, event, day, count, first, last, sum)
                 SELECT ?2, event, day, count, first, last, sum FROM activity
                 WHERE profile = ?1 AND true
                 ON CONFLICT (profile, event, day) DO UPDATE SET
                     count = count + excluded.count, first = min(first, excluded.first),
                     last = max(last, excluded.last), sum = sum + excluded.sum",
            )?
            .execute((from.0, into.0))?;
        let moved = connection
            .prepare_cached("DELETE FROM activity WHERE profile = ?")?
            .execute([from.0])?;
        Ok(is_counting || moved > 0)
    }

    /// Writes what was counted, and says it by the events' names.
    pub(super) fn write(self, connection: &Connection) -> rusqlite::Result<Counted> {
        let mut counted = Counted::new();
        let mut statement = connection.prepare_cached(
            "INSERT INTO activity (profile, event, day, count, first, last, sum)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (profile, event, day) DO UPDATE SET
                 count = count + excluded.count, first = min(first, excluded.first),
                 last = max(last, excluded.last), sum = sum + excluded.sum",
        )?;
        for ((profile, event, day), tally) in self.pending {
            let Tally { count, first, last, sum } = tally;
            statement.execute((profile.0, event, day, count, first, last, sum))?;
            if let Some(name) = self.names.get(&event) {
                let known = counted.entry(profile).or_default();
                match known.get_mut(name) {
                    Some(known) => known.add(tally),
                    None => drop(known.insert(name.clone(), tally)),
                }
            }
        }
        Ok(counted)
    }
}
