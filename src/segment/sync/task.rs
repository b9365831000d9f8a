//! The task of one sync: it updates its destination after each run of its segment, and after a failure when
//! another try is useful.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::super::SegmentError;
use super::sync_manager::{
    RealtimeSyncQueue, SegmentSyncKey, SyncDependencies, SyncOverview, SyncState, SyncTaskConfig,
};
use super::sync_run::{SyncRun, SyncRunCounts, SyncRunError};
use super::{SyncMemberCounts, SyncRecord};
use crate::delivery::DestinationHandle;
use crate::journal::ReaderGuard;
use crate::metrics::SyncChangeLabels;
use crate::profile::ProfileId;

/// The pause after a failure that names none, doubled with each failure, and its upper bound.
const MIN_PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(900);

/// The pause of a sync that waits for an operator's fix.
const MENDING: Duration = Duration::from_secs(600);

/// The pause where a configured destination is away: a reload removes it for a moment.
const AWAY: Duration = Duration::from_secs(5);

/// The reason why no member can be sent any more.
const GONE: &str = "the destination is not there: it comes back, or what it was told is forgotten";

/// The trigger that a sync waits for.
enum NextSyncTrigger {
    /// Its segment's next run.
    Run,
    /// Nothing in this task: another task takes over.
    Nothing,
    /// The end of this pause.
    Again(Duration),
    /// Nothing more: the sync has ended.
    Over,
}

/// The task of one sync.
pub(super) struct SyncTask {
    pub(super) footing: Arc<SyncDependencies>,
    pub(super) states: Arc<Mutex<BTreeMap<SegmentSyncKey, SyncOverview>>>,
    /// Changes with every run of a segment, and with the configuration.
    pub(super) ran: watch::Receiver<()>,
    /// The people who joined or left since.
    pub(super) pushed: Arc<RealtimeSyncQueue>,
    pub(super) key: SegmentSyncKey,
    pub(super) order: SyncTaskConfig,
    /// The careful mode after an abort.
    pub(super) care: Arc<ReaderGuard>,
}

impl SyncTask {
    /// Runs for as long as there may be changes to send.
    pub(super) async fn run(self) {
        let mut ran = self.ran.clone();
        let mut failures: u32 = 0;
        loop {
            ran.mark_unchanged();
            let wait = match self.turn().await {
                Ok(NextSyncTrigger::Over) => {
                    self.footing.conceal(&self.key, &self.states);
                    self.states.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
                    return;
                }
                // Another task starts when the destination is back.
                Ok(NextSyncTrigger::Nothing) => std::future::pending().await,
                Ok(NextSyncTrigger::Again(pause)) => {
                    failures = 0;
                    Some(pause)
                }
                Ok(NextSyncTrigger::Run) => {
                    failures = 0;
                    None
                }
                Err(stopped) => {
                    let pause = pause(&stopped, failures);
                    failures = failures.saturating_add(1);
                    tracing::warn!(
                        error = %stopped, site = %self.key.site, segment = %self.key.segment,
                        destination = %self.key.destination, seconds = pause.as_secs(),
                        "a segment's members are not fully synced to a destination"
                    );
                    self.note(|state| {
                        state.stand = self.stand();
                        state.problem = Some(stopped.to_string());
                    });
                    Some(pause)
                }
            };
            match wait {
                Some(pause) => tokio::time::sleep(pause).await,
                None => tokio::select! {
                    changed = ran.changed() => if changed.is_err() { return },
                    () = self.pushed.has_more.notified() => {}
                },
            }
        }
    }

