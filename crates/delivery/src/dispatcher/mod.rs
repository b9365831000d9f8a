//! The dispatcher of all destinations' workers: starts, replaces and stops them according to the settings.

mod accounts;
mod inspection;
mod pausing;
mod supervisor;

pub use inspection::DestinationInspection;
pub use pausing::PauseError;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use governor::{Quota, RateLimiter};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, RwLock, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::supervisor::WorkerSupervisor;
use super::activity::DestinationActivity;
use super::context::WorkerContext;
use super::destination_client::{BatchCaller, DestinationClient};
use super::egress::{EgressClient, EgressSettings};
use super::exchange::FailedAttemptLog;
use super::match_quality::MatchQualityCache;
use super::settings::DestinationSettings;
use super::status::{DestinationStatus, PauseInitiator};
use tagway_core::clock::SharedClock;
use tagway_core::feed::LiveFeed;
use tagway_core::metrics::{DestinationLabels, Metrics, SharedName};
use tagway_settings::SecretRedactor;
use tagway_storage::journal::{Journal, JournalError, ReaderId, ReaderPause, SiteId};
use tagway_storage::profile::ProfileService;
use tagway_vendors::VendorCall;

/// The time beyond its own timeout that a running call gets when a worker is stopped: to record its
/// result.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// The parts that all workers share.
pub struct DeliveryContext {
    /// The journal that they read.
    pub journal: Arc<dyn Journal>,
    /// The profiles that they enrich events with.
    pub profiles: Arc<ProfileService>,
    /// The source of the time of day.
    pub clock: SharedClock,
    /// The live feed that they publish to.
    pub feed: LiveFeed,
    /// The metrics that they count in.
    pub metrics: Arc<Metrics>,
    /// Removes secrets from everything that they show.
    pub redaction: SecretRedactor,
    /// The runtime that they work on.
    pub runtime: Handle,
}

/// A site in delivery's terms.
#[derive(Clone)]
pub struct DeliverySite {
    /// The site's number in the journal.
    pub id: SiteId,
    /// The site's name.
    pub name: SharedName,
    /// The last event that the site's profiles have processed.
    pub projected: watch::Receiver<u64>,
}

/// A site with the destinations of its events.
pub struct SiteDestinations {
    /// The site whose journal they read.
    pub site: DeliverySite,
    /// The settings of its destinations.
    pub destinations: Vec<Arc<DestinationSettings>>,
}

/// The readers of one site.
pub struct SiteReaders {
    /// The site's number in the journal.
    pub site: SiteId,
    /// The readers of its running destinations.
    pub readers: Vec<ReaderId>,
}

/// The names of a destination and of its site.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct DestinationKey {
    site: SharedName,
    destination: SharedName,
}

impl DestinationKey {
    fn is(&self, site: &str, destination: &str) -> bool {
        *self.site == *site && *self.destination == *destination
    }
}

/// One running destination, for the admin API.
#[derive(Clone, Debug)]
pub struct RunningDestination {
    /// The site's name.
    pub site: SharedName,
    /// The destination's name.
    pub destination: SharedName,
    /// The reader's number in the journal.
    pub reader: ReaderId,
    /// The vendor's name.
    pub vendor: &'static str,
    /// The state of the destination.
    pub status: DestinationStatus,
}

/// A running destination for callers that send data other than events: with its own client, so that its
/// limits, secrets and counts apply to them as well.
pub struct DestinationHandle {
    /// The destination's settings.
    pub settings: Arc<DestinationSettings>,
    caller: Box<dyn VendorCall>,
}

impl DestinationHandle {
    /// Returns the client for its calls.
    pub fn caller(&self) -> &dyn VendorCall {
        &*self.caller
    }
}

/// Starts, replaces and stops the workers according to the settings.
pub struct DeliveryDispatcher {
    shared: DeliveryContext,
    running: Mutex<BTreeMap<DestinationKey, RunningWorker>>,
    match_quality: MatchQualityCache,
    tasks: TaskTracker,
    /// Locked while workers are started and stopped.
    apply_lock: tokio::sync::Mutex<()>,
    /// Read-locked by each settlement, write-locked while the accounts are shown.
    settlement_lock: Arc<RwLock<()>>,
}

/// The configuration that a worker was started with.
#[derive(Clone)]
struct WorkerSetup {
    site: DeliverySite,
    settings: Arc<DestinationSettings>,
    client: EgressClient,
    egress: EgressSettings,
}

