//! The composition root: from settings to a running gateway, and back to nothing. The only file
//! that knows everything.
//!
//! Two runtimes: requests run on the caller's, delivery and projections on one of their own, so
//! that a slow destination never takes a thread from the intake.

mod admin_control;
mod certificates;
mod keys;
mod opened;
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

use self::admin_control::AppControl;
use self::certificates::CertificateKeeper;
pub use self::keys::site_key;
use self::opened::{open, open_segments};
use self::sites::{Footing, Sites};
use self::subjects::Subjects;
use crate::admin::{self, Admin, Readiness, load_token};
use crate::bots;
use crate::clock::{SharedClock, SystemClock};
use crate::config::{Change, Origin, Settings, Watch};
use crate::delivery::{Dispatcher, Shared};
use crate::edge::{self, Arrival, Handler, Server};
use crate::feed::Feed;
use crate::gateway::{ClientFacts, Gateway};
use crate::journal::{Journal, JournalError, SqliteJournal};
use crate::metrics::Metrics;
use crate::profile::Profiles;
use crate::script::proxy::Scripts;
use crate::segment::Segments;
use crate::settings::Mistake;

/// The time between two measurements of the journal's size.
const OBSERVE_EVERY: Duration = Duration::from_secs(2);

/// How often retention looks for what may leave.
const RETAIN_EVERY: Duration = Duration::from_secs(10);

/// The time between two looks for certificates that are about to expire.
const EXPIRY_EVERY: Duration = Duration::from_secs(60);

/// How often the rate limiter forgets clients that are quiet.
const FORGET_EVERY: Duration = Duration::from_secs(1);

/// The pause after a journal could make no room.
const ROOM_PAUSE: Duration = Duration::from_millis(200);

/// Where a running gateway listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Plain HTTP.
    pub http: Option<SocketAddr>,
    /// TLS.
    pub https: Option<SocketAddr>,
    /// Operators.
    pub admin: SocketAddr,
}

/// A running gateway.
pub struct App {
    addresses: Addresses,
    origin: Origin,
    /// The settings it started with.
    started: Settings,
    gateway: Arc<Gateway>,
    scripts: Scripts,
    certificates: CertificateKeeper,
    journal: Arc<SqliteJournal>,
    profiles: Arc<Profiles>,
    subjects: Arc<Subjects>,
    dispatcher: Arc<Dispatcher>,
    segments: Arc<Segments>,
    sites: Mutex<Sites>,
    metrics: Arc<Metrics>,
    clock: SharedClock,
    feed: Feed,
    readiness: Arc<Readiness>,
    /// Ends the listeners.
    drain: CancellationToken,
    /// Ends the operators' listener.
    end_admin: CancellationToken,
    /// Ends the periodic tasks.
    end_chores: CancellationToken,
    listeners: TaskTracker,
    tasks: TaskTracker,
    /// Held to its end.
    delivery: DeliveryRuntime,
}

/// The runtime of delivery. It ends in the background, wherever it is dropped: a plain runtime waits
/// for its threads, which asynchronous code must not, and a start that fails half way is dropped in
/// such code.
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

