//! The path from the journal into a worker's schedule: read, decode, filter, enrich.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::WorkerError;
use super::careful_mode::{IntakeRecord, item};
use super::ending::{reason_parts, to_outcome_cause};
use super::schedule::{QueuedEvent, VisitorOrderKey};
use super::worker::{DeliveryWorker, FORGOTTEN};
use tagway_core::event::{DroppedFields, EnrichedEvent, Event};
use tagway_core::metrics::{AttemptLabels, DestinationLabels, FieldDropLabels, MappingRuleLabels};
use tagway_storage::journal::{
    EndedEvent, FinalOutcome, JournalReadLimits, JournalRecord, OutcomeCause, ParkedRecord,
};
use tagway_storage::profile::VisitorProfile;
use tagway_vendors::{Admission, OutcomeReason};

/// The number of events read and enriched in one step.
pub(super) const STEP_EVENTS: usize = 256;

/// The number of events rendered without a yield to the runtime: about a millisecond.
const STRETCH_EVENTS: usize = 64;

/// The bytes read in one step.
const STEP_BYTES: usize = 1 << 20;

/// The number of parked events admitted in one step.
const STEP_PARKED: usize = 256;

/// A record with the state of its tries.
pub(super) struct ReadEvent {
    record: JournalRecord,
    event: Option<Arc<Event>>,
    was_parked: bool,
    attempt: u32,
}

impl DeliveryWorker {
    /// Reads the next events if there are any and there is room. Returns true if there may be more.
    pub(super) async fn refill(&mut self) -> Result<bool, WorkerError> {
        let target = *self.projected.borrow_and_update();
        let read_to = self.state.read_to;
        self.end_careful_mode_if_passed();
        if read_to >= target || !self.can_admit() {
            return Ok(false);
        }
        let limit = JournalReadLimits { events: STEP_EVENTS, bytes: STEP_BYTES };
        let records = self.journal.read(self.site, read_to, target, limit).await?;
        let mut records: Vec<IntakeRecord> = records.into_iter().map(|it| (it, false, 0)).collect();
        self.keep_careful_group(&mut records);
        let Some(last) = records.last().map(|(record, ..)| record.seq) else {
            // Retention removed them all; the journal has counted them.
            self.state.progress.complete(read_to + 1, target);
            self.state.read_to = target;
            return Ok(false);
        };
        let mut expected = read_to + 1;
        for (record, ..) in &records {
            if record.seq > expected {
                self.state.progress.complete(expected, record.seq - 1);
            }
            expected = record.seq + 1;
        }
        // Ended before a restart, ahead of the cursor.
        records.retain(|(record, ..)| !self.state.progress.contains(record.seq));
        self.admit_records(records).await?;
        self.state.read_to = last;
        Ok(last < target)
    }

    /// Admits parked events that are due.
    pub(super) async fn admit_due_events(&mut self, now: Instant) -> Result<(), WorkerError> {
        if self.state.next_due.is_none_or(|at| at > now) || !self.has_room_for_parked() {
            return Ok(());
        }
        // Events that ended but are not settled would count as due again.
        self.settle().await?;
        let clock = self.client.clock.now();
        let limit = STEP_PARKED.min(self.settings.queue_events) + self.state.readmitted.len();
        let due = self.journal.due(self.reader, clock, limit).await?;
        let has_all = due.len() < limit;
        let later =
            |at: Timestamp| now + Duration::try_from(at.duration_since(clock)).unwrap_or_default();
        let new =
            due.into_iter().filter(|due| !self.state.readmitted.contains_key(&due.record.seq));
        let mut new: Vec<IntakeRecord> = new.map(|due| (due.record, true, due.attempt)).collect();
        let more = !self.keep_careful_group(&mut new) || !has_all;
        self.state.has_passed_parked |= !more;
        self.state.readmitted.extend(new.iter().map(|(record, ..)| (record.seq, ())));
        self.admit_records(new).await?;
        // An event that was just parked again may be due already, and is not yet in the journal.
        self.state.next_due = self.state.park.iter().map(|parking| parking.due_at).min().map(later);
        let next =
            if more { Some(clock) } else { self.journal.next_due(self.reader, clock).await? };
        let next = next.map(later);
        self.state.next_due = self.state.next_due.into_iter().chain(next).min();
        Ok(())
    }

