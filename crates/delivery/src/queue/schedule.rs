//! The choice of the next events to send. Pure: knows visitors and limits, no clock and no network.
//!
//! Events of one visitor leave in their order: while a visitor has an event in flight, its later events
//! wait. Different visitors do not wait for each other. The cost of each operation does not depend on the
//! number of waiting events.

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

use tagway_core::event::EnrichedEvent;
use tagway_storage::journal::{EndedEvent, Ending};
use tagway_vendors::BatchScope;

/// A visitor's key for the order of events: a hash of the event's order key. Two visitors with equal hashes
/// only wait for each other.
pub(crate) type VisitorOrderKey = u64;

/// One event in a worker's memory.
#[derive(Clone, Debug)]
pub(crate) struct QueuedEvent {
    /// The event with its visitor's profile.
    pub(crate) event: EnrichedEvent,
    /// The key of its visitor.
    pub(crate) visitor: VisitorOrderKey,
    /// The size of its record in the journal, in bytes.
    pub(crate) bytes: usize,
    /// True if it came out of the parked events.
    pub(crate) was_parked: bool,
    /// The number of its tries so far.
    pub(crate) attempt: u32,
    /// The time when it was queued.
    pub(crate) queued_at: Instant,
}

/// The bounds of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchLimits {
    pub(super) scope: BatchScope,
    pub(super) events: usize,
    pub(super) bytes: usize,
    /// An event parked after this many tries goes alone: otherwise the others of its batch would fail with
    /// it.
    pub(super) alone_after_attempts: u32,
}

impl QueuedEvent {
    /// Returns the end of the event.
    pub(crate) fn ended(&self, ending: Ending) -> EndedEvent {
        let Self { event, was_parked, attempt, .. } = self;
        EndedEvent { seq: event.seq, was_parked: *was_parked, attempts: *attempt, ending }
    }

    fn goes_alone(&self, from: u32) -> bool {
        self.was_parked && self.attempt >= from
    }
}

/// The events that wait for a batch.
#[derive(Debug, Default)]
pub(super) struct VisitorSchedule {
    waiting: HashMap<VisitorOrderKey, VecDeque<QueuedEvent>>,
    // Events in flight by visitor; a visitor is here or in `ready`, never in both.
    in_flight: HashMap<VisitorOrderKey, usize>,
    ready: VecDeque<VisitorOrderKey>,
    len: usize,
    bytes: usize,
    ready_len: usize,
}

impl VisitorSchedule {
    /// Queues an event behind its visitor's others.
    pub(super) fn push(&mut self, item: QueuedEvent) {
        self.len += 1;
        self.bytes += item.bytes;
        let visitor = item.visitor;
        let is_free = !self.in_flight.contains_key(&visitor);
        let queue = self.waiting.entry(visitor).or_default();
        if is_free {
            self.ready_len += 1;
            if queue.is_empty() {
                self.ready.push_back(visitor);
            }
        }
        queue.push_back(item);
    }

    /// Returns the number of waiting events, ready or not.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns the bytes of all waiting events.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the number of events that are ready to go.
    pub(super) fn ready_len(&self) -> usize {
        self.ready_len
    }

