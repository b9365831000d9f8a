//! The action on a batch's outcomes: end, retry, park, split, pause.

use std::time::Duration;

use tokio::time::Instant;

use super::activity::{CredentialState, DestinationFailure};
use super::admission::to_ending;
use super::attempt::AttemptedBatch;
use super::context::WorkerContext;
use super::destination_client::PublishedOutcome;
use super::health::Health;
use super::queue::{DeliveryBatch, Queue, QueuedEvent};
use super::settlements::Settlements;
use tagway_vendors::{Outcome, OutcomeReason};

/// The parts of a worker that the end of a batch changes.
pub(super) struct BatchEnding<'w> {
    pub(super) context: &'w WorkerContext,
    pub(super) queue: &'w mut Queue,
    pub(super) health: &'w mut Health,
    pub(super) settlements: &'w mut Settlements,
    pub(super) now: Instant,
    /// The duration of the batch's last call.
    pub(super) milliseconds: Option<u64>,
}

/// An event that the vendor did not take, with the reason.
struct RefusedEvent {
    item: QueuedEvent,
    reason: OutcomeReason,
}

/// A batch's events by their next step.
#[derive(Default)]
struct SortedOutcomes {
    refused: Vec<RefusedEvent>,
    retryable: Vec<QueuedEvent>,
    requested_wait: Option<Duration>,
    throttled: Vec<QueuedEvent>,
    throttled_for: Duration,
    unauthorised: Vec<RefusedEvent>,
    any_accepted: bool,
}

