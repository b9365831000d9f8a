//! One destination's reader: takes events from the journal, sends batches, settles ended events.
//!
//! At any time an accepted event is, for this destination, in exactly one place: behind the cursor
//! or in `ahead` (ended, or parked in the journal), in the schedule, in a running batch, in a batch that
//! waits for its next try, or still unread. Only the first of these is durable; all others come back after
//! a crash by reading the journal again.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::backoff::CircuitBreaker;
use super::careful_mode::item;
use super::consent_hold::ConsentHold;
use super::dead_report::DeadLetterReport;
use super::destination_client::{BatchCaller, DestinationClient};
use super::identity_hold::IdentityHold;
use super::parked::ParkedAfterRetry;
use super::progress::ReaderProgress;
use super::retry_queue::{BatchRetryQueue, DeliveryBatch};
use super::schedule::{BatchLimits, DeliveryQueue, QueuedEvent};
use super::{DestinationSettings, DestinationStatus};
use tagway_core::event::EnrichedEvent;
use tagway_storage::journal::{
    EndedEvent, Journal, JournalError, LastVendorCall, ParkRequest, ReaderGuard, ReaderId,
    ReaderSettlement, SiteId,
};
use tagway_storage::profile::ProfileService;
use tagway_vendors::{Destination, Outcome, OutcomeReason};

/// The number of ended events that are settled at once; fewer wait for more up to [`SETTLE_DELAY`].
const SETTLE_EVENTS: usize = 256;

/// The longest wait of ended events before they are settled: these are what a crash may repeat.
const SETTLE_DELAY: Duration = Duration::from_millis(20);

/// The time for which an acceptance by the destination counts as recent: longer than most of its waits.
const RECENT_SUCCESS_WINDOW: Duration = Duration::from_secs(60);

/// The pause after the journal or the profiles failed.
const TROUBLE_PAUSE: Duration = Duration::from_secs(1);

/// The reason for skipping an event of an erased person.
pub(super) const FORGOTTEN: &str = "forgotten";

/// One destination's reader of the journal.
pub(super) struct DeliveryWorker {
    pub(super) site: SiteId,
    pub(super) reader: ReaderId,
    pub(super) settings: Arc<DestinationSettings>,
    pub(super) destination: Arc<dyn Destination>,
    pub(super) client: Arc<DestinationClient>,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) profiles: Arc<ProfileService>,
    /// The last event that the profiles have processed.
    pub(super) projected: watch::Receiver<u64>,
    /// Notified when the admin API has made a parked event due now.
    pub(super) wake: Arc<Notify>,
    pub(super) status: watch::Sender<DestinationStatus>,
    /// The careful mode after an abort.
    pub(super) reader_guard: Arc<ReaderGuard>,
    pub(super) state: WorkerState,
}

/// The mutable state of a worker.
pub(super) struct WorkerState {
    pub(super) progress: ReaderProgress,
    /// Everything up to this event has been read.
    pub(super) read_to: u64,
    /// No event after this one can have been in process when the last process died.
    pub(super) careful_through: u64,
    /// True if the same holds for all parked events.
    pub(super) has_passed_parked: bool,
    pub(super) schedule: DeliveryQueue,
    pub(super) in_flight: JoinSet<AttemptedBatch>,
    pub(super) retry_queue: BatchRetryQueue,
    pub(super) breaker: CircuitBreaker,
    /// No call before then: the vendor asked for a wait, or refused the credentials.
    pub(super) no_calls_before: Option<Instant>,
    pub(super) unauthorised: bool,
    /// The number of batches of which the destination accepted something, and the time of the last.
    pub(super) acceptances: u64,
    pub(super) accepted_at: Option<Instant>,
    /// While the destination is in doubt: true if the next batch to try is one that has not failed yet.
    pub(super) fresh_next: bool,
    pub(super) ended: Vec<EndedEvent>,
    pub(super) park: Vec<ParkRequest>,
    pub(super) settle_at: Option<Instant>,
    /// Parked events that have been admitted again.
    pub(super) readmitted: HashMap<u64, ()>,
    /// Events that this worker parked and that have not come back.
    pub(super) parked: ParkedAfterRetry,
    /// Events held for their visitor's choice.
    pub(super) consent_hold: ConsentHold,
    /// Events held for their visitor to become known.
    pub(super) identity_hold: IdentityHold,
    pub(super) next_due: Option<Instant>,
    /// The dead letters that are not yet reported to operators.
    pub(super) dead_report: DeadLetterReport,
    pub(super) database_retry_at: Option<Instant>,
}

