//! The parked events of one destination, by reason and by visitor. The events themselves are parked in the
//! journal; the index records which of them wait for one another.
//!
//! | reason | key | the event is due | the visitor's later events | at the limit |
//! |---|---|---|---|---|
//! | retry | the order key | at its next try | stay behind it | the event stays in memory |
//! | consent | the visitor | at the visitor's choice, or when the hold ends | pass | the oldest is released |
//! | identity | each identity | when one is known, or when the hold ends | stay behind it once it is released | the oldest is released |
//!
//! An event enters by [`ParkedIndex::insert`] when it is parked and, after a restart, when the parked events
//! are read again. It leaves by [`ParkedIndex::leave`] when it comes back out of the journal.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use super::schedule::VisitorOrderKey;

/// The reason why an event is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParkReason {
    /// Its tries failed, or an earlier event of its visitor is parked for that.
    Retry,
    /// Its visitor has not made a choice.
    Consent,
    /// Its visitor is not known.
    Identity,
}

/// The stage of a parked event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParkStage {
    /// The event waits.
    Waiting,
    /// The event is due at once, and its visitor's later events must stay behind it.
    Released,
    /// The event stays behind its visitor's earlier events, and is due with them.
    Behind,
}

/// An event that is to be parked.
#[derive(Debug)]
pub(super) struct ParkedEntry {
    /// The keys of its visitor. Visitors with equal keys only wait for, and release, each other.
    pub(super) keys: Vec<VisitorOrderKey>,
    pub(super) seq: u64,
    pub(super) due_at: Timestamp,
    pub(super) reason: ParkReason,
    pub(super) stage: ParkStage,
}

/// The state that an event had for one reason when it left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftState {
    /// The stage, if the event was parked for this reason.
    pub(super) stage: Option<ParkStage>,
    /// True if the event was released early to make room, so that its hold has ended.
    pub(super) is_given_up: bool,
}

/// The states of an event that has left the index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftEntry {
    pub(super) consent: LeftState,
    pub(super) identity: LeftState,
}

/// The parked events of one destination.
#[derive(Debug)]
pub(super) struct ParkedIndex {
    retry: ReasonIndex,
    consent: ReasonIndex,
    identity: ReasonIndex,
    /// The limit of events for each reason.
    max_events: usize,
}

/// The events parked for one reason.
#[derive(Debug, Default)]
struct ReasonIndex {
    /// The oldest event first.
    events: BTreeMap<u64, ParkedEvent>,
    visitors: HashMap<VisitorOrderKey, ParkedVisitor>,
    /// Events released early that have not come back.
    given_up: BTreeSet<u64>,
}

#[derive(Debug)]
struct ParkedEvent {
    keys: Box<[VisitorOrderKey]>,
    stage: ParkStage,
}

#[derive(Debug)]
struct ParkedVisitor {
    seqs: BTreeSet<u64>,
    /// The time when the last of them is due.
    due_at: Timestamp,
}

impl ParkedIndex {
    /// Creates an empty index for this number of events of each reason.
    pub(super) fn new(max_events: usize) -> Self {
        let [retry, consent, identity] = Default::default();
        Self { retry, consent, identity, max_events }
    }

    /// Returns true if there is room for `count` more events of this reason.
    pub(super) fn has_room(&self, reason: ParkReason, count: usize) -> bool {
        self.of(reason).events.len() + count <= self.max_events
    }

    /// Inserts an event, or replaces its entry of the same reason.
    pub(super) fn insert(&mut self, entry: ParkedEntry) {
        let ParkedEntry { keys, seq, due_at, reason, stage } = entry;
        let index = self.of_mut(reason);
        index.remove(seq);
        for key in &keys {
            let visitor = index.visitors.entry(*key);
            let visitor =
                visitor.or_insert_with(|| ParkedVisitor { seqs: BTreeSet::new(), due_at });
            visitor.due_at = visitor.due_at.max(due_at);
            visitor.seqs.insert(seq);
        }
        index.events.insert(seq, ParkedEvent { keys: keys.into(), stage });
    }

    /// Removes an event that comes back out of the journal.
    pub(super) fn leave(&mut self, seq: u64) -> LeftEntry {
        self.retry.remove(seq);
        LeftEntry { consent: self.consent.leave(seq), identity: self.identity.leave(seq) }
    }

    /// Releases the waiting events under these keys, and returns them. Those whose visitor's later events
    /// stay behind them remain until they come back.
    pub(super) fn release(
        &mut self,
        reason: ParkReason,
        keys: &[VisitorOrderKey],
    ) -> BTreeSet<u64> {
        let index = self.of_mut(reason);
        let visitors = keys.iter().filter_map(|key| index.visitors.get(key));
        let mut seqs: BTreeSet<u64> = visitors.flat_map(|it| &it.seqs).copied().collect();
        seqs.retain(|seq| match index.events.get_mut(seq) {
            Some(event) if event.stage == ParkStage::Waiting => {
                event.stage = ParkStage::Released;
                true
            }
            _ => false,
        });
        if reason == ParkReason::Consent {
            for seq in &seqs {
                index.remove(*seq);
            }
        }
        seqs
    }

    /// Releases the oldest waiting event early if there is no room for another one.
    pub(super) fn make_room(&mut self, reason: ParkReason) -> Option<u64> {
        if self.has_room(reason, 1) {
            return None;
        }
        let index = self.of_mut(reason);
        let mut events = index.events.iter();
        let (&seq, _) = events.find(|(_, event)| event.stage == ParkStage::Waiting)?;
        index.remove(seq);
        index.given_up.insert(seq);
        Some(seq)
    }

