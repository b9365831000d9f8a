//! The careful mode of a worker after an abort: a few events at a time, which the guard records, and an event
//! that was being processed when the process died is processed alone.

use super::WorkerError;
use super::schedule::BatchLimits;
use super::worker::DeliveryWorker;
use crate::journal::{
    FinalOutcome, GROUP, JournalHead, JournalRecord, OutcomeCause, ReaderPosition,
};
use crate::metrics::PoisonLabels;

/// The reason of a dead letter that was being processed at several aborts in a row.
const POISON: &str = "poison";

/// A record to admit; true if it was parked; and the number of its tries.
pub(super) type IntakeRecord = (JournalRecord, bool, u32);

/// Returns the end of the careful mode: the last event that a worker at this position can have been processing.
pub(super) fn last_in_doubt(position: &ReaderPosition, head: JournalHead, most: usize) -> u64 {
    let last = position.ahead.last().map_or(position.cursor, |(_, last)| *last);
    last.saturating_add(u64::try_from(most).unwrap_or(u64::MAX)).min(head.seq)
}

/// Returns a record's number in the guard's type.
pub(super) fn item(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

impl DeliveryWorker {
    /// Returns true if more events may be admitted. In careful mode those in the queue come first.
    pub(super) fn may_take(&self) -> bool {
        self.has_room() && (!self.care.is_careful() || self.is_idle())
    }

    fn is_idle(&self) -> bool {
        self.state.schedule.ready_len() == 0 && self.state.under_way.is_empty()
    }

    /// Keeps those records that may be admitted together. Returns true if these are all.
    pub(super) fn choose(&self, records: &mut Vec<IntakeRecord>) -> bool {
        let count = records.len();
        records.truncate(self.care.group(records.iter().map(|(record, ..)| item(record.seq))));
        records.len() == count
    }

    /// Decodes and admits records; a poisoned one becomes a dead letter.
    pub(super) async fn take_up(&mut self, records: Vec<IntakeRecord>) -> Result<(), WorkerError> {
        if let [(record, was_parked, _)] = records.as_slice()
            && self.care.is_poisoned(item(record.seq))
        {
            return self.bury_poisoned(record.seq, *was_parked).await;
        }
        if records.is_empty() {
            return Ok(());
        }
        let items = records.iter().map(|(record, ..)| item(record.seq)).collect();
        let section = self.care.begin(items).await;
        let taken = records
            .into_iter()
            .map(|(record, was_parked, attempt)| self.decoded(record, was_parked, attempt))
            .collect();
        let admitted = self.admit(taken).await;
        section.leave().await;
        admitted
    }

    /// Returns the bounds of a batch: few events in careful mode, and one while there are suspects.
    pub(super) fn careful_limits(&self, limits: BatchLimits) -> BatchLimits {
        let most = match self.care.is_careful() {
            _ if self.care.has_suspects() => 1,
            true => GROUP,
            false => usize::MAX,
        };
        BatchLimits { events: limits.events.min(most), ..limits }
    }

    /// Ends the careful mode once all events are past that may have been processed at the abort.
    pub(super) fn end_care_if_passed(&mut self) {
        let has_passed =
            self.state.has_passed_parked && self.state.read_to >= self.state.doubtful_to;
        if self.care.is_careful() && has_passed && self.is_idle() {
            self.care.end_care();
        }
    }

    async fn bury_poisoned(&mut self, seq: u64, was_parked: bool) -> Result<(), WorkerError> {
        let labels = &self.line.labels;
        tracing::warn!(
            site = %labels.site, destination = %labels.destination, seq,
            "the process died repeatedly while it delivered this event; the event is a dead letter now: \
             see `tagway dead show`, and use `tagway dead retry` after the cause is fixed"
        );
        let (site, reader) = (labels.site.clone(), "delivery");
        self.line.metrics.poisoned.get_or_create(&PoisonLabels { site, reader }).inc();
        self.state.aside.forget(seq);
        self.state.awaiting.remove(seq);
        let detail = "the process died repeatedly while it delivered this event";
        let ending = FinalOutcome::Dead(OutcomeCause { code: POISON, detail: detail.into() }, None);
        self.end_early((seq, 0), was_parked, ending);
        self.settle().await?;
        Ok(())
    }
}
