//! Runs every sync in a task of its own, so that a vendor that accepts one person a second delays no
//! other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::{SegmentError, SegmentId, SegmentStore, SiteSegments, SyncSettings};
use super::SyncStore;
use super::task::SyncTask;
use crate::DeliveryDispatcher;
use tagway_core::clock::SharedClock;
use tagway_core::metrics::{Metrics, SegmentSyncLabels, SharedName};
use tagway_storage::journal::{Journal, SiteId};
use tagway_storage::profile::ProfileId;

/// The key of one sync of one site's segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentSyncKey {
    pub(super) site: SharedName,
    pub(super) segment: SharedName,
    pub(super) destination: SharedName,
    kind: &'static str,
}

/// The configuration of a sync's task.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SyncTaskConfig {
    pub(super) site: SiteId,
    pub(super) segment: SegmentId,
    pub(super) sync: SyncSettings,
    /// The segment is deleted: all members are to be removed.
    pub(super) is_draining: bool,
    /// The destination does not run.
    pub(super) is_away: bool,
}

/// The purpose of a sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SyncState {
    /// It sends members who join and leave.
    #[default]
    Follows,
    /// It is deleted, and removes all members.
    Drains,
    /// Its destination is deleted, so that no member can be removed.
    Abandoned,
}

/// The state of a sync. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
pub struct SyncOverview {
    /// The site's name.
    #[schema(value_type = String)]
    pub site: SharedName,
    /// The segment's name.
    #[schema(value_type = String)]
    pub segment: SharedName,
    /// The destination's name.
    #[schema(value_type = String)]
    pub destination: SharedName,
    /// The kind of the sync: `list` or `events`.
    pub kind: &'static str,
    /// The purpose of the sync.
    pub stand: SyncState,
    /// The vendor's own name of the list.
    pub list: Option<String>,
    /// The number of people whom the destination has.
    pub size: u64,
    /// The number of people added in the last sync run.
    pub added: u64,
    /// The number of people removed in the last sync run.
    pub removed: u64,
    /// The number of members left out in the last sync run, by reason.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub left_out: BTreeMap<&'static str, u64>,
    /// The number of failed removals in the last sync run, by reason.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub not_removed: BTreeMap<&'static str, u64>,
    /// The number of people whom it failed to remove, and who are tried again at each recheck.
    pub stuck: u64,
    /// The last run of the segment that the destination has received completely.
    pub synced_ms: Option<i64>,
    /// The reason why it stands still.
    pub problem: Option<String>,
}

/// The dependencies of syncs.
pub struct SyncDependencies {
    /// The store of synced rows.
    pub store: Arc<dyn SyncStore>,
    /// The store of members.
    pub segments: Arc<dyn SegmentStore>,
    /// The journal for events of members.
    pub journal: Arc<dyn Journal>,
    /// The dispatcher of the destinations.
    pub dispatcher: Arc<DeliveryDispatcher>,
    /// The source of the time of day.
    pub clock: SharedClock,
    /// The metrics that syncs count in.
    pub metrics: Arc<Metrics>,
    /// The interval of checks of all rows.
    pub recheck: Duration,
    /// The runtime of the syncs' tasks.
    pub runtime: Handle,
    /// The most people who wait to be synced between two runs.
    pub realtime_people: usize,
}

/// People to be synced before the segment's next run, which syncs everyone.
pub(super) struct RealtimeSyncQueue {
    people: Mutex<BTreeSet<ProfileId>>,
    max_people: usize,
    pub(super) people_added: Notify,
}

impl RealtimeSyncQueue {
    /// Adds some; those beyond the bound are left to the next run.
    pub(super) fn add(&self, people: impl IntoIterator<Item = ProfileId>) {
        let mut own = self.people.lock();
        let room = self.max_people.saturating_sub(own.len());
        own.extend(people.into_iter().take(room));
    }

    /// Takes all waiting people out of the queue.
    pub(super) fn take(&self) -> Vec<ProfileId> {
        let mut own = self.people.lock();
        std::mem::take(&mut *own).into_iter().collect()
    }
}

/// A running task, with the means to stop it.
struct RunningSync {
    config: SyncTaskConfig,
    realtime_queue: Arc<RealtimeSyncQueue>,
    stop: CancellationToken,
    ended: CancellationToken,
}

/// The tasks of all syncs.
pub struct SyncManager {
    dependencies: Arc<SyncDependencies>,
    running: Mutex<BTreeMap<SegmentSyncKey, RunningSync>>,
    states: Arc<Mutex<BTreeMap<SegmentSyncKey, SyncOverview>>>,
    tasks: TaskTracker,
    /// Changes with every run of a segment.
    run_sender: watch::Sender<()>,
}

