//! The list of segments for operators.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::super::counters::RuleCounterProgress;
use super::super::schedule::{SegmentSchedule, delay_ms};
use super::super::sync::{SyncManager, SyncOverview};
use super::super::{
    MembershipFilter, MembershipUnit, ProfileSelection, SegmentError, SegmentRecord,
    SegmentRunSummary, SegmentSettings, SegmentSize, SiteSegments,
};
use super::{MAX_PAUSE_MS, MIN_PAUSE_MS, SegmentScheduler, is_filled};
use tagway_core::metrics::SharedName;
use tagway_storage::profile::ProfileId;

/// A segment as operators see it. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
pub struct SegmentOverview {
    /// The site's name.
    #[schema(value_type = String)]
    pub site: SharedName,
    /// The segment's name.
    #[schema(value_type = String)]
    pub name: SharedName,
    /// The unit of its members: `user` or `group`.
    pub by: &'static str,
    /// The plan as a text.
    pub schedule: String,
    /// The rule as it is written.
    #[serde(rename = "where")]
    pub rule: Value,
    /// The destinations that its members are synced to.
    #[schema(value_type = Vec<String>)]
    pub destinations: Vec<SharedName>,
    /// The states of these syncs.
    pub syncs: Vec<SyncOverview>,
    /// True if a run was begun and has not ended.
    pub is_running: bool,
    /// The number of members now: `ran` has that of the last run.
    pub members: u64,
    /// The sizes of the last runs, at most 30, in their order.
    pub trend: Vec<SegmentSize>,
    /// The summary of the last run.
    pub ran: Option<SegmentRunSummary>,
    /// The time when it is due.
    pub due_ms: Option<i64>,
    /// The progress of the counters that its rule needs, if it needs any.
    pub counting: Option<RuleCounterProgress>,
    /// True if it is disabled because the process died repeatedly over it.
    pub is_set_aside: bool,
    /// The names of events in its rule under which nothing was counted.
    pub uncounted: Vec<String>,
}

/// The plan of a segment, without its members. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentPlan {
    /// The site's name.
    pub site: SharedName,
    /// The segment's name.
    pub name: SharedName,
    /// The time when it was to run by its schedule, whatever has failed since; `None` if it waits for its counters,
    /// or is not to run.
    pub planned_ms: Option<i64>,
    /// The start of its last run.
    pub ran_ms: Option<i64>,
}

impl SegmentScheduler {
    /// Returns the plans of all segments.
    ///
    /// # Errors
    ///
    /// Returns a [`SegmentError`] if a store cannot be read, or if another gateway runs the segments.
    pub async fn plans(&self) -> Result<Vec<SegmentPlan>, SegmentError> {
        let mut plans = Vec::new();
        for site in self.sites.load_full().iter() {
            let stored = self.store.list_segments(site.id).await?;
            let counters = self.counters(site).await?;
            for segment in &site.segments {
                let known = stored.iter().find(|known| *known.name == *segment.name);
                let ran = known.and_then(|known| known.last_run.as_ref());
                let waits = !is_filled(&segment.rule, counters.as_deref())
                    || known.is_some_and(|known| known.begun_at.is_some());
                let planned_ms = match ran {
                    _ if waits => None,
                    Some(ran) => self.planned(site, segment, ran),
                    None => self.failing_since(site, segment),
                };
                let (site, name) = (site.name.clone(), segment.name.clone());
                plans.push(SegmentPlan {
                    site,
                    name,
                    planned_ms,
                    ran_ms: ran.map(|ran| ran.at_ms),
                });
            }
        }
        Ok(plans)
    }

    /// Returns the time after a run at which a segment is to run by its schedule.
    pub(super) fn planned(
        &self,
        site: &SiteSegments,
        segment: &SegmentSettings,
        ran: &SegmentRunSummary,
    ) -> Option<i64> {
        let next = segment.schedule.next(ran.at_ms, self.settings.realtime_every)?;
        let jitter = segment.jitter.unwrap_or(self.settings.jitter);
        Some(next.saturating_add(match segment.schedule {
            SegmentSchedule::Realtime => 0,
            _ => delay_ms(&site.name, &segment.name, jitter),
        }))
    }

