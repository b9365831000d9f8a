//! One run: evaluates the rule, compares the result with the memberships, and writes only the differences.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    MembershipChange, MembershipFilter, ProfileSelection, RuleEvaluation, SegmentError, SegmentId,
    SegmentRunSummary, SegmentSettings, SegmentStore,
};
use tagway_storage::journal::SiteId;
use tagway_storage::profile::ProfileId;

/// The number of memberships read at once.
const PAGE: usize = 10_000;

/// A run of one segment.
pub(super) struct SegmentRun<'r> {
    pub(super) store: &'r dyn SegmentStore,
    pub(super) site: SiteId,
    pub(super) segment: &'r SegmentSettings,
    /// The number of memberships changed in one transaction.
    pub(super) batch: usize,
}

/// Membership changes to be written in batches.
struct MembershipWriter<'r> {
    store: &'r dyn SegmentStore,
    segment: SegmentId,
    at_ms: i64,
    batch: usize,
    changes: Vec<(ProfileId, MembershipChange)>,
}

impl SegmentRun<'_> {
    /// Runs the segment. A run that was begun and aborted continues with its start time: the differences of
    /// then and of now are one run.
    pub(super) async fn run(&self, now_ms: i64) -> Result<SegmentRunSummary, SegmentError> {
        let began = Instant::now();
        let Self { store, site, segment: settings, batch } = *self;
        let (segment, at_ms) = store.begin_run(site, &settings.name, now_ms).await?;
        let rule = Arc::new(settings.rule.clone());
        let evaluation = RuleEvaluation { rule, unit: settings.unit, now_ms, only: None };
        let members = store.evaluate(site, evaluation).await?;
        let mut writing = MembershipWriter { store, segment, at_ms, batch, changes: Vec::new() };
        let mut after = i64::MIN;
        loop {
            let of = ProfileSelection::After(ProfileId(after), PAGE);
            let page = store.page(segment, MembershipFilter::All, of).await?;
            let is_last = page.len() < PAGE;
            let end = page.last().filter(|_| !is_last).map_or(i64::MAX, |last| last.profile.0);
            let mut selected = members.after(after).take_while(|it| *it <= end).peekable();
            for known in &page {
                while let Some(new) = selected.next_if(|it| *it < known.profile.0) {
                    writing.push(ProfileId(new), MembershipChange::Join).await?;
                }
                let is_selected = selected.next_if_eq(&known.profile.0).is_some();
                match (known.is_member, is_selected) {
                    (false, true) => writing.push(known.profile, MembershipChange::Join).await?,
                    (true, false) => writing.push(known.profile, MembershipChange::Leave).await?,
                    (false, false) if known.since_ms != at_ms => {
                        writing.push(known.profile, MembershipChange::Forget).await?;
                    }
                    (false, false) | (true, true) => {}
                }
            }
            for new in selected {
                writing.push(ProfileId(new), MembershipChange::Join).await?;
            }
            if is_last {
                break;
            }
            after = end;
        }
        writing.flush().await?;
        let took_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
        store.end_run(segment, at_ms, took_ms, settings.fingerprint()).await
    }
}

impl MembershipWriter<'_> {
    async fn push(
        &mut self,
        profile: ProfileId,
        change: MembershipChange,
    ) -> Result<(), SegmentError> {
        self.changes.push((profile, change));
        if self.changes.len() >= self.batch { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), SegmentError> {
        let changes = std::mem::take(&mut self.changes);
        if changes.is_empty() {
            return Ok(());
        }
        self.store.change(self.segment, changes, self.at_ms).await
    }
}
