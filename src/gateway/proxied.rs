//! Requests without a route of the gateway's, which are proxied to the site's own server.
//!
//! They are no beacons, and do not count towards a client's quota: one page has a hundred of them. The edge's
//! limits on connections and on active requests apply to them as to all. Cookies pass unchanged, the visitor's
//! among them: it belongs to the site that the origin serves.

use std::error::Error;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use hyper::body::Body;

use super::observe::ObservedRequest;
use super::snapshot::GatewaySite;
use super::{ClientFacts, Gateway};
use tagway_core::answer::ResponseBody;
use tagway_pages::origin::{OriginClient, OriginExchange, client_gone};

/// A request to an origin until its response. If the client goes away first, it is counted as the client's abort.
pub(super) struct OriginRequestGuard<'r> {
    gateway: &'r Gateway,
    seen: ObservedRequest<'r>,
    access_sample: f64,
    status: StatusCode,
}

impl<'r> OriginRequestGuard<'r> {
    pub(super) fn new(gateway: &'r Gateway, seen: ObservedRequest<'r>, access_sample: f64) -> Self {
        Self { gateway, seen, access_sample, status: client_gone() }
    }

    pub(super) fn set_answered(&mut self, status: StatusCode) {
        self.status = status;
    }
}

impl Drop for OriginRequestGuard<'_> {
    fn drop(&mut self) {
        self.gateway.observe(&self.seen, self.status, self.access_sample);
    }
}

/// Returns the origin's response, or the error if there is none.
pub(super) async fn answer<B>(
    origin: &OriginClient,
    site: &GatewaySite,
    head: Parts,
    body: B,
    authority: &str,
    client: ClientFacts,
) -> Response<ResponseBody>
where
    B: Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Send + 'static,
{
    let from = OriginExchange {
        client: client.client,
        secure: client.secure,
        authority,
        tags: &site.tags,
        events: site.events_at.as_deref(),
        report: &site.pages,
    };
    match origin.exchange(head, body, from).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(error = &error as &dyn Error, "the origin gave no answer");
            let status = error.status();
            let mut response = Response::new(ResponseBody::new(Bytes::from(format!("{error}\n"))));
            *response.status_mut() = status;
            let fields = response.headers_mut();
            fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            if status == StatusCode::TOO_MANY_REQUESTS {
                fields.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            response
        }
    }
}
