//! The composition root: starts a gateway from its settings, and stops it. The only module that depends
//! on all others.
//!
//! Two runtimes: requests run on the caller's, delivery and projections on a separate one, so that a
//! slow destination never takes a thread from the intake.

mod admin_control;
mod certificates;
mod delivery_runtime;
mod keys;
mod listeners;
mod monitor;
mod open_stores;
mod running_settings;
mod sites;
mod subjects;
mod test_event;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::admin_control::AppAdminControl;
use self::certificates::CertificateReloader;
use self::delivery_runtime::DeliveryRuntime;
pub use self::keys::site_key;
use self::listeners::{bind_admin, bind_edge};
use self::monitor::ConsoleMonitor;
use self::open_stores::{ConsoleStores, open, open_segments};
use self::running_settings::RunningSettings;
use self::sites::{RunningSites, SiteDeps};
use self::subjects::{ServerErasure, SubjectService};
use crate::admin::{self, AdminServer, ReadinessState, load_token};
use crate::config::{ConfigSource, ConfigWatcher, ReloadReason, TagwaySettings};
use crate::gateway::Gateway;
use tagway_console::account::ConsoleAccounts;
use tagway_core::bots;
use tagway_core::clock::{SharedClock, SystemClock};
use tagway_core::feed::LiveFeed;
use tagway_core::metrics::Metrics;
use tagway_delivery::segment::SegmentScheduler;
use tagway_delivery::{DeliveryContext, DeliveryDispatcher};
use tagway_edge::EdgeServer;
use tagway_pages::script::proxy::ScriptProxy;
use tagway_settings::ConfigError;
use tagway_storage::journal::{Journal, JournalError, SqliteJournal};
use tagway_storage::profile::ProfileService;

/// The time between two measurements of the journal's size.
const OBSERVE_EVERY: Duration = Duration::from_secs(2);

/// The time between two runs of the journal's retention.
const RETAIN_EVERY: Duration = Duration::from_secs(10);

/// The time between two looks for certificates that are about to expire.
const EXPIRY_EVERY: Duration = Duration::from_secs(60);

/// The time between two clean-ups of idle clients in the rate limiter.
const FORGET_EVERY: Duration = Duration::from_secs(1);

/// The pause when the journal could free no space.
const FULL_JOURNAL_PAUSE: Duration = Duration::from_millis(200);

/// The addresses that a running gateway listens on.
#[derive(Clone, Copy, Debug)]
pub struct ListenAddresses {
    /// Plain HTTP.
    pub http: Option<SocketAddr>,
    /// TLS.
    pub https: Option<SocketAddr>,
    /// The admin listener.
    pub admin: SocketAddr,
}

/// A running gateway.
pub struct TagwayApp {
    addresses: ListenAddresses,
    /// The settings of the start.
    started: TagwaySettings,
    /// The settings in use.
    settings: RunningSettings,
    gateway: Arc<Gateway>,
    scripts: ScriptProxy,
    certificates: CertificateReloader,
    journal: Arc<SqliteJournal>,
    profiles: Arc<ProfileService>,
    subjects: Arc<SubjectService>,
    dispatcher: Arc<DeliveryDispatcher>,
    segments: Arc<SegmentScheduler>,
    sites: Mutex<RunningSites>,
    metrics: Arc<Metrics>,
    clock: SharedClock,
    feed: LiveFeed,
    readiness: Arc<ReadinessState>,
    /// Ends the listeners.
    drain: CancellationToken,
    /// Ends the operators' listener.
    end_admin: CancellationToken,
    /// Ends the periodic tasks.
    end_maintenance: CancellationToken,
    listeners: TaskTracker,
    tasks: TaskTracker,
    console: ConsoleStores,
    monitor: ConsoleMonitor,
    /// Owned until the end.
    delivery: DeliveryRuntime,
}

