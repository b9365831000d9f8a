//! The part of a worker that knows what is to be tried, and in which order.
//!
//! ```text
//! journal ──intake──▶ holds ──▶ schedule ──next batch──▶ (the worker tries it)
//!    ▲                  │                                  │
//!    └── parked index ◀─┴───────── park ◀── retry queue ◀──┘
//! ```
//!
//! [`intake`] reads events, new ones and parked ones that are due; [`holds`] parks those that wait for their
//! visitor's choice or identity; the [`schedule`] has those that can go now, by visitor; the [`retry_queue`]
//! has batches that wait in memory for their next try; the index of [`parked`] events has those that wait in
//! the journal. The queue's memory is bounded by `queue_events`, `queue_bytes` and `retry.parked_max`.

mod holds;
mod intake;
mod parked;
mod retry_queue;
mod schedule;

pub(super) use intake::{IntakeError, STEP_EVENTS};
pub(super) use retry_queue::DeliveryBatch;
pub(super) use schedule::QueuedEvent;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use moka::sync::Cache;
use tokio::time::Instant;

use self::parked::{ParkReason, ParkStage, ParkedEntry, ParkedIndex};
use self::retry_queue::BatchRetryQueue;
use self::schedule::{BatchLimits, VisitorOrderKey, VisitorSchedule};
use super::context::WorkerContext;
use super::health::Health;
use super::settlements::Settlements;
use tagway_core::privacy::ConsentRecord;
use tagway_storage::journal::{MAX_CAREFUL_GROUP, ParkRequest};

/// The most visitors whose choice is cached.
const MAX_DECISIONS: u64 = 100_000;

/// The events of one destination that are to be tried.
pub(super) struct Queue {
    context: Arc<WorkerContext>,
    /// Everything up to this event has been read.
    pub(super) read_to: u64,
    schedule: VisitorSchedule,
    retries: BatchRetryQueue,
    parked: ParkedIndex,
    /// The time when parked events are due, or at which to look for them.
    pub(super) next_due: Option<Instant>,
    /// The choices of visitors for as long as events are held for them: they apply to events without a consent
    /// record too, from another library of the same page.
    decisions: Cache<VisitorOrderKey, ConsentRecord>,
}

impl Queue {
    /// Creates a queue that reads the events after `read_to`.
    pub(super) fn new(context: Arc<WorkerContext>, read_to: u64) -> Self {
        let decisions = Cache::builder().max_capacity(MAX_DECISIONS);
        Self {
            read_to,
            schedule: VisitorSchedule::default(),
            retries: BatchRetryQueue::default(),
            parked: ParkedIndex::new(context.settings.retry.parked_max),
            next_due: Some(Instant::now()),
            decisions: decisions.time_to_live(context.settings.consent_wait).build(),
            context,
        }
    }

    /// Returns true if more events may be read: bounds the memory of one destination.
    pub(super) fn has_room(&self) -> bool {
        self.schedule.len() + self.retries.events() < self.context.settings.queue_events
            && self.schedule.bytes() + self.retries.bytes() < self.context.settings.queue_bytes
    }

    /// Returns true if batches that wait for their next try, with `more` events, would fill half of the
    /// memory. They must leave room for untried events: only these can show that the destination accepts
    /// others.
    pub(super) fn is_crowded(&self, more: usize) -> bool {
        self.retries.events() + more > self.context.settings.queue_events / 2
    }

    /// Returns true if the memory is full of batches that wait for their next try.
    pub(super) fn is_jammed(&self) -> bool {
        !self.has_room() && self.schedule.len() == 0
    }

    /// Returns true if `count` more events may be parked after failed tries.
    pub(super) fn can_park(&self, count: usize) -> bool {
        self.parked.has_room(ParkReason::Retry, count)
    }

    /// Returns true if no event is ready to go.
    pub(super) fn is_idle(&self) -> bool {
        self.schedule.ready_len() == 0
    }

    /// Returns true if a batch waits for its next try.
    pub(super) fn has_retries(&self) -> bool {
        !self.retries.is_empty()
    }

