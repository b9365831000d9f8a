//! The gateway: turns one request of a site's host into its response.
//!
//! The path of a beacon: host to site, path to route, the sender (`cors`, write key), the rate limits (`rate`,
//! which counts other requests as well), its body within limits (`body`, `budget`, `fair`), its messages one by one
//! ([`decode`]), the visitor behind it, the append. The response is 2xx only after the append returned:
//! acknowledged is durable. Everything that is not accepted is counted with its reason.

mod accept;
mod answer;
#[cfg(test)]
mod beacon_tests;
mod binding;
#[cfg(test)]
mod binding_tests;
mod body;
mod body_drain;
mod bot_policy;
mod budget;
mod cors;
mod credentials;
pub mod decode;
mod erasure;
mod fair;
mod feed_entry;
mod head;
#[cfg(test)]
mod hostile_tests;
mod message_intake;
mod mount_table;
mod mounts;
mod observe;
mod operator;
pub mod preview;
mod proxied;
mod rate;
#[cfg(test)]
mod reading_tests;
mod reasons;
mod rejection;
mod route;
mod routes;
#[cfg(test)]
mod server_tests;
mod settings;
mod shared_paths;
mod signed_link;
mod snapshot;
#[cfg(test)]
mod tests;
mod trace_link;
mod vendor_cookies;
mod volume;
#[cfg(test)]
mod volume_tests;

pub use erasure::{ErasureError, PersonErasure};
pub use mount_table::MOUNT_SETTINGS;
pub use mounts::{BeaconForwarding, BeaconMode, MountScripts, ScriptMode, VendorMount};
pub use operator::{DryRunEvent, OperatorSendError, OperatorSendReceipt, dry_run_event};
pub use reasons::REJECTIONS;
pub use settings::{
    GatewayLimits, GatewaySiteSettings, LIMIT_SETTINGS, RateLimitSettings, SITE_REQUEST_SETTINGS,
    VolumeLimits, VolumeRate,
};
pub use snapshot::{GatewaySiteSetup, GatewaySnapshot};
pub use vendor_cookies::VendorCookieIssuer;

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::ACCESS_CONTROL_REQUEST_METHOD;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Body;
use jiff::Timestamp;
use tokio::time::Instant;

use self::accept::SenderKind;
use self::cors::CorsOrigin;
use self::observe::RouteDurations;
use self::rate::RateLimits;
use self::rejection::{RateLimitExceeded, RequestRejection};
use self::route::GatewayRoute;
use self::shared_paths::PeekedBody;
use self::snapshot::GatewaySite;
use self::volume::RequestVolume;
use tagway_core::answer::ResponseBody;
use tagway_core::clock::SharedClock;
use tagway_core::feed::LiveFeed;
use tagway_core::metrics::{Metrics, SharedName};
use tagway_pages::script::proxy;
use tagway_storage::journal::{Journal, SuppressionList};
use tagway_storage::profile::{IdentityGroupCache, ProfileService};

/// The edge's facts about a request's sender.
#[derive(Clone, Copy, Debug)]
pub struct ClientFacts {
    /// The client's address, through trusted proxies.
    pub client: IpAddr,
    /// True if the request came over TLS.
    pub secure: bool,
}

/// The request path of all sites.
pub struct Gateway {
    journal: Arc<dyn Journal>,
    suppression_list: Arc<SuppressionList>,
    metrics: Arc<Metrics>,
    clock: SharedClock,
    feed: LiveFeed,
    durations: RouteDurations,
    identity_groups: IdentityGroupCache,
    scripts: proxy::ScriptProxy,
    /// The profile service, for pages that read their visitor's profile.
    profiles: Option<Arc<ProfileService>>,
    /// The erasure of people, for servers that ask for it.
    erasure: Option<Arc<dyn PersonErasure>>,
    snapshot: ArcSwap<GatewaySnapshot>,
    rates: ArcSwap<RateLimits>,
}

/// One request of a site until its response.
struct SiteRequest<'r> {
    gateway: &'r Gateway,
    snapshot: &'r Arc<GatewaySnapshot>,
    site: &'r GatewaySite,
    route: GatewayRoute,
    head: &'r Parts,
    /// The host in lower case, without a port.
    host: &'r str,
    client: ClientFacts,
    received_at: Timestamp,
}