impl TagwayApp {
    /// Starts everything and returns once all listeners are bound and accept.
    ///
    /// # Errors
    ///
    /// Fails if a store cannot be opened, an address cannot be bound, or a part rejects its settings.
    pub async fn start(
        origin: ConfigSource,
        settings: TagwaySettings,
    ) -> anyhow::Result<Arc<Self>> {
        let (metrics, feed) = (Arc::new(Metrics::new()), LiveFeed::new(settings.redaction.clone()));
        let clock: SharedClock = Arc::new(SystemClock);
        let (delivery, runtime) = DeliveryRuntime::start()?;
        let opened = open(&settings, &clock, &metrics, &runtime).await?;
        let (journal, profiles) = (opened.journal.clone(), opened.profiles.clone());
        let shared = || DeliveryContext {
            journal: journal.clone(),
            profiles: profiles.clone(),
            clock: clock.clone(),
            feed: feed.clone(),
            metrics: metrics.clone(),
            redaction: settings.redaction.clone(),
            runtime: runtime.clone(),
        };
        let (dispatcher, tasks) = (Arc::new(DeliveryDispatcher::new(shared())), TaskTracker::new());
        let segments = open_segments(&opened, &settings.segments, dispatcher.clone(), shared());
        let subjects = SubjectService::new(journal.clone(), profiles.clone(), tasks.clone());
        let mut sites = RunningSites::new(SiteDeps {
            data_dir: settings.data_dir.clone(),
            journal: journal.clone(),
            profiles: profiles.clone(),
            database: opened.database,
            metrics: metrics.clone(),
            runtime,
            fill_per_second: settings.segments.fill_per_second,
        });
        let snapshot = sites.snapshot(&settings).await?;
        let scripts = open_scripts(&settings, &clock, &metrics)?;
        scripts.set_pins(snapshot.pins()).await;
        let gateway = Gateway::new(
            journal.clone(),
            metrics.clone(),
            clock.clone(),
            feed.clone(),
            scripts.clone(),
            snapshot,
        );
        let erasure = Arc::new(ServerErasure(subjects.clone()));
        let gateway = Arc::new(gateway.with_profiles(profiles.clone()).with_erasure(erasure));
        tokio::task::spawn_blocking(bots::prepare);
        let server = bind_edge(&settings, &metrics, &gateway).await?;
        let (admin, admin_tls) = bind_admin(&settings).await?;
        let (http, https) = (server.http_addr(), server.https_addr());
        let addresses = ListenAddresses { http, https, admin: admin.address() };
        let monitor = ConsoleMonitor::new(opened.store, &settings, clock.clone(), metrics.clone())?;
        let app = Arc::new(Self {
            addresses,
            settings: RunningSettings::new(origin, &settings),
            gateway,
            scripts,
            certificates: CertificateReloader::new(server.reload_handle(), admin_tls, &settings),
            readiness: Arc::new(ReadinessState::new(journal.writable(), journal.has_room())),
            journal,
            profiles,
            subjects,
            dispatcher,
            segments,
            sites: Mutex::new(sites),
            metrics,
            clock,
            feed,
            drain: CancellationToken::new(),
            end_admin: CancellationToken::new(),
            end_maintenance: CancellationToken::new(),
            listeners: TaskTracker::new(),
            tasks,
            console: opened.console,
            monitor,
            delivery,
            started: settings,
        });
        app.run(server, admin).await?;
        Ok(app)
    }

