//! Responses, and the one place that chooses their status codes.

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

use super::{AdminRequestError, AdminSendError, SubjectError};
use tagway_delivery::PauseError;
use tagway_delivery::segment::SegmentError;
use tagway_pages::script::proxy::ScriptPinError;
use tagway_settings::SecretRedactor;

/// A response; its body is bytes, or a stream.
pub(super) type AdminResponse = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A response with this type and text.
pub(super) fn text(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> AdminResponse {
    let mut answer = Response::new(Full::new(body.into()).boxed_unsync());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    answer
}

/// A response in JSON.
pub(super) fn json(status: StatusCode, body: &Value) -> AdminResponse {
    text(status, "application/json", body.to_string())
}

/// The response without the known secrets. Each piece of a stream is one or more complete lines.
pub(super) async fn redacted(answer: AdminResponse, redaction: &SecretRedactor) -> AdminResponse {
    let (head, body) = answer.into_parts();
    if body.size_hint().exact().is_none() {
        let redaction = redaction.clone();
        let piece = move |frame: Frame<Bytes>| frame.map_data(|data| redact_body(data, &redaction));
        return Response::from_parts(head, body.map_frame(piece).boxed_unsync());
    }
    let data = match body.collect().await {
        Ok(whole) => redact_body(whole.to_bytes(), redaction),
        Err(never) => match never {},
    };
    Response::from_parts(head, Full::new(data).boxed_unsync())
}

fn redact_body(data: Bytes, redaction: &SecretRedactor) -> Bytes {
    match std::str::from_utf8(&data).map(|text| redaction.redact(text)) {
        Ok(Cow::Owned(redacted)) => redacted.into(),
        Ok(Cow::Borrowed(_)) | Err(_) => data,
    }
}

/// The problem response to a rejected request (RFC 9457).
pub(super) fn problem(error: &AdminRequestError) -> AdminResponse {
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

fn status_of(error: &AdminRequestError) -> StatusCode {
    match error {
        AdminRequestError::NotFound
        | AdminRequestError::Send(AdminSendError::UnknownSite)
        | AdminRequestError::Subject(SubjectError::UnknownSite)
        | AdminRequestError::Pin(ScriptPinError::Unknown)
        | AdminRequestError::Pause(PauseError::Unknown)
        | AdminRequestError::Segment(SegmentError::Unknown | SegmentError::NothingSynced) => {
            StatusCode::NOT_FOUND
        }
        AdminRequestError::Method => StatusCode::METHOD_NOT_ALLOWED,
        AdminRequestError::Unauthorised => StatusCode::UNAUTHORIZED,
        AdminRequestError::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        AdminRequestError::ForeignOrigin => StatusCode::FORBIDDEN,
        AdminRequestError::Malformed(_) | AdminRequestError::Send(AdminSendError::Invalid(_)) => {
            StatusCode::BAD_REQUEST
        }
        AdminRequestError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        AdminRequestError::TooSlow => StatusCode::REQUEST_TIMEOUT,
        AdminRequestError::Send(AdminSendError::Duplicate)
        | AdminRequestError::Segment(SegmentError::StillSynced)
        | AdminRequestError::Pause(PauseError::Configured)
        | AdminRequestError::Pin(
            ScriptPinError::NothingPending | ScriptPinError::Changed | ScriptPinError::Configured,
        ) => StatusCode::CONFLICT,
        AdminRequestError::Full
        | AdminRequestError::Journal(_)
        | AdminRequestError::Pause(PauseError::Journal(_) | PauseError::Apply(_))
        | AdminRequestError::Send(AdminSendError::Unavailable(_))
        | AdminRequestError::Subject(SubjectError::Unavailable(_))
        | AdminRequestError::Pin(ScriptPinError::Disk(_) | ScriptPinError::Busy)
        | AdminRequestError::Segment(
            SegmentError::NotLeader
            | SegmentError::CountersPending
            | SegmentError::Panicked
            | SegmentError::TooSlow
            | SegmentError::Read(_)
            | SegmentError::Write(_)
            | SegmentError::Profiles(_)
            | SegmentError::Postgres(_),
        ) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
