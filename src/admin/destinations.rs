//! Routes that pause and resume destinations.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::request::JsonBody;
use super::router::{ApiResult, ApiState, SharedApi};

/// A destination of a site.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PauseRequest {
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

/// Pauses a destination: its events wait.
#[utoipa::path(post, path = "/api/v1/destinations/pause", request_body = PauseRequest,
    responses((status = 200, body = PauseAnswer)))]
pub(super) async fn pause_destination(
    State(api): State<SharedApi>,
    JsonBody(request): JsonBody<PauseRequest>,
) -> ApiResult<PauseAnswer> {
    set_paused(&api, request, true).await
}

/// Lifts the operator's pause of a destination.
#[utoipa::path(post, path = "/api/v1/destinations/resume", request_body = PauseRequest,
    responses((status = 200, body = PauseAnswer)))]
pub(super) async fn resume_destination(
    State(api): State<SharedApi>,
    JsonBody(request): JsonBody<PauseRequest>,
) -> ApiResult<PauseAnswer> {
    set_paused(&api, request, false).await
}

async fn set_paused(
    api: &ApiState,
    PauseRequest { site, destination }: PauseRequest,
    is_paused: bool,
) -> ApiResult<PauseAnswer> {
    let status = api.context.control.set_paused(&site, &destination, is_paused).await?;
    let (state, reason) = (status.name(), status.reason().map(str::to_owned));
    Ok(Json(PauseAnswer { site, destination, state, reason }))
}