impl App {
    /// Starts everything and returns once all listeners are bound and accept.
    pub async fn start(origin: Origin, settings: Settings) -> anyhow::Result<Arc<Self>> {
        let (metrics, feed) = (Arc::new(Metrics::new()), Feed::new(settings.redaction.clone()));
        let clock: SharedClock = Arc::new(SystemClock);
        let (delivery, runtime) = DeliveryRuntime::start()?;
        let opened = open(&settings, &clock, &metrics, &runtime).await?;
        let (journal, profiles) = (opened.journal.clone(), opened.profiles.clone());
        let shared = || Shared {
            journal: journal.clone(),
            profiles: profiles.clone(),
            clock: clock.clone(),
            feed: feed.clone(),
            metrics: metrics.clone(),
            redaction: settings.redaction.clone(),
            runtime: runtime.clone(),
        };
        let (dispatcher, tasks) = (Arc::new(Dispatcher::new(shared())), TaskTracker::new());
        let segments = open_segments(&opened, &settings.segments, dispatcher.clone(), shared());
        let subjects = Subjects::new(journal.clone(), profiles.clone(), tasks.clone());
        let mut sites = Sites::new(Footing {
            data_dir: settings.data_dir.clone(),
            journal: journal.clone(),
            profiles: profiles.clone(),
            database: opened.database,
            metrics: metrics.clone(),
            runtime,
            fill_per_second: settings.segments.fill_per_second,
        });
        let snapshot = sites.snapshot(&settings).await?;
        let scripts = Scripts::new(
            settings.scripts.clone(),
            &settings.data_dir,
            settings.egress.allow_private,
            clock.clone(),
            metrics.clone(),
        )
        .context("TLS for scripts")?;
        scripts.hold(snapshot.pins()).await;
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
        let server = Server::bind(&settings.edge, metrics.clone(), handler).await?;
        let admin = bind_admin(settings.admin.address).await?;
        let (http, https) = (server.http_addr(), server.https_addr());
        let addresses = Addresses { http, https, admin: admin.address() };
        let app = Arc::new(Self {
            addresses,
            origin,
            gateway,
            scripts,
            certificates: CertificateKeeper::new(server.reload_handle(), settings.edge.clone()),
            readiness: Arc::new(Readiness::new(journal.writable(), journal.has_room())),
            journal,
            profiles,
            subjects: Arc::new(subjects),
            dispatcher,
            segments,
            sites: Mutex::new(sites),
            metrics,
            clock,
            feed,
            drain: CancellationToken::new(),
            end_admin: CancellationToken::new(),
            end_chores: CancellationToken::new(),
            listeners: TaskTracker::new(),
            tasks,
            delivery,
            started: settings,
        });
        app.run(server, admin).await?;
        Ok(app)
    }

