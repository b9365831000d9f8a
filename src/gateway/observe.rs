//! The metrics of every request, and its line in the access log.

use std::net::IpAddr;

use http::{Method, StatusCode};
use prometheus_client::metrics::histogram::Histogram;
use tokio::time::Instant;

use super::rejection::RequestRejection;
use super::route::GatewayRoute;
use super::snapshot::GatewaySite;
use super::{Gateway, SiteRequest};
use tagway_core::metrics::{
    EventDropLabels, FormatLabels, Metrics, RequestLabels, RouteLabels, SharedName,
};
use tagway_core::privacy;
use tagway_storage::journal::{AppendCallback, AppendOutcome};
use tagway_vendors::beacon_format::RejectedMessage;

/// The target of the access log's lines, for `[log] level`.
const ACCESS: &str = "access";

/// The histograms of the routes with the most requests, looked up once.
pub(super) struct RouteDurations([Histogram; 3]);

impl RouteDurations {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let of = |route: GatewayRoute| {
            metrics.request_duration.get_or_create_owned(&RouteLabels { route: route.name() })
        };
        Self([of(GatewayRoute::Sdk), of(GatewayRoute::Batch), of(GatewayRoute::Pixel)])
    }
}

/// Returns the index of a route's format in the lists of looked-up metrics.
const fn place(route: GatewayRoute) -> Option<usize> {
    match route {
        GatewayRoute::Sdk => Some(0),
        GatewayRoute::Message(_) | GatewayRoute::Batch => Some(1),
        GatewayRoute::Pixel => Some(2),
        GatewayRoute::Reset
        | GatewayRoute::Me
        | GatewayRoute::Origin
        | GatewayRoute::Script
        | GatewayRoute::Preview
        | GatewayRoute::Problem
        | GatewayRoute::Beacon { .. }
        | GatewayRoute::VendorScript { .. } => None,
    }
}

/// The observed parts of a request.
pub(super) struct ObservedRequest<'r> {
    pub(super) site: Option<&'r GatewaySite>,
    pub(super) route: Option<GatewayRoute>,
    pub(super) method: &'r Method,
    pub(super) client: IpAddr,
    pub(super) started: Instant,
}

impl Gateway {
    /// Counts the request, and logs it if it is sampled.
    pub(super) fn observe(
        &self,
        seen: &ObservedRequest<'_>,
        status: StatusCode,
        access_sample: f64,
    ) {
        let took = seen.started.elapsed();
        let code = status.as_u16();
        let usual = match (seen.route, code) {
            (Some(route @ GatewayRoute::Sdk), 204)
            | (Some(route @ (GatewayRoute::Batch | GatewayRoute::Pixel)), 200) => place(route),
            _ => None,
        };
        let meter = usual.and_then(|place| {
            Some((seen.site?.meters.usual.get(place)?, self.durations.0.get(place)?))
        });
        let route = seen.route.map_or("none", GatewayRoute::name);
        match meter {
            Some((counter, durations)) => {
                counter.inc();
                durations.observe(took.as_secs_f64());
            }
            None => {
                let site = seen.site.map_or_else(|| "".into(), |site| site.name.clone());
                self.metrics.requests.get_or_create(&RequestLabels { site, route, code }).inc();
                let durations = self.metrics.request_duration.get_or_create(&RouteLabels { route });
                durations.observe(took.as_secs_f64());
            }
        }
        if access_sample < 1.0 && fastrand::f64() >= access_sample {
            return;
        }
        tracing::info!(
            target: ACCESS,
            site = seen.site.map_or("", |site| &site.name),
            method = seen.method.as_str(),
            route,
            status = code,
            duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            client = %privacy::truncate(seen.client),
            "request"
        );
    }

