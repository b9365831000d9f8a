//! The composition root: starts a gateway from its settings, and stops it. The only module that depends
//! on all others.
//!
//! Two runtimes: requests run on the caller's, delivery and projections on a separate one, so that a
//! slow destination never takes a thread from the intake.

mod admin_control;
mod certificates;
mod keys;
mod monitor;
mod open_stores;
mod sites;
mod subjects;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::admin_control::AppAdminControl;
use self::certificates::CertificateReloader;
pub use self::keys::site_key;
use self::monitor::ConsoleMonitor;
use self::open_stores::{open, open_segments};
use self::sites::{RunningSites, SiteDeps};
use self::subjects::SubjectService;
use crate::admin::{self, AdminServer, ReadinessState, load_token};
use crate::config::{ConfigSource, ConfigWatcher, ReloadReason, TagwaySettings};
use crate::gateway::{ClientFacts, Gateway};
use tagway_console::audit::AuditLog;
use tagway_core::bots;
use tagway_core::clock::{SharedClock, SystemClock};
use tagway_core::feed::LiveFeed;
use tagway_core::metrics::Metrics;
use tagway_delivery::segment::SegmentScheduler;
use tagway_delivery::{DeliveryContext, DeliveryDispatcher};
use tagway_edge::{EdgeClientFacts, EdgeServer, RequestHandler};
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
    origin: ConfigSource,
    /// The settings of the start.
    started: TagwaySettings,
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
    audit: Arc<AuditLog>,
    monitor: ConsoleMonitor,
    /// Owned until the end.
    delivery: DeliveryRuntime,
}

/// The runtime of delivery. Dropping it stops it in the background: a plain runtime would wait for its
/// threads, which asynchronous code must not, and a start that fails half way drops it in such code.
struct DeliveryRuntime(Option<Runtime>);

impl DeliveryRuntime {
    fn start() -> anyhow::Result<(Self, Handle)> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("tagway-delivery")
            .enable_all()
            .build()
            .context("the delivery runtime")?;
        let handle = runtime.handle().clone();
        Ok((Self(Some(runtime)), handle))
    }
}

impl Drop for DeliveryRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl TagwayApp {
    /// Starts everything and returns once all listeners are bound and accept.
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
        let gateway = Arc::new(gateway.with_profiles(profiles.clone()));
        tokio::task::spawn_blocking(bots::prepare);
        let handler = Arc::new(GatewayHandler(gateway.clone()));
        let server = EdgeServer::bind(&settings.edge, metrics.clone(), handler).await?;
        let admin = bind_admin(settings.admin.address).await?;
        let (http, https) = (server.http_addr(), server.https_addr());
        let addresses = ListenAddresses { http, https, admin: admin.address() };
        let store = opened.store;
        let monitor =
            ConsoleMonitor::new(store.clone(), &settings, clock.clone(), metrics.clone())?;
        let app = Arc::new(Self {
            addresses,
            origin,
            gateway,
            scripts,
            certificates: CertificateReloader::new(server.reload_handle(), settings.edge.clone()),
            readiness: Arc::new(ReadinessState::new(journal.writable(), journal.has_room())),
            journal,
            profiles,
            subjects: Arc::new(subjects),
            dispatcher,
            segments,
            sites: Mutex::new(sites),
            metrics,
            clock: clock.clone(),
            feed,
            drain: CancellationToken::new(),
            end_admin: CancellationToken::new(),
            end_maintenance: CancellationToken::new(),
            listeners: TaskTracker::new(),
            tasks,
            audit: Arc::new(AuditLog::new(store, clock)),
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
            feed: self.feed.clone(),
            control: Arc::new(AppAdminControl::new(
                self.gateway.clone(),
                self.dispatcher.clone(),
                self.subjects.clone(),
                self.scripts.clone(),
                (self.metrics.clone(), self.clock.clone()),
            )),
            readiness: self.readiness.clone(),
            segments: self.segments.clone(),
            redaction: settings.redaction.clone(),
            token,
            audit: self.audit.clone(),
            series: self.monitor.series.clone(),
            alerts: self.monitor.alerts.clone(),
        };
        self.tasks.spawn(admin.serve(context, self.end_admin.clone()));
        self.tasks.spawn(self.clone().run_maintenance());
        self.tasks.spawn(self.clone().enforce_journal_allowance());
        self.tasks.spawn(self.subjects.clone().resume());
        let following = self.segments.clone().run_until_stopped(self.end_maintenance.clone());
        let runtime =
            self.delivery.0.as_ref().map_or_else(Handle::current, |it| it.handle().clone());
        self.tasks.spawn_on(following, &runtime);
        self.monitor.start(self.clone(), &runtime);
        self.readiness.set_started();
        Ok(())
    }