impl Gateway {
    /// Creates a gateway over the journal, with its first settings.
    pub fn new(
        journal: Arc<dyn Journal>,
        metrics: Arc<Metrics>,
        clock: SharedClock,
        feed: LiveFeed,
        scripts: proxy::ScriptProxy,
        snapshot: GatewaySnapshot,
    ) -> Self {
        let rates = RateLimits::new(&snapshot.limits.rates);
        Self {
            suppression_list: journal.suppression_list(),
            journal,
            durations: RouteDurations::new(&metrics),
            identity_groups: IdentityGroupCache::default(),
            scripts,
            profiles: None,
            erasure: None,
            metrics,
            clock,
            feed,
            snapshot: ArcSwap::from_pointee(snapshot),
            rates: ArcSwap::from_pointee(rates),
        }
    }

    /// Adds the profile service, so that pages may read their visitor's profile.
    #[must_use]
    pub fn with_profiles(self, profiles: Arc<ProfileService>) -> Self {
        Self { profiles: Some(profiles), ..self }
    }

    /// Adds the erasure of people, so that the site's servers may ask for it.
    #[must_use]
    pub fn with_erasure(self, erasure: Arc<dyn PersonErasure>) -> Self {
        Self { erasure: Some(erasure), ..self }
    }

    /// Applies these settings to requests that arrive from now on. Used-up quotas stay used up unless the limits
    /// themselves changed.
    pub fn reload(&self, snapshot: GatewaySnapshot) {
        if *self.rates.load().rates() != snapshot.limits.rates {
            self.rates.store(Arc::new(RateLimits::new(&snapshot.limits.rates)));
        }
        self.snapshot.store(Arc::new(snapshot));
    }

    /// Returns the names of the sites, in the order of the configuration.
    pub fn sites(&self) -> Vec<SharedName> {
        self.snapshot.load().names()
    }

    /// Ends the background tasks, once no more requests come.
    pub async fn stop(&self) {
        self.scripts.stop().await;
    }

    /// Evicts clients that have been quiet. To be called each second.
    pub fn maintain(&self) {
        self.rates.load().evict_recovered();
    }

    /// Responds to one request.
    pub async fn handle<B>(
        &self,
        request: Request<B>,
        client: ClientFacts,
    ) -> Response<ResponseBody>
    where
        B: Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Send + Unpin + 'static,
    {
        let started = Instant::now();
        let snapshot = self.snapshot.load_full();
        let (head, body) = request.into_parts();
        let authority = head::authority(&head.uri, &head.headers);
        let host = head::host(authority);
        let site = snapshot.site(&host);
        let route = site.and_then(|site| site.route(head.uri.path()));
        let mut body = PeekedBody::new(body);
        if let Some(site) = site
            && let Some(origin) = &site.origin
            && !host.is_empty()
            && !is_own(&snapshot, site, route, &head, &mut body).await
        {
            let (method, authority) = (head.method.clone(), authority.to_owned());
            let seen = observe::ObservedRequest {
                site: Some(site),
                route: Some(GatewayRoute::Origin),
                method: &method,
                client: client.client,
                started,
            };
            let mut awaited = proxied::OriginRequestGuard::new(self, seen, snapshot.access_sample);
            let response = proxied::answer(origin, site, head, body, &authority, client).await;
            awaited.set_answered(response.status());
            return response;
        }
        let response = match site {
            // RFC 9112 section 3.2: for every site.
            _ if host.is_empty() => {
                RequestRejection::Malformed("the request does not name one host").into_response()
            }
            None => RequestRejection::UnknownHost.into_response(),
            Some(site) => {
                let source = site.origins.source(&head.headers, authority);
                match RequestPurpose::of(route, &head.method, &head.headers, &source) {
                    Ok(RequestPurpose::Beacon(route)) => {
                        let arrived = SiteRequest {
                            gateway: self,
                            snapshot: &snapshot,
                            site,
                            route,
                            head: &head,
                            host: &host,
                            client,
                            received_at: head::to_millisecond(self.clock.now()),
                        };
                        arrived.answer(&mut body, &source).await
                    }
                    Ok(RequestPurpose::Preflight) => match self.limit_client(site, client) {
                        Ok(()) => cors::preflight(&source, &head.headers),
                        Err(limited) => exposed(&source, limited.into_response()),
                    },
                    Err(rejection) => {
                        self.count_refused(site, &rejection);
                        let limited = self.limit_client(site, client).err();
                        exposed(&source, limited.unwrap_or(rejection).into_response())
                    }
                }
            }
        };
        let seen = observe::ObservedRequest {
            site,
            route,
            method: &head.method,
            client: client.client,
            started,
        };
        self.observe(&seen, response.status(), snapshot.access_sample);
        body_drain::drain_body(&head, body, &snapshot.limits, response).await
    }