    /// Returns the time when the oldest of the ready events was queued.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let visitor = self.ready.front()?;
        self.waiting.get(visitor)?.front().map(|item| item.queued_at)
    }

    /// Takes the next batch: empty if no event is ready. Its visitors are in flight until
    /// [`VisitorSchedule::finish`] has been called for each of its events.
    pub(super) fn next_batch(&mut self, limits: BatchLimits) -> Vec<QueuedEvent> {
        let mut batch: Vec<QueuedEvent> = Vec::new();
        let mut bytes = 0;
        let is_alone = |batch: &[QueuedEvent]| {
            batch.iter().any(|item| item.goes_alone(limits.alone_after_attempts))
        };
        while let Some(visitor) = self.ready.pop_front() {
            let Some(queue) = self.waiting.get_mut(&visitor) else { continue };
            let available = queue.len();
            let before = batch.len();
            while let Some(item) = queue.front() {
                let fits = batch.len() < limits.events
                    && bytes + item.bytes <= limits.bytes
                    && !item.goes_alone(limits.alone_after_attempts)
                    && !is_alone(&batch);
                if !fits && !batch.is_empty() {
                    break;
                }
                bytes += item.bytes;
                batch.extend(queue.pop_front());
            }
            if queue.is_empty() {
                self.waiting.remove(&visitor);
            }
            let taken = batch.len() - before;
            if taken == 0 {
                self.ready.push_front(visitor);
                break;
            }
            self.in_flight.insert(visitor, taken);
            self.ready_len -= available;
            if limits.scope == BatchScope::Visitor || taken < available || is_alone(&batch) {
                break;
            }
        }
        self.len -= batch.len();
        self.bytes -= bytes;
        batch
    }

    /// Takes out all waiting events of this visitor, in order.
    pub(super) fn withdraw(&mut self, visitor: VisitorOrderKey) -> Vec<QueuedEvent> {
        let Some(queue) = self.waiting.remove(&visitor) else { return Vec::new() };
        self.len -= queue.len();
        self.bytes -= queue.iter().map(|item| item.bytes).sum::<usize>();
        if !self.in_flight.contains_key(&visitor) {
            self.ready_len -= queue.len();
            self.ready.retain(|ready| *ready != visitor);
        }
        queue.into()
    }

    /// Records that an event of this visitor is no longer in flight. After the last one, the visitor's later
    /// events become ready.
    pub(super) fn finish(&mut self, visitor: VisitorOrderKey) {
        let Some(count) = self.in_flight.get_mut(&visitor) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        self.in_flight.remove(&visitor);
        if let Some(queue) = self.waiting.get(&visitor) {
            self.ready_len += queue.len();
            self.ready.push_back(visitor);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use tagway_core::event::{Event, ProfileView};

    fn item(seq: u64, visitor: VisitorOrderKey, bytes: usize) -> QueuedEvent {
        let event: Event = serde_json::from_value(serde_json::json!({
            "type": "track", "messageId": "m",
            "timestamp": "2026-11-23T10:00:00Z", "receivedAt": "2026-11-23T10:00:00Z",
        }))
        .unwrap();
        let event = EnrichedEvent::new(seq, Arc::new(event), Arc::new(ProfileView::default()));
        let queued_at = Instant::now();
        QueuedEvent { event, visitor, bytes, was_parked: false, attempt: 0, queued_at }
    }

    fn seqs(batch: &[QueuedEvent]) -> Vec<u64> {
        batch.iter().map(|item| item.event.seq).collect()
    }

    fn limits(unit: BatchScope, events: usize) -> BatchLimits {
        BatchLimits { scope: unit, events, bytes: 1000, alone_after_attempts: 3 }
    }

    #[test]
    fn next_batch_keeps_a_visitors_later_events_behind_earlier_ones() {
        let mut schedule = VisitorSchedule::default();
        for (seq, visitor) in [(1, 7), (2, 8), (3, 7)] {
            schedule.push(item(seq, visitor, 10));
        }
        let first = schedule.next_batch(limits(BatchScope::Site, 2));
        assert_eq!(seqs(&first), [1, 3], "both of visitor 7, in order");
        schedule.push(item(4, 7, 10));
        assert_eq!(seqs(&schedule.next_batch(limits(BatchScope::Site, 9))), [2]);
        assert!(schedule.next_batch(limits(BatchScope::Site, 9)).is_empty());
        schedule.finish(7);
        assert_eq!(schedule.ready_len(), 0, "one of two is still under way");
        schedule.finish(7);
        assert_eq!(seqs(&schedule.next_batch(limits(BatchScope::Site, 9))), [4]);
    }

    #[test]
    fn next_batch_of_visitor_scope_never_mixes_visitors() {
        let mut schedule = VisitorSchedule::default();
        for (seq, visitor) in [(1, 7), (2, 8), (3, 7)] {
            schedule.push(item(seq, visitor, 10));
        }
        assert_eq!(seqs(&schedule.next_batch(limits(BatchScope::Visitor, 9))), [1, 3]);
        assert_eq!(seqs(&schedule.next_batch(limits(BatchScope::Visitor, 9))), [2]);
    }

    #[test]
    fn next_batch_respects_bytes_but_takes_at_least_one_event() {
        let mut schedule = VisitorSchedule::default();
        for (seq, bytes) in [(1, 5000), (2, 600), (3, 600)] {
            schedule.push(item(seq, seq, bytes));
        }
        assert_eq!(
            seqs(&schedule.next_batch(limits(BatchScope::Site, 9))),
            [1],
            "too large, alone"
        );
        assert_eq!(seqs(&schedule.next_batch(limits(BatchScope::Site, 9))), [2]);
        assert_eq!((schedule.len(), schedule.bytes()), (1, 600));
    }

    #[test]
    fn next_batch_sends_a_parked_event_alone() {
        let mut schedule = VisitorSchedule::default();
        schedule.push(item(1, 7, 10));
        schedule.push(QueuedEvent { was_parked: true, attempt: 3, ..item(2, 8, 10) });
        schedule.push(QueuedEvent { was_parked: true, attempt: 2, ..item(3, 9, 10) });
        schedule.push(item(4, 10, 10));
        for expected in [&[1][..], &[2], &[3, 4]] {
            assert_eq!(seqs(&schedule.next_batch(limits(BatchScope::Site, 9))), expected);
        }
    }

    proptest! {
        #[test]
        fn next_batch_takes_every_event_once_in_its_visitors_order(
            events in prop::collection::vec((0..5_u64, 1..400_usize), 1..80),
            takes in prop::collection::vec((1..6_usize, any::<bool>()), 1..200),
        ) {
            let mut schedule = VisitorSchedule::default();
            let (mut events, mut next_seq) = (events.into_iter(), 0);
            let mut under_way: VecDeque<Vec<QueuedEvent>> = VecDeque::new();
            let mut gone: BTreeMap<VisitorOrderKey, Vec<u64>> = BTreeMap::new();
            let mut total = 0;
            for (count, finish_first) in takes.into_iter().cycle().take(2000) {
                for (visitor, bytes) in events.by_ref().take(2) {
                    next_seq += 1;
                    schedule.push(item(next_seq, visitor, bytes));
                }
                if finish_first && let Some(batch) = under_way.pop_front() {
                    for item in batch {
                        schedule.finish(item.visitor);
                    }
                }
                let ready = schedule.ready_len();
                let batch = schedule.next_batch(limits(BatchScope::Site, count));
                prop_assert_eq!(batch.is_empty(), ready == 0);
                for item in &batch {
                    let busy = under_way.iter().flatten().any(|other| other.visitor == item.visitor);
                    prop_assert!(!busy, "a visitor has two batches under way");
                    gone.entry(item.visitor).or_default().push(item.event.seq);
                }
                total += batch.len();
                under_way.push_back(batch);
            }
            while let Some(batch) = under_way.pop_front() {
                for item in batch {
                    schedule.finish(item.visitor);
                }
            }
            total += std::iter::from_fn(|| {
                let batch = schedule.next_batch(limits(BatchScope::Site, 9));
                for item in &batch {
                    gone.entry(item.visitor).or_default().push(item.event.seq);
                    schedule.finish(item.visitor);
                }
                (!batch.is_empty()).then_some(batch.len())
            })
            .sum::<usize>();
            prop_assert_eq!(total as u64, next_seq);
            prop_assert_eq!((schedule.len(), schedule.bytes(), schedule.ready_len()), (0, 0, 0));
            for seqs in gone.values() {
                prop_assert!(seqs.is_sorted());
            }
        }
    }
}
