//! One sync's task: it tells its destination after each run of its segment, and after a failure when it is
//! worth another try.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::super::SegmentError;
use super::keeper::{Key, Order, Stand, SyncFooting, Synced};
use super::pass::{Counts, Pass, Stopped};
use super::{Kept, Sizes};
use crate::delivery::Outlet;
use crate::metrics::SyncChangeLabels;

/// The pause after a failure that names none, doubled with each, and its end.
const MIN_PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(900);

/// How long a sync waits that somebody must mend something for.
const MENDING: Duration = Duration::from_secs(600);

/// How long a destination may be away before it counts as gone: a reload takes it away for a moment.
const AWAY: Duration = Duration::from_secs(5);

/// Why nobody can be told any more.
const GONE: &str = "the destination is not there: it comes back, or what it was told is forgotten";

/// What a sync waits for.
enum Next {
    /// Its segment's next run.
    Run,
    /// Its destination, which does not run.
    Destination,
    /// So much time.
    Again(Duration),
    /// Nothing more.
    Over,
}

/// One sync's task.
pub(super) struct Task {
    pub(super) footing: Arc<SyncFooting>,
    pub(super) states: Arc<Mutex<BTreeMap<Key, Synced>>>,
    /// Changes with every run of a segment, and with the configuration.
    pub(super) ran: watch::Receiver<()>,
    pub(super) key: Key,
    pub(super) order: Order,
}

