//! Keeps every sync going: a task for each, so that a vendor who takes one person a second holds no
//! other up. A task waits for its segment's next run, and after a failure until it is worth another try.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::{SegmentError, SegmentId, SegmentStore, SiteSegments, SyncSettings};
use super::pass::{Counts, Pass, Stopped};
use super::{Kept, Sizes, SyncStore};
use crate::clock::SharedClock;
use crate::delivery::Dispatcher;
use crate::journal::{Journal, SiteId};
use crate::metrics::{Metrics, Name, SyncChangeLabels, SyncLabels};

/// The pause after a failure that names none, doubled with each, and its end.
const MIN_PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(900);

/// How long a sync waits that somebody must mend something for.
const MENDING: Duration = Duration::from_secs(600);

/// One sync of one site's segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    site: Name,
    segment: Name,
    destination: Name,
    kind: &'static str,
}

/// What a sync is to do.
#[derive(Clone, Debug, PartialEq)]
struct Order {
    site: SiteId,
    segment: SegmentId,
    sync: SyncSettings,
    /// The segment is no more: whoever was put on is to be taken off.
    drains: bool,
}

/// How a sync is doing. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Synced {
    /// The site's name.
    pub site: Name,
    /// The segment's name.
    pub segment: Name,
    /// The destination's name.
    pub destination: Name,
    /// `list` or `events`.
    pub kind: &'static str,
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
pub struct SyncFooting {
    /// What destinations were told.
    pub store: Arc<dyn SyncStore>,
    /// Who is a member.
    pub segments: Arc<dyn SegmentStore>,
    /// Where events of members go.
    pub journal: Arc<dyn Journal>,
    /// The destinations.
    pub dispatcher: Arc<Dispatcher>,
    /// The time of day.
    pub clock: SharedClock,
    /// Where syncs count.
    pub metrics: Arc<Metrics>,
    /// How often all rows are compared.
    pub recheck: Duration,
    /// Where syncs run.
    pub runtime: Handle,
}

/// A task, and how it is ended.
struct Running {
    order: Order,
    stop: CancellationToken,
    ended: CancellationToken,
}

/// All syncs.
pub struct Syncs {
    footing: Arc<SyncFooting>,
    running: Mutex<BTreeMap<Key, Running>>,
    states: Arc<Mutex<BTreeMap<Key, Synced>>>,
    tasks: TaskTracker,
    /// Changes with every run of a segment.
    ran: watch::Sender<()>,
}

