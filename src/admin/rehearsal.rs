//! The route for rehearsals: what would be sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::AdminRequestError;
use super::caller::Caller;
use super::events::check_site;
use super::masking::{mask_event, mask_text};
use super::request::{JsonBody, invalid_field};
use super::router::{ApiResult, SharedApi};
use crate::rehearsal::{EventRehearsal, RehearsedRequest};

/// The most destinations of one rehearsal.
const DESTINATIONS_LIMIT: usize = 20;

/// The event of a rehearsal.
#[derive(Clone, Debug)]
pub enum RehearsedInput {
    /// A record of the journal.
    Record {
        /// Its sequence number in the site.
        seq: u64,
        /// The canonical event as JSON.
        body: Bytes,
    },
    /// A message, as a server would send it.
    Message(Value),
}

/// The reason why an event cannot be rehearsed.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// The site is not configured.
    #[error("the configuration has no such site")]
    Unknown,
    /// The event cannot be accepted; the text says why.
    #[error("the event is not valid: {0}")]
    Invalid(String),
    /// The visitor's profile cannot be read.
    #[error("the visitor's profile cannot be read now")]
    Profiles(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// An event to rehearse: one of the site by its number, or any.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RehearsalBody {
    site: String,
    /// The event's sequence number in the site.
    #[serde(default)]
    seq: Option<u64>,
    /// A message of the Segment spec.
    #[serde(default)]
    event: Option<Value>,
    /// The destinations' names, at most 20; all of the site by default.
    #[serde(default)]
    destinations: Vec<String>,
}

/// The rehearsal at each destination.
#[derive(Serialize, ToSchema)]
pub(super) struct RehearsalAnswer {
    destinations: Vec<RehearsedDestination>,
    /// The number of destinations that were left out, because a rehearsal has at most 20.
    left_out: usize,
}

/// An event at one destination, if it was sent now.
#[derive(Serialize, ToSchema)]
pub(super) struct RehearsedDestination {
    #[schema(value_type = String)]
    destination: Arc<str>,
    /// `sent`, `skipped`, `dead`, `retry`, `paused` (the credentials are refused) or `held`.
    outcome: &'static str,
    /// The reason's code.
    reason: Option<String>,
    detail: Option<String>,
    /// The canonical event after the mapping.
    mapped: Option<Value>,
    /// The last request: the one that carries the event.
    request: Option<RequestRow>,
    /// All requests, in their order.
    requests: Vec<RequestRow>,
    /// The fields that the destination would not receive, each with its reason.
    dropped: Vec<String>,
    /// The values of the mapping that the event lacks.
    problems: Vec<MappingProblemRow>,
}

/// A request without secrets.
#[derive(Clone, Serialize, ToSchema)]
pub(super) struct RequestRow {
    method: String,
    url: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// A value of the mapping that the event lacks.
#[derive(Serialize, ToSchema)]
pub(super) struct MappingProblemRow {
    place: String,
    problem: String,
}

/// Returns the requests that an event would cause, without sending them.
///
/// The vendors' own code makes them, with the visitor's profile as it is now. Replies are simulated.
#[utoipa::path(post, path = "/api/v1/rehearse", request_body = RehearsalBody,
    responses((status = 200, body = RehearsalAnswer)))]
pub(super) async fn rehearse_event(
    State(api): State<SharedApi>,
    caller: Caller,
    JsonBody(body): JsonBody<RehearsalBody>,
) -> ApiResult<RehearsalAnswer> {
    let context = &api.context;
    let RehearsalBody { site, seq, event, mut destinations } = body;
    check_site(context, &site)?;
    let input = match (seq, event) {
        (Some(seq), None) => {
            let number = context.journal.site(&site).await?;
            let history = context.journal.event(number, seq, Vec::new()).await?;
            let body = history.ok_or(AdminRequestError::NotFound)?.body;
            RehearsedInput::Record { seq, body }
        }
        (None, Some(event)) => RehearsedInput::Message(event),
        _ => return Err(invalid_field("event", "either seq or event is required")),
    };
    let readers = context.control.readers();
    let of_site = readers.iter().filter(|reader| *reader.site == *site);
    let known: Vec<String> = of_site.map(|reader| reader.destination.to_string()).collect();
    if destinations.iter().any(|name| !known.contains(name)) {
        let problem = "the configuration has no such destination in server mode";
        return Err(invalid_field("destinations", problem));
    }
    if destinations.is_empty() {
        destinations = known;
    }
    let left_out = destinations.len().saturating_sub(DESTINATIONS_LIMIT);
    destinations.truncate(DESTINATIONS_LIMIT);
    let rehearsals = context.control.rehearse(&site, input, &destinations).await?;
    let shown = caller.shows_personal;
    let rows = rehearsals.into_iter().map(|rehearsal| RehearsedDestination::new(rehearsal, shown));
    Ok(Json(RehearsalAnswer { destinations: rows.collect(), left_out }))
}

impl RehearsedDestination {
    fn new(rehearsal: EventRehearsal, shows_personal: bool) -> Self {
        let text = |text: &str| match shows_personal {
            true => text.to_owned(),
            false => mask_text(text),
        };
        let reason = rehearsal.reason();
        let mut mapped = rehearsal.mapped.as_ref().and_then(|it| serde_json::to_value(&**it).ok());
        if !shows_personal {
            mapped.iter_mut().for_each(mask_event);
        }
        let row = |request: &RehearsedRequest| RequestRow {
            method: request.method.clone(),
            url: text(&request.url),
            headers: request.headers.iter().map(|(name, it)| (name.clone(), text(it))).collect(),
            body: text(&request.body),
        };
        let requests: Vec<RequestRow> = rehearsal.requests.iter().map(row).collect();
        let problems = rehearsal.problems.iter().map(|missing| MappingProblemRow {
            place: missing.place.clone(),
            problem: text(&missing.problem),
        });
        let dropped = rehearsal.dropped.listed().iter().map(|field| text(&field.to_string()));
        Self {
            outcome: rehearsal.outcome(),
            reason: reason.map(|reason| reason.code.to_owned()),
            detail: reason.and_then(|reason| reason.detail.as_deref().map(text)),
            mapped,
            request: requests.last().cloned(),
            requests,
            dropped: dropped.collect(),
            problems: problems.collect(),
            destination: rehearsal.destination,
        }
    }
}
