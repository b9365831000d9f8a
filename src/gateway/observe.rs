//! What is counted of every request, and its line in the access log.

use std::net::IpAddr;

use http::{Method, StatusCode};
use prometheus_client::metrics::histogram::Histogram;
use tokio::time::Instant;

use super::decode::Rejected;
use super::rejection::Rejection;
use super::route::Route;
use super::snapshot::Site;
use super::{Arrived, Gateway};
use crate::journal::{Appended, CountAppended};
use crate::metrics::{DropLabels, FormatLabels, Metrics, Name, RequestLabels, RouteLabels};
use crate::privacy;

/// Where the access log's lines come from, for `[log] level`.
const ACCESS: &str = "access";

/// The histograms of the routes with the most requests, looked up once.
pub(super) struct Durations([Histogram; 3]);

impl Durations {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let of = |route: Route| {
            metrics.request_duration.get_or_create_owned(&RouteLabels { route: route.name() })
        };
        Self([of(Route::Sdk), of(Route::Batch), of(Route::Pixel)])
    }
}

/// The place of a route's format among the formats, in the lists of looked-up metrics.
const fn place(route: Route) -> Option<usize> {
    match route {
        Route::Sdk => Some(0),
        Route::Message(_) | Route::Batch => Some(1),
        Route::Pixel => Some(2),
        Route::Reset
        | Route::Me
        | Route::Origin
        | Route::Script
        | Route::Preview
        | Route::Problem
        | Route::Beacon { .. }
        | Route::VendorScript { .. } => None,
    }
}

/// A request, as far as it is observed.
pub(super) struct Seen<'r> {
    pub(super) site: Option<&'r Site>,
    pub(super) route: Option<Route>,
    pub(super) method: &'r Method,
    pub(super) client: IpAddr,
    pub(super) started: Instant,
}

impl Gateway {
    /// Counts the request, and logs it if its turn has come.
    pub(super) fn observe(&self, seen: &Seen<'_>, status: StatusCode, access_sample: f64) {
        let took = seen.started.elapsed();
        let code = status.as_u16();
        let usual = match (seen.route, code) {
            (Some(route @ Route::Sdk), 204)
            | (Some(route @ (Route::Batch | Route::Pixel)), 200) => place(route),
            _ => None,
        };
        let meter = usual.and_then(|place| {
            Some((seen.site?.meters.usual.get(place)?, self.durations.0.get(place)?))
        });
        let route = seen.route.map_or("none", Route::name);
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
    pub(super) fn sent_counter(&self, site: &Name) -> CountAppended {
        let labels = FormatLabels { site: site.clone(), format: "admin" };
        let accepted = self.metrics.events_accepted.get_or_create_owned(&labels);
        Box::new(move |appended| {
            accepted.inc_by(new(appended));
        })
    }
}

/// The number of those that are no duplicates.
fn new(appended: &[Appended]) -> u64 {
    appended.iter().filter(|event| matches!(event, Appended::New { .. })).count() as u64
}

impl Gateway {
    /// Counts what is lost with a request that is refused as a whole.
    pub(super) fn count_refused(&self, site: &Site, rejection: &Rejection) {
        match rejection {
            // These are no beacons, or are counted message by message.
            Rejection::UnknownHost
            | Rejection::UnknownRoute
            | Rejection::Method { .. }
            | Rejection::Unread
            | Rejection::NothingValid(_) => {}
            Rejection::ForeignOrigin
            | Rejection::BadKey
            | Rejection::RateLimited(_)
            | Rejection::TooLarge
            | Rejection::TooSlow
            | Rejection::Broken
            | Rejection::UnknownEncoding
            | Rejection::BadEncoding
            | Rejection::Malformed(_)
            | Rejection::TooMany
            | Rejection::Overloaded
            | Rejection::Busy
            | Rejection::Full
            | Rejection::Unwritable
            | Rejection::Closing => self.count_dropped(site, rejection.code()),
        }
    }

    /// Counts members of a site's messages that cannot be read and are left out.
    pub(super) fn count_unread(
        &self,
        site: &Site,
        reasons: impl IntoIterator<Item = &'static str>,
    ) {
        for reason in reasons {
            let labels = DropLabels { site: site.name.clone(), reason };
            self.metrics.values_unread.get_or_create(&labels).inc();
        }
    }

    /// Counts something that was dropped before the journal.
    fn count_dropped(&self, site: &Site, reason: &'static str) {
        let labels = DropLabels { site: site.name.clone(), reason };
        self.metrics.events_dropped.get_or_create(&labels).inc();
    }
}

impl Arrived<'_> {
    /// Counts what is lost with a request that is refused as a whole.
    pub(super) fn count_refused(&self, rejection: &Rejection) {
        self.gateway.count_refused(self.site, rejection);
    }

    /// Counts an event that is dropped for this reason.
    pub(super) fn count_dropped(&self, reason: &'static str) {
        self.gateway.count_dropped(self.site, reason);
    }

    /// Counts messages that are refused one by one.
    pub(super) fn count_rejected(&self, rejected: &[Rejected]) {
        for rejected in rejected {
            self.gateway.count_dropped(self.site, rejected.reason);
        }
    }

    /// Counts events of people who are forgotten.
    pub(super) fn count_forgotten(&self, count: u64) {
        if count > 0 {
            let labels = DropLabels { site: self.site.name.clone(), reason: "forgotten" };
            self.gateway.metrics.events_dropped.get_or_create(&labels).inc_by(count);
        }
    }

    /// Counts appended events once they are durable: the client may be gone by then, and this request
    /// with it.
    pub(super) fn counter(&self) -> CountAppended {
        let meters = &self.site.meters;
        let accepted = match self.route {
            Route::Beacon { mount, .. } => self.site.mounts.get(mount).map(|it| &it.accepted),
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
