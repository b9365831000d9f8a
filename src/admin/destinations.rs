//! Routes that pause, resume and test destinations.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::AdminSendReceipt;
use super::audit_draft::AuditDraft;
use super::caller::Caller;
use super::request::{BodyBytes, JsonBody, parse_json};
use super::router::{ApiResult, SharedApi};
use tagway_core::values::digits::keep_long_integers;
use tagway_delivery::DestinationStatus;
use tagway_storage::journal::ReaderPause;

/// A destination to pause.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PauseRequest {
    site: String,
    destination: String,
    /// The reason, which lists and alerts show; at most 500 characters.
    #[serde(default)]
    why: String,
    /// The time at which the destination resumes automatically.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
}

/// A destination to resume.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResumeRequest {
    site: String,
    destination: String,
}

/// The state of a destination after the request.
#[derive(Serialize, ToSchema)]
pub(super) struct PauseAnswer {
    site: String,
    destination: String,
    /// `running`, `retrying`, `paused` and others.
    state: &'static str,
    reason: Option<String>,
}

/// A test event for one destination.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TestEventRequest {
    site: String,
    destination: String,
    /// A canonical message; without it, the gateway makes one that the destination accepts.
    event: Option<Value>,
}

impl PauseAnswer {
    fn new(site: String, destination: String, status: DestinationStatus) -> Self {
        let (state, reason) = (status.name(), status.reason().map(str::to_owned));
        Self { site, destination, state, reason }
    }
}

/// Pauses a destination: its events wait, until a time or until it is resumed.
#[utoipa::path(post, path = "/api/v1/destinations/pause", request_body = PauseRequest,
    responses((status = 200, body = PauseAnswer)))]
pub(super) async fn pause_destination(
    State(api): State<SharedApi>,
    caller: Caller,
    audit: AuditDraft,
    JsonBody(PauseRequest { site, destination, why, until }): JsonBody<PauseRequest>,
) -> ApiResult<PauseAnswer> {
    let control = &api.context.control;
    let pause = ReaderPause::new(&caller.name, &why, control.now(), until);
    if !pause.why.is_empty() {
        audit.add_detail(&pause.why);
    }
    let status = control.pause(&site, &destination, pause).await?;
    Ok(Json(PauseAnswer::new(site, destination, status)))
}

/// Lifts the operator's pause of a destination.
#[utoipa::path(post, path = "/api/v1/destinations/resume", request_body = ResumeRequest,
    responses((status = 200, body = PauseAnswer)))]
pub(super) async fn resume_destination(
    State(api): State<SharedApi>,
    JsonBody(ResumeRequest { site, destination }): JsonBody<ResumeRequest>,
) -> ApiResult<PauseAnswer> {
    let status = api.context.control.resume(&site, &destination).await?;
    Ok(Json(PauseAnswer::new(site, destination, status)))
}

/// Sends a test event to one destination: the others skip it, and no profile changes.
#[utoipa::path(post, path = "/api/v1/destinations/test", request_body = TestEventRequest,
    responses((status = 200, body = AdminSendReceipt)))]
pub(super) async fn test_destination(
    State(api): State<SharedApi>,
    BodyBytes(body): BodyBytes,
) -> ApiResult<AdminSendReceipt> {
    let TestEventRequest { site, destination, event } = parse_json(&keep_long_integers(&body))?;
    Ok(Json(api.context.control.send_test(&site, &destination, event).await?))
}