impl Syncs {
    /// None yet.
    pub fn new(footing: SyncFooting) -> Self {
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
            for known in self.footing.segments.known(site.id).await? {
                let segment = site.segments.iter().find(|it| *it.name == *known.name);
                let key = |sync: &SyncSettings| Key {
                    site: site.name.clone(),
                    segment: known.name.as_str().into(),
                    destination: sync.destination.clone(),
                    kind: sync.kind.name(),
                };
                let order = |sync: SyncSettings, drains| Order {
                    site: site.id,
                    segment: known.id,
                    sync,
                    drains,
                };
                for sync in segment.iter().flat_map(|it| &it.syncs) {
                    wanted.insert(key(sync), order(sync.clone(), false));
                }
                // Where it was told and is not to be told any more.
                for (destination, kind) in self.footing.store.heard(known.id).await? {
                    let sync = SyncSettings::ending(&destination, kind, &known.name);
                    wanted.entry(key(&sync)).or_insert_with(|| order(sync, true));
                }
            }
        }
        self.replace(wanted);
        Ok(())
    }

    fn replace(&self, wanted: BTreeMap<Key, Order>) {
        let mut running = self.lock();
        let mut ending = BTreeMap::new();
        running.retain(|key, it| {
            let stays = wanted.get(key) == Some(&it.order);
            if !stays {
                it.stop.cancel();
                ending.insert(key.clone(), it.ended.clone());
                self.states.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            }
            stays
        });
        for (key, order) in wanted {
            if running.contains_key(&key) {
                continue;
            }
            let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
            let task = Task {
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
            running.insert(key, Running { order, stop, ended });
        }
    }

    /// Tells all syncs that a segment was run.
    pub(in crate::segment) fn hear(&self) {
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
    pub fn states(&self) -> Vec<Synced> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a sync waits for.
enum Next {
    /// Its segment's next run.
    Run,
    /// So much time.
    Again(Duration),
    /// Nothing more.
    Over,
}

/// One sync's task.
struct Task {
    footing: Arc<SyncFooting>,
    states: Arc<Mutex<BTreeMap<Key, Synced>>>,
    ran: watch::Receiver<()>,
    key: Key,
    order: Order,
}

impl Task {
    async fn run(self) {
        let mut ran = self.ran.clone();
        let mut failures: u32 = 0;
        loop {
            ran.mark_unchanged();
            let wait = match self.turn().await {
                Ok(Next::Over) => return,
                Ok(next) => {
                    failures = 0;
                    if let Next::Again(pause) = next { Some(pause) } else { None }
                }
                Err(stopped) => {
                    let pause = pause(&stopped, failures);
                    failures = failures.saturating_add(1);
                    tracing::warn!(
                        error = %stopped, site = %self.key.site, segment = %self.key.segment,
                        destination = %self.key.destination, seconds = pause.as_secs(),
                        "a segment's members are not all told"
                    );
                    self.note(|state| state.problem = Some(stopped.to_string()));
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

    /// Tells what there is to tell, if there is.
    async fn turn(&self) -> Result<Next, Stopped> {
        let SyncFooting { store, segments, .. } = &*self.footing;
        let known = segments.known(self.order.site).await?;
        let known = known.into_iter().find(|known| known.id == self.order.segment);
        let Some(known) = known else {
            return Ok(if self.order.drains { Next::Over } else { Next::Run });
        };
        let kept = self.kept().await?;
        let ran = known.ran.map(|ran| ran.at_ms);
        // One that is under way changes memberships: its end calls again.
        let has_news = ran.is_some_and(|at| at > kept.synced) && known.begun_at.is_none();
        if !self.order.drains && !has_news {
            self.tell(&kept, None).await?;
            return Ok(Next::Run);
        }
        let now = self.footing.clock.now().as_millisecond();
        let age = u64::try_from(now.saturating_sub(kept.checked)).unwrap_or_default();
        let rechecks = Duration::from_millis(age) >= self.footing.recheck;
        if self.has_moved(&kept) {
            // Off the list that was, before the one that is.
            match self.pass(&kept, false, true).await {
                // With the list, everybody is off it.
                Ok(_) | Err(Stopped::ListGone) => store.note_list(kept.id, None).await?,
                Err(other) => return Err(other),
            }
        }
        let (kept, drains) = (self.kept().await?, self.order.drains);
        let counts = match self.pass(&kept, rechecks, drains).await {
            // With the list, everybody is off it.
            Err(Stopped::ListGone) if drains => {
                store.note_list(kept.id, None).await?;
                Counts::default()
            }
            Err(Stopped::ListGone) => {
                store.note_list(kept.id, None).await?;
                let reopened = self.kept().await?;
                self.pass(&reopened, rechecks, drains).await?
            }
            other => other?,
        };
        store.finish(kept.id, ran.unwrap_or(kept.synced), rechecks.then_some(now)).await?;
        let sizes = self.tell(&self.kept().await?, Some(counts)).await?;
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

    async fn pass(&self, kept: &Kept, rechecks: bool, drains: bool) -> Result<Counts, Stopped> {
        let SyncFooting { store, journal, dispatcher, clock, .. } = &*self.footing;
        let Some(outlet) = dispatcher.outlet(&self.key.site, &self.key.destination) else {
            let reason = crate::vendors::Reason::new("not_running");
            return Err(Stopped::Destination(reason, None));
        };
        let pass = Pass {
            store: &**store,
            journal,
            clock,
            site: self.order.site,
            site_name: &self.key.site,
            segment: self.order.segment,
            segment_name: &self.key.segment,
            sync: &self.order.sync,
            outlet: &outlet,
            rechecks,
            drains,
        };
        pass.run(kept).await
    }

    /// Tells operators how it is going.
    async fn tell(&self, kept: &Kept, counts: Option<Counts>) -> Result<Sizes, Stopped> {
        let sizes = self.footing.store.sizes(kept.id).await?;
        let Key { site, segment, destination, .. } = self.key.clone();
        let labels = SyncLabels {
            site: site.clone(),
            segment: segment.clone(),
            destination: destination.clone(),
        };
        let metrics = &self.footing.metrics;
        metrics.segment_synced_members.get_or_create(&labels).set(sizes.heard);
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
            state.problem = None;
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