    async fn run(self: &Arc<Self>, server: Server, admin: Admin) -> anyhow::Result<()> {
        let settings = &self.started;
        let token = load_token(&settings.data_dir).context("the operators' token")?;
        settings.redaction.add(&token);
        self.apply(settings).await?;
        self.metrics.config_reload_success.set(1);
        self.listeners.spawn(server.serve(self.drain.clone()));
        let context = admin::Context {
            settings: settings.admin.clone(),
            journal: self.journal.clone(),
            feed: self.feed.clone(),
            control: Arc::new(AppControl::new(
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
        };
        self.tasks.spawn(admin.serve(context, self.end_admin.clone()));
        self.tasks.spawn(self.clone().do_chores());
        self.tasks.spawn(self.clone().make_room());
        self.tasks.spawn(self.subjects.clone().resume());
        let following = self.segments.clone().follow(self.end_chores.clone());
        match &self.delivery.0 {
            Some(runtime) => self.tasks.spawn_on(following, runtime.handle()),
            None => self.tasks.spawn(following),
        };
        self.readiness.set_started();
        Ok(())
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The live feed.
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// Reloads when the configuration changes, until `stop`. The watch is older than the settings
    /// that the gateway started with.
    pub async fn follow_changes(&self, mut watch: Watch, stop: &CancellationToken) {
        loop {
            watch.set_certificates(self.certificates.files()).await;
            let change = tokio::select! {
                change = watch.changed() => change,
                () = stop.cancelled() => return,
            };
            if change == Change::Certificate {
                self.certificates.read_again().await;
                self.certificates.watch_expiry(&self.metrics, self.clock.now());
                continue;
            }
            tracing::info!(because = ?change, "reloading");
            if let Err(error) = self.reload().await {
                tracing::error!(error = format!("{error:#}"), "the running settings stay");
            }
        }
    }

    /// Reads the configuration again. On any mistake the running settings stay.
    async fn reload(&self) -> anyhow::Result<()> {
        let result = match self.origin.load() {
            Ok(settings) => self.replace(&settings).await,
            Err(mistakes) => Err(anyhow::anyhow!(listing(&mistakes))),
        };
        self.metrics.config_reload_success.set(result.is_ok().into());
        if result.is_ok() {
            tracing::info!("reloaded");
        }
        result
    }

    async fn replace(&self, settings: &Settings) -> anyhow::Result<()> {
        for setting in settings.fixed_differences(&self.started) {
            tracing::warn!(setting, "takes effect with the next start");
        }
        let snapshot = self.sites.lock().await.snapshot(settings).await?;
        // What can fail comes before what cannot.
        self.certificates.apply(&settings.edge).await?;
        self.apply(settings).await?;
        self.scripts.hold(snapshot.pins()).await;
        self.gateway.reload(snapshot);
        Ok(())
    }

    /// Brings the destinations and the segments in line with the settings.
    async fn apply(&self, settings: &Settings) -> anyhow::Result<()> {
        for warning in &settings.warnings {
            tracing::warn!(place = %warning, "a setting has a new name");
        }
        let sites = self.sites.lock().await;
        let wanted = sites.destinations(settings);
        let readers = self.dispatcher.apply(&wanted, &settings.egress).await?;
        sites.retire(&readers).await?;
        self.segments.apply(sites.segments(settings));
        Ok(())
    }

    /// Stops taking requests, finishes what is under way, settles, syncs.
    pub async fn stop(&self) {
        self.readiness.set_draining();
        self.drain.cancel();
        self.listeners.close();
        self.listeners.wait().await;
        self.gateway.stop().await;
        self.dispatcher.stop().await;
        self.sites.lock().await.stop().await;
        self.profiles.stop().await;
        self.end_chores.cancel();
        self.journal.close().await;
        self.end_admin.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn do_chores(self: Arc<Self>) {
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
                () = self.end_chores.cancelled() => return,
            };
            if let Err(error) = result {
                tracing::warn!(%error, "a chore was left undone");
            }
        }
    }

    /// Makes room in the journal whenever it is over its allowance, so that it keeps up with what comes.
    async fn make_room(self: Arc<Self>) {
        let chore = async {
            loop {
                self.journal.crowded().await;
                match self.journal.make_room().await {
                    Ok(1..) => {}
                    // Nothing may leave: it is looked again before long.
                    Ok(0) => sleep(ROOM_PAUSE).await,
                    Err(error) => {
                        tracing::warn!(%error, "the journal could not make room");
                        sleep(ROOM_PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = chore => {}
            () = self.end_chores.cancelled() => {}
        }
    }

    async fn observe(&self) -> Result<(), JournalError> {
        let usage = self.journal.usage().await?;
        self.metrics.journal_bytes.set(usage.bytes);
        self.metrics.journal_disk_bytes.set(usage.disk_bytes);
        self.metrics.journal_events.set(usage.events);
        Ok(())
    }

    /// Removes visitors nobody knows and nobody has seen for long.
    async fn expire(&self) {
        let retentions = self.sites.lock().await.retentions();
        for (site, retain) in retentions {
            let Ok(since) = self.clock.now().checked_sub(retain) else { continue };
            if let Err(error) = self.profiles.expire(site, since).await {
                tracing::warn!(%error, "visitors not seen for long are kept for now");
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

/// The gateway as the edge sees it.
struct GatewayHandler(Arc<Gateway>);

impl Handler for GatewayHandler {
    fn handle(
        &self,
        request: http::Request<Incoming>,
        arrival: Arrival,
    ) -> BoxFuture<'static, http::Response<edge::Body>> {
        let gateway = self.0.clone();
        Box::pin(async move { gateway.handle(request, facts(arrival)).await })
    }

    fn overloaded(
        &self,
        request: &http::Request<Incoming>,
        arrival: Arrival,
    ) -> http::Response<edge::Body> {
        self.0.overloaded(request, facts(arrival))
    }

    fn serves(&self, request: &http::Request<Incoming>) -> bool {
        self.0.serves(request)
    }

    fn answered(
        &self,
        request: &http::Request<Incoming>,
        arrival: Arrival,
        answer: http::Response<edge::Body>,
    ) -> http::Response<edge::Body> {
        self.0.answered(request, facts(arrival), answer)
    }
}

fn facts(arrival: Arrival) -> ClientFacts {
    ClientFacts { client: arrival.client, secure: arrival.secure }
}

async fn bind_admin(address: SocketAddr) -> anyhow::Result<Admin> {
    let bound = Admin::bind(address).await;
    bound.with_context(|| format!("cannot listen on {address} (listen.admin)"))
}

/// Mistakes as one message, a line each.
fn listing(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