    async fn run(self: &Arc<Self>, server: EdgeServer, admin: AdminServer) -> anyhow::Result<()> {
        let settings = &self.started;
        let token = load_token(&settings.data_dir).context("the operators' token")?;
        settings.redaction.add(&token);
        self.apply(settings).await?;
        self.metrics.config_reload_success.set(1);
        self.listeners.spawn(server.serve(self.drain.clone()));
        let context = admin::AdminContext {
            settings: settings.admin.clone(),
            journal: self.journal.clone(),
            search: self.journal.clone(),
            feed: self.feed.clone(),
            control: Arc::new(AppAdminControl::new(
                self.gateway.clone(),
                self.dispatcher.clone(),
                self.subjects.clone(),
                (self.scripts.clone(), self.settings.clone()),
                (self.metrics.clone(), self.clock.clone(), settings.redaction.clone()),
            )),
            readiness: self.readiness.clone(),
            segments: self.segments.clone(),
            redaction: settings.redaction.clone(),
            token,
            accounts: self.console.accounts.clone(),
            audit: self.console.audit.clone(),
            series: self.monitor.series.clone(),
            alerts: self.monitor.alerts.clone(),
        };
        self.tasks.spawn(admin.serve(context, self.end_admin.clone()));
        self.tasks.spawn(self.clone().run_maintenance());
        self.tasks.spawn(self.clone().enforce_journal_allowance());
        self.tasks.spawn(self.subjects.clone().resume());
        let following = self.segments.clone().run_until_stopped(self.end_maintenance.clone());
        let runtime = self.delivery.handle();
        self.tasks.spawn_on(following, &runtime);
        self.monitor.start(self.clone(), &runtime);
        self.readiness.set_started();
        Ok(())
    }

    /// The addresses that it listens on.
    pub fn addresses(&self) -> ListenAddresses {
        self.addresses
    }

    /// The accounts of the console.
    pub fn console_accounts(&self) -> Arc<ConsoleAccounts> {
        self.console.accounts.clone()
    }

    /// The live feed.
    pub fn feed(&self) -> &LiveFeed {
        &self.feed
    }

    /// Reloads when the configuration changes, until `stop`. `watch` must be older than the settings that the
    /// gateway started with.
    pub async fn follow_changes(&self, mut watch: ConfigWatcher, stop: &CancellationToken) {
        loop {
            watch.set_certificates(self.certificates.files()).await;
            let change = tokio::select! {
                change = watch.changed() => change,
                () = stop.cancelled() => return,
            };
            if change == ReloadReason::Certificate {
                self.certificates.read_again().await;
                self.certificates.watch_expiry(&self.metrics, self.clock.now());
                continue;
            }
            tracing::info!(because = ?change, "reloading");
            if let Err(error) = self.reload().await {
                tracing::error!(
                    error = format!("{error:#}"),
                    "the reload failed; the running settings \
                    stay in use"
                );
            }
        }
    }

    /// Reads the configuration again. On any mistake the running settings stay.
    async fn reload(&self) -> anyhow::Result<()> {
        let result = match self.settings.origin.load() {
            Ok(settings) => self.replace(&settings).await,
            Err(mistakes) => Err(anyhow::anyhow!(join_errors(&mistakes))),
        };
        self.metrics.config_reload_success.set(result.is_ok().into());
        if result.is_ok() {
            tracing::info!("reloaded");
        }
        result
    }

    async fn replace(&self, settings: &TagwaySettings) -> anyhow::Result<()> {
        for setting in settings.fixed_differences(&self.started) {
            tracing::warn!(setting, "the changed setting takes effect at the next start");
        }
        let snapshot = self.sites.lock().await.snapshot(settings).await?;
        // Fallible steps come before infallible ones.
        self.certificates.apply(settings).await?;
        self.apply(settings).await?;
        self.scripts.set_pins(snapshot.pins()).await;
        self.gateway.reload(snapshot);
        Ok(())
    }

    /// Applies the settings to the destinations and the segments.
    async fn apply(&self, settings: &TagwaySettings) -> anyhow::Result<()> {
        for warning in &settings.warnings {
            tracing::warn!("the configuration uses a setting's former name: {warning}");
        }
        let sites = self.sites.lock().await;
        let wanted = sites.destinations(settings);
        let readers = self.dispatcher.apply(&wanted, &settings.egress).await?;
        sites.retire(&readers).await?;
        self.segments.apply(sites.segments(settings));
        self.settings.replace(settings, sites.ids());
        self.monitor.apply(settings)
    }

