//! What clients are told of events that were taken (`contracts/beacons.md` 1.4).

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, SET_COOKIE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::decode::Rejected;
use crate::answer::AnswerBody;
use crate::vendors::beacon::Answer;

/// What became of a request's messages: at least one was taken.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// The messages that were not.
    pub(super) rejected: Vec<Rejected>,
    /// Cookies for the visitor's browser.
    pub(super) set_cookies: Vec<HeaderValue>,
}

#[derive(Serialize)]
struct Success<'a> {
    success: bool,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    rejected: &'a [Rejected],
}

/// 204 if every message was taken, otherwise which were not.
pub(super) fn quiet(taken: Taken) -> Response<AnswerBody> {
    if taken.rejected.is_empty() {
        return finish(StatusCode::NO_CONTENT, None, Bytes::new(), taken);
    }
    success(taken)
}

/// The Segment API's answer.
pub(super) fn success(taken: Taken) -> Response<AnswerBody> {
    const PLAIN: &[u8] = br#"{"success":true}"#;
    let body = if taken.rejected.is_empty() {
        Bytes::from_static(PLAIN)
    } else {
        let success = Success { success: true, rejected: &taken.rejected };
        serde_json::to_vec(&success).map_or(Bytes::from_static(PLAIN), Bytes::from)
    };
    finish(StatusCode::OK, Some("application/json"), body, taken)
}

/// JSON for the page that asked.
pub(super) fn json(body: Bytes) -> Response<AnswerBody> {
    finish(StatusCode::OK, Some("application/json"), body, Taken::default())
}

/// An image of one pixel.
pub(super) fn gif(taken: Taken) -> Response<AnswerBody> {
    vendors(Answer::gif(), taken)
}

/// What a vendor's library is told. Pages with an embedder policy may show the images among it.
pub(super) fn vendors(answer: Answer, taken: Taken) -> Response<AnswerBody> {
    const POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
    let Answer { status, content_type, body } = answer;
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
    taken: Taken,
) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::new(body));
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
