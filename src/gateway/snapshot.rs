//! The settings as requests use them: built once per load of the configuration, never changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use url::Url;

use super::budget::BodyBudget;
use super::cors::CorsAllowedOrigins;
use super::mounts::{ActiveMount, VendorMount};
use super::rejection::{RateLimitExceeded, RequestRejection};
use super::route::GatewayRoute;
use super::settings::{GatewayLimits, GatewaySiteSettings};
use super::trace_link;
use super::vendor_cookies::VendorCookieIssuer;
use tagway_core::bots;
use tagway_core::geo::GeoDatabase;
use tagway_core::metrics::{
    FormatLabels, IntegrationLabels, Metrics, PageSkipLabels, RateLimitLabels, RequestLabels,
    SharedName, SiteLabels,
};
use tagway_core::privacy::PrivacyPolicy;
use tagway_core::visitor::{self, VendorCookieNames};
use tagway_pages::origin::{OriginClient, PageSkipReason, PageSkipReporter, VendorTags};
use tagway_pages::script::SiteSdkScripts;
use tagway_pages::script::proxy::{ScriptMount, ScriptPinSettings};
use tagway_settings::SecretString;
use tagway_storage::journal::SiteId;
use tagway_storage::profile::PublicProfilePaths;
use tagway_vendors::VENDORS;

/// One site, as the composition root passes it.
pub struct GatewaySiteSetup {
    /// The site's number in the journal.
    pub id: SiteId,
    /// The site's name, as in the configuration.
    pub name: SharedName,
    /// The gateway's settings of the site.
    pub settings: GatewaySiteSettings,
    /// The site's settings for its visitors' identity.
    pub visitor: visitor::VisitorSettings,
    /// The issuers of vendors' browser cookies.
    pub cookie_issuers: Vec<VendorCookieIssuer>,
    /// The site's own server, which responds to requests without a route of the gateway's.
    pub origin: Option<Arc<OriginClient>>,
    /// The script that the site's pages load.
    pub sdk: Arc<SiteSdkScripts>,
    /// The names of its integrations, drafts included.
    pub integrations: Vec<SharedName>,
    /// The profile paths that pages may read of their own visitor.
    pub public: PublicProfilePaths,
}

/// The settings of all sites.
pub struct GatewaySnapshot {
    pub(super) limits: GatewayLimits,
    pub(super) access_sample: f64,
    pub(super) geo: GeoDatabase,
    pub(super) vendor_cookies: VendorCookieNames,
    /// Created with each load: bodies active at a reload release to the old one.
    pub(super) budget: BodyBudget,
    sites: Vec<Arc<GatewaySite>>,
    by_host: HashMap<String, Arc<GatewaySite>>,
    any_host: Option<Arc<GatewaySite>>,
}

/// One site's settings and counters, as requests use them.
pub(super) struct GatewaySite {
    pub(super) id: SiteId,
    pub(super) name: SharedName,
    pub(super) origins: CorsAllowedOrigins,
    /// The address of its first page, for links.
    pub(super) first_page: Option<Url>,
    pub(super) write_key: Option<String>,
    pub(super) server_token: Option<SecretString>,
    pub(super) visitor: visitor::VisitorSettings,
    pub(super) cookie_issuers: Vec<VendorCookieIssuer>,
    pub(super) sdk: Arc<SiteSdkScripts>,
    /// The failures reported by pages, by the name of the integration.
    pub(super) integration_errors: Vec<(SharedName, Counter)>,
    pub(super) public: PublicProfilePaths,
    pub(super) privacy: Arc<PrivacyPolicy>,
    /// The site's own placeholder ids for an unknown visitor, in lower case.
    pub(super) placeholder_ids: Arc<[String]>,
    pub(super) bots: bots::BotSettings,
    pub(super) mounts: Vec<ActiveMount>,
    pub(super) meters: SiteCounters,
    pub(super) origin: Option<Arc<OriginClient>>,
    /// The tags of the vendors, as they appear in its pages.
    pub(super) tags: Arc<VendorTags>,
    /// The host and port that its script sends to, if not the page's.
    pub(super) events_at: Option<String>,
    /// The reporter that counts pages passed unchanged.
    pub(super) pages: PageSkipReporter,
}

/// The counters that every request of a site increments, looked up once.
pub(super) struct SiteCounters {
    /// Successful requests: 204 of `/e`, 200 of the Segment API and the pixel.
    pub(super) usual: [Counter; 3],
    /// Events accepted, by the same three formats.
    pub(super) accepted: [Counter; 3],
    pub(super) duplicate: Counter,
    /// Requests over a quota, by the quota's name.
    rate_limited: Family<RateLimitLabels, Counter>,
}

impl GatewaySnapshot {
    /// Creates the snapshot of these sites. Of two with the same host, the first gets its requests.
    pub fn new(
        limits: GatewayLimits,
        access_sample: f64,
        geo: GeoDatabase,
        sites: Vec<GatewaySiteSetup>,
        metrics: &Metrics,
    ) -> Self {
        let mut snapshot = Self {
            budget: BodyBudget::new(&limits),
            limits,
            access_sample,
            geo,
            vendor_cookies: VendorCookieNames::new(
                VENDORS.iter().flat_map(|vendor| vendor.cookies).copied(),
            ),
            sites: Vec::new(),
            by_host: HashMap::new(),
            any_host: None,
        };
        for setup in sites {
            let hosts = setup.settings.hosts.clone();
            let site = Arc::new(GatewaySite::new(setup, metrics));
            for host in hosts {
                if host == "*" {
                    snapshot.any_host.get_or_insert_with(|| site.clone());
                } else {
                    snapshot.by_host.entry(host).or_insert_with(|| site.clone());
                }
            }
            snapshot.sites.push(site);
        }
        snapshot
    }

