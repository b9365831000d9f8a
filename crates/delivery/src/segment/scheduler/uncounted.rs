//! Events in rules under whose names nothing was counted.

use super::super::{SegmentError, SegmentSettings, SiteSegments};
use super::{SegmentScheduler, labels};

impl SegmentScheduler {
    /// Returns the names of events in the rule under which nothing was counted: no such event occurred since the
    /// profiles began, or the name came when there was no room for it.
    pub(super) async fn uncounted(
        &self,
        site: &SiteSegments,
        segment: &SegmentSettings,
    ) -> Result<Vec<String>, SegmentError> {
        let names = segment.rule.counted_events();
        let Some(profiles) = self.profiles.as_ref().filter(|_| !names.is_empty()) else {
            return Ok(Vec::new());
        };
        Ok(profiles.uncounted(site.id, names.into_iter().collect()).await?)
    }

    /// Logs the names of events under which nothing was counted, once.
    pub(super) async fn log_uncounted(&self, site: &SiteSegments, segment: &SegmentSettings) {
        let names = match self.uncounted(site, segment).await {
            Ok(names) => names,
            Err(error) => {
                tracing::debug!(%error, site = %site.name, "the counted event names cannot be read");
                return;
            }
        };
        let labels = labels(site, &segment.name);
        let gauge = self.metrics.segment_names_uncounted.get_or_create(&labels);
        let count = names.len() as u64;
        if gauge.set(count) != count && count > 0 {
            let (site, segment) = (&site.name, &segment.name);
            tracing::warn!(%site, %segment, ?names, "a segment's rule names events that never occurred: \
                check the spelling of the names");
        }
    }
}