    /// Restores, after a restart, the visitors of parked events.
    pub(super) async fn remember_parked(&mut self) -> Result<(), WorkerError> {
        let (mut after, now) = (0, self.client.clock.now());
        loop {
            let mut parked = self.journal.parked(self.reader, after, STEP_PARKED).await?;
            if parked.is_empty() {
                return Ok(());
            }
            let items = parked.iter().map(|due| item(due.record.seq));
            parked.truncate(self.reader_guard.group(items));
            let items: Vec<i64> = parked.iter().map(|due| item(due.record.seq)).collect();
            after = parked.last().map_or(after, |last| last.record.seq);
            if items.iter().any(|item| self.reader_guard.is_poisoned(*item)) {
                continue;
            }
            let section = self.reader_guard.begin(items).await;
            parked.into_iter().for_each(|due| self.remember(due, now));
            section.end_keeping_suspects().await;
        }
    }

    fn remember(&mut self, due: ParkedRecord, now: Timestamp) {
        // Events parked by operators do not delay later ones.
        if due.attempt == 0 && due.due_at <= now {
            return;
        }
        let (seq, due_at, attempt) = (due.record.seq, due.due_at, due.attempt);
        let Some(event) = self.decode_record(due.record, true, attempt).event else { return };
        if attempt == 0 {
            self.restore_consent_hold(&event, seq);
            self.restore_identity_hold(&event, seq);
        } else {
            self.state.parked.insert(visitor_key(&event), seq, due_at);
        }
    }

    /// Filters, enriches and queues. On an error nothing was queued or ended.
    pub(super) async fn admit(&mut self, taken: Vec<ReadEvent>) -> Result<(), WorkerError> {
        let events: Vec<Arc<Event>> =
            taken.iter().filter_map(|taken| taken.event.clone()).collect();
        let views = self
            .profiles
            .lookup(self.site, &events, self.settings.needs_computed_attributes())
            .await;
        let views = match views {
            Ok(views) => views,
            Err(error) => {
                for taken in taken.iter().filter(|taken| taken.was_parked) {
                    self.state.readmitted.remove(&taken.record.seq);
                }
                return Err(error.into());
            }
        };
        let mut views = views.into_iter();
        let now = self.client.clock.now();
        for (index, ReadEvent { record, event, was_parked, attempt }) in
            taken.into_iter().enumerate()
        {
            if index % STRETCH_EVENTS == STRETCH_EVENTS - 1 {
                // A destination that lags must not block other tasks of the runtime.
                tokio::task::yield_now().await;
            }
            if record.body.is_empty() {
                self.state.parked.forget(record.seq);
                self.state.identity_hold.remove(record.seq);
                let ending = FinalOutcome::Skipped(OutcomeCause::new(FORGOTTEN));
                self.end_without_delivery((record.seq, attempt), was_parked, ending);
                continue;
            }
            let Some(event) = event else {
                let ending = FinalOutcome::Dead(OutcomeCause::new("unreadable"), None);
                self.end_without_delivery((record.seq, attempt), was_parked, ending);
                continue;
            };
            let VisitorProfile { view, computed } = views.next().unwrap_or_default();
            let arrival = self.record_arrival(record.seq, &event, &view, now);
            let Some(event) = self.resolve_consent(record.seq, event, was_parked, now) else {
                continue;
            };
            if self.hold_for_identity(arrival, (record.seq, &event), (was_parked, attempt), now) {
                continue;
            }
            let visitor = visitor_key(&event);
            let enriched = EnrichedEvent::new(record.seq, event, view).with_computed(computed);
            let age =
                Duration::try_from(now.duration_since(record.received_at)).unwrap_or_default();
            let (enriched, screening) = self.decide_admission(enriched, age, now);
            if attempt == 0 {
                self.count_dropped(enriched.dropped_fields());
            }
            if let Some(ending) = outcome_without_delivery(screening) {
                let (code, detail) = reason_parts(&ending);
                self.publish_outcome(&enriched, ending.name(), code, detail);
                self.state.parked.remove(visitor, record.seq);
                self.end_without_delivery((record.seq, attempt), was_parked, ending);
                continue;
            }
            let (bytes, queued_at) = (record.body.len(), Instant::now());
            let item =
                QueuedEvent { event: enriched, visitor, bytes, was_parked, attempt, queued_at };
            if !self.park_behind_earlier(&item, now) {
                self.state.schedule.push(item);
            }
        }
        Ok(())
    }

    /// Decodes the event of a record, and prepares it for delivery.
    pub(super) fn decode_record(
        &self,
        record: JournalRecord,
        was_parked: bool,
        attempt: u32,
    ) -> ReadEvent {
        let event = match serde_json::from_slice::<Event>(&record.body) {
            Ok(mut event) => {
                self.settings.privacy.protect(&mut event);
                Some(Arc::new(event))
            }
            // Erased, since its person was erased.
            Err(_) if record.body.is_empty() => None,
            Err(error) => {
                // The gateway wrote it; only a damaged disk gets here.
                tracing::error!(seq = record.seq, %error, "an event in the journal is not readable; the \
                    disk may be damaged");
                None
            }
        };
        ReadEvent { record, event, was_parked, attempt }
    }

