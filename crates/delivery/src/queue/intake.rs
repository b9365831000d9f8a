//! The path from the journal into the schedule: read, decode, filter, enrich, hold.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::holds::{EventArrival, visitor_key};
use super::schedule::QueuedEvent;
use super::{Queue, Settlements, wait_until};
use crate::admission::{FORGOTTEN, to_ending};
use crate::context::{WorkerContext, guarded_item};
use tagway_core::event::{EnrichedEvent, Event};
use tagway_core::metrics::PoisonLabels;
use tagway_storage::journal::{
    EndedEvent, Ending, JournalError, JournalReadLimits, JournalRecord, OutcomeCause, ParkRequest,
    ParkedRecord,
};
use tagway_storage::profile::{ProfileError, VisitorProfile};

/// The number of events read and enriched in one step.
pub(crate) const STEP_EVENTS: usize = 256;

/// The number of events rendered without a yield to the runtime: about a millisecond.
const STRETCH_EVENTS: usize = 64;

/// The bytes read in one step.
const STEP_BYTES: usize = 1 << 20;

/// The number of parked events admitted in one step.
const STEP_PARKED: usize = 256;

/// The reason of a dead letter that was being processed at several aborts in a row.
const POISON: &str = "poison";

/// An error that stops a worker for a moment.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Profiles(#[from] ProfileError),
}

/// A record to admit, with the state of its tries.
struct IntakeRecord {
    record: JournalRecord,
    was_parked: bool,
    attempt: u32,
}

impl IntakeRecord {
    fn ended(&self, ending: Ending) -> EndedEvent {
        let Self { record, was_parked, attempt } = self;
        EndedEvent { seq: record.seq, was_parked: *was_parked, attempts: *attempt, ending }
    }
}

impl Queue {
    /// Reads the next events up to `target`, if there are any. Returns true if there may be more.
    pub(crate) async fn refill(
        &mut self,
        target: u64,
        settlements: &mut Settlements,
    ) -> Result<bool, IntakeError> {
        let WorkerContext { journal, site, .. } = &*self.context;
        let read_to = self.read_to;
        if read_to >= target {
            return Ok(false);
        }
        let limit = JournalReadLimits { events: STEP_EVENTS, bytes: STEP_BYTES };
        let records = journal.read(*site, read_to, target, limit).await?.into_iter();
        let untried = |record| IntakeRecord { record, was_parked: false, attempt: 0 };
        let mut records: Vec<IntakeRecord> = records.map(untried).collect();
        self.keep_careful_group(&mut records);
        let Some(last) = records.last().map(|it| it.record.seq) else {
            // Retention removed them all; the journal has counted them.
            settlements.progress.complete(read_to + 1, target);
            self.read_to = target;
            return Ok(false);
        };
        let mut expected = read_to + 1;
        for IntakeRecord { record, .. } in &records {
            if record.seq > expected {
                settlements.progress.complete(expected, record.seq - 1);
            }
            expected = record.seq + 1;
        }
        // Ended before a restart, ahead of the cursor.
        records.retain(|it| !settlements.progress.contains(it.record.seq));
        self.admit_records(records, settlements).await?;
        self.read_to = last;
        Ok(last < target)
    }

    /// Admits parked events that are due. Returns true if these were all.
    pub(crate) async fn admit_due_events(
        &mut self,
        now: Instant,
        settlements: &mut Settlements,
    ) -> Result<bool, IntakeError> {
        if self.next_due.is_none_or(|at| at > now) {
            return Ok(false);
        }
        // Events that ended but are not settled would count as due again.
        settlements.settle().await?;
        let context = self.context.clone();
        let clock = context.client.clock.now();
        let readmitted = &mut settlements.readmitted;
        let limit = STEP_PARKED.min(context.settings.queue_events) + readmitted.len();
        let due = context.journal.due(context.reader, clock, limit).await?;
        let has_all = due.len() < limit;
        let new = due.into_iter().filter(|due| !readmitted.contains(&due.record.seq));
        let again = |ParkedRecord { record, attempt, .. }| IntakeRecord {
            record,
            was_parked: true,
            attempt,
        };
        let mut new: Vec<IntakeRecord> = new.map(again).collect();
        let is_complete = self.keep_careful_group(&mut new) && has_all;
        let seqs: Vec<u64> = new.iter().map(|it| it.record.seq).collect();
        readmitted.extend(&seqs);
        if let Err(error) = self.admit_records(new, settlements).await {
            settlements.readmitted.retain(|seq| !seqs.contains(seq));
            return Err(error);
        }
        let next = match is_complete {
            true => context.journal.next_due(context.reader, clock).await?,
            false => Some(clock),
        };
        // An event that was just parked again may be due already, and is not yet in the journal.
        let next = settlements.first_parked_due_at().into_iter().chain(next).min();
        self.next_due = next.map(|at| now + wait_until(at, clock));
        Ok(is_complete)
    }

    /// Restores, after a restart, the index of the parked events.
    pub(crate) async fn restore_parked(&mut self) -> Result<(), IntakeError> {
        let context = self.context.clone();
        let (mut after, now) = (0, context.client.clock.now());
        loop {
            let mut parked = context.journal.parked(context.reader, after, STEP_PARKED).await?;
            if parked.is_empty() {
                return Ok(());
            }
            let items = parked.iter().map(|due| guarded_item(due.record.seq));
            parked.truncate(context.reader_guard.group(items));
            let items: Vec<i64> = parked.iter().map(|due| guarded_item(due.record.seq)).collect();
            after = parked.last().map_or(after, |last| last.record.seq);
            if items.iter().any(|item| context.reader_guard.is_poisoned(*item)) {
                continue;
            }
            let section = context.reader_guard.begin(items).await;
            for ParkedRecord { record, attempt, due_at } in parked {
                // Events parked by operators do not delay later ones.
                if (attempt > 0 || due_at > now)
                    && let Some(event) = context.decode_record(&record)
                {
                    self.restore(&event, ParkRequest { seq: record.seq, due_at, attempt });
                }
            }
            section.end_keeping_suspects().await;
        }
    }

