//! Routes that send events: a new one, or accepted ones once more.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::audit_draft::AuditDraft;
use super::caller::Caller;
use super::request::{BodyBytes, JsonBody, invalid_field, parse_json};
use super::router::{ApiResult, SharedApi};
use super::{AdminSendReceipt, find_reader};
use tagway_console::access::Role;
use tagway_core::values::digits::keep_long_integers;

/// The events of a destination that were received in `from..to`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayRequest {
    site: String,
    destination: String,
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    to: Timestamp,
    /// Only returns the plan of the replay.
    #[serde(default)]
    plan: bool,
}

/// The size of a replay. All members but `count` are in the answer to a plan only.
#[derive(Default, Serialize, ToSchema)]
pub(super) struct ReplayAnswer {
    /// The number of events that have ended and are sent again.
    count: u64,
    /// The number of dead letters among them that are still kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    dead: Option<u64>,
    /// The number of events that have not ended, or are replayed already: they are skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<u64>,
    /// The end of a sentence about the vendor: if it recognises a repeated event.
    #[serde(skip_serializing_if = "Option::is_none")]
    repeats: Option<&'static str>,
}

/// A canonical message for a site. It needs no id and no timestamp.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SendEventRequest {
    site: String,
    event: Value,
}

/// Sends the events of a time once more, which needs the role admin, or plans that.
#[utoipa::path(post, path = "/api/v1/replay", request_body = ReplayRequest,
    responses((status = 200, body = ReplayAnswer)))]
pub(super) async fn replay_events(
    State(api): State<SharedApi>,
    caller: Caller,
    audit: AuditDraft,
    JsonBody(ReplayRequest { site, destination, from, to, plan }): JsonBody<ReplayRequest>,
) -> ApiResult<ReplayAnswer> {
    if plan {
        audit.leave_out();
    } else {
        caller.require(Role::Admin)?;
    }
    if from >= to {
        return Err(invalid_field("from", "from must be before to"));
    }
    let (control, journal) = (&api.context.control, &api.context.journal);
    let readers = control.readers();
    let reader = find_reader(&readers, &site, &destination)?;
    if plan {
        let plan = journal.replay_plan(reader.reader, from, to).await?;
        return Ok(Json(ReplayAnswer {
            count: plan.count,
            dead: Some(plan.dead),
            pending: Some(plan.pending),
            repeats: Some(reader.repeats),
        }));
    }
    let count = journal.replay(reader.reader, from, to).await?;
    control.wake(reader.reader);
    audit.add_detail(&format!("{count} events of {from} to {to}"));
    Ok(Json(ReplayAnswer { count, ..ReplayAnswer::default() }))
}

/// Accepts an event as if a server had sent it.
///
/// The event is durable when this answers.
#[utoipa::path(post, path = "/api/v1/send", request_body = SendEventRequest,
    responses((status = 200, body = AdminSendReceipt)))]
pub(super) async fn send_event(
    State(api): State<SharedApi>,
    audit: AuditDraft,
    BodyBytes(body): BodyBytes,
) -> ApiResult<AdminSendReceipt> {
    let SendEventRequest { site, event } = parse_json(&keep_long_integers(&body))?;
    let receipt = api.context.control.send(&site, event).await?;
    audit.set_object(format!("event {}", receipt.seq));
    Ok(Json(receipt))
}