    /// Responds to a request beyond the edge's limit. Reads only its head.
    pub fn respond_overloaded<B>(
        &self,
        request: &Request<B>,
        client: ClientFacts,
    ) -> Response<ResponseBody> {
        let snapshot = self.snapshot.load();
        let authority = head::authority(request.uri(), request.headers());
        if let Some(site) = snapshot.site(&head::host(authority)) {
            let route = site.route(request.uri().path());
            let source = site.origins.source(request.headers(), authority);
            let purpose = RequestPurpose::of(route, request.method(), request.headers(), &source);
            if matches!(purpose, Ok(RequestPurpose::Beacon(_))) {
                self.count_refused(site, &RequestRejection::Overloaded);
            }
        }
        self.record_edge_response(request, client, RequestRejection::Overloaded.into_response())
    }

    /// Returns true if the host that a request names is a site's.
    pub fn is_host_served<B>(&self, request: &Request<B>) -> bool {
        let host = head::host(head::authority(request.uri(), request.headers()));
        !host.is_empty() && self.snapshot.load().site(&host).is_some()
    }

    /// Counts a response that the edge gave itself, and lets the site's pages read it.
    pub fn record_edge_response<B>(
        &self,
        request: &Request<B>,
        client: ClientFacts,
        answer: Response<ResponseBody>,
    ) -> Response<ResponseBody> {
        let started = Instant::now();
        let snapshot = self.snapshot.load();
        let authority = head::authority(request.uri(), request.headers());
        let site = snapshot.site(&head::host(authority));
        let answer = match site {
            Some(site) => exposed(&site.origins.source(request.headers(), authority), answer),
            None => answer,
        };
        let route = site.and_then(|site| site.route(request.uri().path()));
        let method = request.method();
        let seen = observe::ObservedRequest { site, route, method, client: client.client, started };
        self.observe(&seen, answer.status(), snapshot.access_sample);
        answer
    }

    /// Charges one request to the client's quota at a site.
    fn limit_client(
        &self,
        site: &GatewaySite,
        client: ClientFacts,
    ) -> Result<(), RequestRejection> {
        let taken = self.rates.load().check_client(site.id, client.client);
        taken.map_err(|limited| site.limited(limited))
    }
}

/// The purpose of a request to a known site.
enum RequestPurpose {
    /// A preflight for another request.
    Preflight,
    /// A request to a route of the gateway's.
    Beacon(GatewayRoute),
}

impl RequestPurpose {
    fn of(
        route: Option<GatewayRoute>,
        method: &Method,
        fields: &HeaderMap,
        source: &CorsOrigin,
    ) -> Result<Self, RequestRejection> {
        // On every path: a page may read a 404.
        if method == Method::OPTIONS && fields.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            return Ok(Self::Preflight);
        }
        let route = route.ok_or(RequestRejection::UnknownRoute)?;
        if !route.takes(method) {
            return Err(RequestRejection::Method { allow: route.allow() });
        }
        match source {
            // Any page may read a script, and a request for one has no events.
            CorsOrigin::Foreign if !matches!(route, GatewayRoute::VendorScript { .. }) => {
                Err(RequestRejection::ForeignOrigin)
            }
            _ => Ok(Self::Beacon(route)),
        }
    }
}

fn exposed(source: &CorsOrigin, mut answer: Response<ResponseBody>) -> Response<ResponseBody> {
    cors::expose(source, answer.headers_mut());
    answer
}

/// Returns true if a request to a site with an origin is for the gateway itself.
async fn is_own<B>(
    snapshot: &GatewaySnapshot,
    site: &GatewaySite,
    route: Option<GatewayRoute>,
    head: &Parts,
    body: &mut PeekedBody<B>,
) -> bool
where
    B: Body<Data = Bytes, Error: Error + Send + Sync + 'static>,
{
    let Some(route) = route else { return false };
    let source = site.origins.source(&head.headers, head::authority(&head.uri, &head.headers));
    shared_paths::is_meant_for_gateway(route, head, body, &source, snapshot.limits.body_time).await
}