    /// Returns the approximate time since which the runs of a segment fail.
    fn failing_since(&self, site: &SiteSegments, segment: &SegmentSettings) -> Option<i64> {
        let failed = self.failed_runs.lock();
        let (times, again) = failed.get(&(site.id, segment.name.clone()))?;
        let doubled = MIN_PAUSE_MS.saturating_mul(1 << times.saturating_sub(1).min(10));
        let pause = doubled.min(MAX_PAUSE_MS);
        // The pauses before the last one are together about as long.
        Some(again.saturating_sub(2 * pause))
    }

    /// Lists every segment of a site, or of all.
    ///
    /// # Errors
    ///
    /// Returns a [`SegmentError`] if a store cannot be read.
    pub async fn list(&self, of: Option<&str>) -> Result<Vec<SegmentOverview>, SegmentError> {
        let now = self.clock.now().as_millisecond();
        let states = self.syncs.as_ref().map(SyncManager::states).unwrap_or_default();
        let mut listed = Vec::new();
        for site in self.sites.load_full().iter() {
            if of.is_some_and(|name| name != &*site.name) {
                continue;
            }
            let stored = self.store.list_segments(site.id).await?;
            let counters = self.counters(site).await?;
            for segment in &site.segments {
                let known = stored.iter().find(|known| *known.name == *segment.name);
                let (members, trend) = match known {
                    Some(known) => {
                        (self.store.size(known.id).await?, self.store.trend(known.id).await?)
                    }
                    None => (0, Vec::new()),
                };
                listed.push(SegmentOverview {
                    site: site.name.clone(),
                    name: segment.name.clone(),
                    by: segment.unit.name(),
                    schedule: segment.schedule.describe(),
                    rule: segment.rule_source.clone(),
                    destinations: segment.syncs.iter().map(|it| it.destination.clone()).collect(),
                    syncs: states
                        .iter()
                        .filter(|it| it.site == site.name && it.segment == segment.name)
                        .cloned()
                        .collect(),
                    is_running: known.is_some_and(|known| known.begun_at.is_some()),
                    members,
                    trend,
                    ran: known.and_then(|known| known.last_run.clone()),
                    due_ms: self.due(site, segment, known, now),
                    counting: counters
                        .as_deref()
                        .and_then(|it| RuleCounterProgress::of(&segment.rule, it)),
                    is_set_aside: self.is_disabled(site, segment),
                    uncounted: self.uncounted(site, segment).await?,
                });
            }
            listed.extend(Self::list_orphaned_syncs(site, &states, &stored));
        }
        Ok(listed)
    }

    /// Returns the names of the site's segments that each of these people is a member of.
    ///
    /// # Errors
    ///
    /// Returns a [`SegmentError`] if the store cannot be read.
    pub async fn memberships(
        &self,
        of: &str,
        profiles: &[ProfileId],
    ) -> Result<BTreeMap<ProfileId, Vec<SharedName>>, SegmentError> {
        let mut memberships = BTreeMap::<ProfileId, Vec<SharedName>>::new();
        let sites = self.sites.load_full();
        let Some(site) = sites.iter().find(|site| *site.name == *of) else {
            return Ok(memberships);
        };
        if profiles.is_empty() {
            return Ok(memberships);
        }
        let known = self.store.list_segments(site.id).await?;
        for segment in &site.segments {
            let Some(known) = known.iter().find(|it| *it.name == *segment.name) else { continue };
            let these = ProfileSelection::These(profiles.to_vec());
            let page = self.store.page(known.id, MembershipFilter::Members, these).await?;
            for member in page {
                memberships.entry(member.profile).or_default().push(segment.name.clone());
            }
        }
        Ok(memberships)
    }

    /// Lists the syncs that destinations still have of deleted segments of the site.
    fn list_orphaned_syncs(
        site: &SiteSegments,
        states: &[SyncOverview],
        known: &[SegmentRecord],
    ) -> Vec<SegmentOverview> {
        let is_gone = |name: &SharedName| site.segments.iter().all(|it| it.name != *name);
        let mut left = BTreeMap::<SharedName, Vec<SyncOverview>>::new();
        for state in states.iter().filter(|it| it.site == site.name && is_gone(&it.segment)) {
            left.entry(state.segment.clone()).or_default().push(state.clone());
        }
        let listed = left.into_iter().map(|(name, syncs)| SegmentOverview {
            site: site.name.clone(),
            by: MembershipUnit::default().name(),
            schedule: "removed".to_owned(),
            syncs,
            ran: known.iter().find(|it| *it.name == *name).and_then(|it| it.last_run.clone()),
            name,
            ..SegmentOverview::default()
        });
        listed.collect()
    }
}