impl BatchEnding<'_> {
    /// Handles the outcomes of a batch.
    pub(super) fn finish(mut self, attempted: AttemptedBatch) {
        let AttemptedBatch { mut batch, mut outcomes, calls, .. } = attempted;
        let client = &self.context.client;
        for ((item, outcome), call) in batch.items.iter().zip(&mut outcomes).zip(calls) {
            let is_skipped = matches!(outcome, Outcome::Skipped(_));
            if let Some(reason) = outcome.reason_mut().filter(|_| !is_skipped) {
                let failure = DestinationFailure {
                    at: client.clock.now(),
                    reason: reason.clone(),
                    call: call.clone(),
                };
                client.activity.record_failure(failure);
                client.failures.record_failure(item.event.seq, item.attempt, reason, call);
            }
        }
        if outcomes.contains(&Outcome::Delivered) {
            client.activity.record_credentials(CredentialState::Accepted);
        }
        batch.attempt = batch.attempt.saturating_add(1);
        let mut sorted = self.sort_outcomes(std::mem::take(&mut batch.items), outcomes);
        if batch.forbidden_at.is_some_and(|before| self.health.acceptances > before) {
            // Other events passed with the same credentials, so these events themselves are refused.
            sorted.refused.append(&mut sorted.unauthorised);
        }
        if !sorted.unauthorised.is_empty() {
            let items = sorted.unauthorised.into_iter().map(|it| it.item).collect();
            self.pause_for_credentials(batch.take_part(items));
        } else if sorted.any_accepted || !sorted.refused.is_empty() {
            // A reply that refuses an event still shows that the destination works.
            self.health.record_reply();
        }
        if sorted.any_accepted {
            self.health.record_acceptance(self.now);
        }
        if !sorted.throttled.is_empty() {
            let mut part = batch.take_part(sorted.throttled);
            if !sorted.retryable.is_empty() {
                // The later events go after the last part.
                std::mem::swap(&mut part.later_events, &mut batch.later_events);
            }
            let wait = self.retry_wait(&part, Some(sorted.throttled_for));
            self.schedule_retry(part, wait);
        }
        if !sorted.retryable.is_empty() {
            let part = batch.take_part(sorted.retryable);
            self.retry(part, sorted.requested_wait, sorted.any_accepted);
        }
        if !sorted.refused.is_empty() {
            self.split(sorted.refused, &mut batch);
        }
        self.queue.retry_at(self.now, DeliveryBatch::of(batch.later_events));
    }

    /// Ends the events with a final outcome, and sorts the rest.
    fn sort_outcomes(&mut self, items: Vec<QueuedEvent>, outcomes: Vec<Outcome>) -> SortedOutcomes {
        let mut sorted = SortedOutcomes::default();
        for (item, outcome) in items.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Delivered | Outcome::Dead(_) => {
                    sorted.any_accepted = true;
                    self.end(&item, outcome);
                }
                Outcome::Skipped(_) => self.end(&item, outcome),
                Outcome::Refused(reason) => sorted.refused.push(RefusedEvent { item, reason }),
                Outcome::Retry { reason, after } => {
                    self.publish_retry(&item, &reason);
                    sorted.requested_wait = sorted.requested_wait.max(after);
                    sorted.retryable.push(item);
                }
                Outcome::Throttled { reason, after } => {
                    // A vendor that holds one visitor back still serves the others.
                    sorted.any_accepted = true;
                    self.publish_retry(&item, &reason);
                    sorted.throttled_for = sorted.throttled_for.max(after);
                    sorted.throttled.push(item);
                }
                Outcome::Unauthorised(reason) => {
                    self.publish_retry(&item, &reason);
                    sorted.unauthorised.push(RefusedEvent { item, reason });
                }
            }
        }
        sorted
    }

    /// Handles refused credentials: gives up no event, and retries at intervals.
    fn pause_for_credentials(&mut self, mut batch: DeliveryBatch) {
        batch.attempt = batch.attempt.saturating_sub(1);
        batch.forbidden_at = batch.forbidden_at.or(Some(self.health.acceptances));
        let until = self.health.record_unauthorised(self.now);
        self.queue.retry_at(until, batch);
    }

    /// Halves a refused batch until the bad event is alone. Halves of different visitors go in parallel; of
    /// one visitor, the second waits for the first.
    fn split(&mut self, mut refused: Vec<RefusedEvent>, batch: &mut DeliveryBatch) {
        if refused.len() == 1
            && let Some(RefusedEvent { item, reason }) = refused.pop()
        {
            return self.end(&item, Outcome::Dead(reason));
        }
        let mut first: Vec<QueuedEvent> = refused.into_iter().map(|it| it.item).collect();
        let middle = first.len() / 2;
        let starts = first.iter().zip(first.iter().skip(1)).enumerate();
        let starts = starts.filter(|(_, (item, next))| item.visitor != next.visitor);
        let boundary = starts.map(|(index, _)| index + 1).min_by_key(|at| at.abs_diff(middle));
        let mut second = first.split_off(boundary.unwrap_or(middle));
        let mut later_events = std::mem::take(&mut batch.later_events);
        let forbidden_at = batch.forbidden_at;
        if boundary.is_some() {
            let half = DeliveryBatch { forbidden_at, ..DeliveryBatch::of(second) };
            self.queue.retry_at(self.now, half);
        } else {
            second.append(&mut later_events);
            later_events = second;
        }
        let half = DeliveryBatch { later_events, forbidden_at, ..DeliveryBatch::of(first) };
        self.queue.retry_at(self.now, half);
    }

    /// Retries events after a failure of the call, which counts for the destination as well.
    fn retry(&mut self, batch: DeliveryBatch, asked: Option<Duration>, any_accepted: bool) {
        // Another failure of a parked event shows nothing about the destination while other events pass.
        // Such failures do not count for the breaker.
        let is_known = batch.items.iter().all(|item| item.was_parked && item.attempt > 0);
        let says_nothing = is_known && self.health.has_recent_success(self.now);
        if !any_accepted && (batch.is_probe || !says_nothing) {
            self.health.breaker.failed(batch.is_probe, self.now);
        }
        let wait = self.retry_wait(&batch, asked);
        if let Some(asked) = asked {
            self.health.wait_for_vendor(asked, self.now);
        }
        self.schedule_retry(batch, wait);
    }

    fn retry_wait(&self, batch: &DeliveryBatch, asked: Option<Duration>) -> Duration {
        self.context.settings.retry.wait(batch.attempt, asked, fastrand::f64())
    }

    /// Queues events for their next try. Once they have failed often enough they are parked, so that later
    /// events can go on.
    fn schedule_retry(&mut self, mut batch: DeliveryBatch, wait: Duration) {
        let (now, settings) = (self.context.client.clock.now(), &self.context.settings);
        let (expired, items): (Vec<_>, Vec<_>) = batch.items.into_iter().partition(|item| {
            let age = now.duration_since(item.event.event.received_at);
            Duration::try_from(age).unwrap_or_default() > settings.limits.max_age
        });
        batch.items = items;
        for item in expired {
            self.end(&item, Outcome::dead("too_old"));
        }
        if batch.items.is_empty() {
            return self.queue.retry_at(self.now, DeliveryBatch::of(batch.later_events));
        }
        let count = batch.items.len();
        let is_jammed = batch.is_probe && self.queue.is_jammed();
        let is_stubborn =
            batch.attempt >= settings.retry.tries_before_parking && self.health.breaker.is_closed();
        let makes_room =
            self.queue.is_crowded(count) && (self.health.has_recent_success(self.now) || is_jammed);
        if self.queue.can_park(count) && (is_stubborn || makes_room) {
            self.park(batch, wait);
        } else {
            self.queue.retry_at(self.now + wait, batch);
        }
    }

    /// Parks events that fail while the destination works, so that others pass. The later events of their
    /// visitors are parked with them.
    fn park(&mut self, batch: DeliveryBatch, wait: Duration) {
        let due_at = self.context.client.clock.now() + wait;
        for mut item in batch.items {
            item.attempt = item.attempt.max(batch.attempt);
            self.queue.park_with_later_events(item, due_at, self.settlements);
        }
        for item in batch.later_events {
            self.queue.park_with_later_events(item, due_at, self.settlements);
        }
    }

    fn end(&mut self, item: &QueuedEvent, outcome: Outcome) {
        let ended = item.ended(to_ending(outcome));
        self.settlements.end_publicly(&item.event, ended, self.milliseconds);
        self.queue.finish(item);
    }

    fn publish_retry(&self, item: &QueuedEvent, reason: &OutcomeReason) {
        let client = &self.context.client;
        if !client.feed.wants(&client.labels.site, &[item.event.seq]) {
            return;
        }
        // Recorded before: this try is counted.
        let attempt = client.failures.get(item.event.seq).map_or(0, |failure| failure.attempts);
        let published = PublishedOutcome {
            outcome: "retry",
            reason: reason.code,
            detail: reason.detail.as_deref(),
            attempt,
            milliseconds: self.milliseconds,
        };
        client.publish_outcome(&item.event, published);
    }
}
