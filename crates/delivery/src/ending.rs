//! The handling of a batch's outcomes for its events.

use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinError;
use tokio::time::Instant;

use super::destination_client::DestinationClient;
use super::retry_queue::DeliveryBatch;
use super::schedule::QueuedEvent;
use super::worker::{AttemptedBatch, DeliveryWorker};
use tagway_core::event::EnrichedEvent;
use tagway_core::feed::FeedEvent;
use tagway_core::metrics::OutcomeLabels;
use tagway_storage::journal::{EndedEvent, FinalOutcome, OutcomeCause, ParkRequest};
use tagway_vendors::{Outcome, OutcomeReason};

/// A batch's events by their next step.
#[derive(Default)]
struct SortedOutcomes {
    refused: Vec<(QueuedEvent, OutcomeReason)>,
    retryable: Vec<QueuedEvent>,
    requested_wait: Option<Duration>,
    throttled: Vec<QueuedEvent>,
    throttled_for: Duration,
    unauthorised: Vec<(QueuedEvent, OutcomeReason)>,
    any_accepted: bool,
}

/// The tries of a batch so far, the last one included.
#[derive(Clone, Copy)]
struct AttemptHistory {
    attempt: u32,
    forbidden_at: Option<u64>,
    is_probe: bool,
}

/// The part of a batch that is worth another try.
struct RetryCandidates {
    items: Vec<QueuedEvent>,
    /// The later events that go after it.
    later_events: Vec<QueuedEvent>,
    /// The wait that the vendor asked for.
    requested_wait: Option<Duration>,
    /// True if the vendor accepted others of the batch.
    any_accepted: bool,
}

impl DeliveryWorker {
    /// Handles the end of a batch's task.
    pub(super) fn handle_task_end(&mut self, ended: Result<AttemptedBatch, JoinError>) {
        let attempted = match ended {
            Ok(ended) => ended,
            // A defect outside the vendors' code: another worker starts anew in careful mode.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // Only a worker that is ending aborts its tasks; their events hold the cursor.
            Err(_) => return,
        };
        let is_probe = attempted.batch.is_probe;
        self.finish(attempted);
        if is_probe {
            // A probe without a clear result must not be waited for.
            self.state.breaker.probe_lapsed(Instant::now());
        }
    }

    fn finish(&mut self, attempted: AttemptedBatch) {
        let now = Instant::now();
        self.note_failures(&attempted);
        let AttemptedBatch { batch, outcomes, .. } = attempted;
        let DeliveryBatch { items, later_events: then, attempt, forbidden_at, is_probe } = batch;
        let tried = AttemptHistory { attempt: attempt.saturating_add(1), forbidden_at, is_probe };
        let mut then = then;
        let mut sorted = self.sort_outcomes(items, outcomes);
        if forbidden_at.is_some_and(|before| self.state.acceptances > before) {
            // Other events passed with the same credentials, so these events themselves are refused.
            sorted.refused.append(&mut sorted.unauthorised);
        }
        if !sorted.unauthorised.is_empty() {
            self.state.breaker.succeeded();
            let items = sorted.unauthorised.into_iter().map(|(item, _)| item).collect();
            self.pause_for_credentials(items, std::mem::take(&mut then), tried, now);
        } else if sorted.any_accepted || !sorted.refused.is_empty() {
            // A reply that refuses an event still shows that the destination works.
            self.state.breaker.succeeded();
            self.resume();
        }
        if sorted.any_accepted {
            self.state.acceptances += 1;
            self.state.accepted_at = Some(now);
        }
        if !sorted.throttled.is_empty() {
            let asked = Some(sorted.throttled_for);
            let wait = self.settings.retry.wait(tried.attempt, asked, fastrand::f64());
            let then =
                if sorted.retryable.is_empty() { std::mem::take(&mut then) } else { Vec::new() };
            self.schedule_retry(sorted.throttled, then, (tried, wait), now);
        }
        if !sorted.retryable.is_empty() {
            let again = RetryCandidates {
                items: sorted.retryable,
                later_events: std::mem::take(&mut then),
                requested_wait: sorted.requested_wait,
                any_accepted: sorted.any_accepted,
            };
            self.retry(again, tried, now);
        }
        if !sorted.refused.is_empty() {
            self.split(sorted.refused, std::mem::take(&mut then), forbidden_at, now);
        }
        if !then.is_empty() {
            self.state.retry_queue.push(now, DeliveryBatch::of(then));
        }
    }

