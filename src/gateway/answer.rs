//! The responses to accepted events (`docs/contracts/beacons.md` 1.4).

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, SET_COOKIE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use tagway_core::answer::ResponseBody;
use tagway_vendors::beacon::BeaconReply;
use tagway_vendors::beacon_format::RejectedMessage;

/// The outcome of a request's messages: at least one was accepted.
#[derive(Debug, Default)]
pub(super) struct AcceptOutcome {
    /// The messages that were rejected.
    pub(super) rejected: Vec<RejectedMessage>,
    /// The cookies to set in the visitor's browser.
    pub(super) set_cookies: Vec<HeaderValue>,
}

#[derive(Serialize)]
struct SuccessBody<'a> {
    success: bool,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    rejected: &'a [RejectedMessage],
}

/// Responds 204 if every message was accepted, otherwise with the list of rejected ones.
pub(super) fn quiet(taken: AcceptOutcome) -> Response<ResponseBody> {
    if taken.rejected.is_empty() {
        return finish(StatusCode::NO_CONTENT, None, Bytes::new(), taken);
    }
    success(taken)
}

/// Responds as the Segment API does.
pub(super) fn success(taken: AcceptOutcome) -> Response<ResponseBody> {
    const PLAIN: &[u8] = br#"{"success":true}"#;
    let body = if taken.rejected.is_empty() {
        Bytes::from_static(PLAIN)
    } else {
        let success = SuccessBody { success: true, rejected: &taken.rejected };
        serde_json::to_vec(&success).map_or(Bytes::from_static(PLAIN), Bytes::from)
    };
    finish(StatusCode::OK, Some("application/json"), body, taken)
}

/// Responds with JSON for the page that requested it.
pub(super) fn json(body: Bytes) -> Response<ResponseBody> {
    finish(StatusCode::OK, Some("application/json"), body, AcceptOutcome::default())
}

/// Responds with an image of one pixel.
pub(super) fn gif(taken: AcceptOutcome) -> Response<ResponseBody> {
    vendors(BeaconReply::gif(), taken)
}

/// Responds as a vendor's library expects. Pages with an embedder policy may show images among the responses.
pub(super) fn vendors(answer: BeaconReply, taken: AcceptOutcome) -> Response<ResponseBody> {
    const POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
    let BeaconReply { status, content_type, body } = answer;
    let mut response = finish(status, content_type, body, taken);
    if content_type.is_some_and(|content_type| content_type.starts_with("image/")) {
        response.headers_mut().insert(POLICY, HeaderValue::from_static("cross-origin"));
    }
    response
}

fn finish(
    status: StatusCode,
    content_type: Option<&'static str>,
    body: Bytes,
    taken: AcceptOutcome,
) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::new(body));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(content_type) = content_type {
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    for cookie in taken.set_cookies {
        fields.append(SET_COOKIE, cookie);
    }
    response
}
