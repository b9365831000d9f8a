//! The segments of all sites: when each is due, and what operators ask of them.

mod listing;
mod poison;
mod pushing;
mod uncounted;

pub use listing::SegmentOverview;

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
use super::schedule::delay_ms;
use super::sync::SyncManager;
use super::{
    MembershipFilter, MembershipUnit, SegmentError, SegmentId, SegmentMembership, SegmentRecord,
    SegmentRule, SegmentRunSummary, SegmentSettings, SegmentStore, SegmentationSettings,
};
use crate::clock::SharedClock;
use crate::journal::{PoisonGuard, SiteId};
use crate::metrics::{Metrics, SegmentLabels, SegmentRunLabels, SharedName};
use crate::profile::{ChangedProfiles, CounterProgress, ProfileId, ProfileService};

/// Previews at once: each reads on a thread of its own for as long as a rule takes.
const PREVIEWS: usize = 2;

/// The pause after a run that failed, doubled with each, and its end.
const MIN_PAUSE_MS: i64 = 60_000;
const MAX_PAUSE_MS: i64 = 3_600_000;

/// The longest sleep: the clock may have been set meanwhile.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// How often it is looked whether the counters are filled that a rule waits for.
const FILLING_PAUSE: Duration = Duration::from_secs(1);

/// The segments of one site.
#[derive(Clone, Debug)]
pub struct SiteSegments {
    /// The site's number.
    pub id: SiteId,
    /// Its name.
    pub name: SharedName,
    /// Its segments.
    pub segments: Vec<Arc<SegmentSettings>>,
}

/// The segments of all sites.
pub struct SegmentScheduler {
    store: Arc<dyn SegmentStore>,
    settings: SegmentationSettings,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    sites: ArcSwap<Vec<SiteSegments>>,
    changed: Notify,
    /// One run at a time: each looks at every profile, and it alone changes memberships.
    turn: Mutex<()>,
    previews: Semaphore,
    syncs: Option<SyncManager>,
    profiles: Option<Arc<ProfileService>>,
    /// Who changed.
    people: Option<Arc<ChangedProfiles>>,
    /// By site and segment: runs that failed in a row, and when to try again.
    failed: std::sync::Mutex<BTreeMap<(SiteId, SharedName), (u32, i64)>>,
    guard: Option<Arc<PoisonGuard>>,
    /// By site, name and rule: those of which operators were told that they are set aside.
    told_aside: std::sync::Mutex<BTreeSet<(SiteId, String)>>,
}

/// Whom a rule selects, without anything being kept.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentPreview {
    /// How many.
    pub size: u64,
    /// Some of them, from the oldest to the newest.
    pub sample: Vec<Value>,
    /// How long it took to find out.
    pub took_ms: i64,
}

/// A membership and what an operator is shown of the person: nothing of one who is forgotten.
type MemberListing = (SegmentMembership, Option<Value>);