    /// Returns the site of a host (lower case, without a port).
    pub(super) fn site(&self, host: &str) -> Option<&GatewaySite> {
        self.by_host.get(host).or(self.any_host.as_ref()).map(Arc::as_ref)
    }

    /// Returns the names of all sites.
    pub(super) fn names(&self) -> Vec<SharedName> {
        self.sites.iter().map(|site| site.name.clone()).collect()
    }

    /// Returns the scripts that sites pin to a version.
    pub fn pins(&self) -> Vec<ScriptPinSettings> {
        let mounts = self.sites.iter().flat_map(|site| &site.mounts);
        mounts
            .filter_map(|it| it.script_mount.as_ref())
            .flat_map(ScriptMount::pins)
            .cloned()
            .collect()
    }

    /// Returns the site with this name.
    pub(super) fn named(&self, name: &str) -> Option<&GatewaySite> {
        self.sites.iter().find(|site| &*site.name == name).map(Arc::as_ref)
    }
}

impl GatewaySite {
    fn new(setup: GatewaySiteSetup, metrics: &Metrics) -> Self {
        let GatewaySiteSetup {
            id, name, settings, visitor, cookie_issuers: minting, origin, ..
        } = setup;
        let (sdk, integrations, public) = (setup.sdk, setup.integrations, setup.public);
        let tags = settings.mounts.iter().filter_map(VendorMount::tag).collect();
        let mounts = settings.mounts.into_iter();
        let errors = |integration: SharedName| {
            let labels = IntegrationLabels { site: name.clone(), integration: integration.clone() };
            (integration, metrics.integration_errors.get_or_create_owned(&labels))
        };
        let integration_errors = integrations.into_iter().map(errors).collect();
        Self {
            tags: Arc::new(VendorTags::new(tags)),
            events_at: sdk.events_at(),
            pages: page_report(&name, metrics),
            id,
            privacy: settings.privacy,
            placeholder_ids: settings.placeholder_ids,
            bots: settings.bots,
            mounts: mounts
                .map(|it| ActiveMount::new(it, &name, &settings.hosts, metrics))
                .collect(),
            meters: SiteCounters::new(&name, metrics),
            name,
            origins: CorsAllowedOrigins::new(&settings.origins),
            first_page: trace_link::first_page(&settings.origins, &settings.hosts),
            write_key: settings.write_key,
            server_token: settings.server_token,
            visitor,
            cookie_issuers: minting,
            origin,
            sdk,
            integration_errors,
            public,
        }
    }
}

/// Counts unrewritten pages by reason, and logs once what a policy needs.
fn page_report(site: &SharedName, metrics: &Metrics) -> PageSkipReporter {
    let counter = |reason: PageSkipReason| {
        let labels = PageSkipLabels { site: site.clone(), reason: reason.code() };
        (reason, metrics.pages_left_alone.get_or_create_owned(&labels))
    };
    let counters = PageSkipReason::ALL.map(counter);
    let (site, is_said) = (site.clone(), AtomicBool::new(false));
    PageSkipReporter::new(move |reason| {
        for (_, counter) in counters.iter().filter(|(known, _)| *known == reason) {
            counter.inc();
        }
        let is_policy = matches!(reason, PageSkipReason::Policy | PageSkipReason::LatePolicy);
        if is_policy && !is_said.swap(true, Ordering::Relaxed) {
            tracing::warn!(site = &*site, "a page does not run the gateway's script: {reason}");
        }
    })
}

impl GatewaySite {
    /// Returns the route of a path of the site's host.
    pub(super) fn route(&self, path: &str) -> Option<GatewayRoute> {
        let below = |place: usize| {
            let mount = &self.mounts.get(place)?.mount;
            Some((mount, mount.below(path)?))
        };
        let beacon = |place| {
            let (mount, below) = below(place)?;
            let methods = mount.beacon.endpoint(below)?;
            Some(GatewayRoute::Beacon { mount: place, vendor: mount.vendor, methods })
        };
        let script = |place| {
            let (mount, below) = below(place)?;
            let vendor = mount.vendor;
            mount.has_script(below).then_some(GatewayRoute::VendorScript { mount: place, vendor })
        };
        let places = 0..self.mounts.len();
        // Mounts may share the root, so beacons take precedence over scripts. `/me` is free for other uses if the
        // site makes nothing public.
        let known =
            GatewayRoute::of(path).filter(|it| *it != GatewayRoute::Me || !self.public.is_empty());
        known
            .or_else(|| places.clone().find_map(beacon))
            .or_else(|| places.clone().find_map(script))
    }

    /// Counts a request that is over a quota.
    pub(super) fn limited(&self, limited: RateLimitExceeded) -> RequestRejection {
        let labels = RateLimitLabels { site: self.name.clone(), policy: limited.policy };
        self.meters.rate_limited.get_or_create(&labels).inc();
        RequestRejection::RateLimited(limited)
    }
}

impl SiteCounters {
    fn new(site: &SharedName, metrics: &Metrics) -> Self {
        let accepted = |format| {
            let labels = FormatLabels { site: site.clone(), format };
            metrics.events_accepted.get_or_create_owned(&labels)
        };
        let usual = |route, code| {
            let labels = RequestLabels { site: site.clone(), route, code };
            metrics.requests.get_or_create_owned(&labels)
        };
        let labels = SiteLabels { site: site.clone() };
        Self {
            usual: [usual("e", 204), usual("v1_batch", 200), usual("px", 200)],
            accepted: [accepted("sdk"), accepted("segment"), accepted("pixel")],
            duplicate: metrics.events_duplicate.get_or_create_owned(&labels),
            rate_limited: metrics.rate_limited.clone(),
        }
    }
}