impl SyncManager {
    /// Builds a manager without syncs.
    pub fn new(footing: SyncDependencies) -> Self {
        Self {
            dependencies: Arc::new(footing),
            running: Mutex::default(),
            states: Arc::default(),
            tasks: TaskTracker::new(),
            run_sender: watch::Sender::new(()),
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
            for known in self.dependencies.segments.list_segments(site.id).await? {
                let segment = site.segments.iter().find(|it| *it.name == *known.name);
                let key = |sync: &SyncSettings| SegmentSyncKey {
                    site: site.name.clone(),
                    segment: known.name.as_str().into(),
                    destination: sync.destination.clone(),
                    kind: sync.kind.name(),
                };
                let dispatcher = &self.dependencies.dispatcher;
                let order = |sync: SyncSettings, drains| SyncTaskConfig {
                    site: site.id,
                    segment: known.id,
                    is_away: !dispatcher.is_configured(&site.name, &sync.destination),
                    sync,
                    is_draining: drains,
                };
                for sync in segment.iter().flat_map(|it| &it.syncs) {
                    wanted.insert(key(sync), order(sync.clone(), false));
                }
                // Destinations that have members but are no longer to get any.
                for (destination, kind) in
                    self.dependencies.store.synced_destinations(known.id).await?
                {
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
            let stays = wanted.get(key) == Some(&it.config);
            if !stays {
                it.stop.cancel();
                ending.insert(key.clone(), it.ended.clone());
                self.hand_over_state(key, wanted.get(key));
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
                max_people: self.dependencies.realtime_people,
                people_added: Notify::new(),
            });
            let care = format!("(sync) {} {}", key.segment, key.destination);
            let care = self.dependencies.journal.guard().reader_guard(order.site, &care);
            let task = SyncTask {
                reader_guard: Arc::new(care),
                realtime_queue: pushed.clone(),
                dependencies: self.dependencies.clone(),
                states: self.states.clone(),
                run_receiver: self.run_sender.subscribe(),
                key: key.clone(),
                config: order.clone(),
            };
            let (stopped, guard) = (stop.clone(), ended.clone().drop_guard());
            let before = ending.remove(&key);
            let work = async move {
                let _guard = guard;
                // Two tasks that change the same list would undo each other's changes.
                if let Some(before) = before {
                    before.cancelled().await;
                }
                tokio::select! {
                    () = task.run() => {}
                    () = stopped.cancelled() => {}
                }
            };
            self.tasks.spawn_on(work, &self.dependencies.runtime);
            running.insert(key, RunningSync { config: order, realtime_queue: pushed, stop, ended });
        }
    }

    /// Keeps the state of a sync for its successor, so that operators see it all the time; removes the state
    /// and the series of a sync that has no successor.
    fn hand_over_state(&self, key: &SegmentSyncKey, successor: Option<&SyncTaskConfig>) {
        let mut states = self.states.lock();
        match (successor, states.get_mut(key)) {
            (None, _) => {
                states.remove(key);
                drop(states);
                self.dependencies.remove_series(key, &self.states);
            }
            (Some(order), Some(state)) if order.is_draining && !order.is_away => {
                state.stand = SyncState::Drains;
            }
            (Some(order), Some(state)) if !order.is_away => state.stand = SyncState::Follows,
            (Some(_), _) => {}
        }
    }

    /// Deletes the record of synced members of a deleted destination, or of a segment that no longer goes there.
    /// Returns their number.
    pub(in crate::segment) async fn forget(
        &self,
        (site, segment): (&str, SegmentId),
        name: &str,
        destination: &str,
    ) -> Result<u64, SegmentError> {
        let store = &self.dependencies.store;
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
            let is_told = self.lock().get(&key).is_some_and(|it| !it.config.is_draining);
            if is_told && self.sync_state(&key) != Some(SyncState::Abandoned) {
                return Err(SegmentError::StillSynced);
            }
            // A running task would store more rows.
            let running = self.lock().remove(&key);
            if let Some(running) = running {
                running.stop.cancel();
                running.ended.cancelled().await;
            }
            let sync = store.sync(segment, &destination, kind).await?.id;
            let sizes = store.sizes(sync).await?;
            people += sizes.confirmed + sizes.removal_failed;
            store.store_list(sync, None).await?;
            store.record_synced_run(sync, 0, None).await?;
            self.states.lock().remove(&key);
            self.dependencies.remove_series(&key, &self.states);
        }
        Ok(people)
    }

    fn sync_state(&self, key: &SegmentSyncKey) -> Option<SyncState> {
        let states = self.states.lock();
        states.get(key).map(|state| state.stand)
    }

    /// Passes people who joined or left between two runs to the syncs of a segment.
    pub(in crate::segment) fn push(&self, segment: SegmentId, people: &[ProfileId]) {
        for running in self.lock().values().filter(|it| it.config.segment == segment) {
            running.realtime_queue.add(people.iter().copied());
            running.realtime_queue.people_added.notify_one();
        }
    }

    /// Notifies all syncs that a segment was run.
    pub(in crate::segment) fn notify_run(&self) {
        self.run_sender.send_replace(());
    }

    /// Stops all syncs. Running calls are aborted: the next start repeats them.
    pub(in crate::segment) async fn stop(&self) {
        for running in self.lock().values() {
            running.stop.cancel();
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Returns the states of the syncs.
    pub fn states(&self) -> Vec<SyncOverview> {
        self.states.lock().values().cloned().collect()
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, BTreeMap<SegmentSyncKey, RunningSync>> {
        self.running.lock()
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
    /// Removes the series of a deleted sync, unless another kind of it exists.
    pub(super) fn remove_series(
        &self,
        key: &SegmentSyncKey,
        states: &Mutex<BTreeMap<SegmentSyncKey, SyncOverview>>,
    ) {
        let labels = key.labels();
        let others = states.lock();
        if others.keys().any(|other| other != key && other.labels() == labels) {
            return;
        }
        drop(others);
        self.metrics.segment_synced_members.remove(&labels);
        self.metrics.segment_abandoned_members.remove(&labels);
        self.metrics.segment_synced_timestamp_seconds.remove(&labels);
    }
}
