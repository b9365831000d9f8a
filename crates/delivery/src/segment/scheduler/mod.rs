//! The scheduler of all sites' segments: runs each when due, and serves operators' requests.

mod listing;
mod poison;
mod pushing;
mod uncounted;

pub use listing::{SegmentOverview, SegmentPlan};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{Mutex, Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::counters::RuleCounterProgress;
use super::run::SegmentRun;
use super::sync::SyncManager;
use super::{
    MembershipFilter, MembershipUnit, ProfileSelection, RuleEvaluation, SegmentError, SegmentId,
    SegmentMembership, SegmentRecord, SegmentRule, SegmentRunSummary, SegmentSettings,
    SegmentStore, SegmentationSettings, SiteSegments,
};
use tagway_core::clock::SharedClock;
use tagway_core::metrics::{Metrics, SegmentLabels, SegmentRunLabels, SharedName};
use tagway_storage::journal::{PoisonGuard, SiteId};
use tagway_storage::profile::{ChangedProfiles, CounterProgress, ProfileId, ProfileService};

/// The number of concurrent previews: each reads on a thread of its own for the duration of a rule.
const PREVIEWS: usize = 2;

/// The pause after a run that failed, doubled with each failure, and its upper bound.
const MIN_PAUSE_MS: i64 = 60_000;
const MAX_PAUSE_MS: i64 = 3_600_000;

/// The longest sleep: the clock may have been set meanwhile.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// The interval of checks for counters that a rule waits for.
const FILLING_PAUSE: Duration = Duration::from_secs(1);

/// The scheduler of the segments of all sites.
pub struct SegmentScheduler {
    store: Arc<dyn SegmentStore>,
    settings: SegmentationSettings,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    sites: ArcSwap<Vec<SiteSegments>>,
    changed: Notify,
    /// One run at a time: each reads every profile, and it alone changes memberships.
    run_lock: Mutex<()>,
    previews: Semaphore,
    syncs: Option<SyncManager>,
    profiles: Option<Arc<ProfileService>>,
    /// The profiles changed since the last check.
    changed_profiles: Option<Arc<ChangedProfiles>>,
    /// Failed runs in a row and the time of the next try, by site and segment.
    failed_runs: parking_lot::Mutex<BTreeMap<(SiteId, SharedName), (u32, i64)>>,
    guard: Option<Arc<PoisonGuard>>,
    /// The segments reported to operators as disabled, by site, name and rule.
    reported_disabled: parking_lot::Mutex<BTreeSet<(SiteId, String)>>,
}

/// The result of a rule that is evaluated without storing it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct SegmentPreview {
    /// The number of selected people.
    pub size: u64,
    /// Some of them, from the oldest to the newest.
    pub sample: Vec<Value>,
    /// The duration of the evaluation, in milliseconds.
    pub took_ms: i64,
}

/// A membership, with the person as an operator sees them: `None` for an erased person.
type MemberListing = (SegmentMembership, Option<Value>);

