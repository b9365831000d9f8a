//! What requests see of the settings: made once per load of the configuration, never changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::budget::Budget;
use super::cors::Origins;
use super::minting::Minting;
use super::mounts::{Mount, Mounted};
use super::rejection::{RateLimited, Rejection};
use super::route::Route;
use super::settings::{Limits, SiteSettings};
use crate::bots;
use crate::geo::Geo;
use crate::journal::SiteId;
use crate::metrics::{
    FormatLabels, IntegrationLabels, Metrics, Name, PageLabels, PolicyLabels, RequestLabels,
    SiteLabels,
};
use crate::origin::{LeftAlone, Origin, PageReport, Tags};
use crate::privacy::Policy;
use crate::profile::Public;
use crate::script::Sdk;
use crate::script::proxy::{PinSettings, Place};
use crate::settings::Secret;
use crate::vendors::VENDORS;
use crate::visitor::{self, CookieNames};

/// One site, as the composition root hands it over.
pub struct SiteSetup {
    /// Its number in the journal.
    pub id: SiteId,
    /// Its name.
    pub name: Name,
    /// What the gateway reads of it.
    pub settings: SiteSettings,
    /// How it knows its visitors.
    pub visitor: visitor::Settings,
    /// The vendors whose browser cookies it keeps.
    pub minting: Vec<Minting>,
    /// The site's own server, which answers what the gateway does not.
    pub origin: Option<Arc<Origin>>,
    /// The script of its pages.
    pub sdk: Arc<Sdk>,
    /// The names of its integrations, drafts included.
    pub integrations: Vec<Name>,
    /// What pages may know of their own visitor.
    pub public: Public,
}

/// The settings of all sites.
pub struct Snapshot {
    pub(super) limits: Limits,
    pub(super) access_sample: f64,
    pub(super) geo: Geo,
    pub(super) vendor_cookies: CookieNames,
    /// Anew with each load: bodies under way at a reload give back to the old one.
    pub(super) budget: Budget,
    sites: Vec<Arc<Site>>,
    by_host: HashMap<String, Arc<Site>>,
    any_host: Option<Arc<Site>>,
}

/// One site, as requests see it.
pub(super) struct Site {
    pub(super) id: SiteId,
    pub(super) name: Name,
    pub(super) origins: Origins,
    pub(super) write_key: Option<String>,
    pub(super) server_token: Option<Secret>,
    pub(super) visitor: visitor::Settings,
    pub(super) minting: Vec<Minting>,
    pub(super) sdk: Arc<Sdk>,
    /// By the name of each integration, how often pages said that it failed.
    pub(super) integration_errors: Vec<(Name, Counter)>,
    pub(super) public: Public,
    pub(super) privacy: Arc<Policy>,
    /// The site's own words for an unknown visitor, in lower case.
    pub(super) placeholder_ids: Arc<[String]>,
    pub(super) bots: bots::Settings,
    pub(super) mounts: Vec<Mounted>,
    pub(super) meters: Meters,
    pub(super) origin: Option<Arc<Origin>>,
    /// The vendors' tags in its pages.
    pub(super) tags: Arc<Tags>,
    /// The host and port that its script sends to, if not the page's.
    pub(super) events_at: Option<String>,
    /// Counts its pages that are left alone.
    pub(super) pages: PageReport,
}

/// The counters that every request of a site moves, looked up once.
pub(super) struct Meters {
    /// Requests answered as they should be: 204 of `/e`, 200 of the Segment API and the pixel.
    pub(super) usual: [Counter; 3],
    /// Events accepted, by the same three formats.
    pub(super) accepted: [Counter; 3],
    pub(super) duplicate: Counter,
    /// Requests over a quota, by the quota's name.
    rate_limited: Family<PolicyLabels, Counter>,
}