/// A batch that was tried, with the outcome of each of its events and the last call about it.
pub(super) struct AttemptedBatch {
    pub(super) batch: DeliveryBatch,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) calls: Vec<Option<Arc<LastVendorCall>>>,
}

impl DeliveryWorker {
    /// Works until stopped; then lets running calls end within `grace`, and settles.
    pub(super) async fn run(mut self, stop: CancellationToken, grace: Duration) {
        if let Err(error) = self.remember_parked().await {
            tracing::warn!(%error, "the parked events cannot be read: later events of their visitors may \
                be sent before them");
        }
        while !stop.is_cancelled() {
            self.report();
            let now = Instant::now();
            if self.state.database_retry_at.is_none_or(|until| now >= until) {
                self.state.database_retry_at = None;
                if let Err(error) = self.process_ready_work(now).await {
                    let destination = &self.client.labels.destination;
                    tracing::warn!(%error, %destination, "the destination waits for the database");
                    self.state.database_retry_at = Some(Instant::now() + TROUBLE_PAUSE);
                }
            }
            let alarm = self.next_wakeup();
            tokio::select! {
                Some(ended) = self.state.in_flight.join_next() => self.handle_task_end(ended),
                changed = self.projected.changed(), if self.can_admit() => {
                    if changed.is_err() { break }
                }
                () = self.wake.notified() => self.state.next_due = Some(Instant::now()),
                () = sleep_until(alarm) => {}
                () = stop.cancelled() => break,
            }
            while let Some(ended) = self.state.in_flight.try_join_next() {
                self.handle_task_end(ended);
            }
        }
        self.shut_down(grace).await;
    }

    /// Does everything that can be done now.
    async fn process_ready_work(&mut self, now: Instant) -> Result<(), super::WorkerError> {
        self.settle_if_due(now).await?;
        self.admit_due_events(now).await?;
        while self.refill().await? {
            self.dispatch(Instant::now());
        }
        self.dispatch(Instant::now());
        self.settle_if_due(Instant::now()).await?;
        self.report_dead(Instant::now());
        Ok(())
    }

    /// Returns true if more events may be read: bounds the memory of one destination.
    pub(super) fn has_room(&self) -> bool {
        let WorkerState { schedule, retry_queue: waiting, .. } = &self.state;
        schedule.len() + waiting.events() < self.settings.queue_events
            && schedule.bytes() + waiting.bytes() < self.settings.queue_bytes
    }

    /// Returns true if parked events may be admitted again: half of the memory is for events that have not
    /// been tried.
    pub(super) fn has_room_for_parked(&self) -> bool {
        self.can_admit() && self.state.readmitted.len() <= self.settings.queue_events / 2
    }

    /// Returns true if the destination accepted something recently.
    pub(super) fn has_recent_success(&self, now: Instant) -> bool {
        self.state.accepted_at.is_some_and(|at| now < at + RECENT_SUCCESS_WINDOW)
    }

    /// Starts every batch that may start.
    fn dispatch(&mut self, now: Instant) {
        while self.has_free_slot() && self.may_call(now) {
            let Some(mut batch) = self.next_batch(now) else {
                self.state.breaker.probe_lapsed(now);
                return;
            };
            batch.is_probe = !self.state.breaker.is_closed();
            self.start(batch);
        }
    }

    /// Returns true if another batch may run. Doubtful credentials are tried one batch at a time, and so is
    /// everything in careful mode.
    fn has_free_slot(&self) -> bool {
        let is_alone = self.state.unauthorised || self.reader_guard.is_careful();
        let limit = if is_alone { 1 } else { self.settings.limits.concurrency };
        self.state.in_flight.len() < limit
    }

    fn may_call(&mut self, now: Instant) -> bool {
        if self.state.no_calls_before.is_some_and(|until| now < until) {
            return false;
        }
        self.state.no_calls_before = None;
        self.state.breaker.permits(now)
    }

    /// Returns a batch whose next try is due, else a fresh one that is full or has waited long enough. While
    /// the destination is in doubt the two alternate: a failing batch may itself be the cause, and must not be
    /// all that is ever tried.
    fn next_batch(&mut self, now: Instant) -> Option<DeliveryBatch> {
        let in_doubt = self.state.unauthorised || !self.state.breaker.is_closed();
        if in_doubt && std::mem::take(&mut self.state.fresh_next) {
            let fresh = self.fresh_batch(None);
            if fresh.is_some() {
                return fresh;
            }
        }
        if let Some(batch) = self.state.retry_queue.take_due(now) {
            self.state.fresh_next = true;
            return Some(batch);
        }
        self.fresh_batch(Some(now))
    }

