//! Keeps every sync going: a task for each, so that a vendor who takes one person a second holds no
//! other up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::{SegmentError, SegmentId, SegmentStore, SiteSegments, SyncSettings};
use super::SyncStore;
use super::task::SyncTask;
use crate::clock::SharedClock;
use crate::delivery::DeliveryDispatcher;
use crate::journal::{Journal, SiteId};
use crate::metrics::{Metrics, SegmentSyncLabels, SharedName};
use crate::profile::ProfileId;

/// One sync of one site's segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentSyncKey {
    pub(super) site: SharedName,
    pub(super) segment: SharedName,
    pub(super) destination: SharedName,
    kind: &'static str,
}

/// What a sync is to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SyncTaskConfig {
    pub(super) site: SiteId,
    pub(super) segment: SegmentId,
    pub(super) sync: SyncSettings,
    /// The segment is no more: whoever was put on is to be taken off.
    pub(super) drains: bool,
    /// The destination does not run.
    pub(super) is_away: bool,
}

/// What a sync is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncState {
    /// It tells who came and who left.
    #[default]
    Follows,
    /// It is no more, and takes off whom it put on.
    Drains,
    /// Its destination is no more, so that nobody can be taken off.
    Abandoned,
}

/// How a sync is doing. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SyncOverview {
    /// The site's name.
    pub site: SharedName,
    /// The segment's name.
    pub segment: SharedName,
    /// The destination's name.
    pub destination: SharedName,
    /// `list` or `events`.
    pub kind: &'static str,
    /// What it is about.
    pub stand: SyncState,
    /// The vendor's own name of the list.
    pub list: Option<String>,
    /// People whom the destination was told of.
    pub size: u64,
    /// Of the last pass: who was put on, who was taken off.
    pub added: u64,
    /// See `added`.
    pub removed: u64,
    /// Of the last pass: members whom the destination does not hear of, by the reason.
    pub left_out: BTreeMap<&'static str, u64>,
    /// Of the last pass: people whom the destination would not take off, by the reason.
    pub not_removed: BTreeMap<&'static str, u64>,
    /// People whom it would not take off, and who are tried again at each recheck.
    pub stuck: u64,
    /// The run of the segment that the destination has heard of wholly.
    pub synced_ms: Option<i64>,
    /// Why it stands still.
    pub problem: Option<String>,
}

/// What syncs stand on.
pub struct SyncDependencies {
    /// What destinations were told.
    pub store: Arc<dyn SyncStore>,
    /// Who is a member.
    pub segments: Arc<dyn SegmentStore>,
    /// Where events of members go.
    pub journal: Arc<dyn Journal>,
    /// The destinations.
    pub dispatcher: Arc<DeliveryDispatcher>,
    /// The time of day.
    pub clock: SharedClock,
    /// Where syncs count.
    pub metrics: Arc<Metrics>,
    /// How often all rows are compared.
    pub recheck: Duration,
    /// Where syncs run.
    pub runtime: Handle,
    /// People at most who wait to be told of between two runs.
    pub realtime_people: usize,
}

/// People who are to be told of before the segment's next run, which tells of everybody.
pub(super) struct RealtimeSyncQueue {
    people: Mutex<BTreeSet<ProfileId>>,
    most: usize,
    pub(super) has_more: Notify,
}

impl RealtimeSyncQueue {
    /// Adds some; of more than there is room for, the next run tells.
    pub(super) fn add(&self, people: impl IntoIterator<Item = ProfileId>) {
        let mut own = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        let room = self.most.saturating_sub(own.len());
        own.extend(people.into_iter().take(room));
    }

    /// All who wait, from now on nobody.
    pub(super) fn take(&self) -> Vec<ProfileId> {
        let mut own = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *own).into_iter().collect()
    }
}

/// A task, and how it is ended.
struct RunningSync {
    order: SyncTaskConfig,
    pushed: Arc<RealtimeSyncQueue>,
    stop: CancellationToken,
    ended: CancellationToken,
}

