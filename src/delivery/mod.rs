//! Delivery: readers of the journal that carry events to destinations.
//!
//! Every destination has a [`worker`](self) of its own, with its own cursor, queue, breaker and
//! throttle, on a runtime that the request path does not share: a destination that hangs delays
//! neither the intake nor another destination. Its memory is bounded by `queue_events` and
//! `queue_bytes`; what it has not read yet costs disk only.
//!
//! How a failure is treated:
//!
//! | what the vendor's answer means | what happens |
//! |---|---|
//! | worth another try | the batch waits (full jitter, `Retry-After` honoured) and comes again whole |
//! | the vendor holds one visitor back | that visitor's events wait as long as it asked, others pass |
//! | the same, again and again, while other events pass | its events are parked in the journal, and come back one by one |
//! | refused, and it is not clear which event is to blame | halved until the bad event is alone |
//! | this event will never be taken | dead letter |
//! | the credentials are wrong | the destination pauses visibly; one probe now and then, of another batch each time. If another passes, it was the events that were refused |
//! | nothing works | the breaker opens; one probe per pause |
//!
//! What ends the process instead of failing is found by the journal's [`Guard`](crate::journal::Guard): after
//! an abort a worker is careful (`careful.rs`), and an event that was under way again and again is a dead letter.

mod accounts;
mod aside;
mod awaiting;
mod backoff;
mod call;
mod careful;
mod client;
mod dead_report;
mod egress;
mod ending;
mod exchange;
mod filter;
mod holding;
mod intake;
mod pausing;
mod post;
mod progress;
mod schedule;
mod settings;
#[cfg(test)]
mod tests;
mod waiting;
mod worker;

pub use backoff::{BreakerSettings, RetrySettings};
pub use call::without;
pub use client::ClientSettings;
pub use egress::{Egress, EgressSettings};
pub use exchange::Failure;
pub use filter::Filter;
pub use pausing::{PauseError, PausedBy};
pub use settings::{DestinationSettings, Mode};

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::{Quota, RateLimiter};
use tokio::runtime::Handle;
use tokio::sync::{Notify, RwLock, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::call::{BatchCall, Line};
use self::exchange::Failures;
use self::post::Post;
use crate::clock::SharedClock;
use crate::feed::Feed;
use crate::journal::{Journal, JournalError, ReaderId, SiteId};
use crate::metrics::{DestinationLabels, Metrics, Name};
use crate::profile::{ProfileError, Profiles};
use crate::settings::Redaction;
use crate::vendors::Call;

/// How long a call that is under way may take beyond its own timeout when a worker is stopped: to
/// note what became of it.
const GRACE: Duration = Duration::from_secs(1);

/// How a destination is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReaderStatus {
    /// It takes events.
    Running,
    /// Some of its events wait for another try.
    Retrying,
    /// Its breaker is open.
    Broken,
    /// It refuses the credentials.
    Unauthorised,
    /// It is not called, and its events wait.
    Paused(PausedBy),
    /// It is being stopped.
    Stopped,
}

impl ReaderStatus {
    /// The name in the API and the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Broken => "broken",
            Self::Unauthorised => "unauthorised",
            Self::Paused(_) => "paused",
            Self::Stopped => "stopped",
        }
    }

    /// Why it does not simply run.
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Running | Self::Stopped => None,
            Self::Retrying => Some("some events wait for another try"),
            Self::Broken => Some("calls fail one after another; probing"),
            Self::Paused(PausedBy::Configuration) => Some("paused = true in the configuration"),
            Self::Paused(PausedBy::Operator) => {
                Some("an operator paused it: `tagway destinations resume`")
            }
            Self::Unauthorised => Some("the vendor refuses the credentials; probing"),
        }
    }
}

/// What stops a worker for a moment.
#[derive(Debug, thiserror::Error)]
enum WorkError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Profiles(#[from] ProfileError),
}

/// What all workers share.
pub struct Shared {
    /// The journal they read.
    pub journal: Arc<dyn Journal>,
    /// The profiles they enrich from.
    pub profiles: Arc<Profiles>,
    /// The time of day.
    pub clock: SharedClock,
    /// Where they tell what happens.
    pub feed: Feed,
    /// Where they count.
    pub metrics: Arc<Metrics>,
    /// Knows what nothing of theirs may show.
    pub redaction: Redaction,
    /// The runtime they work on.
    pub runtime: Handle,
}

