//! The routes that pause and resume destinations.

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::reply::{self, Answer};
use super::routes::parse;
use super::{Context, RequestError};

/// Pauses a destination, or lifts the operator's pause.
pub(super) async fn pause(
    context: &Context,
    body: &[u8],
    is_paused: bool,
) -> Result<Answer, RequestError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        site: String,
        destination: String,
    }
    let Asked { site, destination } = parse(body)?;
    let status = context.control.set_paused(&site, &destination, is_paused).await?;
    let answer = json!({
        "site": site,
        "destination": destination,
        "state": status.name(),
        "reason": status.reason(),
    });
    Ok(reply::json(StatusCode::OK, &answer))
}
