//! The running sites: their numbers in the journal and their projections.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::keys::site_key;
use crate::config::{SiteSettings, TagwaySettings};
use crate::gateway::{GatewaySiteSetup, GatewaySnapshot, VendorCookieIssuer};
use tagway_core::address;
use tagway_core::metrics::{Metrics, SharedName};
use tagway_delivery::segment::{SegmentCounterSet, SiteSegments};
use tagway_delivery::{DeliverySite, DestinationSettings, SiteDestinations, SiteReaders};
use tagway_pages::integrations;
use tagway_pages::origin::{self, OriginClient};
use tagway_pages::script::SiteSdkScripts;
use tagway_storage::journal::{Journal, ReaderId, SiteId};
use tagway_storage::postgres::PostgresDatabase;
use tagway_storage::profile::{self, EventCounterSet, ProfileProjection, ProfileService};

/// The dependencies of sites, from the gateway's start to its end.
pub(super) struct SiteDeps {
    /// The folder for generated keys: the locked data folder, even if a reload names another.
    pub(super) data_dir: PathBuf,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) profiles: Arc<ProfileService>,
    /// The shared database of several gateways, which identifies sites by name.
    pub(super) database: Option<Arc<PostgresDatabase>>,
    pub(super) metrics: Arc<Metrics>,
    /// The runtime of the projections.
    pub(super) runtime: Handle,
    /// Events a second that are read to fill new counters.
    pub(super) fill_per_second: NonZeroU32,
}

/// The running sites of one gateway.
pub(super) struct RunningSites {
    deps: SiteDeps,
    running: BTreeMap<SharedName, RunningSite>,
    origins: BTreeMap<SharedName, ((origin::OriginSettings, bool), Arc<OriginClient>)>,
    tasks: TaskTracker,
}

struct RunningSite {
    site: DeliverySite,
    projection: ReaderId,
    profiles: watch::Sender<profile::SiteProfileSettings>,
    counters: watch::Sender<Arc<dyn EventCounterSet>>,
    stop: CancellationToken,
}

/// The script of a site's pages, composed on a blocking thread because it is compressed at the best levels.
async fn sdk(site: &SiteSettings) -> anyhow::Result<Arc<SiteSdkScripts>> {
    let (settings, in_page) = (site.sdk.clone(), site.in_page());
    let (integrations, policy) = (site.integrations.clone(), site.gateway.privacy.clone());
    let make = move || {
        let extras = integrations::extras(&in_page, &integrations, &policy);
        SiteSdkScripts::new(&settings, extras)
    };
    Ok(Arc::new(tokio::task::spawn_blocking(make).await?))
}