/// A site as delivery sees it.
#[derive(Clone)]
pub struct Site {
    /// Its number in the journal.
    pub id: SiteId,
    /// Its name.
    pub name: Name,
    /// How far its profiles have come.
    pub projected: watch::Receiver<u64>,
}

/// One running destination, for the admin API.
#[derive(Clone, Debug)]
pub struct RunningReader {
    /// The site's name.
    pub site: Name,
    /// The destination's name.
    pub destination: Name,
    /// Its number in the journal.
    pub reader: ReaderId,
    /// How it is doing.
    pub status: ReaderStatus,
}

/// A running destination for those who tell it something else than events: with its own line, so that
/// its limits, secrets and counts hold for them as well.
pub struct Outlet {
    /// Its settings.
    pub settings: Arc<DestinationSettings>,
    call: Box<dyn Call>,
}

impl Outlet {
    /// Its line.
    pub fn call(&self) -> &dyn Call {
        &*self.call
    }
}

/// Starts, replaces and stops the workers as the settings say.
pub struct Dispatcher {
    shared: Shared,
    running: Mutex<BTreeMap<(Name, Name), Running>>,
    tasks: TaskTracker,
    /// Held while workers are started and stopped.
    changing: tokio::sync::Mutex<()>,
    /// Held shared by each settlement, and alone while the accounts are shown.
    settling: Arc<RwLock<()>>,
}

struct Running {
    site: Site,
    client: Egress,
    settings: Arc<DestinationSettings>,
    line: Arc<Line>,
    egress: EgressSettings,
    reader: ReaderId,
    stop: CancellationToken,
    ended: CancellationToken,
    wake: Arc<Notify>,
    status: watch::Receiver<ReaderStatus>,
}

impl Dispatcher {
    /// A dispatcher without workers.
    pub fn new(shared: Shared) -> Self {
        let (running, tasks) = (Mutex::default(), TaskTracker::new());
        let (changing, settling) = (tokio::sync::Mutex::default(), Arc::default());
        Self { shared, running, tasks, changing, settling }
    }

    /// Makes the running workers be those of `sites`: starts new ones, restarts changed ones where
    /// they stood, stops the others. Returns the readers of each site, for retention.
    pub async fn apply(
        &self,
        sites: &[(Site, Vec<Arc<DestinationSettings>>)],
        egress: &EgressSettings,
    ) -> Result<Vec<(SiteId, Vec<ReaderId>)>, ApplyError> {
        let client = Egress::new(egress).map_err(ApplyError::Client)?;
        let _turn = self.changing.lock().await;
        let wanted: BTreeMap<(Name, Name), (&Site, &Arc<DestinationSettings>)> = sites
            .iter()
            .flat_map(|(site, destinations)| destinations.iter().map(move |d| (site, d)))
            .filter(|(_, settings)| settings.mode.is_server())
            .map(|(site, settings)| ((site.name.clone(), settings.name.clone()), (site, settings)))
            .collect();
        self.stop_all_but(|key, running| {
            wanted.get(key).is_some_and(|(_, settings)| {
                **settings == running.settings && running.egress == *egress
            })
        })
        .await;
        for (key, (site, settings)) in wanted {
            if !self.lock().contains_key(&key) {
                let running = self.start(site, settings.clone(), client.clone(), egress).await?;
                self.lock().insert(key, running);
            }
        }
        let running = self.lock();
        let readers = sites.iter().map(|(site, _)| {
            let of_site = running.iter().filter(|((name, _), _)| *name == site.name);
            (site.id, of_site.map(|(_, running)| running.reader).collect())
        });
        Ok(readers.collect())
    }

    /// The running destinations.
    pub fn readers(&self) -> Vec<RunningReader> {
        let running = self.lock();
        let reader = |((site, destination), running): (&(Name, Name), &Running)| RunningReader {
            site: site.clone(),
            destination: destination.clone(),
            reader: running.reader,
            status: *running.status.borrow(),
        };
        running.iter().map(reader).collect()
    }

    /// The line of a destination, if it runs and is not paused.
    pub fn outlet(&self, site: &str, destination: &str) -> Option<Outlet> {
        let running = self.lock();
        let found = running.iter().find(|((of, name), _)| &**of == site && &**name == destination);
        let found = found.filter(|(_, it)| !matches!(*it.status.borrow(), ReaderStatus::Paused(_)));
        found.map(|(_, running)| Outlet {
            settings: running.settings.clone(),
            call: Box::new(BatchCall::alone(running.line.clone())),
        })
    }