    /// Returns events that have not failed in this order; with a time, only if they are many or have waited.
    fn fresh_batch(&mut self, now: Option<Instant>) -> Option<DeliveryBatch> {
        let habits = &self.settings.limits;
        let oldest = self.state.schedule.oldest()?;
        // In careful mode there is no more to wait for.
        let now = now.filter(|_| !self.reader_guard.is_careful());
        let is_full = self.state.schedule.ready_len() >= habits.max_events;
        if !is_full && now.is_some_and(|now| now < oldest + habits.batch_delay) {
            return None;
        }
        let limits = self.careful_limits(BatchLimits {
            scope: habits.scope,
            events: habits.max_events,
            bytes: habits.max_bytes,
            alone_after_attempts: self.settings.retry.tries_before_parking,
        });
        let items = self.state.schedule.next_batch(limits);
        let attempt = items.iter().map(|item| item.attempt).max().unwrap_or(0);
        (!items.is_empty()).then(|| DeliveryBatch { attempt, ..DeliveryBatch::of(items) })
    }

    fn start(&mut self, batch: DeliveryBatch) {
        let destination = self.destination.clone();
        let seqs: Vec<u64> = batch.items.iter().map(|item| item.event.seq).collect();
        let is_guarded = self.reader_guard.is_careful() || self.reader_guard.has_suspects();
        let (line, care) = (self.client.clone(), is_guarded.then(|| self.reader_guard.clone()));
        let (site, forgotten) = (self.site, self.journal.suppression_list());
        self.state.in_flight.spawn(async move {
            // Checked last: a batch may have waited for hours.
            let is_kept = |item: &QueuedEvent| !forgotten.matches_event(site, &item.event.event);
            let kept: Vec<bool> = batch.items.iter().map(is_kept).collect();
            let items = batch.items.iter().zip(&kept).filter(|(_, is_kept)| **is_kept);
            let events: Vec<EnrichedEvent> = items.map(|(item, _)| item.event.clone()).collect();
            if events.is_empty() {
                let outcomes = vec![Outcome::Skipped(OutcomeReason::new(FORGOTTEN)); kept.len()];
                return AttemptedBatch { batch, outcomes, calls: Vec::new() };
            }
            let section = match care {
                Some(care) => Some(care.begin(seqs.iter().copied().map(item).collect()).await),
                None => None,
            };
            let call = BatchCaller::of(line, seqs, section);
            let delivered = AssertUnwindSafe(destination.deliver(&events, &call)).catch_unwind();
            // A defect in a vendor's code: the event that triggers it is found and becomes a dead letter.
            let refused =
                |_panic| vec![Outcome::Refused(OutcomeReason::new("defect")); events.len()];
            let mut outcomes = delivered.await.unwrap_or_else(refused);
            for reason in outcomes.iter_mut().filter_map(Outcome::reason_mut) {
                // Details quote replies, and replies quote credentials.
                reason.redact(&call.client.redaction);
            }
            let outcomes = insert_forgotten_outcomes(outcomes, &kept);
            let calls = batch.items.iter().zip(&outcomes).map(|(item, outcome)| {
                let is_over = matches!(outcome, Outcome::Delivered | Outcome::Skipped(_));
                let seq = (!is_over).then_some(item.event.seq);
                seq.and_then(|seq| call.exchanges.last_call(seq, &call.client))
            });
            let calls = calls.collect();
            if let Some(section) = call.section.into_inner() {
                section.end().await;
            }
            AttemptedBatch { batch, outcomes, calls }
        });
    }

    /// Returns the next time when something must be done even if nothing happens.
    fn next_wakeup(&self) -> Instant {
        let state = &self.state;
        if let Some(until) = state.database_retry_at {
            return until;
        }
        let mut alarms: Vec<Instant> = Vec::with_capacity(6);
        alarms.extend(state.settle_at);
        alarms.extend(state.dead_report.due_at(Instant::now()));
        alarms.extend(state.next_due.filter(|_| self.has_room_for_parked()));
        if self.has_free_slot() {
            let earliest = state.no_calls_before.into_iter().chain(state.breaker.opens_at()).max();
            let fresh = state.schedule.oldest().map(|at| at + self.settings.limits.batch_delay);
            let next = state.retry_queue.next().into_iter().chain(fresh).min();
            let probing = !state.breaker.is_closed() && state.breaker.opens_at().is_none();
            // While the probe is running its end is the next event.
            if let (Some(next), false) = (next, probing) {
                alarms.push(earliest.map_or(next, |earliest| earliest.max(next)));
            }
        }
        // Far enough never to matter; the other branches wake the loop.
        let horizon = Instant::now() + Duration::from_secs(3600);
        alarms.into_iter().min().unwrap_or(horizon)
    }

