//! How often each person did what: counted in memory over a transaction's events, written at its end.

use std::collections::{BTreeMap, HashMap};

use super::rows::Rows;
use super::{Counted, ProfileId, Sighting};
use crate::event::Tally;

const DAY_MS: i64 = 86_400_000;

/// What was counted, by profile, event and day.
pub(super) type Pending = BTreeMap<(ProfileId, i64, i64), Tally>;

/// The tallies of one transaction.
pub(super) struct Tallies {
    /// Names of one site at most.
    max_names: usize,
    /// The numbers of names met so far; `None` of those for which there is no room.
    numbers: HashMap<String, Option<i64>>,
    names: HashMap<i64, String>,
    /// How many more names there is room for, once that was asked.
    room: Option<usize>,
    pending: Pending,
    pub(super) refused: u64,
}

impl Tallies {
    pub(super) fn new(max_names: usize) -> Self {
        Self {
            max_names,
            numbers: HashMap::new(),
            names: HashMap::new(),
            room: None,
            pending: BTreeMap::new(),
            refused: 0,
        }
    }

    /// Counts what somebody did.
    pub(super) fn count<R: Rows>(
        &mut self,
        rows: &mut R,
        profile: ProfileId,
        seen: &Sighting,
        at: i64,
    ) -> Result<(), R::Error> {
        let (day, tally) = (at.div_euclid(DAY_MS), Tally::one(at, seen.value));
        // The site's own settings bound how many counters there are.
        let names = seen.counters.iter().map(|name| (name, true));
        for (name, is_settings) in std::iter::once((&seen.name, false)).chain(names) {
            match self.number(rows, name, is_settings)? {
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
    fn number<R: Rows>(
        &mut self,
        rows: &mut R,
        name: &str,
        is_settings: bool,
    ) -> Result<Option<i64>, R::Error> {
        if let Some(number) = self.numbers.get(name) {
            return Ok(*number);
        }
        let number = match rows.event(name)? {
            Some(number) => Some(number),
            None if is_settings || self.has_room(rows)? => {
                let number = rows.add_event(name)?;
                self.room = self.room.map(|room| room.saturating_sub(1));
                Some(number)
            }
            None => None,
        };
        if let Some(number) = number {
            self.names.insert(number, name.to_owned());
        }
        self.numbers.insert(name.to_owned(), number);
        Ok(number)
    }

    fn has_room<R: Rows>(&mut self, rows: &mut R) -> Result<bool, R::Error> {
        if self.room.is_none() {
            self.room = Some(self.max_names.saturating_sub(rows.events_counted()?));
        }
        Ok(self.room.is_some_and(|room| room > 0))
    }

    /// What one did was done by another, who is the same person. Whether that was anything.
    pub(super) fn join<R: Rows>(
        &mut self,
        rows: &mut R,
        from: ProfileId,
        into: ProfileId,
    ) -> Result<bool, R::Error> {
        let theirs = self.pending.range((from, i64::MIN, i64::MIN)..=(from, i64::MAX, i64::MAX));
        let theirs: Vec<_> = theirs.map(|(key, tally)| (*key, *tally)).collect();
        let is_counting = !theirs.is_empty();
        for ((from, event, day), tally) in theirs {
            self.pending.remove(&(from, event, day));
            let known = self.pending.entry((into, event, day));
            known.and_modify(|known| known.add(tally)).or_insert(tally);
        }
        Ok(rows.move_activity(from, into)? || is_counting)
    }

    /// Writes what was counted, and says it by the events' names.
    pub(super) fn write<R: Rows>(self, rows: &mut R) -> Result<Counted, R::Error> {
        rows.finish(&self.pending)?;
        let mut counted = Counted::new();
        for ((profile, event, _), tally) in self.pending {
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