    /// Sends the changes, if there are any.
    async fn turn(&self) -> Result<NextSyncTrigger, SyncRunError> {
        let SyncDependencies { store, segments, dispatcher, .. } = &*self.footing;
        let known = segments.list_segments(self.order.site).await?;
        let known = known.into_iter().find(|known| known.id == self.order.segment);
        let Some(known) = known else {
            return Ok(if self.order.drains {
                NextSyncTrigger::Over
            } else {
                NextSyncTrigger::Run
            });
        };
        let kept = self.kept().await?;
        if self.order.is_away {
            self.abandon(&kept).await?;
            return Ok(NextSyncTrigger::Nothing);
        }
        let Some(outlet) = dispatcher.destination_handle(&self.key.site, &self.key.destination)
        else {
            return Ok(NextSyncTrigger::Again(AWAY));
        };
        let ran = known.ran.map(|ran| ran.at_ms);
        // A run in progress changes memberships: its end triggers this again.
        let has_news = ran.is_some_and(|at| at > kept.synced || self.has_moved(&kept))
            && known.begun_at.is_none();
        // A whole sync run includes these people.
        let pushed = self.pushed.take();
        if !self.order.drains && !has_news && !pushed.is_empty() {
            return self.push(&outlet, &kept, pushed).await;
        }
        if !self.order.drains && !has_news {
            self.tell(&kept, None, self.stand()).await?;
            return Ok(NextSyncTrigger::Run);
        }
        let now = self.footing.clock.now().as_millisecond();
        let age = u64::try_from(now.saturating_sub(kept.checked)).unwrap_or_default();
        let rechecks = Duration::from_millis(age) >= self.footing.recheck;
        if self.has_moved(&kept) {
            // Removes everyone from the old list before adding them to the new one.
            match self.pass(&outlet, &kept, (false, true), None).await {
                // A deleted list has no members.
                Ok(_) | Err(SyncRunError::ListGone) => store.note_list(kept.id, None).await?,
                Err(other) => return Err(other),
            }
        }
        let (kept, drains) = (self.kept().await?, self.order.drains);
        let counts = match self.pass(&outlet, &kept, (rechecks, drains), None).await {
            // A deleted list has no members.
            Err(SyncRunError::ListGone) if drains => {
                store.note_list(kept.id, None).await?;
                SyncRunCounts::default()
            }
            Err(SyncRunError::ListGone) => {
                store.note_list(kept.id, None).await?;
                let reopened = self.kept().await?;
                self.pass(&outlet, &reopened, (rechecks, drains), None).await?
            }
            other => other?,
        };
        // A sync that is configured again starts with everyone.
        let synced = if drains { 0 } else { ran.unwrap_or(kept.synced) };
        store.finish(kept.id, synced, rechecks.then_some(now)).await?;
        let sizes = self.tell(&self.kept().await?, Some(counts), self.stand()).await?;
        Ok(match sizes.stuck {
            _ if !drains => NextSyncTrigger::Run,
            0 => NextSyncTrigger::Over,
            _ => NextSyncTrigger::Again(self.footing.recheck),
        })
    }

    /// Syncs the people who joined or left since the last run it received.
    async fn push(
        &self,
        outlet: &DestinationHandle,
        kept: &SyncRecord,
        people: Vec<ProfileId>,
    ) -> Result<NextSyncTrigger, SyncRunError> {
        let store = &self.footing.store;
        match self.pass(outlet, kept, (false, false), Some(people.clone())).await {
            Ok(counts) => {
                self.count(&counts);
                self.note(|state| {
                    state.stand = self.stand();
                    state.problem = None;
                    // Estimated until the next run counts them.
                    state.size = state.size.saturating_add(counts.added);
                    state.size = state.size.saturating_sub(counts.removed);
                    let gauge = &self.footing.metrics.segment_synced_members;
                    gauge.get_or_create(&self.key.labels()).set(state.size);
                });
                Ok(NextSyncTrigger::Run)
            }
            Err(SyncRunError::ListGone) => {
                store.note_list(kept.id, None).await?;
                store.finish(kept.id, 0, None).await?;
                Ok(NextSyncTrigger::Again(Duration::ZERO))
            }
            Err(other) => {
                self.pushed.add(people);
                Err(other)
            }
        }
    }

    async fn kept(&self) -> Result<SyncRecord, SegmentError> {
        let SyncTaskConfig { segment, sync, .. } = &self.order;
        self.footing.store.sync(*segment, &sync.destination, sync.kind).await
    }