    /// Makes a destination look for parked events at once.
    pub fn wake(&self, reader: ReaderId) {
        for running in self.lock().values().filter(|running| running.reader == reader) {
            running.wake.notify_one();
        }
    }

    /// Stops every worker: what is under way may end, what ended is settled.
    pub async fn stop(&self) {
        let _turn = self.changing.lock().await;
        self.stop_all_but(|_, _| false).await;
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn stop_all_but(&self, keep: impl Fn(&(Name, Name), &Running) -> bool) {
        let stopped: Vec<Running> = {
            let mut running = self.lock();
            let gone: Vec<_> = running
                .iter()
                .filter(|(key, running)| !keep(key, running))
                .map(|(key, _)| key.clone())
                .collect();
            gone.iter().filter_map(|key| running.remove(key)).collect()
        };
        for running in &stopped {
            running.stop.cancel();
        }
        for running in &stopped {
            running.ended.cancelled().await;
        }
    }

    async fn start(
        &self,
        site: &Site,
        settings: Arc<DestinationSettings>,
        client: Egress,
        egress: &EgressSettings,
    ) -> Result<Running, ApplyError> {
        let Shared { journal, profiles, metrics, runtime, .. } = &self.shared;
        let reader = journal.reader(site.id, &settings.name).await?;
        let position = journal.position(reader).await?;
        let paused = match (settings.paused, journal.is_paused(reader).await?) {
            (true, _) => Some(PausedBy::Configuration),
            (false, true) => Some(PausedBy::Operator),
            (false, false) => None,
        };
        let status = paused.map_or(ReaderStatus::Running, ReaderStatus::Paused);
        let (status, seen) = watch::channel(status);
        let (stop, ended, wake) =
            (CancellationToken::new(), CancellationToken::new(), Arc::new(Notify::new()));
        let labels =
            DestinationLabels { site: site.name.clone(), destination: settings.name.clone() };
        metrics.destination_up.get_or_create(&labels).set(paused.is_none().into());
        metrics.destination_paused.get_or_create(&labels).set(paused.is_some().into());
        let line = Arc::new(self.line(labels, &settings, client.clone(), stop.clone()));
        let running = Running {
            site: site.clone(),
            client,
            settings,
            line,
            egress: egress.clone(),
            reader,
            stop,
            ended,
            wake,
            status: seen,
        };
        if paused.is_some() {
            running.ended.cancel();
            return Ok(running);
        }
        let settings = &running.settings;
        let post = Post {
            site: site.clone(),
            reader,
            settings: settings.clone(),
            line: running.line.clone(),
            journal: journal.clone(),
            profiles: profiles.clone(),
            wake: running.wake.clone(),
            status,
            care: Arc::new(journal.guard().care(site.id, &settings.name)),
        };
        let (token, grace) = (running.stop.clone(), settings.habits.timeout.saturating_add(GRACE));
        let guard = running.ended.clone().drop_guard();
        self.tasks.spawn_on(
            async move {
                post.run(position, token, grace).await;
                drop(guard);
            },
            runtime,
        );
        Ok(running)
    }

    /// The line of a destination.
    fn line(
        &self,
        labels: DestinationLabels,
        settings: &DestinationSettings,
        egress: Egress,
        stop: CancellationToken,
    ) -> Line {
        let Shared { journal, clock, feed, metrics, redaction, .. } = &self.shared;
        let quota = |rate| RateLimiter::direct(Quota::per_second(rate));
        Line {
            labels,
            egress,
            timeout: settings.habits.timeout,
            stop,
            throttle: settings.habits.calls_per_second.map(quota),
            secrets: settings.destination.secrets(),
            redaction: redaction.clone(),
            clock: clock.clone(),
            feed: feed.clone(),
            metrics: metrics.clone(),
            failures: Failures::default(),
            kept_chars: journal.letter_chars(),
            settling: self.settling.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Name, Name), Running>> {
        // Every change under the lock is one insert or remove.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why the workers could not be brought in line with the settings.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The egress client could not be built.
    #[error("the egress client cannot be built")]
    Client(#[source] reqwest::Error),
    /// The journal failed.
    #[error("the destinations' places cannot be read")]
    Journal(#[from] JournalError),
}