impl Task {
    /// Runs for as long as there is something to tell.
    pub(super) async fn run(self) {
        let mut ran = self.ran.clone();
        let (mut failures, mut is_away) = (0_u32, false);
        loop {
            ran.mark_unchanged();
            let was_away = std::mem::take(&mut is_away);
            let wait = match self.turn(was_away).await {
                Ok(Next::Over) => {
                    self.footing.conceal(&self.key, &self.states);
                    self.states.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
                    return;
                }
                Ok(next) => {
                    failures = 0;
                    is_away = matches!(next, Next::Destination);
                    match next {
                        Next::Again(pause) => Some(pause),
                        Next::Destination if !was_away => Some(AWAY),
                        Next::Destination | Next::Run | Next::Over => None,
                    }
                }
                Err(stopped) => {
                    let pause = pause(&stopped, failures);
                    failures = failures.saturating_add(1);
                    tracing::warn!(
                        error = %stopped, site = %self.key.site, segment = %self.key.segment,
                        destination = %self.key.destination, seconds = pause.as_secs(),
                        "a segment's members are not all told"
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
                None if ran.changed().await.is_err() => return,
                None => {}
            }
        }
    }

    /// Tells what there is to tell, if there is. `was_away`: the destination did not run a while ago.
    async fn turn(&self, was_away: bool) -> Result<Next, Stopped> {
        let SyncFooting { store, segments, dispatcher, .. } = &*self.footing;
        let known = segments.known(self.order.site).await?;
        let known = known.into_iter().find(|known| known.id == self.order.segment);
        let Some(known) = known else {
            return Ok(if self.order.drains { Next::Over } else { Next::Run });
        };
        let kept = self.kept().await?;
        let Some(outlet) = dispatcher.outlet(&self.key.site, &self.key.destination) else {
            if was_away {
                self.abandon(&kept).await?;
            }
            return Ok(Next::Destination);
        };
        let ran = known.ran.map(|ran| ran.at_ms);
        // One that is under way changes memberships: its end calls again.
        let has_news = ran.is_some_and(|at| at > kept.synced) && known.begun_at.is_none();
        if !self.order.drains && !has_news {
            self.tell(&kept, None, self.stand()).await?;
            return Ok(Next::Run);
        }
        let now = self.footing.clock.now().as_millisecond();
        let age = u64::try_from(now.saturating_sub(kept.checked)).unwrap_or_default();
        let rechecks = Duration::from_millis(age) >= self.footing.recheck;
        if self.has_moved(&kept) {
            // Off the list that was, before the one that is.
            match self.pass(&outlet, &kept, (false, true)).await {
                // With the list, everybody is off it.
                Ok(_) | Err(Stopped::ListGone) => store.note_list(kept.id, None).await?,
                Err(other) => return Err(other),
            }
        }
        let (kept, drains) = (self.kept().await?, self.order.drains);
        let counts = match self.pass(&outlet, &kept, (rechecks, drains)).await {
            // With the list, everybody is off it.
            Err(Stopped::ListGone) if drains => {
                store.note_list(kept.id, None).await?;
                Counts::default()
            }
            Err(Stopped::ListGone) => {
                store.note_list(kept.id, None).await?;
                let reopened = self.kept().await?;
                self.pass(&outlet, &reopened, (rechecks, drains)).await?
            }
            other => other?,
        };
        // Whoever asks for the sync again asks for everybody.
        let synced = if drains { 0 } else { ran.unwrap_or(kept.synced) };
        store.finish(kept.id, synced, rechecks.then_some(now)).await?;
        let sizes = self.tell(&self.kept().await?, Some(counts), self.stand()).await?;
        Ok(match sizes.stuck {
            _ if !drains => Next::Run,
            0 => Next::Over,
            _ => Next::Again(self.footing.recheck),
        })
    }

    async fn kept(&self) -> Result<Kept, SegmentError> {
        let Order { segment, sync, .. } = &self.order;
        self.footing.store.sync(*segment, &sync.destination, sync.kind).await
    }

    /// Whether the settings name another list than the one that was told.
    fn has_moved(&self, kept: &Kept) -> bool {
        let wanted = self.order.sync.list.as_deref();
        wanted.is_some() && kept.list.is_some() && wanted != kept.list.as_deref()
    }

    async fn pass(
        &self,
        outlet: &Outlet,
        kept: &Kept,
        (rechecks, drains): (bool, bool),
    ) -> Result<Counts, Stopped> {
        let SyncFooting { store, journal, clock, .. } = &*self.footing;
        let pass = Pass {
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
        };
        pass.run(kept).await
    }

    fn stand(&self) -> Stand {
        if self.order.drains { Stand::Drains } else { Stand::Follows }
    }

    /// Tells operators, once, that nobody can be told any more.
    async fn abandon(&self, kept: &Kept) -> Result<(), Stopped> {
        let mut was_told = false;
        self.note(|state| was_told = state.stand == Stand::Abandoned);
        let sizes = self.tell(kept, None, Stand::Abandoned).await?;
        let people = sizes.heard.saturating_add(sizes.stuck);
        if !was_told {
            tracing::warn!(
                site = %self.key.site, segment = %self.key.segment,
                destination = %self.key.destination, people,
                "a destination is no more that was told of a segment's members"
            );
        }
        Ok(())
    }

    /// Tells operators how it is going.
    async fn tell(
        &self,
        kept: &Kept,
        counts: Option<Counts>,
        stand: Stand,
    ) -> Result<Sizes, Stopped> {
        let sizes = self.footing.store.sizes(kept.id).await?;
        let Key { site, segment, destination, .. } = self.key.clone();
        let labels = self.key.labels();
        let metrics = &self.footing.metrics;
        metrics.segment_synced_members.get_or_create(&labels).set(sizes.heard);
        if stand == Stand::Abandoned {
            let people = sizes.heard.saturating_add(sizes.stuck);
            metrics.segment_abandoned_members.get_or_create(&labels).set(people);
        } else {
            metrics.segment_abandoned_members.remove(&labels);
        }
        let at = u64::try_from(kept.synced / 1000).unwrap_or_default();
        metrics.segment_synced_timestamp_seconds.get_or_create(&labels).set(at);
        if let Some(counts) = &counts {
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
                metrics.segment_sync_changes.get_or_create(&labels).inc_by(count);
            }
        }
        self.note(|state| {
            state.list.clone_from(&kept.list);
            (state.size, state.stuck) = (sizes.heard, sizes.stuck);
            state.synced_ms = Some(kept.synced).filter(|at| *at > 0);
            state.stand = stand;
            state.problem = (stand == Stand::Abandoned).then(|| GONE.to_owned());
            if let Some(Counts { added, removed, left_out, not_removed }) = counts {
                (state.added, state.removed) = (added, removed);
                (state.left_out, state.not_removed) = (left_out, not_removed);
            }
        });
        Ok(sizes)
    }

    fn note(&self, note: impl FnOnce(&mut Synced)) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let state = states.entry(self.key.clone()).or_insert_with(|| Synced {
            site: self.key.site.clone(),
            segment: self.key.segment.clone(),
            destination: self.key.destination.clone(),
            kind: self.order.sync.kind.name(),
            stand: self.stand(),
            ..Synced::default()
        });
        note(state);
    }
}

/// How long to wait after this, the so-and-so-manieth failure in a row.
fn pause(stopped: &Stopped, failures: u32) -> Duration {
    let usual = MIN_PAUSE.saturating_mul(1 << failures.min(10)).min(MAX_PAUSE);
    match stopped {
        Stopped::Destination(_, Some(asked)) => (*asked).clamp(Duration::from_secs(1), MAX_PAUSE),
        Stopped::Destination(_, None) | Stopped::Store(_) | Stopped::ListGone => usual,
        Stopped::Unauthorised(_) | Stopped::Impossible(_) => MENDING,
    }
}
