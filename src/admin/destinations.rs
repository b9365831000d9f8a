//! The routes that pause and resume destinations.

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::reply::{self, AdminResponse};
use super::routes::parse;
use super::{AdminContext, AdminRequestError};

/// Pauses a destination, or lifts the operator's pause.
pub(super) async fn pause(
    context: &AdminContext,
    body: &[u8],
    is_paused: bool,
) -> Result<AdminResponse, AdminRequestError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct PauseRequest {
        site: String,
        destination: String,
    }
    let PauseRequest { site, destination } = parse(body)?;
    let status = context.control.set_paused(&site, &destination, is_paused).await?;
    let answer = json!({
        "site": site,
        "destination": destination,
        "state": status.name(),
        "reason": status.reason(),
    });
    Ok(reply::json(StatusCode::OK, &answer))
}