impl SegmentScheduler {
    /// No segments yet.
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
            turn: Mutex::default(),
            previews: Semaphore::new(PREVIEWS),
            syncs: None,
            profiles: None,
            people: None,
            failed: std::sync::Mutex::default(),
            guard: None,
            told_aside: std::sync::Mutex::default(),
        }
    }

    /// The same, and destinations hear of the members.
    #[must_use]
    pub fn with_syncs(self, syncs: SyncManager) -> Self {
        Self { syncs: Some(syncs), ..self }
    }

    /// The same, and no rule is asked before these have counted what it asks for.
    #[must_use]
    pub fn with_profiles(self, profiles: Arc<ProfileService>) -> Self {
        Self { profiles: Some(profiles), ..self }
    }

    /// The same, and segments in real time look at those who changed.
    #[must_use]
    pub fn with_changed(self, people: Arc<ChangedProfiles>) -> Self {
        Self { people: Some(people), ..self }
    }

    /// Takes over what is configured.
    pub fn apply(&self, sites: Vec<SiteSegments>) {
        self.sites.store(Arc::new(sites));
        self.changed.notify_one();
    }

    /// Runs what is due, until told to stop. A run that is cut off is begun anew at the next start.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        tokio::select! {
            () = self.wait_for_calm() => {}
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
                        self.put_syncs_in_order().await;
                    } => {}
                    () = stop.cancelled() => return,
                }
            }
            let sleep = tokio::select! {
                sleep = self.step() => sleep,
                () = stop.cancelled() => return,
            };
            is_new = tokio::select! {
                () = tokio::time::sleep(sleep) => false,
                () = self.changed.notified() => true,
                () = stop.cancelled() => return,
            };
        }
    }

    /// Runs one segment if one is due; returns how long nothing else is.
    async fn step(&self) -> Duration {
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
                Err(SegmentError::Elsewhere) => return MAX_SLEEP,
                Err(error) => {
                    tracing::warn!(%error, site = %site.name, "the segments stand still");
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
        if let Err(error) = self.run_one(&site, &segment).await {
            tracing::warn!(%error, site = %site.name, segment = %segment.name, "a segment stays as it was");
        }
        // Its number is new with the first run.
        self.put_syncs_in_order().await;
        Duration::ZERO
    }

    /// How far the counters of a site are, where that is noted.
    async fn counters(
        &self,
        site: &SiteSegments,
    ) -> Result<Option<Vec<CounterProgress>>, SegmentError> {
        let store = self.profiles.as_ref().and_then(|profiles| profiles.counters());
        let Some(store) = store else { return Ok(None) };
        Ok(Some(store.counters(site.id).await?))
    }

    /// When a segment is due: at once if it was never asked, was asked another rule, or was cut off.
    fn due(
        &self,
        site: &SiteSegments,
        segment: &SegmentSettings,
        known: Option<&SegmentRecord>,
        now: i64,
    ) -> Option<i64> {
        if self.is_set_aside(site, segment) {
            return None;
        }
        let failed = self.failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, again)) = failed.get(&(site.id, segment.name.clone())) {
            return Some(*again);
        }
        let Some(ran) = known.and_then(|known| known.ran.as_ref()) else { return Some(now) };
        let is_cut_off = known.is_some_and(|known| known.begun_at.is_some());
        if is_cut_off || ran.fingerprint != segment.fingerprint() {
            return Some(now);
        }
        let next = segment.schedule.next(ran.at_ms, self.settings.realtime_every)?;
        let jitter = segment.jitter.unwrap_or(self.settings.jitter);
        Some(next.saturating_add(match segment.schedule {
            super::schedule::SegmentSchedule::Realtime => 0,
            _ => delay_ms(&site.name, &segment.name, jitter),
        }))
    }

    /// Removes what is no longer configured, and tells the sizes of what is.
    async fn reconcile_segments(&self) {
        for site in self.sites.load_full().iter() {
            let done = self.put_site_in_order(site).await;
            if let Err(error) = done.or_else(SegmentError::unless_elsewhere) {
                tracing::warn!(%error, site = %site.name, "segments that are no more are still kept");
            }
        }
    }

    async fn put_syncs_in_order(&self) {
        let Some(syncs) = &self.syncs else { return };
        let done = syncs.apply(&self.sites.load_full()).await;
        if let Err(error) = done.or_else(SegmentError::unless_elsewhere) {
            tracing::warn!(%error, "destinations hear of segments as they did before");
        }
    }

    async fn put_site_in_order(&self, site: &SiteSegments) -> Result<(), SegmentError> {
        site.segments.iter().for_each(|segment| self.tell_of_aside(site, segment));
        for known in self.store.list_segments(site.id).await? {
            let labels = labels(site, &known.name);
            if site.segments.iter().any(|segment| *segment.name == *known.name) {
                self.tell(&labels, known.ran.as_ref());
                continue;
            }
            let _turn = self.turn.lock().await;
            self.metrics.segment_members.remove(&labels);
            self.metrics.segment_run_timestamp_seconds.remove(&labels);
            self.metrics.segment_names_uncounted.remove(&labels);
            while !self.store.remove(known.id, self.settings.batch).await? {}
        }
        Ok(())
    }

    fn tell(&self, labels: &SegmentLabels, ran: Option<&SegmentRunSummary>) {
        let Some(ran) = ran else { return };
        self.metrics.segment_members.get_or_create(labels).set(ran.size);
        let at = u64::try_from(ran.at_ms / 1000).unwrap_or_default();
        self.metrics.segment_run_timestamp_seconds.get_or_create(labels).set(at);
    }

    async fn run_one(
        &self,
        site: &SiteSegments,
        segment: &SegmentSettings,
    ) -> Result<SegmentRunSummary, SegmentError> {
        let _turn = self.turn.lock().await;
        let now_ms = self.clock.now().as_millisecond();
        let run =
            SegmentRun { store: &*self.store, site: site.id, segment, batch: self.settings.batch };
        let result = self.guarded((site, segment), true, run.run(now_ms)).await;
        self.tell_uncounted(site, segment).await;
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
        let mut failed = self.failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &result {
            Ok(ran) => {
                failed.remove(&key);
                self.tell(&labels, Some(ran));
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

    /// Whom a rule selects now, and some of them.
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
        let members = self.store.evaluate(site, rule, by, now_ms).await?;
        let every = members.len() / (sample.max(1) as u64) + 1;
        let every = usize::try_from(every).unwrap_or(usize::MAX);
        let chosen = members.after(i64::MIN).step_by(every).take(sample).map(ProfileId);
        let people = self.store.people(chosen.collect()).await?;
        let sample = people.into_iter().map(|(_, person)| person).collect();
        let took_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
        Ok(SegmentPreview { size: members.len(), sample, took_ms })
    }

    /// The rule of a segment that is configured.
    pub fn rule(
        &self,
        site: &str,
        segment: &str,
    ) -> Result<(Arc<SegmentRule>, MembershipUnit), SegmentError> {
        let (_, segment) = self.find(site, segment)?;
        Ok((Arc::new(segment.rule.clone()), segment.by))
    }

    /// Runs a segment now.
    pub async fn run(&self, site: &str, segment: &str) -> Result<SegmentRunSummary, SegmentError> {
        let (site, segment) = self.find(site, segment)?;
        if !is_filled(&segment.rule, self.counters(&site).await?.as_deref()) {
            return Err(SegmentError::CountersPending);
        }
        self.take_back(&site, &segment).await;
        let ran = self.run_one(&site, &segment).await;
        self.changed.notify_one();
        ran
    }

    /// Strikes out what a destination was told that hears no more of the segment, which need not be
    /// configured. Returns of how many people.
    pub async fn forget(
        &self,
        (site, segment): (&str, &str),
        destination: &str,
    ) -> Result<u64, SegmentError> {
        let site = self.site(site)?;
        let known = self.store.list_segments(site.id).await?;
        let known = known.into_iter().find(|known| known.name == segment);
        let known = known.ok_or(SegmentError::Unknown)?;
        let syncs = self.syncs.as_ref().ok_or(SegmentError::NothingSynced)?;
        let people = syncs.forget((&site.name, known.id), segment, destination).await;
        // Of a segment that is no more nothing may be left to keep.
        self.changed.notify_one();
        people
    }

    /// Some members after `after`, or, with `changed`, some of those who joined or left at the last run.
    pub async fn page(
        &self,
        (site, segment): (&str, &str),
        changed: bool,
        after: ProfileId,
        limit: usize,
    ) -> Result<Vec<MemberListing>, SegmentError> {
        let (site, segment) = self.find(site, segment)?;
        let known = self.store.list_segments(site.id).await?;
        let Some(known) = known.into_iter().find(|known| *known.name == *segment.name) else {
            return Ok(Vec::new());
        };
        let which = match (changed, &known.ran) {
            (false, _) => MembershipFilter::Members,
            (true, None) => return Ok(Vec::new()),
            (true, Some(ran)) => MembershipFilter::ChangedAt(ran.at_ms),
        };
        self.shown(known.id, which, after, limit).await
    }

    async fn shown(
        &self,
        segment: SegmentId,
        which: MembershipFilter,
        after: ProfileId,
        limit: usize,
    ) -> Result<Vec<MemberListing>, SegmentError> {
        let page = self.store.page(segment, which, after, limit).await?;
        let people = self.store.people(page.iter().map(|it| it.profile).collect()).await?;
        let mut people: BTreeMap<ProfileId, Value> = people.into_iter().collect();
        let shown = page.into_iter().map(|it| {
            let person = people.remove(&it.profile);
            (it, person)
        });
        Ok(shown.collect())
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

/// Whether what the rule asks for is counted. Without notes of it nothing is ever waited for.
fn is_filled(rule: &SegmentRule, counters: Option<&[CounterProgress]>) -> bool {
    let counting = counters.and_then(|counters| RuleCounterProgress::of(rule, counters));
    counting.is_none_or(|counting| counting.is_filled)
}

fn labels(site: &SiteSegments, segment: &str) -> SegmentLabels {
    SegmentLabels { site: site.name.clone(), segment: segment.into() }
}

impl SegmentMembership {
    /// As a line of JSON shows it.
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
