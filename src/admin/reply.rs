//! Answers, and the one place that chooses their status codes.

use std::borrow::Cow;
use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Frame};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::{RequestError, SendError, SubjectError};
use crate::delivery::PauseError;
use crate::script::proxy::PinError;
use crate::segment::SegmentError;
use crate::settings::Redaction;

/// An answer; its body is bytes, or a stream.
pub(super) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// An answer of this type and text.
pub(super) fn text(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()).boxed_unsync());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    answer
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, body: &Value) -> Answer {
    text(status, "application/json", body.to_string())
}

/// The answer without the known secrets. Of a stream, each piece is a line or more.
pub(super) async fn redacted(answer: Answer, redaction: &Redaction) -> Answer {
    let (head, body) = answer.into_parts();
    if body.size_hint().exact().is_none() {
        let redaction = redaction.clone();
        let piece = move |frame: Frame<Bytes>| frame.map_data(|data| without(data, &redaction));
        return Response::from_parts(head, body.map_frame(piece).boxed_unsync());
    }
    let data = match body.collect().await {
        Ok(whole) => without(whole.to_bytes(), redaction),
        Err(never) => match never {},
    };
    Response::from_parts(head, Full::new(data).boxed_unsync())
}

fn without(data: Bytes, redaction: &Redaction) -> Bytes {
    match std::str::from_utf8(&data).map(|text| redaction.redact(text)) {
        Ok(Cow::Owned(redacted)) => redacted.into(),
        Ok(Cow::Borrowed(_)) | Err(_) => data,
    }
}

/// The answer to a request that could not be served (RFC 9457).
pub(super) fn problem(error: &RequestError) -> Answer {
    let status = status_of(error);
    let body = json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": error.to_string(),
    });
    let mut answer = text(status, "application/problem+json", body.to_string());
    let headers = answer.headers_mut();
    match status {
        StatusCode::UNAUTHORIZED => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert(ALLOW, HeaderValue::from_static("GET, POST"));
        }
        _ => {}
    }
    answer
}

fn status_of(error: &RequestError) -> StatusCode {
    match error {
        RequestError::NotFound
        | RequestError::Send(SendError::UnknownSite)
        | RequestError::Subject(SubjectError::UnknownSite)
        | RequestError::Pin(PinError::Unknown)
        | RequestError::Pause(PauseError::Unknown)
        | RequestError::Segment(SegmentError::Unknown | SegmentError::Untold) => {
            StatusCode::NOT_FOUND
        }
        RequestError::Method => StatusCode::METHOD_NOT_ALLOWED,
        RequestError::Unauthorised => StatusCode::UNAUTHORIZED,
        RequestError::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        RequestError::ForeignOrigin => StatusCode::FORBIDDEN,
        RequestError::Malformed(_) | RequestError::Send(SendError::Invalid(_)) => {
            StatusCode::BAD_REQUEST
        }
        RequestError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        RequestError::TooSlow => StatusCode::REQUEST_TIMEOUT,
        RequestError::Send(SendError::Duplicate)
        | RequestError::Segment(SegmentError::StillTold)
        | RequestError::Pause(PauseError::Configured)
        | RequestError::Pin(PinError::NothingPending | PinError::Changed | PinError::Configured) => {
            StatusCode::CONFLICT
        }
        RequestError::Full
        | RequestError::Journal(_)
        | RequestError::Pause(PauseError::Journal(_) | PauseError::Apply(_))
        | RequestError::Send(SendError::Unavailable(_))
        | RequestError::Subject(SubjectError::Unavailable(_))
        | RequestError::Pin(PinError::Disk(_) | PinError::Busy)
        | RequestError::Segment(
            SegmentError::Elsewhere
            | SegmentError::Filling
            | SegmentError::Panicked
            | SegmentError::TooSlow
            | SegmentError::Read(_)
            | SegmentError::Write(_)
            | SegmentError::Profiles(_)
            | SegmentError::Postgres(_),
        ) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