impl RunningSites {
    pub(super) fn new(footing: SiteDeps) -> Self {
        Self {
            deps: footing,
            running: BTreeMap::new(),
            origins: BTreeMap::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// The settings for requests, with every site opened.
    pub(super) async fn snapshot(
        &mut self,
        settings: &TagwaySettings,
    ) -> anyhow::Result<GatewaySnapshot> {
        let mut setups = Vec::new();
        for site in &settings.sites {
            let mut visitor = site.visitor.clone();
            if visitor.lacks_secret() {
                let key = site_key(&self.deps.data_dir, &site.name)?;
                settings.redaction.add(&key);
                visitor.set_secret(&key);
            }
            let id = self.open(site).await?;
            let (profiles, source) = (&self.deps.profiles, site.profiles.source.as_ref());
            profiles
                .set_source(id, &site.name, source, settings.egress.allow_private)
                .with_context(|| format!("the trait source of the site {}", site.name))?;
            setups.push(GatewaySiteSetup {
                id,
                name: site.name.clone(),
                settings: site.gateway.clone(),
                visitor,
                sdk: sdk(site).await?,
                integrations: site.integrations.iter().map(|it| it.name.clone()).collect(),
                public: site.profiles.public.clone(),
                cookie_issuers: site
                    .destinations
                    .iter()
                    .filter_map(|it| cookie_issuer(it))
                    .collect(),
                origin: self.origin(site, settings.egress.allow_private)?,
            });
        }
        let (limits, sample) = (settings.limits.clone(), settings.log.access_sample);
        Ok(GatewaySnapshot::new(limits, sample, settings.geo.clone(), setups, &self.deps.metrics))
    }

    /// The client of the site's origin. The previous client is reused, with its connections, if its settings
    /// are unchanged.
    fn origin(
        &mut self,
        site: &SiteSettings,
        allow_private: bool,
    ) -> anyhow::Result<Option<Arc<OriginClient>>> {
        let Some(settings) = &site.gateway.origin else {
            self.origins.remove(&site.name);
            return Ok(None);
        };
        let wanted = (settings.clone(), allow_private);
        if let Some((known, origin)) = self.origins.get(&site.name)
            && *known == wanted
        {
            return Ok(Some(origin.clone()));
        }
        let guard: address::AddressGuard =
            if allow_private { |_| true } else { address::is_public };
        let origin = OriginClient::new(settings.clone(), guard)
            .with_context(|| format!("the origin of the site {}", site.name))?;
        let origin = Arc::new(origin);
        self.origins.insert(site.name.clone(), (wanted, origin.clone()));
        Ok(Some(origin))
    }

    /// The site's number in the journal. A new site gets one, and its projection starts.
    async fn open(&mut self, site: &SiteSettings) -> anyhow::Result<SiteId> {
        let (name, settings) = (&site.name, &site.profiles);
        let filters: Arc<dyn EventCounterSet> =
            Arc::new(SegmentCounterSet::of(&site.segments, site.counted_events()));
        if let Some(running) = self.running.get(name) {
            running.counters.send_replace(filters);
            running.profiles.send_replace(settings.clone());
            return Ok(running.site.id);
        }
        let SiteDeps { journal, profiles, metrics, runtime, .. } = &self.deps;
        let id = journal.site(name).await?;
        if let Some(database) = &self.deps.database {
            database.name_site(id.0, name);
        }
        let (sender, settings) = watch::channel(settings.clone());
        let (counters, filters) = watch::channel(filters);
        let setup =
            profile::ProjectionConfig { site: id, name: name.clone(), settings, counters: filters };
        let projection =
            ProfileProjection::start(setup, journal.clone(), profiles.clone(), metrics.clone())
                .await?;
        let site = DeliverySite { id, name: name.clone(), projected: projection.progress() };
        let (stop, reader) = (CancellationToken::new(), projection.reader());
        let filling = projection.counter_backfill(self.deps.fill_per_second);
        self.tasks.spawn_on(projection.run(stop.clone()), runtime);
        self.tasks.spawn_on(filling.run(stop.clone()), runtime);
        let running = RunningSite { site, projection: reader, profiles: sender, counters, stop };
        self.running.insert(name.clone(), running);
        Ok(id)
    }

    /// The destinations for delivery to run.
    pub(super) fn destinations(&self, settings: &TagwaySettings) -> Vec<SiteDestinations> {
        let of = |site: &SiteSettings| {
            let running = self.running.get(&site.name)?;
            let destinations = site.destinations.clone();
            Some(SiteDestinations { site: running.site.clone(), destinations })
        };
        settings.sites.iter().filter_map(of).collect()
    }

    /// The segments of every site.
    pub(super) fn segments(&self, settings: &TagwaySettings) -> Vec<SiteSegments> {
        let of = |site: &crate::config::SiteSettings| {
            let id = self.running.get(&site.name)?.site.id;
            Some(SiteSegments { id, name: site.name.clone(), segments: site.segments.clone() })
        };
        settings.sites.iter().filter_map(of).collect()
    }

    /// Releases the events of removed readers and of removed sites, whether they were removed by a reload or
    /// before this start. `readers` are those of the configured sites.
    pub(super) async fn retire(&self, readers: &[SiteReaders]) -> anyhow::Result<()> {
        let is_configured = |site| readers.iter().any(|it| it.site == site);
        let running = self.running.values().filter(|running| is_configured(running.site.id));
        let destinations = readers.iter().flat_map(|it| &it.readers).copied();
        let keep = running.map(|running| running.projection).chain(destinations);
        self.deps.journal.retire(keep.collect()).await?;
        Ok(())
    }

    /// The sites' numbers in the journal.
    pub(super) fn ids(&self) -> BTreeMap<SharedName, SiteId> {
        self.running.iter().map(|(name, running)| (name.clone(), running.site.id)).collect()
    }

    /// The retention time of unknown visitors, by site.
    pub(super) fn retentions(&self) -> Vec<(SiteId, Duration)> {
        let running = self.running.values();
        running.map(|it| (it.site.id, it.profiles.borrow().anonymous_retain)).collect()
    }

    /// Ends the projections.
    pub(super) async fn stop(&self) {
        for running in self.running.values() {
            running.stop.cancel();
        }
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The browser cookies that a destination needs. If the gateway does not call the vendor, the vendor's
/// own library sets them.
fn cookie_issuer(destination: &DestinationSettings) -> Option<VendorCookieIssuer> {
    let vendor =
        tagway_vendors::find(destination.vendor).filter(|_| destination.mode.is_server())?;
    let filter = &destination.filter;
    let (consent, unknown_consent) = (filter.consent.clone(), filter.unknown_consent);
    let cookies = vendor.cookies;
    vendor.issue_cookies.map(|mint| VendorCookieIssuer {
        issue_cookies: mint,
        cookies,
        consent,
        unknown_consent,
    })
}
