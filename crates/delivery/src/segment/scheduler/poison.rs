//! Segments that end the process: one that was running at several aborts in a row is disabled. It is not run,
//! by plan or by changed profiles, until its rule changes or an operator runs it.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::super::{SegmentError, SegmentSettings, SiteSegments};
use super::SegmentScheduler;
use tagway_core::metrics::PoisonLabels;
use tagway_storage::journal::{PoisonGuard, ReaderGuard};

/// The longest wait of segments for the readers of the journal to find the cause of an abort: until then
/// segments would be suspects as well.
const MAX_CAREFUL_WAIT: Duration = Duration::from_secs(10);

impl SegmentScheduler {
    /// Returns the scheduler with a guard: a segment that ends the process repeatedly is disabled.
    #[must_use]
    pub fn with_guard(self, guard: Arc<PoisonGuard>) -> Self {
        Self { guard: Some(guard), ..self }
    }

    /// Waits, after an abort, until the readers' careful mode ends.
    pub(super) async fn wait_for_careful_readers(&self) {
        if let Some(guard) = self.guard.as_ref().filter(|guard| guard.is_after_abort()) {
            guard.wait_for_careful_readers(MAX_CAREFUL_WAIT).await;
        }
    }

    fn segment_guard(
        &self,
        site: &SiteSegments,
        segment: &SegmentSettings,
    ) -> Option<Arc<ReaderGuard>> {
        let guard = self.guard.as_ref()?;
        // No destination can have this name.
        Some(Arc::new(guard.watch(site.id, &format!("(segment) {}", segment.name))))
    }

    /// Returns true if it is disabled, with this rule.
    pub(super) fn is_disabled(&self, site: &SiteSegments, segment: &SegmentSettings) -> bool {
        self.segment_guard(site, segment).is_some_and(|care| care.is_poisoned(item(segment)))
    }

    /// Enables it again, for an operator's run.
    pub(super) async fn enable_segment(&self, site: &SiteSegments, segment: &SegmentSettings) {
        if let Some(care) = self.segment_guard(site, segment) {
            care.remove_all_suspects().await;
        }
        self.reported_disabled.lock().remove(&key(site, segment));
    }

    /// Runs work of a segment that may end the process. The guard records it always, or only if something is
    /// suspected.
    pub(super) async fn guarded<T>(
        &self,
        site: &SiteSegments,
        segment: &SegmentSettings,
        always: bool,
        work: impl Future<Output = Result<T, SegmentError>>,
    ) -> Result<T, SegmentError> {
        let Some((guard, care)) = self.guard.as_ref().zip(self.segment_guard(site, segment)) else {
            return work.await;
        };
        let is_noted = always || guard.is_after_abort() || care.has_suspects();
        let section = care.begin_without_turn(item(segment), is_noted).await;
        match AssertUnwindSafe(work).catch_unwind().await {
            Ok(done) => {
                section.end().await;
                care.remove_all_suspects().await;
                done
            }
            Err(_panic) => {
                section.end_after_panic().await;
                self.report_disabled(site, segment);
                Err(SegmentError::Panicked)
            }
        }
    }

    /// Reports once to operators if it is disabled.
    pub(super) fn report_disabled(&self, site: &SiteSegments, segment: &SegmentSettings) {
        if !self.is_disabled(site, segment) {
            return;
        }
        let mut reported = self.reported_disabled.lock();
        if reported.insert(key(site, segment)) {
            tracing::warn!(
                site = %site.name, segment = %segment.name,
                "the process died repeatedly while it evaluated this segment; the segment is set aside: \
                 change its rule, or run it with `tagway segments run`"
            );
            let labels = PoisonLabels { site: site.name.clone(), reader: "segment" };
            self.metrics.poisoned.get_or_create(&labels).inc();
        }
    }
}

fn key(
    site: &SiteSegments,
    segment: &SegmentSettings,
) -> (tagway_storage::journal::SiteId, String) {
    (site.id, format!("{} {}", segment.name, segment.fingerprint()))
}

/// Returns the guard's number of a segment's rule.
fn item(segment: &SegmentSettings) -> i64 {
    let digits: String = segment.fingerprint().chars().take(15).collect();
    i64::from_str_radix(&digits, 16).unwrap_or_default()
}