struct RunningWorker {
    setup: WorkerSetup,
    destination_client: Arc<DestinationClient>,
    reader: ReaderId,
    stop: CancellationToken,
    ended: CancellationToken,
    wake: Arc<Notify>,
    status: watch::Receiver<DestinationStatus>,
    /// The operator's pause, if there is one.
    pause: Option<ReaderPause>,
}

impl DeliveryDispatcher {
    /// Builds a dispatcher without workers.
    pub fn new(shared: DeliveryContext) -> Self {
        let (running, tasks) = (Mutex::default(), TaskTracker::new());
        let (changing, settling) = (tokio::sync::Mutex::default(), Arc::default());
        let match_quality = MatchQualityCache::default();
        Self {
            shared,
            running,
            match_quality,
            tasks,
            apply_lock: changing,
            settlement_lock: settling,
        }
    }

    /// Makes the running workers match `sites`: starts new ones, restarts changed ones where they stood, stops
    /// the others. Returns the readers of each site, for retention.
    ///
    /// # Errors
    ///
    /// Returns a [`WorkerApplyError`] if the egress client or the journal fails.
    pub async fn apply(
        &self,
        sites: &[SiteDestinations],
        egress: &EgressSettings,
    ) -> Result<Vec<SiteReaders>, WorkerApplyError> {
        let client = EgressClient::new(egress).map_err(WorkerApplyError::Client)?;
        let _turn = self.apply_lock.lock().await;
        let mut wanted: BTreeMap<DestinationKey, (&DeliverySite, &Arc<DestinationSettings>)> =
            BTreeMap::new();
        for SiteDestinations { site, destinations } in sites {
            for settings in destinations.iter().filter(|settings| settings.mode.is_server()) {
                let (site_name, destination) = (site.name.clone(), settings.name.clone());
                let key = DestinationKey { site: site_name, destination };
                wanted.insert(key, (site, settings));
            }
        }
        let stopped = self
            .stop_all_but(|key, running| {
                wanted.get(key).is_some_and(|(_, settings)| {
                    **settings == running.setup.settings && running.setup.egress == *egress
                })
            })
            .await;
        for (key, (site, settings)) in wanted {
            if !self.running.lock().contains_key(&key) {
                let (site, settings) = (site.clone(), settings.clone());
                let (client, egress) = (client.clone(), egress.clone());
                let setup = WorkerSetup { site, settings, client, egress };
                let running = self.start(setup, stopped.get(&key).cloned()).await?;
                self.running.lock().insert(key, running);
            }
        }
        let running = self.running.lock();
        let readers = sites.iter().map(|SiteDestinations { site, .. }| {
            let of_site = running.iter().filter(|(key, _)| key.site == site.name);
            let readers = of_site.map(|(_, running)| running.reader).collect();
            SiteReaders { site: site.id, readers }
        });
        Ok(readers.collect())
    }

    /// Lists the running destinations.
    pub fn running_destinations(&self) -> Vec<RunningDestination> {
        let running = self.running.lock();
        running.iter().map(|(key, running)| inspection::summary(key, running)).collect()
    }

    /// Returns a handle of a destination, if it runs and is not paused.
    pub fn destination_handle(&self, site: &str, destination: &str) -> Option<DestinationHandle> {
        let running = self.running.lock();
        let found = running.iter().find(|(key, _)| key.is(site, destination));
        let found =
            found.filter(|(_, it)| !matches!(*it.status.borrow(), DestinationStatus::Paused(_)));
        found.map(|(_, running)| DestinationHandle {
            settings: running.setup.settings.clone(),
            caller: Box::new(BatchCaller::without_events(running.destination_client.clone())),
        })
    }

    /// Returns the settings of a site's destinations, paused ones included.
    pub fn settings_of(&self, site: &str) -> Vec<Arc<DestinationSettings>> {
        let running = self.running.lock();
        let of_site = running.iter().filter(|(key, _)| *key.site == *site);
        of_site.map(|(_, running)| running.setup.settings.clone()).collect()
    }

    /// Makes a destination look for parked events at once.
    pub fn wake(&self, reader: ReaderId) {
        for running in self.running.lock().values().filter(|running| running.reader == reader) {
            running.wake.notify_one();
        }
    }