    /// The addresses that it listens on.
    pub fn addresses(&self) -> ListenAddresses {
        self.addresses
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
        let result = match self.origin.load() {
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
        self.certificates.apply(&settings.edge).await?;
        self.apply(settings).await?;
        self.scripts.set_pins(snapshot.pins()).await;
        self.gateway.reload(snapshot);
        Ok(())
    }

    /// Applies the settings to the destinations and the segments.
    async fn apply(&self, settings: &TagwaySettings) -> anyhow::Result<()> {
        for warning in &settings.warnings {
            tracing::warn!(place = %warning, "the configuration uses a setting's former name");
        }
        let sites = self.sites.lock().await;
        let wanted = sites.destinations(settings);
        let readers = self.dispatcher.apply(&wanted, &settings.egress).await?;
        sites.retire(&readers).await?;
        self.segments.apply(sites.segments(settings));
        self.monitor.apply(settings)
    }

    /// Stops accepting requests, finishes those under way, settles, syncs.
    pub async fn stop(&self) {
        self.readiness.set_draining();
        self.drain.cancel();
        self.listeners.close();
        self.listeners.wait().await;
        self.gateway.stop().await;
        // Before the destinations: their end is no end of alerts about them.
        self.monitor.stop().await;
        self.dispatcher.stop().await;
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
                    if let Err(error) = self.audit.trim().await {
                        tracing::warn!(%error, "the removal of old audit rows failed and runs again later");
                    }
                    self.retain().await
                }
                _ = forget.tick() => {
                    self.gateway.maintain();
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

    async fn retain(&self) -> Result<(), JournalError> {
        let removed = self.journal.retain(self.clock.now()).await?;
        if removed > 0 {
            tracing::debug!(removed, "events left the journal");
        }
        Ok(())
    }
}

/// The edge's handler: passes requests to the gateway.
struct GatewayHandler(Arc<Gateway>);

impl RequestHandler for GatewayHandler {
    fn handle(
        &self,
        request: http::Request<Incoming>,
        arrival: EdgeClientFacts,
    ) -> BoxFuture<'static, http::Response<tagway_edge::EdgeResponseBody>> {
        let gateway = self.0.clone();
        Box::pin(async move { gateway.handle(request, facts(arrival)).await })
    }

    fn respond_overloaded(
        &self,
        request: &http::Request<Incoming>,
        arrival: EdgeClientFacts,
    ) -> http::Response<tagway_edge::EdgeResponseBody> {
        self.0.respond_overloaded(request, facts(arrival))
    }

    fn is_host_served(&self, request: &http::Request<Incoming>) -> bool {
        self.0.is_host_served(request)
    }

    fn record_edge_response(
        &self,
        request: &http::Request<Incoming>,
        arrival: EdgeClientFacts,
        answer: http::Response<tagway_edge::EdgeResponseBody>,
    ) -> http::Response<tagway_edge::EdgeResponseBody> {
        self.0.record_edge_response(request, facts(arrival), answer)
    }
}

fn facts(arrival: EdgeClientFacts) -> ClientFacts {
    ClientFacts { client: arrival.client, secure: arrival.secure }
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

async fn bind_admin(address: SocketAddr) -> anyhow::Result<AdminServer> {
    let bound = AdminServer::bind(address).await;
    bound.with_context(|| format!("cannot listen on {address} (listen.admin)"))
}

/// Mistakes as one message, one per line.
fn join_errors(mistakes: &[ConfigError]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