    /// Keeps those records that may be admitted together. Returns true if these are all.
    fn keep_careful_group(&self, records: &mut Vec<IntakeRecord>) -> bool {
        let count = records.len();
        let items = records.iter().map(|it| guarded_item(it.record.seq));
        records.truncate(self.context.reader_guard.group(items));
        records.len() == count
    }

    /// Decodes and admits records; a poisoned one becomes a dead letter.
    async fn admit_records(
        &mut self,
        records: Vec<IntakeRecord>,
        settlements: &mut Settlements,
    ) -> Result<(), IntakeError> {
        let guard = self.context.reader_guard.clone();
        if let [poisoned] = records.as_slice()
            && guard.is_poisoned(guarded_item(poisoned.record.seq))
        {
            self.bury(poisoned, settlements);
            return Ok(settlements.settle().await?);
        }
        if records.is_empty() {
            return Ok(());
        }
        let section =
            guard.begin(records.iter().map(|it| guarded_item(it.record.seq)).collect()).await;
        let admitted = self.admit(records, settlements).await;
        section.end_keeping_suspects().await;
        admitted
    }

    fn bury(&mut self, poisoned: &IntakeRecord, settlements: &mut Settlements) {
        let client = &self.context.client;
        let (labels, seq) = (&client.labels, poisoned.record.seq);
        tracing::warn!(
            site = %labels.site, destination = %labels.destination, seq,
            "the process died repeatedly while it delivered this event; the event is a dead letter now: \
             see `tagway dead show`, and use `tagway dead retry` after the cause is fixed"
        );
        let (site, reader) = (labels.site.clone(), "delivery");
        client.metrics.poisoned.get_or_create(&PoisonLabels { site, reader }).inc();
        self.parked.leave(seq);
        let detail = "the process died repeatedly while it delivered this event";
        let cause = OutcomeCause { code: POISON, detail: detail.into() };
        let ended = poisoned.ended(Ending::Dead(cause, None));
        settlements.end(EndedEvent { attempts: 0, ..ended });
    }

    /// Filters, enriches and queues. On an error nothing was queued or ended.
    async fn admit(
        &mut self,
        records: Vec<IntakeRecord>,
        settlements: &mut Settlements,
    ) -> Result<(), IntakeError> {
        let context = self.context.clone();
        let decoded: Vec<Option<Arc<Event>>> =
            records.iter().map(|it| context.decode_record(&it.record).map(Arc::new)).collect();
        let events: Vec<Arc<Event>> = decoded.iter().flatten().cloned().collect();
        let computed = context.settings.needs_computed_attributes();
        let views = context.profiles.lookup(context.site, &events, computed).await?;
        let mut views = views.into_iter();
        let now = context.client.clock.now();
        for (index, (taken, event)) in records.into_iter().zip(decoded).enumerate() {
            if index % STRETCH_EVENTS == STRETCH_EVENTS - 1 {
                // A destination that lags must not block other tasks of the runtime.
                tokio::task::yield_now().await;
            }
            if let Some(event) = event {
                let profile = views.next().unwrap_or_default();
                self.admit_event(taken, event, profile, now, settlements);
                continue;
            }
            self.parked.leave(taken.record.seq);
            settlements.end(taken.ended(match taken.record.body.is_empty() {
                true => Ending::Skipped(OutcomeCause::new(FORGOTTEN)),
                false => Ending::Dead(OutcomeCause::new("unreadable"), None),
            }));
        }
        Ok(())
    }

    fn admit_event(
        &mut self,
        taken: IntakeRecord,
        event: Arc<Event>,
        profile: VisitorProfile,
        now: Timestamp,
        settlements: &mut Settlements,
    ) {
        let VisitorProfile { view, computed } = profile;
        let IntakeRecord { record, was_parked, attempt } = &taken;
        let (was_parked, attempt, left) = (*was_parked, *attempt, self.parked.leave(record.seq));
        let arrival = EventArrival { seq: record.seq, was_parked, attempt, left, now };
        let visitor = self.identify(&event, &view, now, settlements);
        let Some(event) = self.resolve_consent(&arrival, event, settlements) else { return };
        if self.hold_for_identity(&arrival, visitor, &event, settlements) {
            return;
        }
        let visitor = visitor_key(&event);
        let event = EnrichedEvent::new(record.seq, event, view).with_computed(computed);
        let age = Duration::try_from(now.duration_since(record.received_at)).unwrap_or_default();
        let (event, admission) = self.context.decide_admission(event, age, now);
        if attempt == 0 {
            self.context.count_dropped(event.dropped_fields());
        }
        if let Err(outcome) = admission {
            return settlements.end_publicly(&event, taken.ended(to_ending(outcome)), None);
        }
        let (bytes, queued_at) = (record.body.len(), Instant::now());
        let item = QueuedEvent { event, visitor, bytes, was_parked, attempt, queued_at };
        if !self.park_behind_earlier(&item, settlements) {
            self.schedule.push(item);
        }
    }
}
