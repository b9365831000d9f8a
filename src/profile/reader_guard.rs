//! How the profiles' readers of the journal go on after an abort.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::journal::{GuardedWork, Journal, JournalRecord, ReaderGuard, SiteId};
use crate::metrics::{Metrics, PoisonLabels, SiteLabels};

/// The care of one reader, which ends when as many records have passed as it takes in one step.
pub(super) struct ProfileReaderGuard {
    care: Arc<ReaderGuard>,
    what: &'static str,
    left: AtomicUsize,
}

impl ProfileReaderGuard {
    /// The care of the reader of this name, which takes so many records in one step at most.
    pub(super) fn new(
        journal: &dyn Journal,
        (site, reader): (SiteId, &str),
        what: &'static str,
        step: usize,
    ) -> Self {
        let care = Arc::new(journal.guard().care(site, reader));
        Self { care, what, left: AtomicUsize::new(step) }
    }

    /// The reader panicked: it is careful from here on.
    pub(super) fn begin(&self, step: usize) {
        self.left.store(step, Ordering::Relaxed);
        self.care.begin_care();
    }

    /// There is nothing more that can have been under way.
    pub(super) fn end(&self) {
        if self.care.is_careful() {
            self.care.end_care();
        }
    }

    /// Leaves of these what may be taken together. Whether that was all.
    pub(super) fn choose(&self, records: &mut Vec<JournalRecord>) -> bool {
        let count = records.len();
        records.truncate(self.care.group(records.iter().map(item)));
        records.len() == count
    }

    /// Begins to work on these.
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

    /// Whether a record is set aside, since the process died over it again and again. Tells of it.
    pub(super) fn sets_aside(&self, seq: u64, (labels, metrics): (&SiteLabels, &Metrics)) -> bool {
        if !self.care.is_poisoned(i64::try_from(seq).unwrap_or(i64::MAX)) {
            return false;
        }
        let (site, reader) = (labels.site.clone(), self.what);
        tracing::warn!(
            %site, reader, seq,
            "an event was under way whenever the process died, and is left out here; it is delivered all \
             the same"
        );
        metrics.poisoned.get_or_create(&PoisonLabels { site, reader }).inc();
        true
    }
}

fn item(record: &JournalRecord) -> i64 {
    i64::try_from(record.seq).unwrap_or(i64::MAX)
}