    /// Stops every worker: running calls may end, ended events are settled.
    pub async fn stop(&self) {
        let _turn = self.apply_lock.lock().await;
        drop(self.stop_all_but(|_, _| false).await);
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Stops the workers that are not to be kept. Returns the activities of their destinations.
    async fn stop_all_but(
        &self,
        keep: impl Fn(&DestinationKey, &RunningWorker) -> bool,
    ) -> BTreeMap<DestinationKey, Arc<DestinationActivity>> {
        let stopped: Vec<(DestinationKey, RunningWorker)> = {
            let mut running = self.running.lock();
            let gone: Vec<_> = running
                .iter()
                .filter(|(key, running)| !keep(key, running))
                .map(|(key, _)| key.clone())
                .collect();
            gone.iter().filter_map(|key| running.remove_entry(key)).collect()
        };
        for (_, running) in &stopped {
            running.stop.cancel();
        }
        for (_, running) in &stopped {
            running.ended.cancelled().await;
        }
        let activity =
            |(key, it): (_, RunningWorker)| (key, it.destination_client.activity.clone());
        stopped.into_iter().map(activity).collect()
    }

    /// Starts a destination, with the activity of its last worker if it had one.
    async fn start(
        &self,
        setup: WorkerSetup,
        activity: Option<Arc<DestinationActivity>>,
    ) -> Result<RunningWorker, WorkerApplyError> {
        let WorkerSetup { site, settings, client, .. } = &setup;
        let DeliveryContext { journal, profiles, metrics, runtime, .. } = &self.shared;
        let reader = journal.reader(site.id, &settings.name).await?;
        let position = journal.position(reader).await?;
        let pause = self.unexpired_pause(reader).await?;
        let paused = match (settings.paused, &pause) {
            (true, _) => Some(PauseInitiator::Configuration),
            (false, Some(_)) => Some(PauseInitiator::Operator),
            (false, None) => None,
        };
        let status = paused.map_or(DestinationStatus::Running, DestinationStatus::Paused);
        let (status, seen) = watch::channel(status);
        let (stop, ended, wake) =
            (CancellationToken::new(), CancellationToken::new(), Arc::new(Notify::new()));
        let labels =
            DestinationLabels { site: site.name.clone(), destination: settings.name.clone() };
        metrics.destination_up.get_or_create(&labels).set(paused.is_none().into());
        metrics.destination_paused.get_or_create(&labels).set(paused.is_some().into());
        let activity =
            activity.unwrap_or_else(|| Arc::new(DestinationActivity::new(self.shared.clock.now())));
        let line = self.build_client(labels, settings, (client.clone(), activity), stop.clone());
        let line = Arc::new(line);
        let running = RunningWorker {
            destination_client: line,
            setup,
            reader,
            stop,
            ended,
            wake,
            status: seen,
            pause,
        };
        if paused.is_some() {
            running.ended.cancel();
            return Ok(running);
        }
        let WorkerSetup { site, settings, .. } = &running.setup;
        let context = WorkerContext {
            site: site.id,
            reader,
            settings: settings.clone(),
            client: running.destination_client.clone(),
            journal: journal.clone(),
            profiles: profiles.clone(),
            reader_guard: Arc::new(journal.guard().reader_guard(site.id, &settings.name)),
        };
        let supervisor = WorkerSupervisor {
            context: Arc::new(context),
            projected: site.projected.clone(),
            wake: running.wake.clone(),
            status,
        };
        let (token, grace) =
            (running.stop.clone(), settings.limits.timeout.saturating_add(STOP_GRACE));
        let guard = running.ended.clone().drop_guard();
        self.tasks.spawn_on(
            async move {
                supervisor.run(position, token, grace).await;
                drop(guard);
            },
            runtime,
        );
        Ok(running)
    }

    /// Builds the client of a destination.
    fn build_client(
        &self,
        labels: DestinationLabels,
        settings: &DestinationSettings,
        (egress, activity): (EgressClient, Arc<DestinationActivity>),
        stop: CancellationToken,
    ) -> DestinationClient {
        let DeliveryContext { journal, clock, feed, metrics, redaction, .. } = &self.shared;
        let quota = |rate| RateLimiter::direct(Quota::per_second(rate));
        DestinationClient {
            labels,
            egress,
            timeout: settings.limits.timeout,
            stop,
            throttle: settings.limits.calls_per_second.map(quota),
            secrets: settings.destination.secrets(),
            redaction: redaction.clone(),
            clock: clock.clone(),
            feed: feed.clone(),
            metrics: metrics.clone(),
            failures: FailedAttemptLog::default(),
            activity,
            kept_chars: journal.letter_chars(),
            settlement_lock: self.settlement_lock.clone(),
        }
    }
}

/// The reason why the settings could not be applied to the workers.
#[derive(Debug, thiserror::Error)]
pub enum WorkerApplyError {
    /// The egress client could not be built.
    #[error("the egress client cannot be built")]
    Client(#[source] reqwest::Error),
    /// The journal failed.
    #[error("the destinations' positions in the journal cannot be read")]
    Journal(#[from] JournalError),
}