impl SiteRequest<'_> {
    async fn answer<B>(&self, body: B, source: &CorsOrigin) -> Response<ResponseBody>
    where
        B: Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Send,
    {
        let result = match self.route {
            GatewayRoute::Sdk => routes::sdk::answer(self, body).await,
            GatewayRoute::Message(kind) => routes::segment::answer(self, Some(kind), body).await,
            GatewayRoute::Batch => routes::segment::answer(self, None, body).await,
            GatewayRoute::Pixel => routes::pixel::answer(self).await,
            GatewayRoute::Reset => routes::reset::answer(self),
            GatewayRoute::Me => {
                // A refused request here is no lost event.
                let answer = routes::me::answer(self).await;
                return exposed(source, answer.unwrap_or_else(RequestRejection::into_response));
            }
            GatewayRoute::Origin => Err(RequestRejection::UnknownRoute),
            GatewayRoute::Script => routes::script::answer(self),
            GatewayRoute::Preview => routes::preview::answer(self),
            GatewayRoute::Problem => {
                let result = routes::integration_error::answer(self, body).await;
                // A refused request here is no lost event.
                return exposed(source, result.unwrap_or_else(RequestRejection::into_response));
            }
            GatewayRoute::Beacon { mount, .. } => match self.site.mounts.get(mount) {
                Some(mounted) => Ok(routes::beacon::answer(self, &mounted.mount, body).await),
                None => Err(RequestRejection::UnknownRoute),
            },
            GatewayRoute::VendorScript { mount, .. } => {
                let result = routes::vendor_script::answer(self, mount).await;
                // A refused request here is no lost event; and any page may read the response.
                return result
                    .map_or_else(RequestRejection::into_response, |answer| answer.map(Into::into));
            }
        };
        let response = result.unwrap_or_else(|rejection| {
            self.count_refused(&rejection);
            rejection.into_response()
        });
        exposed(source, response)
    }

    /// Charges one request to the client's and the site's quota.
    fn limit(&self) -> Result<(), RequestRejection> {
        self.gateway.limit_client(self.site, self.client)?;
        self.limit_site()
    }

    /// Charges one request to the site's quota only: the site's own servers send for all visitors.
    fn limit_site(&self) -> Result<(), RequestRejection> {
        let taken = self.gateway.rates.load().check_site(self.site.id);
        taken.map_err(|limited| self.site.limited(limited))
    }

    /// Refuses a request, before its body is read, of a sender whose quota of events or bytes is used up.
    fn check_volume(&self, sender: SenderKind) -> Result<(), RequestRejection> {
        self.spend(sender, RequestVolume::default())
    }

    /// Charges a body's bytes to the sender's quota and the site's.
    fn spend_bytes(&self, sender: SenderKind, bytes: usize) -> Result<(), RequestRejection> {
        self.spend(sender, RequestVolume { bytes: bytes as u64, events: 0 })
    }

    /// Charges events to the sender's quota and the site's.
    fn spend_events(&self, sender: SenderKind, events: usize) -> Result<(), RequestRejection> {
        self.spend(sender, RequestVolume { events: events as u64, bytes: 0 })
    }

    /// Charges a volume. The site's own servers send for all visitors, so only the site's quota applies to them.
    fn spend(&self, sender: SenderKind, volume: RequestVolume) -> Result<(), RequestRejection> {
        let client = match sender {
            SenderKind::Client => Some(self.client.client),
            SenderKind::Server => None,
        };
        let taken = self.gateway.rates.load().charge_volume(self.site.id, client, volume);
        taken.map_err(|limited| self.site.limited(limited))
    }

    /// Charges one request of a sender that may prove to be a server by the body. `Some`: the client's quota is
    /// used up, but the body may be read, to see if a server sent it.
    fn limit_unverified(&self) -> Result<Option<RateLimitExceeded>, RequestRejection> {
        let rates = self.gateway.rates.load();
        let (site, client) = (self.site.id, self.client.client);
        let volume = || rates.charge_volume(site, Some(client), RequestVolume::default());
        let over = rates.check_client(site, client).and_then(|()| volume()).err();
        if let Some(limited) = over
            && (self.site.server_token.is_none() || !rates.may_read_unverified(self.site.id))
        {
            return Err(self.site.limited(limited));
        }
        self.limit_site()?;
        Ok(over)
    }
}
