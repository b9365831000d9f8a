//! The guard of the profiles' readers of the journal after an abort.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::journal::{GuardedWork, Journal, JournalRecord, ReaderGuard, SiteId};
use crate::metrics::{Metrics, PoisonLabels, SiteLabels};

/// The guard of one reader, whose care ends when as many records have passed as it reads in one step.
pub(super) struct ProfileReaderGuard {
    care: Arc<ReaderGuard>,
    what: &'static str,
    left: AtomicUsize,
}

impl ProfileReaderGuard {
    /// Creates the guard of the reader with this name, which reads at most `step` records in one step.
    pub(super) fn new(
        journal: &dyn Journal,
        (site, reader): (SiteId, &str),
        what: &'static str,
        step: usize,
    ) -> Self {
        let care = Arc::new(journal.guard().care(site, reader));
        Self { care, what, left: AtomicUsize::new(step) }
    }

    /// Makes the reader careful after its own panic.
    pub(super) fn begin(&self, step: usize) {
        self.left.store(step, Ordering::Relaxed);
        self.care.begin_care();
    }

    /// Ends the care: no further record can have been in flight.
    pub(super) fn end(&self) {
        if self.care.is_careful() {
            self.care.end_care();
        }
    }

    /// Keeps only the records that may be handled together. Returns true if that was all.
    pub(super) fn choose(&self, records: &mut Vec<JournalRecord>) -> bool {
        let count = records.len();
        records.truncate(self.care.group(records.iter().map(item)));
        records.len() == count
    }

    /// Begins to work on these records.
    pub(super) async fn section(&self, records: &[JournalRecord]) -> GuardedWork {
        let section = self.care.begin(records.iter().map(item).collect()).await;
        if self.care.is_careful() {
            let left = self.left.load(Ordering::Relaxed).saturating_sub(records.len());
            self.left.store(left, Ordering::Relaxed);
            if left == 0 {
                self.care.end_care();
            }
        }
        section
    }

    /// Returns true if a record is set aside, since the process died over it repeatedly. Logs and counts it.
    pub(super) fn sets_aside(&self, seq: u64, (labels, metrics): (&SiteLabels, &Metrics)) -> bool {
        if !self.care.is_poisoned(i64::try_from(seq).unwrap_or(i64::MAX)) {
            return false;
        }
        let (site, reader) = (labels.site.clone(), self.what);
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
