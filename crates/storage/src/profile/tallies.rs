//! The counts of each person's events: collected in memory over a transaction, written at its end.

use std::collections::{BTreeMap, HashMap};

use super::rows::{EventNameRank, PendingTallies, ProfileRows};
use super::{Activity, ActivityCounts, ProfileId};
use tagway_core::event::{EventTally, SenderRank};

const DAY_MS: i64 = 86_400_000;

/// The tallies of one transaction.
pub(super) struct TallyBuffer {
    /// The most names of one site that claims gave, and as many that proven senders gave.
    max_names: usize,
    /// The numbers of names met so far, and the reason why they are counted; `None` for names that are not.
    numbers: HashMap<String, Option<(i64, EventNameRank)>>,
    names: HashMap<i64, String>,
    /// The room for more names of each rank, once it was read.
    room: [Option<usize>; 2],
    pending: PendingTallies,
    pub(super) refused: u64,
}

impl TallyBuffer {
    pub(super) fn new(max_names: usize) -> Self {
        Self {
            max_names,
            numbers: HashMap::new(),
            names: HashMap::new(),
            room: [None; 2],
            pending: BTreeMap::new(),
            refused: 0,
        }
    }

    /// Counts a person's event under its name and its further counters.
    pub(super) fn count<R: ProfileRows>(
        &mut self,
        rows: &mut R,
        profile: ProfileId,
        seen: &Activity,
        rank: SenderRank,
        at: i64,
    ) -> Result<(), R::Error> {
        let (day, tally) = (at.div_euclid(DAY_MS), EventTally::single(at, seen.value));
        let own = match rank {
            _ if seen.is_reserved => EventNameRank::Reserved,
            SenderRank::Claimed => EventNameRank::Claimed,
            SenderRank::Proven | SenderRank::Server => EventNameRank::Proven,
        };
        let names = seen.counters.iter().map(|name| (name, EventNameRank::Reserved));
        for (name, rank) in std::iter::once((&seen.name, own)).chain(names) {
            match self.number(rows, name, rank)? {
                None => self.refused += 1,
                Some(event) => {
                    let known = self.pending.entry((profile, event, day));
                    known.and_modify(|known| known.add(tally)).or_insert(tally);
                }
            }
        }
        Ok(())
    }

    /// Returns the number of a name; creates it if there is room for it.
    fn number<R: ProfileRows>(
        &mut self,
        rows: &mut R,
        name: &str,
        rank: EventNameRank,
    ) -> Result<Option<i64>, R::Error> {
        let known = match self.numbers.get(name) {
            Some(known) => *known,
            None => rows.event(name)?,
        };
        let number = match known {
            Some((number, known)) => {
                if known < rank && self.has_room(rows, rank)? {
                    rows.raise_event(name, rank)?;
                    self.take_room(rank);
                    let before = Self::place(known).and_then(|place| self.room.get_mut(place));
                    if let Some(Some(left)) = before {
                        *left += 1;
                    }
                    self.numbers.insert(name.to_owned(), Some((number, rank)));
                } else {
                    self.numbers.entry(name.to_owned()).or_insert(Some((number, known)));
                }
                number
            }
            None if self.has_room(rows, rank)? => {
                let number = rows.add_event(name, rank)?;
                self.take_room(rank);
                self.numbers.insert(name.to_owned(), Some((number, rank)));
                number
            }
            None => {
                self.numbers.insert(name.to_owned(), None);
                return Ok(None);
            }
        };
        self.names.entry(number).or_insert_with(|| name.to_owned());
        Ok(Some(number))
    }

    /// Returns true if there is room for one more name. The site's own settings bound how many they use.
    fn has_room<R: ProfileRows>(
        &mut self,
        rows: &mut R,
        rank: EventNameRank,
    ) -> Result<bool, R::Error> {
        let Some(room) = Self::place(rank).and_then(|place| self.room.get_mut(place)) else {
            return Ok(true);
        };
        let left = match room {
            Some(left) => *left,
            None => {
                let left = self.max_names.saturating_sub(rows.events_counted(rank)?);
                *room = Some(left);
                left
            }
        };
        Ok(left > 0)
    }

    fn take_room(&mut self, rank: EventNameRank) {
        let place = Self::place(rank).and_then(|place| self.room.get_mut(place));
        if let Some(Some(left)) = place {
            *left = left.saturating_sub(1);
        }
    }

    const fn place(rank: EventNameRank) -> Option<usize> {
        match rank {
            EventNameRank::Claimed => Some(0),
            EventNameRank::Proven => Some(1),
            EventNameRank::Reserved => None,
        }
    }

    /// Moves the activity of one profile to another, which is the same person's. Returns true if there was any.
    pub(super) fn join<R: ProfileRows>(
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

    /// Writes the counts, and returns them by the events' names.
    pub(super) fn write<R: ProfileRows>(self, rows: &mut R) -> Result<ActivityCounts, R::Error> {
        rows.finish(&self.pending)?;
        let mut counted = ActivityCounts::new();
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
