//! The task of one sync: it updates its destination after each run of its segment, and after a failure when
//! another try is useful.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::super::{SegmentError, SegmentId, SegmentStore, SyncSettings};
use super::overview::{SegmentSyncKey, SyncOverviews};
use super::state::{SyncEvent, SyncRunError, SyncState, SyncTrigger};
use super::sync_run::{SyncExtent, SyncRun, SyncRunCounts};
use super::{SyncMemberCounts, SyncRecord, SyncStore};
use crate::{DeliveryDispatcher, DestinationHandle};
use tagway_core::clock::SharedClock;
use tagway_core::metrics::{Metrics, SyncChangeLabels};
use tagway_storage::journal::{Journal, ReaderGuard, SiteId};
use tagway_storage::profile::ProfileId;

/// The reason why no member can be sent any more.
const DESTINATION_GONE: &str =
    "the destination is not there: it comes back, or what it was told is forgotten";

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

impl SyncTaskConfig {
    /// Returns the state of the sync while its destination is there.
    pub(super) fn state(&self) -> SyncState {
        if self.is_draining { SyncState::Drains } else { SyncState::Follows }
    }
}

/// People to be synced before the segment's next run, which syncs everyone.
pub(super) struct RealtimeSyncQueue {
    people: Mutex<BTreeSet<ProfileId>>,
    max_people: usize,
    pub(super) people_added: Notify,
}

impl RealtimeSyncQueue {
    /// Creates an empty queue for this many people.
    pub(super) fn new(max_people: usize) -> Self {
        Self { people: Mutex::default(), max_people, people_added: Notify::new() }
    }

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

/// The task of one sync.
pub(super) struct SyncTask {
    pub(super) dependencies: Arc<SyncDependencies>,
    pub(super) overviews: Arc<SyncOverviews>,
    /// Changes with every run of a segment, and with the configuration.
    pub(super) run_receiver: watch::Receiver<()>,
    /// The people who joined or left since.
    pub(super) realtime_queue: Arc<RealtimeSyncQueue>,
    pub(super) key: SegmentSyncKey,
    pub(super) config: SyncTaskConfig,
    /// The careful mode after an abort.
    pub(super) reader_guard: Arc<ReaderGuard>,
}

impl SyncTask {
    /// Runs for as long as there may be changes to send.
    pub(super) async fn run(self) {
        let mut ran = self.run_receiver.clone();
        let mut failures: u32 = 0;
        loop {
            ran.mark_unchanged();
            let event = self.sync_once().await.unwrap_or_else(SyncEvent::Failed);
            let recheck = self.dependencies.recheck;
            let (state, trigger) = self.config.state().next(&event, failures, recheck);
            failures = match &event {
                SyncEvent::Failed(error) => {
                    self.report_failure(error, state, &trigger);
                    failures.saturating_add(1)
                }
                _ => 0,
            };
            match trigger {
                SyncTrigger::Ended => {
                    return self.overviews.remove(&self.key, &self.dependencies.metrics);
                }
                // Another task starts when the destination is back.
                SyncTrigger::NewTask => std::future::pending::<()>().await,
                SyncTrigger::Pause(pause) => tokio::time::sleep(pause).await,
                SyncTrigger::Run => tokio::select! {
                    changed = ran.changed() => if changed.is_err() { return },
                    () = self.realtime_queue.people_added.notified() => {}
                },
            }
        }
    }

    fn report_failure(&self, error: &SyncRunError, state: SyncState, trigger: &SyncTrigger) {
        let SyncTrigger::Pause(pause) = trigger else { return };
        tracing::warn!(
            %error, site = %self.key.site, segment = %self.key.segment,
            destination = %self.key.destination, seconds = pause.as_secs(),
            "a segment's members are not fully synced to a destination"
        );
        self.overviews.update(&self.key, |overview| {
            overview.stand = state;
            overview.problem = Some(error.to_string());
        });
    }