    /// Returns the time when the visitor's earlier parked events are due, if there are any before this one.
    pub(super) fn earlier_due_at(
        &self,
        reason: ParkReason,
        keys: &[VisitorOrderKey],
        seq: u64,
    ) -> Option<Timestamp> {
        let visitors = keys.iter().filter_map(|key| self.of(reason).visitors.get(key));
        let earlier = visitors.filter(|it| it.seqs.first().is_some_and(|first| *first < seq));
        earlier.map(|it| it.due_at).max()
    }

    fn of(&self, reason: ParkReason) -> &ReasonIndex {
        match reason {
            ParkReason::Retry => &self.retry,
            ParkReason::Consent => &self.consent,
            ParkReason::Identity => &self.identity,
        }
    }

    fn of_mut(&mut self, reason: ParkReason) -> &mut ReasonIndex {
        match reason {
            ParkReason::Retry => &mut self.retry,
            ParkReason::Consent => &mut self.consent,
            ParkReason::Identity => &mut self.identity,
        }
    }
}

impl ReasonIndex {
    fn leave(&mut self, seq: u64) -> LeftState {
        LeftState { stage: self.remove(seq), is_given_up: self.given_up.remove(&seq) }
    }

    fn remove(&mut self, seq: u64) -> Option<ParkStage> {
        let ParkedEvent { keys, stage } = self.events.remove(&seq)?;
        for key in keys {
            if let Some(visitor) = self.visitors.get_mut(&key) {
                visitor.seqs.remove(&seq);
                if visitor.seqs.is_empty() {
                    self.visitors.remove(&key);
                }
            }
        }
        Some(stage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn park(index: &mut ParkedIndex, reason: ParkReason, keys: &[u64], seq: u64, due: i64) {
        let (keys, due_at, stage) = (keys.to_vec(), at(due), ParkStage::Waiting);
        index.insert(ParkedEntry { keys, seq, due_at, reason, stage });
    }

    #[test]
    fn a_visitors_later_events_are_behind_its_earlier_ones_alone() {
        let mut index = ParkedIndex::new(2);
        park(&mut index, ParkReason::Retry, &[7], 3, 10);
        assert!(index.has_room(ParkReason::Retry, 1));
        park(&mut index, ParkReason::Retry, &[7], 5, 10);
        let due =
            |index: &ParkedIndex, key, seq| index.earlier_due_at(ParkReason::Retry, &[key], seq);
        assert_eq!(
            (due(&index, 7, 4), due(&index, 7, 2), due(&index, 8, 4)),
            (Some(at(10)), None, None)
        );
        park(&mut index, ParkReason::Retry, &[7], 3, 20);
        assert_eq!(due(&index, 7, 5), Some(at(20)));
        assert!(!index.has_room(ParkReason::Retry, 1) && index.has_room(ParkReason::Consent, 2));
        index.leave(3);
        assert_eq!(due(&index, 7, 5), None);
        assert!(index.has_room(ParkReason::Retry, 1), "one has left");
        index.leave(3);
        index.leave(5);
        assert_eq!(due(&index, 7, 9), None);
        assert!(index.has_room(ParkReason::Retry, 2), "each left once");
        park(&mut index, ParkReason::Retry, &[7], 3, 10);
        index.leave(4);
        assert_eq!(due(&index, 7, 9), Some(at(10)));
        index.leave(3);
        assert_eq!(due(&index, 7, 9), None);
        assert!(index.retry.visitors.is_empty());
    }

    #[test]
    fn release_frees_each_held_event_once_and_keeps_later_ones_behind() {
        let mut index = ParkedIndex::new(9);
        for (seq, keys) in [(1, &[7, 8][..]), (2, &[8]), (3, &[9])] {
            park(&mut index, ParkReason::Identity, keys, seq, 10);
        }
        let is_behind = |index: &ParkedIndex, key, seq| {
            index.earlier_due_at(ParkReason::Identity, &[key], seq).is_some()
        };
        assert_eq!(index.release(ParkReason::Identity, &[7, 70]), BTreeSet::from([1]));
        assert_eq!(index.release(ParkReason::Identity, &[7]), BTreeSet::new(), "it is due already");
        assert!(is_behind(&index, 7, 4) && !is_behind(&index, 70, 4));
        assert!(!is_behind(&index, 7, 1), "not behind itself");
        assert_eq!(index.leave(1).identity.stage, Some(ParkStage::Released));
        assert!(!is_behind(&index, 7, 4));
        assert_eq!(index.release(ParkReason::Identity, &[8, 9]), BTreeSet::from([2, 3]));
    }

    #[test]
    fn release_for_a_choice_ends_the_hold_of_all_of_the_visitors_events() {
        let mut index = ParkedIndex::new(2);
        park(&mut index, ParkReason::Consent, &[7], 1, 10);
        park(&mut index, ParkReason::Consent, &[7], 2, 10);
        assert_eq!(index.release(ParkReason::Consent, &[7]), BTreeSet::from([1, 2]));
        assert!(index.has_room(ParkReason::Consent, 2));
        assert_eq!(index.leave(1), LeftEntry::default());
    }

    #[test]
    fn make_room_releases_the_oldest_waiting_event_of_the_reason() {
        let mut index = ParkedIndex::new(3);
        for seq in 1..=3 {
            assert_eq!(index.make_room(ParkReason::Identity), None);
            park(&mut index, ParkReason::Identity, &[seq], seq, 10);
        }
        index.release(ParkReason::Identity, &[1]);
        assert_eq!(index.make_room(ParkReason::Consent), None, "each reason has its own limit");
        assert_eq!(index.make_room(ParkReason::Identity), Some(2), "the first is due already");
        assert_eq!(index.leave(2).identity, LeftState { stage: None, is_given_up: true });
        assert_eq!(index.leave(2), LeftEntry::default());
        assert_eq!(index.identity.visitors.len(), 2);
    }
}
