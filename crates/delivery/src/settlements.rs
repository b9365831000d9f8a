//! The part of a worker that records what has ended: the cursor, and the endings and parkings that the
//! journal does not have yet.
//!
//! A settlement is one transaction of the journal: the position with all that ended, or was parked, since the
//! last. What was not settled before a crash is repeated after it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::context::{WorkerContext, guarded_item};
use super::dead_report::DeadLetterReport;
use super::destination_client::PublishedOutcome;
use super::progress::ReaderProgress;
use tagway_core::event::EnrichedEvent;
use tagway_storage::journal::{
    EndedEvent, Ending, JournalError, ParkRequest, ReaderPosition, ReaderSettlement,
};

/// The number of ended events that are settled at once; fewer wait for more up to [`SETTLE_DELAY`].
const SETTLE_EVENTS: usize = 256;

/// The longest wait of ended events before they are settled: these are what a crash may repeat.
const SETTLE_DELAY: Duration = Duration::from_millis(20);

/// The endings of one destination's events.
pub(super) struct Settlements {
    context: Arc<WorkerContext>,
    /// The events that have ended, or were parked.
    pub(super) progress: ReaderProgress,
    ended: Vec<EndedEvent>,
    parked: Vec<ParkRequest>,
    settle_at: Option<Instant>,
    /// Parked events that have been admitted again.
    pub(super) readmitted: HashSet<u64>,
    /// The dead letters that are not yet reported to operators.
    dead_report: DeadLetterReport,
}

impl Settlements {
    /// Creates the settlements after this position.
    pub(super) fn new(context: Arc<WorkerContext>, position: ReaderPosition) -> Self {
        Self {
            progress: ReaderProgress::new(position),
            ended: Vec::new(),
            parked: Vec::new(),
            settle_at: None,
            readmitted: HashSet::new(),
            dead_report: DeadLetterReport::new(context.settings.dead_report),
            context,
        }
    }

    /// Records the end of an event. The number of its tries is that before the last one; a dead letter gets
    /// the last call about it.
    pub(super) fn end(&mut self, ended: EndedEvent) {
        let ended = self.completed(ended);
        self.record(ended);
    }

    /// Records the end of an event, and publishes it to the live feed. `milliseconds` is the duration of the last
    /// call about it.
    pub(super) fn end_publicly(
        &mut self,
        event: &EnrichedEvent,
        ended: EndedEvent,
        milliseconds: Option<u64>,
    ) {
        let ended = self.completed(ended);
        let (reason, detail) = ended.ending.cause().map_or(("", None), |cause| {
            (cause.code, Some(&*cause.detail).filter(|detail| !detail.is_empty()))
        });
        let (outcome, attempt) = (ended.ending.name(), ended.attempts);
        let published = PublishedOutcome { outcome, reason, detail, attempt, milliseconds };
        self.context.client.publish_outcome(event, published);
        self.record(ended);
    }

    /// Returns the end with all tries, and a dead letter with the last call.
    fn completed(&self, mut ended: EndedEvent) -> EndedEvent {
        if let Some(failure) = self.context.client.failures.take(ended.seq) {
            ended.attempts = failure.attempts;
            if let Ending::Dead(_, call @ None) = &mut ended.ending {
                *call = failure.call;
            }
        }
        if ended.ending == Ending::Delivered {
            ended.attempts = ended.attempts.saturating_add(1);
        }
        ended
    }

    fn record(&mut self, ended: EndedEvent) {
        if !ended.was_parked {
            self.progress.complete(ended.seq, ended.seq);
        }
        self.ended.push(ended);
        self.schedule();
    }

    /// Records that an event is parked, or gets another time if it `was_parked`.
    pub(super) fn park(&mut self, request: ParkRequest, was_parked: bool) {
        if !was_parked {
            self.progress.complete(request.seq, request.seq);
        }
        self.parked.push(request);
        self.schedule();
    }

    /// Returns the time when the first of the events is due that the journal does not have as parked yet.
    pub(super) fn first_parked_due_at(&self) -> Option<Timestamp> {
        self.parked.iter().map(|request| request.due_at).min()
    }

    /// Returns true if more parked events may be admitted again: half of the memory is for events that have
    /// not been tried.
    pub(super) fn has_room_for_parked(&self) -> bool {
        self.readmitted.len() <= self.context.settings.queue_events / 2
    }

    /// Returns the next time when something must be settled or reported.
    pub(super) fn next_wakeup(&self, now: Instant) -> Option<Instant> {
        self.settle_at.into_iter().chain(self.dead_report.due_at(now)).min()
    }

    /// Settles when enough events have ended or have waited long enough.
    pub(super) async fn settle_if_due(&mut self, now: Instant) -> Result<(), JournalError> {
        let is_due = self.settle_at.is_some_and(|at| at <= now);
        if self.ended.len() + self.parked.len() >= SETTLE_EVENTS || is_due {
            return self.settle().await;
        }
        Ok(())
    }

    /// Settles everything that the journal does not have yet.
    pub(super) async fn settle(&mut self) -> Result<(), JournalError> {
        if self.ended.is_empty() && self.parked.is_empty() {
            return Ok(());
        }
        let WorkerContext { client, journal, reader, reader_guard, .. } = &*self.context;
        let settlement = ReaderSettlement {
            position: self.progress.position(),
            ended: self.ended.clone(),
            park: self.parked.clone(),
        };
        let whole = client.settlement_lock.read().await;
        journal.settle(*reader, settlement).await?;
        self.ended.iter().for_each(|ended| client.count_ended(ended));
        drop(whole);
        self.dead_report.add(self.ended.iter().filter_map(EndedEvent::as_dead));
        let parked = self.parked.iter().map(|request| request.seq);
        if reader_guard.has_suspects() {
            let settled = self.ended.iter().map(|ended| ended.seq).chain(parked.clone());
            reader_guard.remove_suspects(&settled.map(guarded_item).collect::<Vec<_>>()).await;
        }
        let ended = self.ended.iter().filter(|ended| ended.was_parked).map(|ended| ended.seq);
        for seq in ended.chain(parked) {
            self.readmitted.remove(&seq);
        }
        self.ended.clear();
        self.parked.clear();
        self.settle_at = None;
        Ok(())
    }

    /// Logs new dead letters, if a report is due.
    pub(super) fn report_dead_letters(&mut self, now: Instant) {
        self.dead_report.log(&self.context.client.labels, now);
    }

    /// Settles and reports the rest, as far as the journal can take it.
    pub(super) async fn close(&mut self) {
        if let Err(error) = self.settle().await {
            let destination = &self.context.client.labels.destination;
            tracing::warn!(%error, %destination, "the last outcomes cannot be recorded: the deliveries \
                may be repeated after a restart");
        }
        self.dead_report.end();
        self.report_dead_letters(Instant::now());
    }

    fn schedule(&mut self) {
        self.settle_at.get_or_insert_with(|| Instant::now() + SETTLE_DELAY);
    }
}