    /// Returns the event in its form for the destination, with the decision to send it or not.
    fn decide_admission(
        &self,
        event: EnrichedEvent,
        age: Duration,
        now: Timestamp,
    ) -> (EnrichedEvent, Admission) {
        let admitted = catch_unwind(AssertUnwindSafe(|| self.settings.admit(event.clone(), now)));
        self.count_left_out();
        self.count_failures();
        match admitted {
            Ok((event, Admission::Send)) if age > self.settings.limits.max_age => {
                (event, Admission::Dead(OutcomeReason::new("too_old")))
            }
            Ok(admitted) => admitted,
            // A defect in a vendor's code must not stop the destination.
            Err(_panic) => (event, Admission::Dead(OutcomeReason::new("defect"))),
        }
    }

    /// Counts the values that the mapping left out.
    fn count_left_out(&self) {
        let Some((counts, is_news)) = self.settings.mapping.take_omissions() else { return };
        let DestinationLabels { site, destination } = &self.client.labels;
        for (bound, count) in counts {
            let (site, destination, result) = (site.clone(), destination.clone(), bound.name());
            if is_news {
                tracing::warn!(
                    %site, %destination, setting = result,
                    "a value of the mapping exceeded this limit and is left out; \
                     tagway_mapping_values_left_out_total counts later ones"
                );
            }
            let labels = AttemptLabels { site, destination, result };
            self.client.metrics.left_out.get_or_create(&labels).inc_by(count);
        }
    }

    /// Counts the fields of an event that the vendor does not get. An event that was tried before is counted
    /// already.
    fn count_dropped(&self, dropped: &DroppedFields) {
        for (reason, count) in dropped.counts() {
            let DestinationLabels { site, destination } = self.client.labels.clone();
            let labels = FieldDropLabels { site, destination, reason: reason.code() };
            self.client.metrics.fields_dropped.get_or_create(&labels).inc_by(*count);
        }
    }

    /// Counts the conditions and templates of the mapping's rules that failed.
    fn count_failures(&self) {
        let Some((counts, is_news)) = self.settings.mapping.take_failures() else { return };
        let DestinationLabels { site, destination } = &self.client.labels;
        for (rule, count) in counts {
            let (site, destination) = (site.clone(), destination.clone());
            if is_news {
                tracing::warn!(
                    %site, %destination, %rule,
                    "a condition or template of the mapping failed and its value is left out; \
                     tagway_mapping_failures_total counts later ones; \"tagway send --dry-run\" shows \
                     the reason"
                );
            }
            let labels = MappingRuleLabels { site, destination, rule };
            self.client.metrics.mapping_failures.get_or_create(&labels).inc_by(count);
        }
    }

    /// Parks an event behind a parked one of its visitor, to keep their order. At the limit of parked events
    /// it passes instead: order is worth less than bounded memory.
    fn park_behind_earlier(&mut self, item: &QueuedEvent, now: Timestamp) -> bool {
        let seq = item.event.seq;
        self.state.parked.remove(item.visitor, seq);
        let Some(due_at) = self.state.parked.earlier_due_at(item.visitor, seq) else {
            return false;
        };
        if self.state.parked.len() >= self.settings.retry.parked_max {
            return false;
        }
        self.park(item, due_at, item.attempt);
        self.wake_within(Duration::try_from(due_at.duration_since(now)).unwrap_or_default());
        true
    }

    /// Ends an event that never gets into a batch, or not again.
    pub(super) fn end_without_delivery(
        &mut self,
        (seq, attempt): (u64, u32),
        was_parked: bool,
        ending: FinalOutcome,
    ) {
        let failure = self.client.failures.take(seq);
        let attempts = failure.as_ref().map_or(attempt, |failure| failure.attempts);
        let ending = match ending {
            FinalOutcome::Dead(cause, None) => {
                FinalOutcome::Dead(cause, failure.and_then(|failure| failure.call))
            }
            other => other,
        };
        self.push_ended(EndedEvent { seq, was_parked, attempts, ending });
    }
}

/// Returns the end of a screened event, unless it is to be sent.
fn outcome_without_delivery(screening: Admission) -> Option<FinalOutcome> {
    match screening {
        Admission::Send => None,
        Admission::Skip(reason) => Some(FinalOutcome::Skipped(to_outcome_cause(reason))),
        Admission::Dead(reason) => Some(FinalOutcome::Dead(to_outcome_cause(reason), None)),
    }
}

/// Returns the schedule's key of a visitor. The hash has no secret: a sender who makes two visitors
/// collide makes them wait for each other, which sending with one id does as well.
pub(super) fn visitor_key(event: &Event) -> VisitorOrderKey {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(event.order_key())
}