/// All syncs.
pub struct SyncManager {
    footing: Arc<SyncDependencies>,
    running: Mutex<BTreeMap<SegmentSyncKey, RunningSync>>,
    states: Arc<Mutex<BTreeMap<SegmentSyncKey, SyncOverview>>>,
    tasks: TaskTracker,
    /// Changes with every run of a segment.
    ran: watch::Sender<()>,
}

impl SyncManager {
    /// None yet.
    pub fn new(footing: SyncDependencies) -> Self {
        Self {
            footing: Arc::new(footing),
            running: Mutex::default(),
            states: Arc::default(),
            tasks: TaskTracker::new(),
            ran: watch::Sender::new(()),
        }
    }

    /// Starts the syncs of these sites, and ends the others. Syncs start with the number of their
    /// segment, so those of segments that never ran start with their first run.
    pub(in crate::segment) async fn apply(
        &self,
        sites: &[SiteSegments],
    ) -> Result<(), SegmentError> {
        let mut wanted = BTreeMap::new();
        for site in sites {
            for known in self.footing.segments.list_segments(site.id).await? {
                let segment = site.segments.iter().find(|it| *it.name == *known.name);
                let key = |sync: &SyncSettings| SegmentSyncKey {
                    site: site.name.clone(),
                    segment: known.name.as_str().into(),
                    destination: sync.destination.clone(),
                    kind: sync.kind.name(),
                };
                let dispatcher = &self.footing.dispatcher;
                let order = |sync: SyncSettings, drains| SyncTaskConfig {
                    site: site.id,
                    segment: known.id,
                    is_away: !dispatcher.is_configured(&site.name, &sync.destination),
                    sync,
                    drains,
                };
                for sync in segment.iter().flat_map(|it| &it.syncs) {
                    wanted.insert(key(sync), order(sync.clone(), false));
                }
                // Where it was told and is not to be told any more.
                for (destination, kind) in self.footing.store.synced_destinations(known.id).await? {
                    let sync = SyncSettings::ending(&destination, kind, &known.name);
                    wanted.entry(key(&sync)).or_insert_with(|| order(sync, true));
                }
            }
        }
        self.replace(wanted);
        Ok(())
    }

    fn replace(&self, wanted: BTreeMap<SegmentSyncKey, SyncTaskConfig>) {
        let mut running = self.lock();
        let mut ending = BTreeMap::new();
        running.retain(|key, it| {
            let stays = wanted.get(key) == Some(&it.order);
            if !stays {
                it.stop.cancel();
                ending.insert(key.clone(), it.ended.clone());
                self.pass_on(key, wanted.get(key));
            }
            stays
        });
        for (key, order) in wanted {
            if running.contains_key(&key) {
                continue;
            }
            let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
            let pushed = Arc::new(RealtimeSyncQueue {
                people: Mutex::default(),
                most: self.footing.realtime_people,
                has_more: Notify::new(),
            });
            let care = format!("(sync) {} {}", key.segment, key.destination);
            let care = self.footing.journal.guard().care(order.site, &care);
            let task = SyncTask {
                care: Arc::new(care),
                pushed: pushed.clone(),
                footing: self.footing.clone(),
                states: self.states.clone(),
                ran: self.ran.subscribe(),
                key: key.clone(),
                order: order.clone(),
            };
            let (stopped, guard) = (stop.clone(), ended.clone().drop_guard());
            let before = ending.remove(&key);
            let work = async move {
                let _guard = guard;
                // Two that change the same list would undo what the other does.
                if let Some(before) = before {
                    before.cancelled().await;
                }
                tokio::select! {
                    () = task.run() => {}
                    () = stopped.cancelled() => {}
                }
            };
            self.tasks.spawn_on(work, &self.footing.runtime);
            running.insert(key, RunningSync { order, pushed, stop, ended });
        }
    }

