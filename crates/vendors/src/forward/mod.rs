//! Forwards vendors' own beacons to them, as they were sent: `[sites.vendors.NAME] beacons =
//! "forward"` or `"both"`. The visitor's address and user agent are sent too, cookies never.
//!
//! A site does not configure it as a destination: there is one for each vendor whose beacons it
//! forwards.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT_LANGUAGE, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, USER_AGENT};
use http::{HeaderValue, Method, Request, Uri};
use jiff::Timestamp;
use url::Url;

use super::{
    BatchScope, DeliveryLimits, Destination, Outcome, Vendor, VendorCall, beacon_format,
    classify_reply,
};
use tagway_core::event::{EnrichedEvent, RawBeacon};
use tagway_settings::{Setting, SettingsSection};

/// The settings that the gateway itself gives this destination.
const SETTINGS: &[Setting] = &[
    Setting::text("vendor").required().doc("the vendor whose beacons are forwarded"),
    Setting::form("upstream", "a URL").required().doc("the vendor's address for beacons"),
];

/// The name that tells it from vendors that take no beacons.
pub const NAME: &str = "forward";

/// Its entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: NAME,
    match_keys: &[],
    settings: SETTINGS,
    destination: Some(|section, endpoint| Box::new(ForwardDestination::read(section, endpoint))),
    ..Vendor::EMPTY
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

struct ForwardDestination {
    /// The vendor that the beacons are for.
    vendor: String,
    /// The URL that they are sent to.
    upstream: Option<Url>,
}

impl ForwardDestination {
    fn read(section: &mut SettingsSection<'_>, endpoint: Option<Url>) -> Self {
        section.describe(SETTINGS);
        let vendor = section.string("vendor");
        let upstream = section.opt_parsed("upstream");
        if upstream.is_none() && endpoint.is_none() {
            section.error("upstream", "is required");
        }
        Self { vendor, upstream: endpoint.or(upstream) }
    }

    /// Returns the beacon's URL at its vendor, always below the endpoint. `None` for a target that is not.
    fn target(&self, beacon: &RawBeacon) -> Option<Uri> {
        let base = self.upstream.as_ref()?.as_str().trim_end_matches('/');
        // Dots in a query are text of the page and change no path.
        let path = beacon.target.split(['?', '#']).next().unwrap_or_default();
        if !path.starts_with('/') || path.contains("/..") {
            return None;
        }
        format!("{base}{}", beacon.target).parse().ok()
    }

    fn request(&self, event: &EnrichedEvent, beacon: &RawBeacon) -> Option<Request<Bytes>> {
        let body = beacon_format::base64(&beacon.body)?;
        let mut request = Request::new(body.into());
        *request.method_mut() = Method::from_bytes(beacon.method.as_bytes()).ok()?;
        *request.uri_mut() = self.target(beacon)?;
        let fields = request.headers_mut();
        let address = event.ip().map(|ip| ip.to_canonical().to_string());
        for (name, value) in [
            (CONTENT_TYPE, beacon.content_type.as_deref()),
            (CONTENT_ENCODING, beacon.content_encoding.as_deref()),
            (USER_AGENT, event.user_agent()),
            (ACCEPT_LANGUAGE, event.event.facts.language.as_deref()),
            (X_FORWARDED_FOR, address.as_deref()),
        ] {
            if let Some(value) =
                value.and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok())
            {
                fields.insert(name, value);
            }
        }
        if let Some((name, value)) = &beacon.key {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            let mut value = HeaderValue::from_str(value).ok()?;
            value.set_sensitive(true);
            fields.insert(name, value);
        }
        Some(request)
    }
}

#[async_trait]
impl Destination for ForwardDestination {
    fn delivery_limits(&self) -> DeliveryLimits {
        DeliveryLimits {
            // Sent in the order in which the browser sent them.
            scope: BatchScope::Visitor,
            max_events: 1,
            max_bytes: 8 << 20,
            batch_delay: Duration::ZERO,
            // Most vendors take the time of receipt for the time of the event.
            max_age: Duration::from_secs(24 * 3600),
            concurrency: 32,
            calls_per_second: None,
            timeout: Duration::from_secs(10),
        }
    }

    fn admit_event(&self, event: &EnrichedEvent, _now: Timestamp) -> Result<(), Outcome> {
        match &event.event.facts.beacon {
            Some(beacon) if beacon.vendor == self.vendor => Ok(()),
            _ => Err(Outcome::skipped("not_selected")),
        }
    }

    async fn deliver(&self, batch: &[EnrichedEvent], call: &dyn VendorCall) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(batch.len());
        for event in batch {
            call.set_current_event(event.seq);
            let beacon = event.event.facts.beacon.as_ref();
            let request = beacon.and_then(|beacon| self.request(event, beacon));
            outcomes.push(match request {
                None => Outcome::dead("unmappable"),
                Some(request) => match classify_reply(&call.call(request).await, call.now()) {
                    // The request has no credentials of the site: the beacon itself is refused.
                    Outcome::Unauthorised(reason) => Outcome::Dead(reason),
                    // Libraries follow no redirects and take them for success.
                    Outcome::Refused(reason) if reason.code == "redirected" => Outcome::Delivered,
                    outcome => outcome,
                },
            });
        }
        outcomes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_stays_below_the_endpoint() {
        let forward = ForwardDestination {
            vendor: "x".to_owned(),
            upstream: Some("https://vendor.example/base".parse().unwrap()),
        };
        let target = |target: &str| {
            let beacon = RawBeacon { target: target.to_owned(), ..RawBeacon::default() };
            forward.target(&beacon).map(|uri| uri.to_string())
        };
        assert_eq!(target("/e?a=1").as_deref(), Some("https://vendor.example/base/e?a=1"));
        let query = "/e?u=https://s.example/a/../b";
        let expected = format!("https://vendor.example/base{query}");
        assert_eq!(target(query), Some(expected), "dots of a query");
        for bad in ["/..?a=1", "?/", "@evil.example/", ".evil.example/", "/../x", "", "x"] {
            assert_eq!(target(bad), None, "{bad}");
        }
    }
}
