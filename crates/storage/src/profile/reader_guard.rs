//! The guard of the profiles' readers of the journal after an abort.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::journal::{GuardedWork, Journal, JournalRecord, ReaderGuard, SiteId};
use tagway_core::metrics::{Metrics, PoisonLabels, SiteLabels};

/// The guard of one reader, whose care ends when as many records have passed as it reads in one step.
pub(super) struct ProfileReaderGuard {
    reader_guard: Arc<ReaderGuard>,
    reader_label: &'static str,
    remaining_records: AtomicUsize,
}

impl ProfileReaderGuard {
    /// Creates the guard of the reader with this name, which reads at most `step` records in one step.
    pub(super) fn new(
        journal: &dyn Journal,
        site: SiteId,
        reader: &str,
        what: &'static str,
        step: usize,
    ) -> Self {
        let care = Arc::new(journal.guard().reader_guard(site, reader));
        Self { reader_guard: care, reader_label: what, remaining_records: AtomicUsize::new(step) }
    }

    /// Makes the reader careful after its own panic.
    pub(super) fn begin(&self, step: usize) {
        self.remaining_records.store(step, Ordering::Relaxed);
        self.reader_guard.enter_careful_mode();
    }

    /// Ends the care: no further record can have been in flight.
    pub(super) fn end(&self) {
        if self.reader_guard.is_careful() {
            self.reader_guard.leave_careful_mode();
        }
    }

    /// Keeps only the records that may be handled together. Returns true if that was all.
    pub(super) fn limit_group(&self, records: &mut Vec<JournalRecord>) -> bool {
        let count = records.len();
        records.truncate(self.reader_guard.group(records.iter().map(item)));
        records.len() == count
    }

    /// Begins to work on these records.
    pub(super) async fn begin_work(&self, records: &[JournalRecord]) -> GuardedWork {
        let section = self.reader_guard.begin(records.iter().map(item).collect()).await;
        if self.reader_guard.is_careful() {
            let left = self.remaining_records.load(Ordering::Relaxed).saturating_sub(records.len());
            self.remaining_records.store(left, Ordering::Relaxed);
            if left == 0 {
                self.reader_guard.leave_careful_mode();
            }
        }
        section
    }

    /// Returns true if a record is set aside, since the process died over it repeatedly. Logs and counts it.
    pub(super) fn skips_poisoned(&self, seq: u64, labels: &SiteLabels, metrics: &Metrics) -> bool {
        if !self.reader_guard.is_poisoned(i64::try_from(seq).unwrap_or(i64::MAX)) {
            return false;
        }
        let (site, reader) = (labels.site.clone(), self.reader_label);
        tracing::warn!(
            %site, reader, seq,
            "the process died repeatedly while it applied this event to the profiles; the event is left \
             out of the profiles and is still delivered"
        );
        metrics.poisoned.get_or_create(&PoisonLabels { site, reader }).inc();
        true
    }
}

fn item(record: &JournalRecord) -> i64 {
    i64::try_from(record.seq).unwrap_or(i64::MAX)
}
