//! The task of one sync: it updates its destination after each run of its segment, and after a failure when
//! another try is useful.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::super::SegmentError;
use super::sync_manager::{
    RealtimeSyncQueue, SegmentSyncKey, SyncDependencies, SyncOverview, SyncState, SyncTaskConfig,
};
use super::sync_run::{SyncRun, SyncRunCounts, SyncRunError};
use super::{SyncMemberCounts, SyncRecord};
use crate::DestinationHandle;
use tagway_core::metrics::SyncChangeLabels;
use tagway_storage::journal::ReaderGuard;
use tagway_storage::profile::ProfileId;

/// The pause after a failure that names none, doubled with each failure, and its upper bound.
const MIN_PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(900);

/// The pause of a sync that waits for an operator's fix.
const OPERATOR_FIX_PAUSE: Duration = Duration::from_secs(600);

/// The pause where a configured destination is away: a reload removes it for a moment.
const DESTINATION_AWAY_PAUSE: Duration = Duration::from_secs(5);

/// The reason why no member can be sent any more.
const DESTINATION_GONE: &str =
    "the destination is not there: it comes back, or what it was told is forgotten";

/// The trigger that a sync waits for.
enum NextSyncTrigger {
    /// Its segment's next run.
    Run,
    /// Nothing in this task: another task takes over.
    Never,
    /// The end of this pause.
    After(Duration),
    /// Nothing more: the sync has ended.
    Ended,
}