    /// Settles when enough events have ended or have waited long enough.
    async fn settle_if_due(&mut self, now: Instant) -> Result<(), JournalError> {
        let count = self.state.ended.len() + self.state.park.len();
        let is_due = self.state.settle_at.is_some_and(|at| at <= now);
        if count >= SETTLE_EVENTS || is_due { self.settle().await } else { Ok(()) }
    }

    pub(super) async fn settle(&mut self) -> Result<(), JournalError> {
        let state = &mut self.state;
        if state.ended.is_empty() && state.park.is_empty() {
            return Ok(());
        }
        let settlement = ReaderSettlement {
            position: state.progress.position(),
            ended: state.ended.clone(),
            park: state.park.clone(),
        };
        let whole = self.client.settlement_lock.read().await;
        self.journal.settle(self.reader, settlement).await?;
        state.ended.iter().for_each(|ended| self.client.count_ended(ended));
        drop(whole);
        state.dead_report.add(state.ended.iter().filter_map(EndedEvent::as_dead));
        if self.reader_guard.has_suspects() {
            let ended = state.ended.iter().map(|it| it.seq);
            let through: Vec<i64> =
                ended.chain(state.park.iter().map(|it| it.seq)).map(item).collect();
            self.reader_guard.remove_suspects(&through).await;
        }
        for ended in state.ended.drain(..).filter(|ended| ended.was_parked) {
            state.readmitted.remove(&ended.seq);
        }
        for parking in state.park.drain(..) {
            state.readmitted.remove(&parking.seq);
        }
        state.settle_at = None;
        Ok(())
    }

    pub(super) fn schedule_settlement(&mut self) {
        self.state.settle_at.get_or_insert_with(|| Instant::now() + SETTLE_DELAY);
    }

    async fn shut_down(&mut self, grace: Duration) {
        let deadline = Instant::now() + grace;
        while let Ok(Some(ended)) =
            tokio::time::timeout_at(deadline, self.state.in_flight.join_next()).await
        {
            self.handle_task_end(ended);
        }
        // Events still in flight are sent again after the restart.
        self.state.in_flight.abort_all();
        if let Err(error) = self.settle().await {
            let destination = &self.client.labels.destination;
            tracing::warn!(%error, %destination, "the last outcomes cannot be recorded: the deliveries \
                may be repeated after a restart");
        }
        self.state.dead_report.end();
        self.report_dead(Instant::now());
        self.status.send_replace(DestinationStatus::Stopped);
    }

    fn report(&self) {
        let status = if self.state.unauthorised {
            DestinationStatus::Unauthorised
        } else if !self.state.breaker.is_closed() {
            DestinationStatus::Broken
        } else if !self.state.retry_queue.is_empty() {
            DestinationStatus::Retrying
        } else {
            DestinationStatus::Running
        };
        let is_up = matches!(status, DestinationStatus::Running | DestinationStatus::Retrying);
        if self.status.send_if_modified(|seen| std::mem::replace(seen, status) != status) {
            self.client.metrics.destination_up.get_or_create(&self.client.labels).set(is_up.into());
            let labels = &self.client.labels;
            tracing::info!(site = %labels.site, destination = %labels.destination, status = status.name(), "destination");
        }
    }
}

/// Returns the outcomes of all events of a batch, from those of the events that were sent.
fn insert_forgotten_outcomes(outcomes: Vec<Outcome>, kept: &[bool]) -> Vec<Outcome> {
    let mut outcomes = outcomes.into_iter();
    // A vendor that reports nothing about an event has not shown that it arrived.
    let unsaid = || Outcome::Retry { reason: OutcomeReason::new("no_outcome"), after: None };
    let outcome = |is_kept: &bool| match is_kept {
        true => outcomes.next().unwrap_or_else(unsaid),
        false => Outcome::Skipped(OutcomeReason::new(FORGOTTEN)),
    };
    kept.iter().map(outcome).collect()
}