    /// Returns the time when the next batch is ready.
    pub(super) fn next_batch_at(&self) -> Option<Instant> {
        let fresh = self.schedule.oldest().map(|at| at + self.context.settings.limits.batch_delay);
        self.retries.next().into_iter().chain(fresh).min()
    }

    /// Returns a batch whose next try is due, else a fresh one that is full or has waited long enough. While
    /// the destination is in doubt the two alternate: a failing batch may itself be the cause, and must not be
    /// all that is ever tried.
    pub(super) fn next_batch(
        &mut self,
        health: &mut Health,
        now: Instant,
    ) -> Option<DeliveryBatch> {
        if health.take_fresh_turn()
            && let Some(fresh) = self.fresh_batch(None)
        {
            return Some(fresh);
        }
        if let Some(batch) = self.retries.take_due(now) {
            health.is_fresh_next = true;
            return Some(batch);
        }
        self.fresh_batch(Some(now))
    }

    /// Returns events that have not failed in this order; with a time, only if they are many or have waited.
    fn fresh_batch(&mut self, now: Option<Instant>) -> Option<DeliveryBatch> {
        let WorkerContext { settings, reader_guard, .. } = &*self.context;
        let oldest = self.schedule.oldest()?;
        // In careful mode there is no more to wait for.
        let now = now.filter(|_| !reader_guard.is_careful());
        let is_full = self.schedule.ready_len() >= settings.limits.max_events;
        if !is_full && now.is_some_and(|now| now < oldest + settings.limits.batch_delay) {
            return None;
        }
        let most = match reader_guard.is_careful() {
            _ if reader_guard.has_suspects() => 1,
            true => MAX_CAREFUL_GROUP,
            false => usize::MAX,
        };
        let items = self.schedule.next_batch(BatchLimits {
            scope: settings.limits.scope,
            events: settings.limits.max_events.min(most),
            bytes: settings.limits.max_bytes,
            alone_after_attempts: settings.retry.tries_before_parking,
        });
        let attempt = items.iter().map(|item| item.attempt).max().unwrap_or(0);
        (!items.is_empty()).then(|| DeliveryBatch { attempt, ..DeliveryBatch::of(items) })
    }

    /// Queues a batch for its next try.
    pub(super) fn retry_at(&mut self, at: Instant, batch: DeliveryBatch) {
        if !batch.items.is_empty() {
            self.retries.push(at, batch);
        }
    }

    /// Records that an event of a batch has ended: its visitor's later events may go.
    pub(super) fn finish(&mut self, item: &QueuedEvent) {
        self.schedule.finish(item.visitor);
    }

    /// Parks an event of a batch, with its visitor's later events.
    pub(super) fn park_with_later_events(
        &mut self,
        item: QueuedEvent,
        due_at: Timestamp,
        settlements: &mut Settlements,
    ) {
        self.park(&item, due_at, settlements);
        for behind in self.schedule.withdraw(item.visitor) {
            self.park(&behind, due_at, settlements);
        }
        self.schedule.finish(item.visitor);
    }

    /// Parks one event; from now on its visitor's later events queue up behind it. An event parked by a
    /// worker counts as tried, at least once: one parked by an operator does not.
    fn park(&mut self, item: &QueuedEvent, due_at: Timestamp, settlements: &mut Settlements) {
        let (seq, attempt) = (item.event.seq, item.attempt.max(1));
        settlements.park(ParkRequest { seq, due_at, attempt }, item.was_parked);
        self.parked.insert(ParkedEntry {
            keys: vec![item.visitor],
            seq,
            due_at,
            reason: ParkReason::Retry,
            stage: ParkStage::Waiting,
        });
        self.wake_at(due_at, self.context.client.clock.now());
    }

    /// Makes the worker look for due events at this time at the latest.
    fn wake_at(&mut self, due_at: Timestamp, now: Timestamp) {
        let at = Instant::now() + wait_until(due_at, now);
        self.next_due = Some(self.next_due.map_or(at, |next| next.min(at)));
    }
}

/// Returns the time until the event is due; zero if it is.
fn wait_until(due_at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(due_at.duration_since(now)).unwrap_or_default()
}
