//! The careful mode of a worker after an abort: a few events at a time, which the guard records, and an event
//! that was being processed when the process died is processed alone.

use super::WorkerError;
use super::schedule::BatchLimits;
use super::worker::DeliveryWorker;
use tagway_core::metrics::PoisonLabels;
use tagway_storage::journal::{
    FinalOutcome, JournalHead, JournalRecord, MAX_CAREFUL_GROUP, OutcomeCause, ReaderPosition,
};

/// The reason of a dead letter that was being processed at several aborts in a row.
const POISON: &str = "poison";

/// A record to admit; true if it was parked; and the number of its tries.
pub(super) type IntakeRecord = (JournalRecord, bool, u32);

/// Returns the end of the careful mode: the last event that a worker at this position can have been processing.
pub(super) fn last_possibly_in_flight(
    position: &ReaderPosition,
    head: JournalHead,
    most: usize,
) -> u64 {
    let last = position.ahead.last().map_or(position.cursor, |(_, last)| *last);
    last.saturating_add(u64::try_from(most).unwrap_or(u64::MAX)).min(head.seq)
}

/// Returns a record's number in the guard's type.
pub(super) fn item(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

impl DeliveryWorker {
    /// Returns true if more events may be admitted. In careful mode those in the queue come first.
    pub(super) fn can_admit(&self) -> bool {
        self.has_room() && (!self.reader_guard.is_careful() || self.is_idle())
    }

    fn is_idle(&self) -> bool {
        self.state.schedule.ready_len() == 0 && self.state.in_flight.is_empty()
    }

    /// Keeps those records that may be admitted together. Returns true if these are all.
    pub(super) fn keep_careful_group(&self, records: &mut Vec<IntakeRecord>) -> bool {
        let count = records.len();
        records
            .truncate(self.reader_guard.group(records.iter().map(|(record, ..)| item(record.seq))));
        records.len() == count
    }

    /// Decodes and admits records; a poisoned one becomes a dead letter.
    pub(super) async fn admit_records(
        &mut self,
        records: Vec<IntakeRecord>,
    ) -> Result<(), WorkerError> {
        if let [(record, was_parked, _)] = records.as_slice()
            && self.reader_guard.is_poisoned(item(record.seq))
        {
            return self.bury_poisoned(record.seq, *was_parked).await;
        }
        if records.is_empty() {
            return Ok(());
        }
        let items = records.iter().map(|(record, ..)| item(record.seq)).collect();
        let section = self.reader_guard.begin(items).await;
        let taken = records
            .into_iter()
            .map(|(record, was_parked, attempt)| self.decode_record(record, was_parked, attempt))
            .collect();
        let admitted = self.admit(taken).await;
        section.end_keeping_suspects().await;
        admitted
    }

    /// Returns the bounds of a batch: few events in careful mode, and one while there are suspects.
    pub(super) fn careful_limits(&self, limits: BatchLimits) -> BatchLimits {
        let most = match self.reader_guard.is_careful() {
            _ if self.reader_guard.has_suspects() => 1,
            true => MAX_CAREFUL_GROUP,
            false => usize::MAX,
        };
        BatchLimits { events: limits.events.min(most), ..limits }
    }

    /// Ends the careful mode once all events are past that may have been processed at the abort.
    pub(super) fn end_careful_mode_if_passed(&mut self) {
        let has_passed =
            self.state.has_passed_parked && self.state.read_to >= self.state.careful_through;
        if self.reader_guard.is_careful() && has_passed && self.is_idle() {
            self.reader_guard.leave_careful_mode();
        }
    }

    async fn bury_poisoned(&mut self, seq: u64, was_parked: bool) -> Result<(), WorkerError> {
        let labels = &self.client.labels;
        tracing::warn!(
            site = %labels.site, destination = %labels.destination, seq,
            "the process died repeatedly while it delivered this event; the event is a dead letter now: \
             see `tagway dead show`, and use `tagway dead retry` after the cause is fixed"
        );
        let (site, reader) = (labels.site.clone(), "delivery");
        self.client.metrics.poisoned.get_or_create(&PoisonLabels { site, reader }).inc();
        self.state.parked.forget(seq);
        self.state.identity_hold.remove(seq);
        let detail = "the process died repeatedly while it delivered this event";
        let ending = FinalOutcome::Dead(OutcomeCause { code: POISON, detail: detail.into() }, None);
        self.end_without_delivery((seq, 0), was_parked, ending);
        self.settle().await?;
        Ok(())
    }
}