impl Snapshot {
    /// The snapshot of these sites. If two answer to the same host, the first does.
    pub fn new(
        limits: Limits,
        access_sample: f64,
        geo: Geo,
        sites: Vec<SiteSetup>,
        metrics: &Metrics,
    ) -> Self {
        let mut snapshot = Self {
            budget: Budget::new(&limits),
            limits,
            access_sample,
            geo,
            vendor_cookies: CookieNames::new(
                VENDORS.iter().flat_map(|vendor| vendor.cookies).copied(),
            ),
            sites: Vec::new(),
            by_host: HashMap::new(),
            any_host: None,
        };
        for setup in sites {
            let hosts = setup.settings.hosts.clone();
            let site = Arc::new(Site::new(setup, metrics));
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

    /// The site that answers to a host (lower case, without a port).
    pub(super) fn site(&self, host: &str) -> Option<&Site> {
        self.by_host.get(host).or(self.any_host.as_ref()).map(Arc::as_ref)
    }

    /// The names of all sites.
    pub(super) fn names(&self) -> Vec<Name> {
        self.sites.iter().map(|site| site.name.clone()).collect()
    }

    /// The scripts that sites hold to a version.
    pub fn pins(&self) -> Vec<PinSettings> {
        let mounts = self.sites.iter().flat_map(|site| &site.mounts);
        mounts.filter_map(|it| it.place.as_ref()).flat_map(Place::pins).cloned().collect()
    }

    /// The site with this name.
    pub(super) fn named(&self, name: &str) -> Option<&Site> {
        self.sites.iter().find(|site| &*site.name == name).map(Arc::as_ref)
    }
}

impl Site {
    fn new(setup: SiteSetup, metrics: &Metrics) -> Self {
        let SiteSetup { id, name, settings, visitor, minting, origin, .. } = setup;
        let (sdk, integrations, public) = (setup.sdk, setup.integrations, setup.public);
        let tags = settings.mounts.iter().filter_map(Mount::tag).collect();
        let mounts = settings.mounts.into_iter();
        let errors = |integration: Name| {
            let labels = IntegrationLabels { site: name.clone(), integration: integration.clone() };
            (integration, metrics.integration_errors.get_or_create_owned(&labels))
        };
        let integration_errors = integrations.into_iter().map(errors).collect();
        Self {
            tags: Arc::new(Tags::new(tags)),
            events_at: sdk.events_at(),
            pages: page_report(&name, metrics),
            id,
            privacy: settings.privacy,
            placeholder_ids: settings.placeholder_ids,
            bots: settings.bots,
            mounts: mounts.map(|it| Mounted::new(it, &name, &settings.hosts, metrics)).collect(),
            meters: Meters::new(&name, metrics),
            name,
            origins: Origins::new(&settings.origins),
            write_key: settings.write_key,
            server_token: settings.server_token,
            visitor,
            minting,
            origin,
            sdk,
            integration_errors,
            public,
        }
    }
}

/// Counts pages by the reason why they are left alone, and says once what a policy needs.
fn page_report(site: &Name, metrics: &Metrics) -> PageReport {
    let counter = |reason: LeftAlone| {
        let labels = PageLabels { site: site.clone(), reason: reason.code() };
        (reason, metrics.pages_left_alone.get_or_create_owned(&labels))
    };
    let counters = LeftAlone::ALL.map(counter);
    let (site, is_said) = (site.clone(), AtomicBool::new(false));
    PageReport::new(move |reason| {
        for (_, counter) in counters.iter().filter(|(known, _)| *known == reason) {
            counter.inc();
        }
        let is_policy = matches!(reason, LeftAlone::Policy | LeftAlone::LatePolicy);
        if is_policy && !is_said.swap(true, Ordering::Relaxed) {
            tracing::warn!(site = &*site, "a page does not run the gateway's script: {reason}");
        }
    })
}

impl Site {
    /// What a path of the site's host is for.
    pub(super) fn route(&self, path: &str) -> Option<Route> {
        let below = |place: usize| {
            let mount = &self.mounts.get(place)?.mount;
            Some((mount, mount.below(path)?))
        };
        let beacon = |place| {
            let (mount, below) = below(place)?;
            let methods = mount.beacon.endpoint(below)?;
            Some(Route::Beacon { mount: place, vendor: mount.vendor, methods })
        };
        let script = |place| {
            let (mount, below) = below(place)?;
            let vendor = mount.vendor;
            mount.has_script(below).then_some(Route::VendorScript { mount: place, vendor })
        };
        let places = 0..self.mounts.len();
        // Mounts may share the root: no script may stand where another's beacons go.
        // Of the path for what is known of visitors the site may have made another use.
        let known = Route::of(path).filter(|it| *it != Route::Me || !self.public.is_empty());
        known
            .or_else(|| places.clone().find_map(beacon))
            .or_else(|| places.clone().find_map(script))
    }

    /// Counts a request that is over a quota.
    pub(super) fn limited(&self, limited: RateLimited) -> Rejection {
        let labels = PolicyLabels { site: self.name.clone(), policy: limited.policy };
        self.meters.rate_limited.get_or_create(&labels).inc();
        Rejection::RateLimited(limited)
    }
}

impl Meters {
    fn new(site: &Name, metrics: &Metrics) -> Self {
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