    /// Returns true if the settings name another list than the current one.
    fn has_moved(&self, kept: &SyncRecord) -> bool {
        let wanted = self.order.sync.list.as_deref();
        wanted.is_some() && kept.list.is_some() && wanted != kept.list.as_deref()
    }

    async fn pass(
        &self,
        outlet: &DestinationHandle,
        kept: &SyncRecord,
        (rechecks, drains): (bool, bool),
        of: Option<Vec<ProfileId>>,
    ) -> Result<SyncRunCounts, SyncRunError> {
        let SyncDependencies { store, journal, clock, .. } = &*self.footing;
        let pass = SyncRun {
            store: &**store,
            journal,
            clock,
            site: self.order.site,
            site_name: &self.key.site,
            segment: self.order.segment,
            segment_name: &self.key.segment,
            sync: &self.order.sync,
            outlet,
            rechecks,
            drains,
            of,
            care: &self.care,
        };
        let ran = pass.run(kept).await;
        // Everyone who was being processed when the process died has been processed again.
        if ran.is_ok() {
            self.care.end_care();
        }
        ran
    }

    fn stand(&self) -> SyncState {
        if self.order.drains { SyncState::Drains } else { SyncState::Follows }
    }

    /// Reports once to operators that no member can be sent any more.
    async fn abandon(&self, kept: &SyncRecord) -> Result<(), SyncRunError> {
        let mut was_told = false;
        self.note(|state| was_told = state.stand == SyncState::Abandoned);
        let sizes = self.tell(kept, None, SyncState::Abandoned).await?;
        let people = sizes.heard.saturating_add(sizes.stuck);
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
    async fn tell(
        &self,
        kept: &SyncRecord,
        counts: Option<SyncRunCounts>,
        stand: SyncState,
    ) -> Result<SyncMemberCounts, SyncRunError> {
        let sizes = self.footing.store.sizes(kept.id).await?;
        let labels = self.key.labels();
        let metrics = &self.footing.metrics;
        metrics.segment_synced_members.get_or_create(&labels).set(sizes.heard);
        if stand == SyncState::Abandoned {
            let people = sizes.heard.saturating_add(sizes.stuck);
            metrics.segment_abandoned_members.get_or_create(&labels).set(people);
        } else {
            metrics.segment_abandoned_members.remove(&labels);
        }
        let at = u64::try_from(kept.synced / 1000).unwrap_or_default();
        metrics.segment_synced_timestamp_seconds.get_or_create(&labels).set(at);
        if let Some(counts) = &counts {
            self.count(counts);
        }
        self.note(|state| {
            state.list.clone_from(&kept.list);
            (state.size, state.stuck) = (sizes.heard, sizes.stuck);
            state.synced_ms = Some(kept.synced).filter(|at| *at > 0);
            state.stand = stand;
            state.problem = (stand == SyncState::Abandoned).then(|| GONE.to_owned());
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
            self.footing.metrics.segment_sync_changes.get_or_create(&labels).inc_by(count);
        }
    }

    fn note(&self, note: impl FnOnce(&mut SyncOverview)) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let state = states.entry(self.key.clone()).or_insert_with(|| SyncOverview {
            site: self.key.site.clone(),
            segment: self.key.segment.clone(),
            destination: self.key.destination.clone(),
            kind: self.order.sync.kind.name(),
            stand: self.stand(),
            ..SyncOverview::default()
        });
        note(state);
    }
}

/// Returns the pause after this failure, by the number of earlier failures in a row.
fn pause(stopped: &SyncRunError, failures: u32) -> Duration {
    let usual = MIN_PAUSE.saturating_mul(1 << failures.min(10)).min(MAX_PAUSE);
    match stopped {
        SyncRunError::Destination(_, Some(asked)) => {
            (*asked).clamp(Duration::from_secs(1), MAX_PAUSE)
        }
        SyncRunError::Destination(_, None) | SyncRunError::Store(_) | SyncRunError::ListGone => {
            usual
        }
        SyncRunError::Unauthorised(_) | SyncRunError::Impossible(_) => MENDING,
    }
}
