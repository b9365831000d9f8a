//! The careful mode of a worker after an abort: a few events at a time, of which the guard knows, and one alone that
//! was under way when the process died.

use super::WorkerError;
use super::schedule::BatchLimits;
use super::worker::DeliveryWorker;
use crate::journal::{
    FinalOutcome, GROUP, JournalHead, JournalRecord, OutcomeCause, ReaderPosition,
};
use crate::metrics::PoisonLabels;

/// The reason of a dead letter over which the process died again and again.
const POISON: &str = "poison";

/// A record that is taken up, whether it was parked, and how often it has been tried.
pub(super) type IntakeRecord = (JournalRecord, bool, u32);

/// The end of the careful mode: the last event that a worker which stood here can have had under way.
pub(super) fn last_in_doubt(position: &ReaderPosition, head: JournalHead, most: usize) -> u64 {
    let last = position.ahead.last().map_or(position.cursor, |(_, last)| *last);
    last.saturating_add(u64::try_from(most).unwrap_or(u64::MAX)).min(head.seq)
}

/// A record's number as the guard has it.
pub(super) fn item(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

impl DeliveryWorker {
    /// Returns true if more events may be taken up. In careful times those that are there come first.
    pub(super) fn may_take(&self) -> bool {
        self.has_room() && (!self.care.is_careful() || self.is_idle())
    }

    fn is_idle(&self) -> bool {
        self.state.schedule.ready_len() == 0 && self.state.under_way.is_empty()
    }

    /// Leaves of these what may be taken up together. Whether that was all.
    pub(super) fn choose(&self, records: &mut Vec<IntakeRecord>) -> bool {
        let count = records.len();
        records.truncate(self.care.group(records.iter().map(|(record, ..)| item(record.seq))));
        records.len() == count
    }

    /// Takes up events.
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

    /// The bounds of a batch: in careful times little, and of what was under way when the process died one.
    pub(super) fn careful_limits(&self, limits: BatchLimits) -> BatchLimits {
        let most = match self.care.is_careful() {
            _ if self.care.has_suspects() => 1,
            true => GROUP,
            false => usize::MAX,
        };
        BatchLimits { events: limits.events.min(most), ..limits }
    }

    /// Goes on as usual, once all is passed that may have been under way.
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
            "an event was under way whenever the process died; it is a dead letter now: look at it with \
             `tagway dead`, and retry it when its cause is mended"
        );
        let (site, reader) = (labels.site.clone(), "delivery");
        self.line.metrics.poisoned.get_or_create(&PoisonLabels { site, reader }).inc();
        self.state.aside.forget(seq);
        self.state.awaiting.remove(seq);
        let detail = "the process died again and again while this was under way";
        let ending = FinalOutcome::Dead(OutcomeCause { code: POISON, detail: detail.into() }, None);
        self.end_early((seq, 0), was_parked, ending);
        self.settle().await?;
        Ok(())
    }
}
