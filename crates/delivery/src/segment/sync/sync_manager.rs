//! Runs every sync in a task of its own, so that a vendor that accepts one person a second delays no
//! other.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::{SegmentError, SegmentId, SegmentRecord, SiteSegments, SyncSettings};
use super::overview::{SegmentSyncKey, SyncOverview, SyncOverviews};
use super::state::SyncState;
use super::task::{RealtimeSyncQueue, SyncDependencies, SyncTask, SyncTaskConfig};
use tagway_storage::profile::ProfileId;

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
    overviews: Arc<SyncOverviews>,
    tasks: TaskTracker,
    /// Changes with every run of a segment.
    run_sender: watch::Sender<()>,
}

impl SyncManager {
    /// Builds a manager without syncs.
    pub fn new(dependencies: SyncDependencies) -> Self {
        Self {
            dependencies: Arc::new(dependencies),
            running: Mutex::default(),
            overviews: Arc::default(),
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
        let mut running = self.running.lock();
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
            let pushed = Arc::new(RealtimeSyncQueue::new(self.dependencies.realtime_people));
            let care = format!("(sync) {} {}", key.segment, key.destination);
            let care = self.dependencies.journal.guard().reader_guard(order.site, &care);
            let task = SyncTask {
                reader_guard: Arc::new(care),
                realtime_queue: pushed.clone(),
                dependencies: self.dependencies.clone(),
                overviews: self.overviews.clone(),
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

    /// Keeps the state of a sync for its successor, so that operators see it all the time; removes that of a
    /// sync that has no successor.
    fn hand_over_state(&self, key: &SegmentSyncKey, successor: Option<&SyncTaskConfig>) {
        match successor {
            None => self.overviews.remove(key, &self.dependencies.metrics),
            // The task reports once that it is abandoned.
            Some(config) if config.is_away => {}
            Some(config) => self.overviews.set_state(key, config.state()),
        }
    }

    /// Deletes the record of synced members of a deleted destination, or of a segment that no longer goes there.
    /// Returns their number.
    pub(in crate::segment) async fn forget(
        &self,
        site: &str,
        segment: &SegmentRecord,
        destination: &str,
    ) -> Result<u64, SegmentError> {
        let store = &self.dependencies.store;
        let destinations = store.synced_destinations(segment.id).await?;
        let kinds: Vec<_> = destinations.into_iter().filter(|(it, _)| it == destination).collect();
        if kinds.is_empty() {
            return Err(SegmentError::NothingSynced);
        }
        let mut people = 0;
        for (destination, kind) in kinds {
            let key = SegmentSyncKey {
                site: site.into(),
                segment: segment.name.as_str().into(),
                destination: destination.as_str().into(),
                kind: kind.name(),
            };
            let is_told = self.running.lock().get(&key).is_some_and(|it| !it.config.is_draining);
            if is_told && self.overviews.state(&key) != Some(SyncState::Abandoned) {
                return Err(SegmentError::StillSynced);
            }
            // A running task would store more rows.
            let running = self.running.lock().remove(&key);
            if let Some(running) = running {
                running.stop.cancel();
                running.ended.cancelled().await;
            }
            let sync = store.sync(segment.id, &destination, kind).await?.id;
            let sizes = store.sizes(sync).await?;
            people += sizes.confirmed + sizes.removal_failed;
            store.store_list(sync, None).await?;
            store.record_synced_run(sync, 0, None).await?;
            self.overviews.remove(&key, &self.dependencies.metrics);
        }
        Ok(people)
    }

    /// Passes people who joined or left between two runs to the syncs of a segment.
    pub(in crate::segment) fn push(&self, segment: SegmentId, people: &[ProfileId]) {
        for running in self.running.lock().values().filter(|it| it.config.segment == segment) {
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
        for running in self.running.lock().values() {
            running.stop.cancel();
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Returns the states of the syncs.
    pub fn states(&self) -> Vec<SyncOverview> {
        self.overviews.list()
    }
}