    /// Sends the changes, if there are any.
    async fn sync_once(&self) -> Result<SyncEvent, SyncRunError> {
        let SyncDependencies { store, segments, dispatcher, .. } = &*self.dependencies;
        let (state, drains) = (self.config.state(), self.config.is_draining);
        let known = segments.list_segments(self.config.site).await?;
        let known = known.into_iter().find(|known| known.id == self.config.segment);
        let Some(known) = known else { return Ok(SyncEvent::SegmentGone) };
        let sync_record = self.sync_record().await?;
        if self.config.is_away {
            self.abandon(&sync_record).await?;
            return Ok(SyncEvent::DestinationRemoved);
        }
        let handle = dispatcher.destination_handle(&self.key.site, &self.key.destination);
        let Some(handle) = handle else { return Ok(SyncEvent::DestinationAway) };
        let ran = known.last_run.map(|ran| ran.at_ms);
        // A run in progress changes memberships: its end triggers this again.
        let has_news = ran
            .is_some_and(|at| at > sync_record.synced || self.has_moved(&sync_record))
            && known.begun_at.is_none();
        // A whole sync run includes these people.
        let pushed = self.realtime_queue.take();
        if !drains && !has_news && !pushed.is_empty() {
            return self.push(&handle, &sync_record, pushed).await;
        }
        if !drains && !has_news {
            let sizes = self.publish_state(&sync_record, None, state).await?;
            return Ok(SyncEvent::Synced { failed_removals: sizes.removal_failed });
        }
        let now = self.dependencies.clock.now().as_millisecond();
        let age = u64::try_from(now.saturating_sub(sync_record.checked)).unwrap_or_default();
        let rechecks = Duration::from_millis(age) >= self.dependencies.recheck;
        if self.has_moved(&sync_record) {
            // Removes everyone from the old list before adding them to the new one.
            let extent = SyncExtent { is_draining: true, ..SyncExtent::default() };
            match self.run_sync(&handle, &sync_record, extent).await {
                // A deleted list has no members.
                Ok(_) | Err(SyncRunError::ListGone) => {
                    store.store_list(sync_record.id, None).await?
                }
                Err(other) => return Err(other),
            }
        }
        let sync_record = self.sync_record().await?;
        let extent = SyncExtent { rechecks, is_draining: drains, only_profiles: None };
        let counts = match self.run_sync(&handle, &sync_record, extent.clone()).await {
            Err(SyncRunError::ListGone) => {
                store.store_list(sync_record.id, None).await?;
                // A deleted list has no members.
                match drains {
                    true => SyncRunCounts::default(),
                    false => self.run_sync(&handle, &self.sync_record().await?, extent).await?,
                }
            }
            other => other?,
        };
        // A sync that is configured again starts with everyone.
        let synced = if drains { 0 } else { ran.unwrap_or(sync_record.synced) };
        store.record_synced_run(sync_record.id, synced, rechecks.then_some(now)).await?;
        let sizes = self.publish_state(&self.sync_record().await?, Some(counts), state).await?;
        Ok(SyncEvent::Synced { failed_removals: sizes.removal_failed })
    }

    /// Syncs the people who joined or left since the last run it received.
    async fn push(
        &self,
        handle: &DestinationHandle,
        sync_record: &SyncRecord,
        people: Vec<ProfileId>,
    ) -> Result<SyncEvent, SyncRunError> {
        let store = &self.dependencies.store;
        let only_profiles = Some(people.clone());
        let extent = SyncExtent { only_profiles, ..SyncExtent::default() };
        match self.run_sync(handle, sync_record, extent).await {
            Ok(counts) => {
                self.count(&counts);
                self.overviews.update(&self.key, |overview| {
                    overview.stand = self.config.state();
                    overview.problem = None;
                    // Estimated until the next run counts them.
                    overview.size = overview.size.saturating_add(counts.added);
                    overview.size = overview.size.saturating_sub(counts.removed);
                    let gauge = &self.dependencies.metrics.segment_synced_members;
                    gauge.get_or_create(&self.key.labels()).set(overview.size);
                });
                Ok(SyncEvent::Synced { failed_removals: 0 })
            }
            Err(SyncRunError::ListGone) => {
                store.store_list(sync_record.id, None).await?;
                store.record_synced_run(sync_record.id, 0, None).await?;
                Ok(SyncEvent::ListGone)
            }
            Err(other) => {
                self.realtime_queue.add(people);
                Err(other)
            }
        }
    }

