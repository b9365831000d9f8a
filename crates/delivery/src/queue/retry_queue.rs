//! Batches that wait between two tries.

use tokio::time::Instant;

use super::schedule::QueuedEvent;

/// Events that go in one delivery, with the state of their tries.
pub(crate) struct DeliveryBatch {
    pub(crate) items: Vec<QueuedEvent>,
    /// Later events of the same visitor, which go once these have ended.
    pub(crate) later_events: Vec<QueuedEvent>,
    /// The number of calls made for these same events together.
    pub(crate) attempt: u32,
    /// The number of batches the destination had accepted when it refused the credentials for this one.
    pub(crate) forbidden_at: Option<u64>,
    /// True if its end decides whether the breaker closes.
    pub(crate) is_probe: bool,
}

impl DeliveryBatch {
    /// Builds a batch that has not been tried.
    pub(crate) fn of(items: Vec<QueuedEvent>) -> Self {
        Self { items, later_events: Vec::new(), attempt: 0, forbidden_at: None, is_probe: false }
    }

    /// Takes these events and all later ones out of the batch, with its tries.
    pub(crate) fn take_part(&mut self, items: Vec<QueuedEvent>) -> Self {
        let later_events = std::mem::take(&mut self.later_events);
        Self { items, later_events, ..*self }
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
pub(crate) struct BatchRetryQueue {
    batches: Vec<(Instant, DeliveryBatch)>,
    events: usize,
    bytes: usize,
}

impl BatchRetryQueue {
    /// Queues a batch until `at`.
    pub(crate) fn push(&mut self, at: Instant, batch: DeliveryBatch) {
        self.events += batch.len();
        self.bytes += batch.bytes();
        self.batches.push((at, batch));
    }

    /// Takes the batch that has been due longest at `now`.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<DeliveryBatch> {
        let due = self.batches.iter().enumerate().filter(|(_, (at, _))| *at <= now);
        let (index, _) = due.min_by_key(|(_, (at, _))| *at)?;
        let (_, batch) = self.batches.swap_remove(index);
        self.events -= batch.len();
        self.bytes -= batch.bytes();
        Some(batch)
    }

    /// Returns the time when the first of them is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.batches.iter().map(|(at, _)| *at).min()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Returns the number of events in all of them.
    pub(crate) fn events(&self) -> usize {
        self.events
    }

    /// Returns the bytes of all their events.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
