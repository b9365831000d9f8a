//! Responses, and the one place that chooses their status codes.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::Stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::StatusCode;
use hyper::body::{Body as _, Frame};
use hyper::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::console_files::PublicFile;
use super::{
    AdminContext, AdminRequestError, AdminSendError, RehearsalError, SubjectError, TestEventError,
};
use tagway_console::account::AccountError;
use tagway_console::alert::{AlertError, ChannelTestError};
use tagway_console::password::PasswordError;
use tagway_console::series::SeriesQueryError;
use tagway_delivery::PauseError;
use tagway_delivery::segment::SegmentError;
use tagway_pages::script::proxy::ScriptPinError;
use tagway_settings::SecretRedactor;

/// The answer to a rejected request (RFC 9457).
#[derive(Serialize, ToSchema)]
pub(super) struct AdminProblem {
    /// Always `about:blank`: the status is the type of the problem.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The name of the status.
    title: &'static str,
    /// The status code.
    status: u16,
    /// The cause, and its cure.
    detail: String,
    /// The member of the body or the query that is missing or wrong, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// True if no account exists yet: the first login is to be made.
    #[serde(skip_serializing_if = "Option::is_none")]
    setup: Option<bool>,
}

impl IntoResponse for AdminRequestError {
    fn into_response(self) -> Response {
        let cause: Option<&dyn std::error::Error> = match &self {
            Self::Journal(error) => Some(error),
            Self::Console(error) | Self::Account(AccountError::Store(error)) => Some(error),
            _ => None,
        };
        if let Some(error) = cause {
            tracing::error!(error, "an admin request failed");
        }
        let status = status_of(&self);
        let field = match &self {
            Self::InvalidField { field, .. } => Some(field.clone()),
            Self::Send(AdminSendError::Invalid(_))
            | Self::Rehearsal(RehearsalError::Invalid(_))
            | Self::Test(
                TestEventError::NotSelected | TestEventError::Send(AdminSendError::Invalid(_)),
            ) => Some("event".to_owned()),
            Self::Test(TestEventError::Unknown | TestEventError::Paused)
            | Self::Pause(PauseError::Unknown) => Some("destination".to_owned()),
            Self::Pause(PauseError::Past) => Some("until".to_owned()),
            Self::Personal => Some("personal".to_owned()),
            Self::Role(_) => Some("role".to_owned()),
            Self::Proof => Some("proof".to_owned()),
            Self::SetPassword => Some("password".to_owned()),
            Self::Account(error) => account_field(error).map(str::to_owned),
            _ => None,
        };
        let problem = AdminProblem {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: self.to_string(),
            field,
            setup: matches!(self, Self::NoAccounts).then_some(true),
        };
        let mut response = (status, Json(problem)).into_response();
        let mut insert = |name: HeaderName, value| {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        };
        insert(CONTENT_TYPE, "application/problem+json");
        match status {
            StatusCode::UNAUTHORIZED => insert(WWW_AUTHENTICATE, "Bearer"),
            StatusCode::SERVICE_UNAVAILABLE => insert(RETRY_AFTER, "1"),
            StatusCode::TOO_MANY_REQUESTS => insert(RETRY_AFTER, "60"),
            _ => {}
        }
        response
    }
}

/// A response that streams lines of JSON.
pub(super) fn json_lines(
    lines: impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static,
) -> Response {
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::new(StreamBody::new(lines))).into_response()
}

/// Completes every response: its fields, and its body without the known secrets. Each piece of a stream is one or
/// more complete lines.
pub(super) async fn finish(
    State(context): State<Arc<AdminContext>>,
    response: Response,
) -> Response {
    let redaction = context.redaction.clone();
    let (mut head, body) = response.into_parts();
    head.headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if head.extensions.get::<PublicFile>().is_some() {
        return Response::from_parts(head, body);
    }
    head.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if body.size_hint().exact().is_none() {
        let piece = move |frame: Frame<Bytes>| frame.map_data(|data| redact(data, &redaction));
        return Response::from_parts(head, Body::new(body.map_frame(piece)));
    }
    // A body of known length is in memory, so that reading it cannot fail.
    let data = body.collect().await.map(|whole| whole.to_bytes()).unwrap_or_default();
    Response::from_parts(head, Body::from(redact(data, &redaction)))
}

fn redact(data: Bytes, redaction: &SecretRedactor) -> Bytes {
    match std::str::from_utf8(&data).map(|text| redaction.redact(text)) {
        Ok(Cow::Owned(redacted)) => redacted.into(),
        Ok(Cow::Borrowed(_)) | Err(_) => data,
    }
}