    /// Keeps the state of a sync for the one that takes its place, so that operators see it all the
    /// time; removes the state and the series of a sync that has no successor.
    fn pass_on(&self, key: &SegmentSyncKey, successor: Option<&SyncTaskConfig>) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        match (successor, states.get_mut(key)) {
            (None, _) => {
                states.remove(key);
                drop(states);
                self.footing.conceal(key, &self.states);
            }
            (Some(order), Some(state)) if order.drains && !order.is_away => {
                state.stand = SyncState::Drains;
            }
            (Some(order), Some(state)) if !order.is_away => state.stand = SyncState::Follows,
            (Some(_), _) => {}
        }
    }

    /// Strikes out what a destination was told that is no more, or of a segment that goes there no more.
    /// Returns of how many people it was told.
    pub(in crate::segment) async fn forget(
        &self,
        (site, segment): (&str, SegmentId),
        name: &str,
        destination: &str,
    ) -> Result<u64, SegmentError> {
        let store = &self.footing.store;
        let heard = store.synced_destinations(segment).await?;
        let kinds: Vec<_> = heard.into_iter().filter(|(it, _)| it == destination).collect();
        if kinds.is_empty() {
            return Err(SegmentError::NothingSynced);
        }
        let mut people = 0;
        for (destination, kind) in kinds {
            let key = SegmentSyncKey {
                site: site.into(),
                segment: name.into(),
                destination: destination.as_str().into(),
                kind: kind.name(),
            };
            let is_told = self.lock().get(&key).is_some_and(|it| !it.order.drains);
            if is_told && self.stand(&key) != Some(SyncState::Abandoned) {
                return Err(SegmentError::StillSynced);
            }
            // What is under way would write down more.
            let running = self.lock().remove(&key);
            if let Some(running) = running {
                running.stop.cancel();
                running.ended.cancelled().await;
            }
            let sync = store.sync(segment, &destination, kind).await?.id;
            let sizes = store.sizes(sync).await?;
            people += sizes.heard + sizes.stuck;
            store.note_list(sync, None).await?;
            store.finish(sync, 0, None).await?;
            self.states.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            self.footing.conceal(&key, &self.states);
        }
        Ok(people)
    }

    fn stand(&self, key: &SegmentSyncKey) -> Option<SyncState> {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.get(key).map(|state| state.stand)
    }

    /// Tells the syncs of a segment that these people came or left between two runs.
    pub(in crate::segment) fn push(&self, segment: SegmentId, people: &[ProfileId]) {
        for running in self.lock().values().filter(|it| it.order.segment == segment) {
            running.pushed.add(people.iter().copied());
            running.pushed.has_more.notify_one();
        }
    }

    /// Tells all syncs that a segment was run.
    pub(in crate::segment) fn notify_run(&self) {
        self.ran.send_replace(());
    }

    /// Ends all syncs. What is under way is cut off: the next start goes on with it.
    pub(in crate::segment) async fn stop(&self) {
        for running in self.lock().values() {
            running.stop.cancel();
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// How the syncs are doing.
    pub fn states(&self) -> Vec<SyncOverview> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<SegmentSyncKey, RunningSync>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SegmentSyncKey {
    pub(super) fn labels(&self) -> SegmentSyncLabels {
        SegmentSyncLabels {
            site: self.site.clone(),
            segment: self.segment.clone(),
            destination: self.destination.clone(),
        }
    }
}

impl SyncDependencies {
    /// Ends the series of a sync that is no more, unless another kind of it is.
    pub(super) fn conceal(
        &self,
        key: &SegmentSyncKey,
        states: &Mutex<BTreeMap<SegmentSyncKey, SyncOverview>>,
    ) {
        let labels = key.labels();
        let others = states.lock().unwrap_or_else(PoisonError::into_inner);
        if others.keys().any(|other| other != key && other.labels() == labels) {
            return;
        }
        drop(others);
        self.metrics.segment_synced_members.remove(&labels);
        self.metrics.segment_abandoned_members.remove(&labels);
        self.metrics.segment_synced_timestamp_seconds.remove(&labels);
    }
}