    async fn sync_record(&self) -> Result<SyncRecord, SegmentError> {
        let SyncTaskConfig { segment, sync, .. } = &self.config;
        self.dependencies.store.sync(*segment, &sync.destination, sync.kind).await
    }

    /// Returns true if the settings name another list than the current one.
    fn has_moved(&self, sync_record: &SyncRecord) -> bool {
        let wanted = self.config.sync.list.as_deref();
        wanted.is_some() && sync_record.list.is_some() && wanted != sync_record.list.as_deref()
    }

    async fn run_sync(
        &self,
        destination: &DestinationHandle,
        sync_record: &SyncRecord,
        extent: SyncExtent,
    ) -> Result<SyncRunCounts, SyncRunError> {
        let SyncDependencies { store, journal, clock, .. } = &*self.dependencies;
        let run = SyncRun {
            store: &**store,
            journal,
            clock,
            site: self.config.site,
            site_name: &self.key.site,
            segment: self.config.segment,
            segment_name: &self.key.segment,
            sync: &self.config.sync,
            destination,
            extent,
            reader_guard: &self.reader_guard,
        };
        let ran = run.run(sync_record).await;
        // Everyone who was being processed when the process died has been processed again.
        if ran.is_ok() {
            self.reader_guard.leave_careful_mode();
        }
        ran
    }

    /// Reports once to operators that no member can be sent any more.
    async fn abandon(&self, sync_record: &SyncRecord) -> Result<(), SyncRunError> {
        let is_known = self.overviews.state(&self.key) == Some(SyncState::Abandoned);
        let sizes = self.publish_state(sync_record, None, SyncState::Abandoned).await?;
        let people = sizes.confirmed.saturating_add(sizes.removal_failed);
        if !is_known {
            tracing::warn!(
                site = %self.key.site, segment = %self.key.segment,
                destination = %self.key.destination, people,
                "a removed destination still has a segment's members: delete the record with `tagway \
                 segments forget`"
            );
        }
        Ok(())
    }

    /// Publishes the state to operators and metrics.
    async fn publish_state(
        &self,
        sync_record: &SyncRecord,
        counts: Option<SyncRunCounts>,
        stand: SyncState,
    ) -> Result<SyncMemberCounts, SyncRunError> {
        let sizes = self.dependencies.store.sizes(sync_record.id).await?;
        let labels = self.key.labels();
        let metrics = &self.dependencies.metrics;
        metrics.segment_synced_members.get_or_create(&labels).set(sizes.confirmed);
        if stand == SyncState::Abandoned {
            let people = sizes.confirmed.saturating_add(sizes.removal_failed);
            metrics.segment_abandoned_members.get_or_create(&labels).set(people);
        } else {
            metrics.segment_abandoned_members.remove(&labels);
        }
        let at = u64::try_from(sync_record.synced / 1000).unwrap_or_default();
        metrics.segment_synced_timestamp_seconds.get_or_create(&labels).set(at);
        if let Some(counts) = &counts {
            self.count(counts);
        }
        self.overviews.update(&self.key, |state| {
            state.list.clone_from(&sync_record.list);
            (state.size, state.stuck) = (sizes.confirmed, sizes.removal_failed);
            state.synced_ms = Some(sync_record.synced).filter(|at| *at > 0);
            state.stand = stand;
            state.problem = (stand == SyncState::Abandoned).then(|| DESTINATION_GONE.to_owned());
            if let Some(SyncRunCounts { added, removed, left_out, not_removed }) = counts {
                (state.added, state.removed) = (added, removed);
                (state.left_out, state.not_removed) = (left_out, not_removed);
            }
        });
        Ok(sizes)
    }

    fn count(&self, counts: &SyncRunCounts) {
        let SegmentSyncKey { site, segment, destination, .. } = &self.key;
        for (result, count) in [
            ("added", counts.added),
            ("removed", counts.removed),
            ("left_out", counts.left_out.values().sum()),
            ("not_removed", counts.not_removed.values().sum()),
        ] {
            let labels = SyncChangeLabels {
                site: site.clone(),
                segment: segment.clone(),
                destination: destination.clone(),
                result,
            };
            self.dependencies.metrics.segment_sync_changes.get_or_create(&labels).inc_by(count);
        }
    }
}