fn status_of(error: &AdminRequestError) -> StatusCode {
    match error {
        AdminRequestError::NotFound
        | AdminRequestError::Rehearsal(RehearsalError::Unknown)
        | AdminRequestError::Send(AdminSendError::UnknownSite)
        | AdminRequestError::Subject(SubjectError::UnknownSite)
        | AdminRequestError::Pin(ScriptPinError::Unknown)
        | AdminRequestError::Pause(PauseError::Unknown)
        | AdminRequestError::Test(
            TestEventError::Unknown | TestEventError::Send(AdminSendError::UnknownSite),
        )
        | AdminRequestError::Alert(AlertError::Unknown)
        | AdminRequestError::Channel(ChannelTestError::Unknown)
        | AdminRequestError::Segment(SegmentError::Unknown | SegmentError::NothingSynced) => {
            StatusCode::NOT_FOUND
        }
        AdminRequestError::Method => StatusCode::METHOD_NOT_ALLOWED,
        AdminRequestError::Unauthorised
        | AdminRequestError::NoAccounts
        | AdminRequestError::WrongLogin
        | AdminRequestError::WrongLink => StatusCode::UNAUTHORIZED,
        AdminRequestError::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        AdminRequestError::Account(error) => account_status(error),
        AdminRequestError::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        AdminRequestError::ForeignOrigin
        | AdminRequestError::Plaintext
        | AdminRequestError::SetPassword
        | AdminRequestError::Proof
        | AdminRequestError::FileOnly
        | AdminRequestError::AllSites
        | AdminRequestError::Role(_)
        | AdminRequestError::Personal => StatusCode::FORBIDDEN,
        AdminRequestError::Malformed(_)
        | AdminRequestError::InvalidField { .. }
        | AdminRequestError::Series(SeriesQueryError::Range(_))
        | AdminRequestError::Rehearsal(RehearsalError::Invalid(_))
        | AdminRequestError::Send(AdminSendError::Invalid(_))
        | AdminRequestError::Test(TestEventError::Send(AdminSendError::Invalid(_)))
        | AdminRequestError::Pause(PauseError::Past) => StatusCode::BAD_REQUEST,
        AdminRequestError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        AdminRequestError::TooSlow => StatusCode::REQUEST_TIMEOUT,
        AdminRequestError::Traces(_)
        | AdminRequestError::Send(AdminSendError::Duplicate)
        | AdminRequestError::Segment(SegmentError::StillSynced)
        | AdminRequestError::Pause(PauseError::Configured)
        | AdminRequestError::Test(
            TestEventError::Paused
            | TestEventError::NotSelected
            | TestEventError::Send(AdminSendError::Duplicate),
        )
        | AdminRequestError::Pin(
            ScriptPinError::NothingPending | ScriptPinError::Changed | ScriptPinError::Configured,
        ) => StatusCode::CONFLICT,
        AdminRequestError::Full
        | AdminRequestError::Unrecorded
        | AdminRequestError::Console(_)
        | AdminRequestError::Journal(_)
        | AdminRequestError::Rehearsal(RehearsalError::Profiles(_))
        | AdminRequestError::Alert(AlertError::Store(_))
        | AdminRequestError::Series(SeriesQueryError::Read(_))
        | AdminRequestError::Pause(PauseError::Journal(_) | PauseError::Apply(_))
        | AdminRequestError::Send(AdminSendError::Unavailable(_))
        | AdminRequestError::Test(TestEventError::Send(AdminSendError::Unavailable(_)))
        | AdminRequestError::MatchQuality(_)
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

fn account_status(error: &AccountError) -> StatusCode {
    match error {
        AccountError::Unknown => StatusCode::NOT_FOUND,
        AccountError::InvalidName
        | AccountError::TooManySites
        | AccountError::Ambiguous
        | AccountError::Password(PasswordError::Unusable) => StatusCode::BAD_REQUEST,
        // Not 401: the session is valid, and browsers would ask for a new login.
        AccountError::WrongPassword => StatusCode::FORBIDDEN,
        AccountError::NameTaken
        | AccountError::TooMany(_)
        | AccountError::LastAdmin
        | AccountError::Disabled => StatusCode::CONFLICT,
        AccountError::Limited => StatusCode::TOO_MANY_REQUESTS,
        AccountError::Password(PasswordError::Busy | PasswordError::System)
        | AccountError::Random(_)
        | AccountError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The member of the body that an error is about.
fn account_field(error: &AccountError) -> Option<&'static str> {
    match error {
        AccountError::InvalidName | AccountError::NameTaken | AccountError::Ambiguous => {
            Some("name")
        }
        AccountError::TooManySites => Some("sites"),
        AccountError::Password(PasswordError::Unusable) => Some("new"),
        AccountError::WrongPassword => Some("password"),
        _ => None,
    }
}