    /// Counts an event that an operator sent, once it is durable.
    pub(super) fn sent_counter(&self, site: &SharedName) -> AppendCallback {
        let labels = FormatLabels { site: site.clone(), format: "admin" };
        let accepted = self.metrics.events_accepted.get_or_create_owned(&labels);
        Box::new(move |appended| {
            accepted.inc_by(new(appended));
        })
    }
}

/// Returns the number of appended events that are no duplicates.
fn new(appended: &[AppendOutcome]) -> u64 {
    appended.iter().filter(|event| matches!(event, AppendOutcome::New { .. })).count() as u64
}

impl Gateway {
    /// Counts the loss of a request that is refused as a whole.
    pub(super) fn count_refused(&self, site: &GatewaySite, rejection: &RequestRejection) {
        match rejection {
            // These are no beacons, or are counted message by message.
            RequestRejection::UnknownHost
            | RequestRejection::UnknownRoute
            | RequestRejection::Method { .. }
            | RequestRejection::Unread
            | RequestRejection::NothingValid(_) => {}
            RequestRejection::ForeignOrigin
            | RequestRejection::BadKey
            | RequestRejection::RateLimited(_)
            | RequestRejection::TooLarge
            | RequestRejection::TooSlow
            | RequestRejection::Broken
            | RequestRejection::UnknownEncoding
            | RequestRejection::BadEncoding
            | RequestRejection::Malformed(_)
            | RequestRejection::TooMany
            | RequestRejection::Overloaded
            | RequestRejection::Busy
            | RequestRejection::Full
            | RequestRejection::Unwritable
            | RequestRejection::Closing => self.count_dropped(site, rejection.code()),
        }
    }

    /// Counts unreadable members of a site's messages, which are left out.
    pub(super) fn count_unread(
        &self,
        site: &GatewaySite,
        reasons: impl IntoIterator<Item = &'static str>,
    ) {
        for reason in reasons {
            let labels = EventDropLabels { site: site.name.clone(), reason };
            self.metrics.values_unread.get_or_create(&labels).inc();
        }
    }

    /// Counts an event or request that was dropped before the journal.
    fn count_dropped(&self, site: &GatewaySite, reason: &'static str) {
        let labels = EventDropLabels { site: site.name.clone(), reason };
        self.metrics.events_dropped.get_or_create(&labels).inc();
    }
}

impl SiteRequest<'_> {
    /// Counts the loss of a request that is refused as a whole.
    pub(super) fn count_refused(&self, rejection: &RequestRejection) {
        self.gateway.count_refused(self.site, rejection);
    }

    /// Counts an event that is dropped for this reason.
    pub(super) fn count_dropped(&self, reason: &'static str) {
        self.gateway.count_dropped(self.site, reason);
    }

    /// Counts messages that are refused one by one.
    pub(super) fn count_rejected(&self, rejected: &[RejectedMessage]) {
        for rejected in rejected {
            self.gateway.count_dropped(self.site, rejected.reason);
        }
    }

    /// Counts events of forgotten people.
    pub(super) fn count_forgotten(&self, count: u64) {
        if count > 0 {
            let labels = EventDropLabels { site: self.site.name.clone(), reason: "forgotten" };
            self.gateway.metrics.events_dropped.get_or_create(&labels).inc_by(count);
        }
    }

    /// Returns a callback that counts appended events once they are durable: the client, and this request with it,
    /// may be gone by then.
    pub(super) fn counter(&self) -> AppendCallback {
        let meters = &self.site.meters;
        let accepted = match self.route {
            GatewayRoute::Beacon { mount, .. } => {
                self.site.mounts.get(mount).map(|it| &it.accepted)
            }
            route => place(route).and_then(|place| meters.accepted.get(place)),
        };
        let (accepted, duplicate) = (accepted.cloned(), meters.duplicate.clone());
        Box::new(move |appended| {
            let new = new(appended);
            if let Some(accepted) = accepted {
                accepted.inc_by(new);
            }
            duplicate.inc_by(appended.len() as u64 - new);
        })
    }
}
