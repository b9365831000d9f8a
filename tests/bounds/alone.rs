//! A gateway without listeners, destinations and profiles: complete requests of a site that accepts every
//! vendor's beacons, and nothing else that would take memory meanwhile.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tagway::config;
use tagway::gateway::{ClientFacts, Gateway, GatewayLimits, GatewaySiteSetup, GatewaySnapshot};
use tagway_core::clock::{SharedClock, SystemClock};
use tagway_core::feed::LiveFeed;
use tagway_core::metrics::Metrics;
use tagway_pages::script::SiteSdkScripts;
use tagway_pages::script::proxy::ScriptProxy;
use tagway_settings::{ConfigEnvironment, ConfigFile, SecretString};
use tagway_storage::journal::{Journal as _, MIGRATIONS, SqliteJournal};
use tagway_storage::store::{CommitSyncMode, SqliteStore};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The settings of the site; its limits come before them.
const SITE: &str = r#"
[journal]
durability = "os"
[[sites]]
name = "shop"
hosts = ["*"]
origins = ["https://shop.example"]
write_key = "shop-web"
server_token = "a-server-token-of-the-shop"
bots = "pass"
"#;

/// A gateway and the thread it runs on.
pub(crate) struct Alone {
    gateway: Gateway,
    metrics: Arc<Metrics>,
    runtime: Runtime,
    /// Its limits.
    pub(crate) limits: GatewayLimits,
    _folder: TempDir,
}

impl Alone {
    /// Starts a gateway with these settings, which come before the site's.
    pub(crate) fn start(settings: &str, more: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let text = format!("{settings}{SITE}{more}");
        let source = ConfigFile { name: "the test's settings".to_owned(), text };
        let settings = config::load(&[source], &ConfigEnvironment::default())
            .unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        let (metrics, limits) = (Arc::new(Metrics::new()), settings.limits.clone());
        let gateway = runtime.block_on(open(&folder, settings, metrics.clone()));
        Self { gateway, metrics, runtime, limits, _folder: folder }
    }

    /// The response to one request.
    pub(crate) fn request(&self, request: Request<Bytes>) -> StatusCode {
        let client = ClientFacts { client: [192, 0, 2, 7].into(), secure: true };
        self.runtime.block_on(async {
            let answer = self.gateway.handle(request.map(Full::new), client).await;
            let (head, body) = answer.into_parts();
            drop(body.collect().await);
            head.status
        })
    }

    /// The number of accepted events so far.
    pub(crate) fn accepted(&self) -> u64 {
        let text = self.metrics.render();
        let lines = text.lines().filter(|line| line.starts_with("tagway_events_accepted_total{"));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }
}

async fn open(
    folder: &TempDir,
    settings: config::TagwaySettings,
    metrics: Arc<Metrics>,
) -> Gateway {
    let clock: SharedClock = Arc::new(SystemClock);
    let store =
        SqliteStore::open(folder.path(), CommitSyncMode::Os, &[MIGRATIONS], metrics.clone())
            .unwrap();
    let journal =
        SqliteJournal::open(Arc::new(store), settings.journal, clock.clone(), metrics.clone());
    let journal = Arc::new(journal.await.unwrap());
    let mut setups = Vec::new();
    for site in settings.sites {
        let mut visitor = site.visitor;
        visitor.set_secret(&SecretString::new("a-secret-of-the-shop-for-its-cookies"));
        setups.push(GatewaySiteSetup {
            id: journal.site(&site.name).await.unwrap(),
            name: site.name,
            settings: site.gateway,
            visitor,
            cookie_issuers: Vec::new(),
            origin: None,
            sdk: Arc::new(SiteSdkScripts::new(
                &site.sdk,
                tagway_pages::script::SdkExtras::default(),
            )),
            integrations: Vec::new(),
            public: site.profiles.public,
        });
    }
    let snapshot = GatewaySnapshot::new(settings.limits, 0.0, settings.geo, setups, &metrics);
    let scripts =
        ScriptProxy::new(settings.scripts, folder.path(), false, clock.clone(), metrics.clone());
    Gateway::new(journal, metrics, clock, LiveFeed::default(), scripts.unwrap(), snapshot)
}