    /// Stops accepting requests, finishes those under way, settles, syncs.
    pub async fn stop(&self) {
        self.readiness.set_draining();
        self.drain.cancel();
        self.listeners.close();
        self.listeners.wait().await;
        self.gateway.stop().await;
        // The monitor reads nothing from now on: the destinations' end is no end of alerts about them.
        tokio::join!(self.monitor.stop(), self.dispatcher.stop());
        self.sites.lock().await.stop().await;
        self.profiles.stop().await;
        self.end_maintenance.cancel();
        self.journal.close().await;
        self.end_admin.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn run_maintenance(self: Arc<Self>) {
        let every = |period| {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let (mut observe, mut retain, mut forget) =
            (every(OBSERVE_EVERY), every(RETAIN_EVERY), every(FORGET_EVERY));
        let mut expiry = every(EXPIRY_EVERY);
        loop {
            let result = tokio::select! {
                _ = observe.tick() => self.observe().await,
                _ = retain.tick() => {
                    self.expire().await;
                    self.expire_console().await;
                    self.retain().await
                }
                _ = forget.tick() => {
                    self.gateway.maintain();
                    if let Err(error) = self.dispatcher.resume_due(self.clock.now()).await {
                        tracing::warn!(%error, "a destination whose pause has ended cannot be resumed yet");
                    }
                    Ok(())
                }
                _ = expiry.tick() => {
                    self.certificates.watch_expiry(&self.metrics, self.clock.now());
                    Ok(())
                }
                () = self.end_maintenance.cancelled() => return,
            };
            if let Err(error) = result {
                tracing::warn!(%error, "a periodic task failed and runs again later");
            }
        }
    }

    /// Frees space in the journal whenever it exceeds its allowance, to keep up with the intake.
    async fn enforce_journal_allowance(self: Arc<Self>) {
        let chore = async {
            loop {
                self.journal.wait_until_over_budget().await;
                match self.journal.make_room().await {
                    Ok(1..) => {}
                    // Nothing may be removed now: try again after a pause.
                    Ok(0) => sleep(FULL_JOURNAL_PAUSE).await,
                    Err(error) => {
                        tracing::warn!(%error, "the journal could not free disk space");
                        sleep(FULL_JOURNAL_PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = chore => {}
            () = self.end_maintenance.cancelled() => {}
        }
    }

    async fn observe(&self) -> Result<(), JournalError> {
        let usage = self.journal.usage().await?;
        self.metrics.journal_bytes.set(usage.bytes);
        self.metrics.journal_disk_bytes.set(usage.disk_bytes);
        self.metrics.journal_events.set(usage.events);
        Ok(())
    }

    /// Removes unknown visitors that have not been seen for the configured time.
    async fn expire(&self) {
        let retentions = self.sites.lock().await.retentions();
        for (site, retain) in retentions {
            let Ok(since) = self.clock.now().checked_sub(retain) else { continue };
            if let Err(error) = self.profiles.expire(site, since).await {
                tracing::warn!(%error, "the removal of expired profiles failed and runs again later");
            }
        }
    }

    /// Removes expired sessions, links and tokens, and old rows of the audit log.
    async fn expire_console(&self) {
        let removed = async {
            self.console.accounts.remove_expired().await?;
            self.console.audit.trim().await
        };
        if let Err(error) = removed.await {
            tracing::warn!(%error, "the removal of expired sessions and audit rows runs again later");
        }
    }

    async fn retain(&self) -> Result<(), JournalError> {
        let removed = self.journal.retain(self.clock.now()).await?;
        if removed > 0 {
            tracing::debug!(removed, "events left the journal");
        }
        Ok(())
    }
}

fn open_scripts(
    settings: &TagwaySettings,
    clock: &SharedClock,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<ScriptProxy> {
    let allow_private = settings.egress.allow_private;
    let (scripts, folder) = (settings.scripts.clone(), &settings.data_dir);
    ScriptProxy::new(scripts, folder, allow_private, clock.clone(), metrics.clone())
        .context("TLS for scripts")
}

/// Mistakes as one message, one per line.
fn join_errors(mistakes: &[ConfigError]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
