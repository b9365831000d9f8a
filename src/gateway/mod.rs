//! The gateway: one request of a site's host to its answer.
//!
//! The path of a beacon: host to site, path to route, who sends it (`cors`, write key), how often
//! (`rate`), its body within limits (`body`), its messages one by one ([`decode`]), the visitor
//! behind it, the append. The answer says 2xx only after the append returned: acknowledged is
//! durable. Everything that is not accepted is counted with its reason.

mod accept;
mod answer;
mod body;
mod budget;
mod cors;
pub mod decode;
mod head;
#[cfg(test)]
mod hostile_tests;
mod observe;
mod rate;
mod rejection;
mod route;
mod routes;
mod settings;
mod snapshot;
#[cfg(test)]
mod tests;

pub use accept::{SendError, Sent};
pub use settings::{Limits, Rates, SiteSettings};
pub use snapshot::{SiteSetup, Snapshot};

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::ACCESS_CONTROL_REQUEST_METHOD;
use http::request::Parts;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Body;
use jiff::Timestamp;
use tokio::time::Instant;

use self::cors::Source;
use self::observe::Durations;
use self::rate::RateLimits;
use self::rejection::Rejection;
use self::route::Route;
use self::snapshot::Site;
use crate::clock::SharedClock;
use crate::feed::Feed;
use crate::journal::Journal;
use crate::metrics::{Metrics, Name};

/// What the edge knows of a request's sender.
#[derive(Clone, Copy, Debug)]
pub struct ClientFacts {
    /// The client's address, through trusted proxies.
    pub client: IpAddr,
    /// Whether it came over TLS.
    pub secure: bool,
}

/// The request path of all sites.
pub struct Gateway {
    journal: Arc<dyn Journal>,
    metrics: Arc<Metrics>,
    clock: SharedClock,
    feed: Feed,
    durations: Durations,
    snapshot: ArcSwap<Snapshot>,
    rates: ArcSwap<RateLimits>,
}

/// One request on its way to its answer.
struct Arrived<'r> {
    gateway: &'r Gateway,
    snapshot: &'r Arc<Snapshot>,
    site: &'r Site,
    route: Route,
    head: &'r Parts,
    /// Lower case, without a port.
    host: &'r str,
    client: ClientFacts,
    received_at: Timestamp,
}

impl Gateway {
    /// A gateway over the journal, with its first settings.
    pub fn new(
        journal: Arc<dyn Journal>,
        metrics: Arc<Metrics>,
        clock: SharedClock,
        feed: Feed,
        snapshot: Snapshot,
    ) -> Self {
        let rates = RateLimits::new(&snapshot.limits.rates);
        Self {
            journal,
            durations: Durations::new(&metrics),
            metrics,
            clock,
            feed,
            snapshot: ArcSwap::from_pointee(snapshot),
            rates: ArcSwap::from_pointee(rates),
        }
    }

    /// Requests that arrive from now on see these settings. Quotas that are used up stay used up
    /// unless the limits themselves changed.
    pub fn reload(&self, snapshot: Snapshot) {
        if *self.rates.load().rates() != snapshot.limits.rates {
            self.rates.store(Arc::new(RateLimits::new(&snapshot.limits.rates)));
        }
        self.snapshot.store(Arc::new(snapshot));
    }

    /// The names of the sites, in the order of the configuration.
    pub fn sites(&self) -> Vec<Name> {
        self.snapshot.load().names()
    }

    /// Forgets clients that have been quiet. To be called each second.
    pub fn maintain(&self) {
        self.rates.load().forget();
    }

    /// Answers one request.
    pub async fn handle<B>(&self, request: Request<B>, client: ClientFacts) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Send,
    {
        let started = Instant::now();
        let snapshot = self.snapshot.load_full();
        let (head, body) = request.into_parts();
        let authority = head::authority(&head.uri, &head.headers);
        let host = head::host(authority);
        let (site, route) = (snapshot.site(&host), Route::of(head.uri.path()));
        let response = match (site, route) {
            // RFC 9112 section 3.2: whatever the site.
            _ if host.is_empty() => {
                Rejection::Malformed("the request does not name one host").into_response()
            }
            (None, _) => Rejection::UnknownHost.into_response(),
            (Some(_), None) => Rejection::UnknownRoute.into_response(),
            (Some(site), Some(route)) => {
                let source = site.origins.source(&head.headers, authority);
                let arrived = Arrived {
                    gateway: self,
                    snapshot: &snapshot,
                    site,
                    route,
                    head: &head,
                    host: &host,
                    client,
                    received_at: head::to_millisecond(self.clock.now()),
                };
                arrived.answer(body, &source).await
            }
        };
        let seen = observe::Seen { site, route, head: &head, client: client.client, started };
        self.observe(&seen, response.status(), snapshot.access_sample);
        response
    }
}

impl Arrived<'_> {
    async fn answer<B>(&self, body: B, source: &Source) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Send,
    {
        let asks = self.head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if self.head.method == Method::OPTIONS && asks {
            return cors::preflight(source, &self.head.headers);
        }
        let result = match (self.route.takes(&self.head.method), source) {
            (false, _) => Err(Rejection::Method { allow: self.route.allow() }),
            (true, Source::Foreign) => Err(Rejection::ForeignOrigin),
            (true, Source::Unsaid | Source::Page(_) | Source::Same) => match self.route {
                Route::Sdk => routes::sdk::answer(self, body).await,
                Route::Message(kind) => routes::segment::answer(self, Some(kind), body).await,
                Route::Batch => routes::segment::answer(self, None, body).await,
                Route::Pixel => routes::pixel::answer(self).await,
            },
        };
        let mut response = result.unwrap_or_else(|rejection| {
            self.count_refused(&rejection);
            rejection.into_response()
        });
        cors::expose(source, response.headers_mut());
        response
    }

    /// Takes one request of the client's and the site's quota.
    fn limit(&self) -> Result<(), Rejection> {
        let rates = self.gateway.rates.load();
        let taken = rates.check_client(self.site.id, self.client.client);
        let taken = taken.and_then(|()| rates.check_site(self.site.id));
        taken.map_err(|limited| self.limited(limited))
    }

    /// Takes one request of the site's quota only: the site's own servers send for everybody.
    fn limit_site(&self) -> Result<(), Rejection> {
        let taken = self.gateway.rates.load().check_site(self.site.id);
        taken.map_err(|limited| self.limited(limited))
    }

    fn limited(&self, limited: rejection::RateLimited) -> Rejection {
        self.site.meters.rate_limited.inc();
        Rejection::RateLimited(limited)
    }
}