    /// Records the failed tries, for lookups and for the dead letters that follow.
    fn note_failures(&self, attempted: &AttemptedBatch) {
        let AttemptedBatch { batch, outcomes, calls } = attempted;
        let mut calls = calls.iter();
        for (item, outcome) in batch.items.iter().zip(outcomes) {
            let call = calls.next().cloned().flatten();
            let reason = match outcome {
                Outcome::Delivered | Outcome::Skipped(_) => continue,
                Outcome::Dead(reason)
                | Outcome::Refused(reason)
                | Outcome::Retry { reason, .. }
                | Outcome::Throttled { reason, .. }
                | Outcome::Unauthorised(reason) => reason,
            };
            self.client.failures.record_failure((item.event.seq, item.attempt), reason, call);
        }
    }

    /// Ends the events with a final outcome, and sorts the rest.
    fn sort_outcomes(&mut self, items: Vec<QueuedEvent>, outcomes: Vec<Outcome>) -> SortedOutcomes {
        let mut sorted = SortedOutcomes::default();
        // A vendor that reports nothing about an event has not shown that it arrived.
        let unsaid = Outcome::Retry { reason: OutcomeReason::new("no_outcome"), after: None };
        let outcomes = outcomes.into_iter().chain(std::iter::repeat(unsaid));
        for (item, outcome) in items.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Delivered => {
                    sorted.any_accepted = true;
                    self.end(&item, BatchItemOutcome::Delivered);
                }
                Outcome::Skipped(reason) => {
                    self.end(&item, BatchItemOutcome::Skipped(reason));
                }
                Outcome::Dead(reason) => {
                    sorted.any_accepted = true;
                    self.end(&item, BatchItemOutcome::Dead(reason));
                }
                Outcome::Refused(reason) => sorted.refused.push((item, reason)),
                Outcome::Retry { reason, after } => {
                    self.publish_retry(&item.event, &reason);
                    sorted.requested_wait = sorted.requested_wait.max(after);
                    sorted.retryable.push(item);
                }
                Outcome::Throttled { reason, after } => {
                    // A vendor that holds one visitor back still serves the others.
                    sorted.any_accepted = true;
                    self.publish_retry(&item.event, &reason);
                    sorted.throttled_for = sorted.throttled_for.max(after);
                    sorted.throttled.push(item);
                }
                Outcome::Unauthorised(reason) => {
                    self.publish_retry(&item.event, &reason);
                    sorted.unauthorised.push((item, reason));
                }
            }
        }
        sorted
    }

    /// Handles refused credentials: shows the state, gives up no event, and retries at intervals. Where the
    /// credentials were accepted recently, the events themselves may be at fault, so another batch is tried at
    /// once.
    fn pause_for_credentials(
        &mut self,
        items: Vec<QueuedEvent>,
        then: Vec<QueuedEvent>,
        tried: AttemptHistory,
        now: Instant,
    ) {
        let until = now + self.settings.auth_retry_interval;
        let is_news = !std::mem::replace(&mut self.state.unauthorised, true);
        let were_good =
            self.state.accepted_at.is_some_and(|at| at + self.settings.auth_retry_interval > now);
        if is_news {
            let labels = &self.client.labels;
            tracing::error!(
                site = %labels.site, destination = %labels.destination,
                "the vendor refuses the credentials; events wait until the destination's credentials are \
                 corrected"
            );
        }
        self.state.no_calls_before = (!is_news || !were_good).then_some(until);
        self.state.fresh_next = true;
        let forbidden_at = tried.forbidden_at.or(Some(self.state.acceptances));
        let attempt = tried.attempt.saturating_sub(1);
        let batch =
            DeliveryBatch { later_events: then, attempt, forbidden_at, ..DeliveryBatch::of(items) };
        self.state.retry_queue.push(until, batch);
    }

    fn resume(&mut self) {
        if std::mem::take(&mut self.state.unauthorised) {
            let labels = &self.client.labels;
            let (site, destination) = (&labels.site, &labels.destination);
            tracing::info!(%site, %destination, "the vendor accepts the credentials again");
        }
    }

    /// Halves a refused batch until the bad event is alone. Halves of different visitors go in parallel; of
    /// one visitor, the second waits for the first.
    fn split(
        &mut self,
        refused: Vec<(QueuedEvent, OutcomeReason)>,
        mut then: Vec<QueuedEvent>,
        forbidden_at: Option<u64>,
        now: Instant,
    ) {
        if refused.len() == 1 {
            for (item, reason) in refused {
                self.end(&item, BatchItemOutcome::Dead(reason));
            }
            if !then.is_empty() {
                self.state.retry_queue.push(now, DeliveryBatch::of(then));
            }
            return;
        }
        let mut first: Vec<QueuedEvent> = refused.into_iter().map(|(item, _)| item).collect();
        let middle = first.len() / 2;
        let starts = first.iter().zip(first.iter().skip(1)).enumerate();
        let starts = starts.filter(|(_, (item, next))| item.visitor != next.visitor);
        let boundary = starts.map(|(index, _)| index + 1).min_by_key(|at| at.abs_diff(middle));
        let mut second = first.split_off(boundary.unwrap_or(middle));
        if boundary.is_some() {
            self.state
                .retry_queue
                .push(now, DeliveryBatch { forbidden_at, ..DeliveryBatch::of(second) });
        } else {
            second.append(&mut then);
            then = second;
        }
        self.state.retry_queue.push(
            now,
            DeliveryBatch { later_events: then, forbidden_at, ..DeliveryBatch::of(first) },
        );
    }

    fn retry(&mut self, again: RetryCandidates, tried: AttemptHistory, now: Instant) {
        let RetryCandidates { items, later_events: then, requested_wait: asked, any_accepted } =
            again;
        // Another failure of a parked event shows nothing about the destination while other events pass.
        // Such failures do not count for the breaker.
        let is_known = items.iter().all(|item| item.was_parked && item.attempt > 0);
        if !any_accepted && (tried.is_probe || !(is_known && self.has_recent_success(now))) {
            self.state.breaker.failed(tried.is_probe, now);
        }
        let wait = self.settings.retry.wait(tried.attempt, asked, fastrand::f64());
        if let Some(asked) = asked {
            // The vendor's wait is for the whole account, not for this batch.
            let until = now + asked.min(self.settings.retry.max_retry_after);
            self.state.no_calls_before = self.state.no_calls_before.max(Some(until));
        }
        self.schedule_retry(items, then, (tried, wait), now);
    }

    /// Queues events for their next try. Once they have failed often enough they are parked, so that later
    /// events can go on.
    fn schedule_retry(
        &mut self,
        items: Vec<QueuedEvent>,
        then: Vec<QueuedEvent>,
        (tried, wait): (AttemptHistory, Duration),
        now: Instant,
    ) {
        let now_clock = self.client.clock.now();
        let (expired, items): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| {
            let age = now_clock.duration_since(item.event.event.received_at);
            Duration::try_from(age).unwrap_or_default() > self.settings.limits.max_age
        });
        for item in expired {
            self.end(&item, BatchItemOutcome::Dead(OutcomeReason::new("too_old")));
        }
        if items.is_empty() {
            if !then.is_empty() {
                self.state.retry_queue.push(now, DeliveryBatch::of(then));
            }
            return;
        }
        let AttemptHistory { attempt, forbidden_at, .. } = tried;
        // Waiting events must leave room for untried ones: only these can show that the destination accepts
        // others.
        let is_crowded =
            self.state.retry_queue.events() + items.len() > self.settings.queue_events / 2;
        let is_jammed = tried.is_probe && !self.has_room() && self.state.schedule.len() == 0;
        let is_stubborn =
            attempt >= self.settings.retry.tries_before_parking && self.state.breaker.is_closed();
        let has_place = self.state.parked.len() + items.len() <= self.settings.retry.parked_max;
        let accepts_others = self.has_recent_success(now);
        if has_place && (is_stubborn || is_crowded && (accepts_others || is_jammed)) {
            self.park_batch(items, then, attempt, wait);
        } else {
            let batch = DeliveryBatch {
                later_events: then,
                attempt,
                forbidden_at,
                ..DeliveryBatch::of(items)
            };
            self.state.retry_queue.push(now + wait, batch);
        }
    }

    /// Parks events that fail while the destination works, so that others pass. The later events of their
    /// visitors are parked with them.
    fn park_batch(
        &mut self,
        items: Vec<QueuedEvent>,
        then: Vec<QueuedEvent>,
        attempt: u32,
        wait: Duration,
    ) {
        let due_at = self.client.clock.now() + wait;
        let tries = items.into_iter().map(|item| (item, attempt));
        let tries = tries.chain(then.into_iter().map(|item| (item, 0)));
        for (item, attempt) in tries.collect::<Vec<_>>() {
            self.park(&item, due_at, attempt.max(item.attempt));
            for behind in self.state.schedule.withdraw(item.visitor) {
                self.park(&behind, due_at, behind.attempt);
            }
            self.state.schedule.finish(item.visitor);
        }
        self.wake_within(wait);
    }

    /// Parks one event; from now on its visitor's later events queue up behind it. An event parked by a
    /// worker counts as tried, at least once: one parked by an operator does not.
    pub(super) fn park(&mut self, item: &QueuedEvent, due_at: Timestamp, attempt: u32) {
        let (seq, attempt) = (item.event.seq, attempt.max(1));
        if !item.was_parked {
            self.state.progress.complete(seq, seq);
        }
        self.state.park.push(ParkRequest { seq, due_at, attempt });
        self.state.parked.insert(item.visitor, seq, due_at);
        self.schedule_settlement();
    }

    /// Makes the worker look for due events after `wait` at the latest.
    pub(super) fn wake_within(&mut self, wait: Duration) {
        let at = Instant::now() + wait;
        self.state.next_due = Some(self.state.next_due.map_or(at, |next| next.min(at)));
    }

    fn end(&mut self, item: &QueuedEvent, closing: BatchItemOutcome) {
        let seq = item.event.seq;
        let failure = self.client.failures.take(seq);
        let failed = failure.as_ref().map_or(item.attempt, |failure| failure.attempts);
        let (ending, attempts) = match closing {
            BatchItemOutcome::Delivered => (FinalOutcome::Delivered, failed.saturating_add(1)),
            BatchItemOutcome::Skipped(reason) => {
                (FinalOutcome::Skipped(to_outcome_cause(reason)), failed)
            }
            BatchItemOutcome::Dead(reason) => (
                FinalOutcome::Dead(
                    to_outcome_cause(reason),
                    failure.and_then(|failure| failure.call),
                ),
                failed,
            ),
        };
        let (code, detail) = reason_parts(&ending);
        self.publish_outcome(&item.event, ending.name(), code, detail);
        self.push_ended(EndedEvent { seq, was_parked: item.was_parked, attempts, ending });
        self.state.schedule.finish(item.visitor);
    }

    pub(super) fn push_ended(&mut self, ended: EndedEvent) {
        if !ended.was_parked {
            self.state.progress.complete(ended.seq, ended.seq);
        }
        self.state.ended.push(ended);
        self.schedule_settlement();
    }

    pub(super) fn publish_retry(&self, event: &EnrichedEvent, reason: &OutcomeReason) {
        self.publish_outcome(event, "retry", reason.code, reason.detail.as_deref());
    }

    pub(super) fn publish_outcome(
        &self,
        event: &EnrichedEvent,
        outcome: &'static str,
        reason: &'static str,
        detail: Option<&str>,
    ) {
        self.client.feed.publish(|| FeedEvent::Settled {
            at: self.client.clock.now(),
            site: self.client.labels.site.clone(),
            destination: self.client.labels.destination.clone(),
            seq: event.seq,
            message_id: event.event.message_id.clone(),
            event: event.event.label().to_owned(),
            outcome,
            reason,
            detail: detail.map(str::to_owned),
            dropped: event.dropped_fields().listed().iter().map(ToString::to_string).collect(),
        });
    }
}

/// The end of an event that was in a batch.
enum BatchItemOutcome {
    Delivered,
    Skipped(OutcomeReason),
    Dead(OutcomeReason),
}

impl DestinationClient {
    /// Counts an event whose end is settled.
    pub(super) fn count_ended(&self, ended: &EndedEvent) {
        let labels = OutcomeLabels {
            site: self.labels.site.clone(),
            destination: self.labels.destination.clone(),
            outcome: ended.ending.name(),
            reason: ended.ending.cause().map_or("", |cause| cause.code),
        };
        self.metrics.deliveries.get_or_create(&labels).inc();
    }
}

/// Converts a reason into the journal's type.
pub(super) fn to_outcome_cause(reason: OutcomeReason) -> OutcomeCause {
    OutcomeCause { code: reason.code, detail: reason.detail.unwrap_or_default() }
}

/// Returns the reason's code and detail as the live feed shows them.
pub(super) fn reason_parts(ending: &FinalOutcome) -> (&'static str, Option<&str>) {
    ending.cause().map_or(("", None), |cause| {
        (cause.code, Some(&*cause.detail).filter(|detail| !detail.is_empty()))
    })
}