impl SegmentScheduler {
    /// Builds a scheduler without segments.
    pub fn new(
        store: Arc<dyn SegmentStore>,
        settings: SegmentationSettings,
        clock: SharedClock,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            store,
            settings,
            clock,
            metrics,
            sites: ArcSwap::default(),
            changed: Notify::new(),
            run_lock: Mutex::default(),
            previews: Semaphore::new(PREVIEWS),
            syncs: None,
            profiles: None,
            changed_profiles: None,
            failed_runs: parking_lot::Mutex::default(),
            guard: None,
            reported_disabled: parking_lot::Mutex::default(),
        }
    }

    /// Returns the scheduler with syncs of members to destinations.
    #[must_use]
    pub fn with_syncs(self, syncs: SyncManager) -> Self {
        Self { syncs: Some(syncs), ..self }
    }

    /// Returns the scheduler with the profiles: a rule is not evaluated before these have counted its events.
    #[must_use]
    pub fn with_profiles(self, profiles: Arc<ProfileService>) -> Self {
        Self { profiles: Some(profiles), ..self }
    }

    /// Returns the scheduler with the changed profiles that segments in real time evaluate.
    #[must_use]
    pub fn with_changed(self, people: Arc<ChangedProfiles>) -> Self {
        Self { changed_profiles: Some(people), ..self }
    }

    /// Replaces the configured segments.
    pub fn apply(&self, sites: Vec<SiteSegments>) {
        self.sites.store(Arc::new(sites));
        self.changed.notify_one();
    }

    /// Runs due segments until stopped. A run that is aborted is begun anew at the next start.
    pub async fn run_until_stopped(self: Arc<Self>, stop: CancellationToken) {
        tokio::select! {
            () = self.wait_for_careful_readers() => {}
            () = stop.cancelled() => {}
        }
        tokio::join!(self.run_all(stop.clone()), self.push_all(stop));
        if let Some(syncs) = &self.syncs {
            syncs.stop().await;
        }
    }

    async fn run_all(&self, stop: CancellationToken) {
        let mut is_new = true;
        loop {
            if is_new {
                tokio::select! {
                    () = async {
                        self.reconcile_segments().await;
                        self.apply_syncs().await;
                    } => {}
                    () = stop.cancelled() => return,
                }
            }
            let sleep = tokio::select! {
                sleep = self.run_due_segment() => sleep,
                () = stop.cancelled() => return,
            };
            is_new = tokio::select! {
                () = tokio::time::sleep(sleep) => false,
                () = self.changed.notified() => true,
                () = stop.cancelled() => return,
            };
        }
    }

    /// Runs one segment if one is due; returns the time until the next may be.
    async fn run_due_segment(&self) -> Duration {
        let now = self.clock.now().as_millisecond();
        let mut next: Option<(i64, SiteSegments, Arc<SegmentSettings>)> = None;
        let mut longest = MAX_SLEEP;
        for site in self.sites.load_full().iter() {
            let known = async {
                Ok::<_, SegmentError>((
                    self.store.list_segments(site.id).await?,
                    self.counters(site).await?,
                ))
            };
            let (known, counters) = match known.await {
                Ok(known) => known,
                Err(SegmentError::NotLeader) => return MAX_SLEEP,
                Err(error) => {
                    tracing::warn!(%error, site = %site.name, "the segments are not evaluated: the \
                        profile store failed");
                    return MAX_SLEEP;
                }
            };
            for segment in &site.segments {
                if !is_filled(&segment.rule, counters.as_deref()) {
                    longest = FILLING_PAUSE;
                    continue;
                }
                let known = known.iter().find(|known| *known.name == *segment.name);
                let due = self.due(site, segment, known, now);
                if let Some(due) = due.filter(|due| next.as_ref().is_none_or(|it| *due < it.0)) {
                    next = Some((due, site.clone(), segment.clone()));
                }
            }
        }
        let Some((due, site, segment)) = next else { return longest };
        if due > now {
            let wait = u64::try_from(due.saturating_sub(now)).unwrap_or_default();
            return Duration::from_millis(wait).min(longest);
        }
        if let Err(error) = self.run_segment(&site, &segment).await {
            tracing::warn!(%error, site = %site.name, segment = %segment.name, "the run of a segment \
                failed: its members stay as they were");
        }
        // A new segment gets its number with the first run.
        self.apply_syncs().await;
        Duration::ZERO
    }

    /// Returns the progress of a site's counters, where that is stored.
    async fn counters(
        &self,
        site: &SiteSegments,
    ) -> Result<Option<Vec<CounterProgress>>, SegmentError> {
        let store = self.profiles.as_ref().and_then(|profiles| profiles.counters());
        let Some(store) = store else { return Ok(None) };
        Ok(Some(store.counters(site.id).await?))
    }

    /// Returns a segment's due time: at once if it or its rule is new, or if its run was aborted.
    fn due(
        &self,
        site: &SiteSegments,
        segment: &SegmentSettings,
        known: Option<&SegmentRecord>,
        now: i64,
    ) -> Option<i64> {
        if self.is_disabled(site, segment) {
            return None;
        }
        let failed = self.failed_runs.lock();
        if let Some((_, again)) = failed.get(&(site.id, segment.name.clone())) {
            return Some(*again);
        }
        let Some(ran) = known.and_then(|known| known.last_run.as_ref()) else { return Some(now) };
        let is_cut_off = known.is_some_and(|known| known.begun_at.is_some());
        if is_cut_off || ran.fingerprint != segment.fingerprint() {
            return Some(now);
        }
        self.planned(site, segment, ran)
    }

    /// Removes segments that are no longer configured, and publishes the sizes of the others.
    async fn reconcile_segments(&self) {
        for site in self.sites.load_full().iter() {
            let done = self.reconcile_site(site).await;
            if let Err(error) = done.or_else(SegmentError::ignore_not_leader) {
                tracing::warn!(%error, site = %site.name, "removed segments cannot be deleted yet");
            }
        }
    }

    async fn apply_syncs(&self) {
        let Some(syncs) = &self.syncs else { return };
        let done = syncs.apply(&self.sites.load_full()).await;
        if let Err(error) = done.or_else(SegmentError::ignore_not_leader) {
            tracing::warn!(%error, "the syncs cannot be updated: destinations get segments as before");
        }
    }

    async fn reconcile_site(&self, site: &SiteSegments) -> Result<(), SegmentError> {
        site.segments.iter().for_each(|segment| self.report_disabled(site, segment));
        for known in self.store.list_segments(site.id).await? {
            let labels = labels(site, &known.name);
            if site.segments.iter().any(|segment| *segment.name == *known.name) {
                self.publish_run(&labels, known.last_run.as_ref());
                continue;
            }
            let _turn = self.run_lock.lock().await;
            self.metrics.segment_members.remove(&labels);
            self.metrics.segment_run_timestamp_seconds.remove(&labels);
            self.metrics.segment_names_uncounted.remove(&labels);
            while !self.store.remove(known.id, self.settings.batch).await? {}
        }
        Ok(())
    }

    fn publish_run(&self, labels: &SegmentLabels, ran: Option<&SegmentRunSummary>) {
        let Some(ran) = ran else { return };
        self.metrics.segment_members.get_or_create(labels).set(ran.size);
        let at = u64::try_from(ran.at_ms / 1000).unwrap_or_default();
        self.metrics.segment_run_timestamp_seconds.get_or_create(labels).set(at);
    }

    async fn run_segment(
        &self,
        site: &SiteSegments,
        segment: &SegmentSettings,
    ) -> Result<SegmentRunSummary, SegmentError> {
        let _turn = self.run_lock.lock().await;
        let now_ms = self.clock.now().as_millisecond();
        let run =
            SegmentRun { store: &*self.store, site: site.id, segment, batch: self.settings.batch };
        let result = self.guarded(site, segment, true, run.run(now_ms)).await;
        self.log_uncounted(site, segment).await;
        let labels = labels(site, &segment.name);
        let code = match &result {
            Ok(_) => "ok",
            Err(SegmentError::TooSlow) => "slow",
            Err(_) => "failed",
        };
        let counted = SegmentRunLabels {
            site: site.name.clone(),
            segment: segment.name.clone(),
            result: code,
        };
        self.metrics.segment_runs.get_or_create(&counted).inc();
        let key = (site.id, segment.name.clone());
        let mut failed = self.failed_runs.lock();
        match &result {
            Ok(ran) => {
                failed.remove(&key);
                self.publish_run(&labels, Some(ran));
                if let Some(syncs) = &self.syncs {
                    syncs.notify_run();
                }
            }
            Err(_) => {
                let times = failed.get(&key).map_or(0, |(times, _)| *times);
                let pause = MIN_PAUSE_MS.saturating_mul(1 << times.min(10)).min(MAX_PAUSE_MS);
                failed.insert(key, (times.saturating_add(1), now_ms.saturating_add(pause)));
            }
        }
        result
    }

    /// Evaluates a rule now, and returns the size and a sample.
    ///
    /// # Errors
    ///
    /// Returns a [`SegmentError`] if the site is unknown, the evaluation is too slow, or the store fails.
    pub async fn preview(
        &self,
        site: &str,
        rule: Arc<SegmentRule>,
        by: MembershipUnit,
        sample: usize,
    ) -> Result<SegmentPreview, SegmentError> {
        let site = self.site(site)?.id;
        // Never closed.
        let _permit = self.previews.acquire().await.ok();
        let began = Instant::now();
        let now_ms = self.clock.now().as_millisecond();
        let evaluation = RuleEvaluation { rule, unit: by, now_ms, only: None };
        let members = self.store.evaluate(site, evaluation).await?;
        let every = members.len() / (sample.max(1) as u64) + 1;
        let every = usize::try_from(every).unwrap_or(usize::MAX);
        let chosen = members.after(i64::MIN).step_by(every).take(sample).map(ProfileId);
        let people = self.store.people(chosen.collect()).await?;
        let sample = people.into_iter().map(|(_, person)| person).collect();
        let took_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
        Ok(SegmentPreview { size: members.len(), sample, took_ms })
    }

    /// Returns the rule of a configured segment.
    ///
    /// # Errors
    ///
    /// Returns [`SegmentError::Unknown`] if there is no such segment.
    pub fn rule(
        &self,
        site: &str,
        segment: &str,
    ) -> Result<(Arc<SegmentRule>, MembershipUnit), SegmentError> {
        let (_, segment) = self.find(site, segment)?;
        Ok((Arc::new(segment.rule.clone()), segment.unit))
    }

    /// Runs a segment now.
    ///
    /// # Errors
    ///
    /// Returns a [`SegmentError`] if the segment is unknown, its counters are not filled, or the run fails.
    pub async fn run(&self, site: &str, segment: &str) -> Result<SegmentRunSummary, SegmentError> {
        let (site, segment) = self.find(site, segment)?;
        if !is_filled(&segment.rule, self.counters(&site).await?.as_deref()) {
            return Err(SegmentError::CountersPending);
        }
        self.enable_segment(&site, &segment).await;
        let ran = self.run_segment(&site, &segment).await;
        self.changed.notify_one();
        ran
    }

    /// Deletes the record of the members synced to a destination that no longer gets the segment. Returns their number.
    /// # Errors
    /// [`SegmentError::Unknown`], [`SegmentError::NothingSynced`], [`SegmentError::StillSynced`], or that of the store.
    pub async fn forget(
        &self,
        site: &str,
        segment: &str,
        destination: &str,
    ) -> Result<u64, SegmentError> {
        let site = self.site(site)?;
        let known = self.record(&site, segment).await?.ok_or(SegmentError::Unknown)?;
        let syncs = self.syncs.as_ref().ok_or(SegmentError::NothingSynced)?;
        let people = syncs.forget(&site.name, &known, destination).await;
        // A deleted segment may now have no rows left, and can be removed.
        self.changed.notify_one();
        people
    }

    /// Returns some members after `after`, or, with `changed`, some of those who joined or left at the last run.
    /// # Errors
    /// [`SegmentError::Unknown`] without such a site or segment; else the error of the store.
    pub async fn page(
        &self,
        site: &str,
        segment: &str,
        changed: bool,
        after: ProfileId,
        limit: usize,
    ) -> Result<Vec<MemberListing>, SegmentError> {
        let (site, segment) = self.find(site, segment)?;
        let Some(known) = self.record(&site, &segment.name).await? else { return Ok(Vec::new()) };
        let which = match (changed, &known.last_run) {
            (false, _) => MembershipFilter::Members,
            (true, None) => return Ok(Vec::new()),
            (true, Some(ran)) => MembershipFilter::ChangedAt(ran.at_ms),
        };
        self.list_page(known.id, which, after, limit).await
    }

    async fn list_page(
        &self,
        segment: SegmentId,
        which: MembershipFilter,
        after: ProfileId,
        limit: usize,
    ) -> Result<Vec<MemberListing>, SegmentError> {
        let page = self.store.page(segment, which, ProfileSelection::After(after, limit)).await?;
        let people = self.store.people(page.iter().map(|it| it.profile).collect()).await?;
        let mut people: BTreeMap<ProfileId, Value> = people.into_iter().collect();
        let shown = page.into_iter().map(|it| {
            let person = people.remove(&it.profile);
            (it, person)
        });
        Ok(shown.collect())
    }

    /// Returns the store's record of a segment, if it was ever run.
    async fn record(
        &self,
        site: &SiteSegments,
        segment: &str,
    ) -> Result<Option<SegmentRecord>, SegmentError> {
        let known = self.store.list_segments(site.id).await?;
        Ok(known.into_iter().find(|known| known.name == segment))
    }

    fn site(&self, name: &str) -> Result<SiteSegments, SegmentError> {
        let sites = self.sites.load();
        sites.iter().find(|site| &*site.name == name).cloned().ok_or(SegmentError::Unknown)
    }

    fn find(
        &self,
        site: &str,
        segment: &str,
    ) -> Result<(SiteSegments, Arc<SegmentSettings>), SegmentError> {
        let site = self.site(site)?;
        let found = site.segments.iter().find(|it| &*it.name == segment).cloned();
        Ok((site, found.ok_or(SegmentError::Unknown)?))
    }
}

/// Returns true if the events that the rule needs are counted, or if no progress is stored.
fn is_filled(rule: &SegmentRule, counters: Option<&[CounterProgress]>) -> bool {
    let counting = counters.and_then(|counters| RuleCounterProgress::of(rule, counters));
    counting.is_none_or(|counting| counting.is_filled)
}

fn labels(site: &SiteSegments, segment: &str) -> SegmentLabels {
    SegmentLabels { site: site.name.clone(), segment: segment.into() }
}

impl SegmentMembership {
    /// Formats a membership as a line of JSON.
    pub fn to_json(&self, person: Option<Value>) -> Value {
        let since = jiff::Timestamp::from_millisecond(self.since_ms).ok();
        let mut line =
            json!({ "profile": self.profile.0, "member": self.is_member, "since": since });
        if let (Value::Object(line), Some(Value::Object(person))) = (&mut line, person) {
            line.extend(person);
        }
        line
    }
}
