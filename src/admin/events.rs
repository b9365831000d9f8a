//! Routes for one event and its outcome at each destination.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::caller::Caller;
use super::masking::{mask_event, mask_text};
use super::request::PathParams;
use super::router::{ApiResult, SharedApi};
use super::{AdminContext, AdminRequestError, ReaderSummary};
use tagway_storage::journal::{EventAtReader, LastVendorCall, ReaderEventState};

/// The number of an event.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct EventSelector {
    /// The site's name.
    site: String,
    /// The event's sequence number in its site.
    seq: u64,
}

/// An event with its outcomes.
#[derive(Serialize, ToSchema)]
pub(super) struct EventAnswer {
    site: String,
    /// The event's sequence number in its site.
    seq: u64,
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    /// The canonical event.
    event: Value,
    destinations: Vec<DestinationOutcome>,
}

/// An event at one destination. Members without a value are absent.
#[derive(Default, Serialize, ToSchema)]
pub(super) struct DestinationOutcome {
    #[schema(value_type = String)]
    destination: Arc<str>,
    /// `before_destination`, `pending`, `held`, `waiting`, `delivered`, `skipped`, `dead`, or `settled` if the
    /// outcome was not recorded.
    outcome: &'static str,
    /// The destination's state.
    state: &'static str,
    state_reason: Option<String>,
    /// The time of the next try.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<Timestamp>,
    /// The reason's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    /// The time at which it was settled.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    /// The id of its dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter: Option<i64>,
    /// The last call about it; null if there was none.
    #[schema(value_type = Option<VendorCallRow>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    last_call: Option<Option<VendorCallRow>>,
    /// The outcome before it was replayed or retried.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<FormerOutcome>,
}

/// An outcome of an event that was sent again.
#[derive(Serialize, ToSchema)]
pub(super) struct FormerOutcome {
    outcome: &'static str,
    reason: String,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

/// The last call to a vendor about an event, without secrets.
#[derive(Serialize, ToSchema)]
pub(super) struct VendorCallRow {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Method and URL; and the body, if it contained this event alone.
    request: String,
    /// The status of the reply; null if there was none.
    status: Option<u16>,
    /// The body of the reply, or the cause that there was none.
    reply: String,
}

impl From<&LastVendorCall> for VendorCallRow {
    fn from(call: &LastVendorCall) -> Self {
        let LastVendorCall { at, request, status, reply } = call.clone();
        Self { at, request, status, reply }
    }
}

/// Returns the event of this sequence number in its site.
#[utoipa::path(get, path = "/api/v1/events/{site}/{seq}", params(EventSelector),
    responses((status = 200, body = EventAnswer)))]
pub(super) async fn get_event(
    State(api): State<SharedApi>,
    caller: Caller,
    PathParams(EventSelector { site, seq }): PathParams<EventSelector>,
) -> ApiResult<EventAnswer> {
    check_site(&api.context, &site)?;
    Ok(Json(event_answer(&api.context, site, seq, caller.shows_personal).await?))
}

/// Checks that the site is configured: the journal would give a number to an unknown one.
pub(super) fn check_site(context: &AdminContext, site: &str) -> Result<(), AdminRequestError> {
    let is_known = context.control.sites().iter().any(|name| &**name == site);
    if is_known { Ok(()) } else { Err(AdminRequestError::NotFound) }
}

/// Returns an event with its outcomes, masked unless the caller sees personal data.
pub(super) async fn event_answer(
    context: &AdminContext,
    site: String,
    seq: u64,
    shows_personal: bool,
) -> Result<EventAnswer, AdminRequestError> {
    let mut readers = context.control.readers();
    readers.retain(|reader| *reader.site == *site);
    let ids = readers.iter().map(|reader| reader.reader).collect();
    let number = context.journal.site(&site).await?;
    let history =
        context.journal.event(number, seq, ids).await?.ok_or(AdminRequestError::NotFound)?;
    let destinations = readers.into_iter().zip(history.readers);
    let destinations =
        destinations.map(|(reader, at)| destination_outcome(context, reader, at, seq));
    let mut answer = EventAnswer {
        site,
        seq: history.seq,
        received_at: history.received_at,
        event: parse_record(&history.body),
        destinations: destinations.collect(),
    };
    if !shows_personal {
        answer.mask();
    }
    Ok(answer)
}

impl EventAnswer {
    fn mask(&mut self) {
        mask_event(&mut self.event);
        for row in &mut self.destinations {
            row.detail = row.detail.as_deref().map(mask_text);
            if let Some(Some(call)) = &mut row.last_call {
                call.mask();
            }
        }
    }
}

impl VendorCallRow {
    /// Masks the request and the reply.
    pub(super) fn mask(&mut self) {
        self.request = mask_text(&self.request);
        self.reply = mask_text(&self.reply);
    }
}

/// The event at one destination. While it waits, its last attempt is in the destination's memory; after a
/// restart there is none until the next attempt.
fn destination_outcome(
    context: &AdminContext,
    reader: ReaderSummary,
    at: EventAtReader,
    seq: u64,
) -> DestinationOutcome {
    let mut row = DestinationOutcome {
        outcome: at.name(context.control.now()),
        destination: reader.destination,
        state: reader.state,
        state_reason: reader.reason,
        ..DestinationOutcome::default()
    };
    let mut attempts = 0;
    match at.state {
        ReaderEventState::BeforeReader => return row,
        ReaderEventState::Settled => {
            if let Some(kept) = at.outcome {
                (row.reason, row.detail) = (Some(kept.reason), Some(kept.detail));
                (row.attempts, row.at) = (Some(kept.attempts), Some(kept.at));
            }
            if let Some(letter) = at.letter {
                (row.detail, row.dead_letter) = (Some(letter.detail), Some(letter.id));
                row.last_call = Some(letter.last_call.as_ref().map(VendorCallRow::from));
            }
            return row;
        }
        ReaderEventState::Parked { due_at, attempt } => {
            (row.due_at, attempts) = (Some(due_at), attempt);
        }
        ReaderEventState::Unsettled => {}
    }
    if let Some(failure) = context.control.last_failure(reader.reader, seq) {
        attempts = attempts.max(failure.attempts);
        row.reason = Some(failure.reason.code.to_owned());
        row.detail = Some(failure.reason.detail.as_deref().unwrap_or_default().to_owned());
        row.last_call = Some(failure.call.as_deref().map(VendorCallRow::from));
    }
    row.attempts = Some(attempts);
    row.before = at.outcome.map(|kept| FormerOutcome {
        outcome: kept.outcome,
        reason: kept.reason,
        at: kept.at,
    });
    row
}

/// Parses the record; one that cannot be parsed is returned as text, so that operators can find the cause.
pub(super) fn parse_record(body: &[u8]) -> Value {
    serde_json::from_slice(body)
        .unwrap_or_else(|_invalid| Value::String(String::from_utf8_lossy(body).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_record_returns_unparsable_records_as_text() {
        assert_eq!(parse_record(b"{\"a\":1}"), serde_json::json!({ "a": 1 }));
        assert_eq!(parse_record(b"{\"a\":1e999}"), "{\"a\":1e999}");
        assert_eq!(parse_record(b"\xff"), "\u{fffd}");
    }
}