/// The task of one sync.
pub(super) struct SyncTask {
    pub(super) dependencies: Arc<SyncDependencies>,
    pub(super) states: Arc<Mutex<BTreeMap<SegmentSyncKey, SyncOverview>>>,
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
            let wait = match self.sync_once().await {
                Ok(NextSyncTrigger::Ended) => {
                    self.dependencies.remove_series(&self.key, &self.states);
                    self.states.lock().remove(&self.key);
                    return;
                }
                // Another task starts when the destination is back.
                Ok(NextSyncTrigger::Never) => std::future::pending().await,
                Ok(NextSyncTrigger::After(pause)) => {
                    failures = 0;
                    Some(pause)
                }
                Ok(NextSyncTrigger::Run) => {
                    failures = 0;
                    None
                }
                Err(stopped) => {
                    let pause = retry_pause(&stopped, failures);
                    failures = failures.saturating_add(1);
                    tracing::warn!(
                        error = %stopped, site = %self.key.site, segment = %self.key.segment,
                        destination = %self.key.destination, seconds = pause.as_secs(),
                        "a segment's members are not fully synced to a destination"
                    );
                    self.update_overview(|state| {
                        state.stand = self.sync_state();
                        state.problem = Some(stopped.to_string());
                    });
                    Some(pause)
                }
            };
            match wait {
                Some(pause) => tokio::time::sleep(pause).await,
                None => tokio::select! {
                    changed = ran.changed() => if changed.is_err() { return },
                    () = self.realtime_queue.people_added.notified() => {}
                },
            }
        }
    }

    /// Sends the changes, if there are any.
    async fn sync_once(&self) -> Result<NextSyncTrigger, SyncRunError> {
        let SyncDependencies { store, segments, dispatcher, .. } = &*self.dependencies;
        let known = segments.list_segments(self.config.site).await?;
        let known = known.into_iter().find(|known| known.id == self.config.segment);
        let Some(known) = known else {
            return Ok(if self.config.is_draining {
                NextSyncTrigger::Ended
            } else {
                NextSyncTrigger::Run
            });
        };
        let kept = self.sync_record().await?;
        if self.config.is_away {
            self.abandon(&kept).await?;
            return Ok(NextSyncTrigger::Never);
        }
        let Some(outlet) = dispatcher.destination_handle(&self.key.site, &self.key.destination)
        else {
            return Ok(NextSyncTrigger::After(DESTINATION_AWAY_PAUSE));
        };
        let ran = known.last_run.map(|ran| ran.at_ms);
        // A run in progress changes memberships: its end triggers this again.
        let has_news = ran.is_some_and(|at| at > kept.synced || self.has_moved(&kept))
            && known.begun_at.is_none();
        // A whole sync run includes these people.
        let pushed = self.realtime_queue.take();
        if !self.config.is_draining && !has_news && !pushed.is_empty() {
            return self.push(&outlet, &kept, pushed).await;
        }
        if !self.config.is_draining && !has_news {
            self.publish_state(&kept, None, self.sync_state()).await?;
            return Ok(NextSyncTrigger::Run);
        }
        let now = self.dependencies.clock.now().as_millisecond();
        let age = u64::try_from(now.saturating_sub(kept.checked)).unwrap_or_default();
        let rechecks = Duration::from_millis(age) >= self.dependencies.recheck;
        if self.has_moved(&kept) {
            // Removes everyone from the old list before adding them to the new one.
            match self.run_sync(&outlet, &kept, (false, true), None).await {
                // A deleted list has no members.
                Ok(_) | Err(SyncRunError::ListGone) => store.store_list(kept.id, None).await?,
                Err(other) => return Err(other),
            }
        }
        let (kept, drains) = (self.sync_record().await?, self.config.is_draining);
        let counts = match self.run_sync(&outlet, &kept, (rechecks, drains), None).await {
            // A deleted list has no members.
            Err(SyncRunError::ListGone) if drains => {
                store.store_list(kept.id, None).await?;
                SyncRunCounts::default()
            }
            Err(SyncRunError::ListGone) => {
                store.store_list(kept.id, None).await?;
                let reopened = self.sync_record().await?;
                self.run_sync(&outlet, &reopened, (rechecks, drains), None).await?
            }
            other => other?,
        };
        // A sync that is configured again starts with everyone.
        let synced = if drains { 0 } else { ran.unwrap_or(kept.synced) };
        store.record_synced_run(kept.id, synced, rechecks.then_some(now)).await?;
        let sizes =
            self.publish_state(&self.sync_record().await?, Some(counts), self.sync_state()).await?;
        Ok(match sizes.removal_failed {
            _ if !drains => NextSyncTrigger::Run,
            0 => NextSyncTrigger::Ended,
            _ => NextSyncTrigger::After(self.dependencies.recheck),
        })
    }

    /// Syncs the people who joined or left since the last run it received.
    async fn push(
        &self,
        outlet: &DestinationHandle,
        kept: &SyncRecord,
        people: Vec<ProfileId>,
    ) -> Result<NextSyncTrigger, SyncRunError> {
        let store = &self.dependencies.store;
        match self.run_sync(outlet, kept, (false, false), Some(people.clone())).await {
            Ok(counts) => {
                self.count(&counts);
                self.update_overview(|state| {
                    state.stand = self.sync_state();
                    state.problem = None;
                    // Estimated until the next run counts them.
                    state.size = state.size.saturating_add(counts.added);
                    state.size = state.size.saturating_sub(counts.removed);
                    let gauge = &self.dependencies.metrics.segment_synced_members;
                    gauge.get_or_create(&self.key.labels()).set(state.size);
                });
                Ok(NextSyncTrigger::Run)
            }
            Err(SyncRunError::ListGone) => {
                store.store_list(kept.id, None).await?;
                store.record_synced_run(kept.id, 0, None).await?;
                Ok(NextSyncTrigger::After(Duration::ZERO))
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
    fn has_moved(&self, kept: &SyncRecord) -> bool {
        let wanted = self.config.sync.list.as_deref();
        wanted.is_some() && kept.list.is_some() && wanted != kept.list.as_deref()
    }

    async fn run_sync(
        &self,
        outlet: &DestinationHandle,
        kept: &SyncRecord,
        (rechecks, drains): (bool, bool),
        of: Option<Vec<ProfileId>>,
    ) -> Result<SyncRunCounts, SyncRunError> {
        let SyncDependencies { store, journal, clock, .. } = &*self.dependencies;
        let pass = SyncRun {
            store: &**store,
            journal,
            clock,
            site: self.config.site,
            site_name: &self.key.site,
            segment: self.config.segment,
            segment_name: &self.key.segment,
            sync: &self.config.sync,
            destination: outlet,
            rechecks,
            is_draining: drains,
            only_profiles: of,
            reader_guard: &self.reader_guard,
        };
        let ran = pass.run(kept).await;
        // Everyone who was being processed when the process died has been processed again.
        if ran.is_ok() {
            self.reader_guard.leave_careful_mode();
        }
        ran
    }

    fn sync_state(&self) -> SyncState {
        if self.config.is_draining { SyncState::Drains } else { SyncState::Follows }
    }

    /// Reports once to operators that no member can be sent any more.
    async fn abandon(&self, kept: &SyncRecord) -> Result<(), SyncRunError> {
        let mut was_told = false;
        self.update_overview(|state| was_told = state.stand == SyncState::Abandoned);
        let sizes = self.publish_state(kept, None, SyncState::Abandoned).await?;
        let people = sizes.confirmed.saturating_add(sizes.removal_failed);
        if !was_told {
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
        kept: &SyncRecord,
        counts: Option<SyncRunCounts>,
        stand: SyncState,
    ) -> Result<SyncMemberCounts, SyncRunError> {
        let sizes = self.dependencies.store.sizes(kept.id).await?;
        let labels = self.key.labels();
        let metrics = &self.dependencies.metrics;
        metrics.segment_synced_members.get_or_create(&labels).set(sizes.confirmed);
        if stand == SyncState::Abandoned {
            let people = sizes.confirmed.saturating_add(sizes.removal_failed);
            metrics.segment_abandoned_members.get_or_create(&labels).set(people);
        } else {
            metrics.segment_abandoned_members.remove(&labels);
        }
        let at = u64::try_from(kept.synced / 1000).unwrap_or_default();
        metrics.segment_synced_timestamp_seconds.get_or_create(&labels).set(at);
        if let Some(counts) = &counts {
            self.count(counts);
        }
        self.update_overview(|state| {
            state.list.clone_from(&kept.list);
            (state.size, state.stuck) = (sizes.confirmed, sizes.removal_failed);
            state.synced_ms = Some(kept.synced).filter(|at| *at > 0);
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

    fn update_overview(&self, note: impl FnOnce(&mut SyncOverview)) {
        let mut states = self.states.lock();
        let state = states.entry(self.key.clone()).or_insert_with(|| SyncOverview {
            site: self.key.site.clone(),
            segment: self.key.segment.clone(),
            destination: self.key.destination.clone(),
            kind: self.config.sync.kind.name(),
            stand: self.sync_state(),
            ..SyncOverview::default()
        });
        note(state);
    }
}

/// Returns the pause after this failure, by the number of earlier failures in a row.
fn retry_pause(stopped: &SyncRunError, failures: u32) -> Duration {
    let usual = MIN_PAUSE.saturating_mul(1 << failures.min(10)).min(MAX_PAUSE);
    match stopped {
        SyncRunError::Destination(_, Some(asked)) => {
            (*asked).clamp(Duration::from_secs(1), MAX_PAUSE)
        }
        SyncRunError::Destination(_, None) | SyncRunError::Store(_) | SyncRunError::ListGone => {
            usual
        }
        SyncRunError::Unauthorised(_) | SyncRunError::Impossible(_) => OPERATOR_FIX_PAUSE,
    }
}
