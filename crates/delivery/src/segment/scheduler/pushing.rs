//! Segments in real time: changed profiles are evaluated alone, within moments. Members who join by the
//! passing of time, or by events of others in their group, are found by the next whole run, and so are any
//! that this misses.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::super::schedule::SegmentSchedule;
use super::super::{
    MembershipChange, MembershipFilter, MembershipUnit, ProfileSelection, RuleEvaluation,
    SegmentError, SegmentRecord, SegmentSettings, SiteSegments,
};
use super::{SegmentScheduler, is_filled, labels};
use tagway_storage::profile::ProfileId;

impl SegmentScheduler {
    /// Evaluates changed profiles until stopped.
    pub(super) async fn push_all(&self, stop: CancellationToken) {
        let Some(people) = &self.changed_profiles else { return };
        loop {
            tokio::select! {
                () = people.wait() => {}
                () = stop.cancelled() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(self.settings.realtime_delay) => {}
                () = stop.cancelled() => return,
            }
            for site in self.sites.load_full().iter() {
                let of_site: Vec<ProfileId> = people.take(site.id).into_iter().collect();
                if of_site.is_empty() {
                    continue;
                }
                let pushed = tokio::select! {
                    pushed = self.push_site(site, &of_site) => pushed,
                    () = stop.cancelled() => return,
                };
                if let Err(error) = pushed.or_else(SegmentError::ignore_not_leader) {
                    tracing::warn!(%error, site = %site.name, "the changed people cannot be evaluated \
                        now: the next run of the segments includes them");
                }
            }
        }
    }

    async fn push_site(
        &self,
        site: &SiteSegments,
        people: &[ProfileId],
    ) -> Result<(), SegmentError> {
        let is_pushed = |it: &&Arc<SegmentSettings>| {
            matches!(it.schedule, SegmentSchedule::Realtime) && it.unit == MembershipUnit::User
        };
        let segments: Vec<_> = site.segments.iter().filter(is_pushed).collect();
        if segments.is_empty() {
            return Ok(());
        }
        let counters = self.counters(site).await?;
        for segment in segments {
            if is_filled(&segment.rule, counters.as_deref()) && !self.is_disabled(site, segment) {
                let push = self.push(site, segment, people);
                self.guarded(site, segment, false, push).await?;
            }
        }
        Ok(())
    }

    /// Evaluates the rule for these people, writes the differences, and passes them to the syncs.
    async fn push(
        &self,
        site: &SiteSegments,
        segment: &SegmentSettings,
        people: &[ProfileId],
    ) -> Result<(), SegmentError> {
        let _turn = self.run_lock.lock().await;
        let known = self.record(site, &segment.name).await?;
        // A segment whose rule is to run anew evaluates everyone soon.
        let Some(known) = known.filter(|known| is_settled(known, segment)) else { return Ok(()) };
        let now_ms = self.clock.now().as_millisecond();
        let (rule, only) = (Arc::new(segment.rule.clone()), Some(people.to_vec()));
        let evaluation = RuleEvaluation { rule, unit: segment.unit, now_ms, only };
        let members = self.store.evaluate(site.id, evaluation).await?;
        let of = ProfileSelection::These(people.to_vec());
        let page = self.store.page(known.id, MembershipFilter::All, of).await?;
        let was = |profile: ProfileId| page.iter().any(|it| it.profile == profile && it.is_member);
        let mut changes = Vec::new();
        for profile in people.iter().copied() {
            match (was(profile), members.contains(profile.0)) {
                (false, true) => changes.push((profile, MembershipChange::Join)),
                (true, false) => changes.push((profile, MembershipChange::Leave)),
                (false, false) | (true, true) => {}
            }
        }
        let changed: Vec<ProfileId> = changes.iter().map(|(profile, _)| *profile).collect();
        let joined = changes.iter().filter(|(_, change)| *change == MembershipChange::Join).count();
        if !changes.is_empty() {
            self.store.change(known.id, changes, now_ms).await?;
            let gauge = self.metrics.segment_members.get_or_create(&labels(site, &segment.name));
            gauge.inc_by(joined as u64);
            gauge.dec_by((changed.len() - joined) as u64);
        }
        if let Some(syncs) = &self.syncs {
            // The data or consent of members who stay may have changed.
            syncs.push(known.id, people);
        }
        Ok(())
    }
}

/// Returns true if the last run was of this rule, and none is running.
fn is_settled(known: &SegmentRecord, segment: &SegmentSettings) -> bool {
    let ran = known.last_run.as_ref();
    known.begun_at.is_none() && ran.is_some_and(|ran| ran.fingerprint == segment.fingerprint())
}
