//! Batches that wait between two tries.

use tokio::time::Instant;

use super::schedule::QueuedEvent;

/// Events that go in one delivery, with the state of their tries.
pub(super) struct DeliveryBatch {
    pub(super) items: Vec<QueuedEvent>,
    /// Later events of the same visitor, which go once these have ended.
    pub(super) later_events: Vec<QueuedEvent>,
    /// The number of calls made for these same events together.
    pub(super) attempt: u32,
    /// The number of batches the destination had accepted when it refused the credentials for this one.
    pub(super) forbidden_at: Option<u64>,
    /// True if its end decides whether the breaker closes.
    pub(super) is_probe: bool,
}

impl DeliveryBatch {
    /// Builds a batch that has not been tried.
    pub(super) fn of(items: Vec<QueuedEvent>) -> Self {
        Self { items, later_events: Vec::new(), attempt: 0, forbidden_at: None, is_probe: false }
    }

    fn len(&self) -> usize {
        self.items.len() + self.later_events.len()
    }

    fn bytes(&self) -> usize {
        self.items.iter().chain(&self.later_events).map(|item| item.bytes).sum()
    }
}

/// The batches that wait for their next try.
#[derive(Default)]
pub(super) struct BatchRetryQueue {
    batches: Vec<(Instant, DeliveryBatch)>,
    events: usize,
    bytes: usize,
}

impl BatchRetryQueue {
    /// Queues a batch until `at`.
    pub(super) fn push(&mut self, at: Instant, batch: DeliveryBatch) {
        self.events += batch.len();
        self.bytes += batch.bytes();
        self.batches.push((at, batch));
    }

    /// Takes the batch that has been due longest at `now`.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<DeliveryBatch> {
        let due = self.batches.iter().enumerate().filter(|(_, (at, _))| *at <= now);
        let (index, _) = due.min_by_key(|(_, (at, _))| *at)?;
        let (_, batch) = self.batches.swap_remove(index);
        self.events -= batch.len();
        self.bytes -= batch.bytes();
        Some(batch)
    }

    /// Returns the time when the first of them is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.batches.iter().map(|(at, _)| *at).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Returns the number of events in all of them.
    pub(super) fn events(&self) -> usize {
        self.events
    }

    /// Returns the bytes of all their events.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
