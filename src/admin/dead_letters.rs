//! Routes for dead letters.

use std::cmp::Reverse;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::audit_draft::AuditDraft;
use super::caller::{Caller, CallerScope};
use super::events::{VendorCallRow, parse_record};
use super::request::{JsonBody, PathParams, QueryParams, invalid_field, optional};
use super::router::{ApiResult, SharedApi};
use super::{AdminContext, AdminRequestError, ReaderSummary, find_reader, readers_of};
use tagway_console::access::SiteScope;
use tagway_storage::journal::{DeadLetterRecord, DeadLetterSelection};

/// The most dead letters in one response, and the default.
const DEAD_LIMIT: usize = 1000;
const DEFAULT_DEAD_LIMIT: usize = 100;

/// The most dead letters named in one request.
const IDS_LIMIT: usize = 10_000;

/// The filter of a list of dead letters. `site` and `destination` go together.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeadLettersQuery {
    #[serde(deserialize_with = "optional")]
    site: Option<String>,
    #[serde(deserialize_with = "optional")]
    destination: Option<String>,
    /// Lists only letters with a smaller id.
    #[serde(deserialize_with = "optional")]
    before: Option<i64>,
    /// By default 100, at most 1000.
    #[serde(deserialize_with = "optional")]
    limit: Option<usize>,
}

/// A dead letter without its event. If its destination is no longer configured, the row has no site and
/// destination names.
#[derive(Serialize, ToSchema)]
pub(super) struct DeadLetterRow {
    id: i64,
    #[schema(value_type = Option<String>)]
    site: Option<Arc<str>>,
    #[schema(value_type = Option<String>)]
    destination: Option<Arc<str>>,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The event's sequence number in its site.
    seq: u64,
    /// The event's name, or its kind.
    event: Option<String>,
    message_id: Option<String>,
    /// The reason's code.
    reason: String,
    detail: String,
    attempts: u32,
}

/// A dead letter with its event.
#[derive(Serialize, ToSchema)]
pub(super) struct DeadLetterDetails {
    #[serde(flatten)]
    row: DeadLetterRow,
    /// Null if there was none, or if personal data is masked.
    last_call: Option<VendorCallRow>,
    /// The canonical event; null if personal data is masked.
    body: Value,
}

/// Dead letters by their ids, or all of one destination.
#[derive(Deserialize, ToSchema)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum DeadLettersRequest {
    /// At most 10,000 ids.
    Ids { ids: Vec<i64> },
    /// A destination of a site.
    Reader { site: String, destination: String },
}

/// The number of events that a request changed.
#[derive(Serialize, ToSchema)]
pub(super) struct CountAnswer {
    count: u64,
}

impl DeadLetterRow {
    fn new(record: &DeadLetterRecord, readers: &[ReaderSummary]) -> Self {
        /// The members of the event that a list shows.
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct DeadLetterEvent {
            #[serde(rename = "type")]
            kind: String,
            event: Option<String>,
            message_id: String,
        }
        let reader = readers.iter().find(|reader| reader.reader == record.reader);
        let event = serde_json::from_slice::<DeadLetterEvent>(&record.body).ok();
        let (name, message_id) =
            event.map(|it| (it.event.unwrap_or(it.kind), it.message_id)).unzip();
        Self {
            id: record.id,
            site: reader.map(|reader| reader.site.clone()),
            destination: reader.map(|reader| reader.destination.clone()),
            at: record.at,
            seq: record.seq,
            event: name,
            message_id,
            reason: record.reason.clone(),
            detail: record.detail.clone(),
            attempts: record.attempts,
        }
    }
}

impl DeadLettersRequest {
    fn resolve(self, readers: &[ReaderSummary]) -> Result<DeadLetterSelection, AdminRequestError> {
        match self {
            Self::Ids { ids } if ids.len() > IDS_LIMIT => Err(invalid_field("ids", "too many ids")),
            Self::Ids { ids } => Ok(DeadLetterSelection::Ids(ids)),
            Self::Reader { site, destination } => find_reader(readers, &site, &destination)
                .map(|reader| DeadLetterSelection::Reader(reader.reader)),
        }
    }
}

/// Lists dead letters, newest first.
#[utoipa::path(get, path = "/api/v1/dead", params(DeadLettersQuery),
    responses((status = 200, body = Vec<DeadLetterRow>)))]
pub(super) async fn list_dead_letters(
    State(api): State<SharedApi>,
    CallerScope(scope): CallerScope,
    QueryParams(query): QueryParams<DeadLettersQuery>,
) -> ApiResult<Vec<DeadLetterRow>> {
    let readers = readers_of(&api.context, &scope);
    let together = "site and destination go together";
    let reader = match (query.site, query.destination) {
        (None, None) => None,
        (Some(site), Some(destination)) => Some(find_reader(&readers, &site, &destination)?.reader),
        (None, Some(_)) => return Err(invalid_field("site", together)),
        (Some(_), None) => return Err(invalid_field("destination", together)),
    };
    let limit = query.limit.unwrap_or(DEFAULT_DEAD_LIMIT).clamp(1, DEAD_LIMIT);
    let list = |reader| api.context.journal.list_dead_letters(reader, query.before, limit);
    let mut records = Vec::new();
    if reader.is_some() || scope.is_all() {
        records = list(reader).await?;
    } else {
        for reader in &readers {
            records.extend(list(Some(reader.reader)).await?);
            records.sort_unstable_by_key(|record| Reverse(record.id));
            records.truncate(limit);
        }
    }
    Ok(Json(records.iter().map(|record| DeadLetterRow::new(record, &readers)).collect()))
}

/// Returns one dead letter with its event and its last call.
#[utoipa::path(get, path = "/api/v1/dead/{id}", params(("id" = i64, Path)),
    responses((status = 200, body = DeadLetterDetails)))]
pub(super) async fn get_dead_letter(
    State(api): State<SharedApi>,
    caller: Caller,
    PathParams(id): PathParams<i64>,
) -> ApiResult<DeadLetterDetails> {
    let record = visible_letter(&api.context, &caller.sites, id).await?;
    let record = record.ok_or(AdminRequestError::NotFound)?;
    let shown = caller.shows_personal;
    Ok(Json(DeadLetterDetails {
        row: DeadLetterRow::new(&record, &api.context.control.readers()),
        last_call: record.last_call.as_ref().filter(|_| shown).map(VendorCallRow::from),
        body: if shown { parse_record(&record.body) } else { Value::Null },
    }))
}

/// Reads a dead letter, if the scope includes its site. One of a removed destination belongs to no site any more.
async fn visible_letter(
    context: &AdminContext,
    scope: &SiteScope,
    id: i64,
) -> Result<Option<DeadLetterRecord>, AdminRequestError> {
    let record = context.journal.dead_letter(id).await?;
    let readers = readers_of(context, scope);
    let is_visible = |record: &DeadLetterRecord| {
        scope.is_all() || readers.iter().any(|reader| reader.reader == record.reader)
    };
    Ok(record.filter(is_visible))
}

/// The letters of a request that the caller may see.
async fn visible_selection(
    context: &AdminContext,
    scope: &SiteScope,
    request: DeadLettersRequest,
) -> Result<DeadLetterSelection, AdminRequestError> {
    match request.resolve(&readers_of(context, scope))? {
        DeadLetterSelection::Ids(ids) if !scope.is_all() => {
            let mut visible = Vec::new();
            for id in ids {
                visible.extend(visible_letter(context, scope, id).await?.map(|letter| letter.id));
            }
            Ok(DeadLetterSelection::Ids(visible))
        }
        selection => Ok(selection),
    }
}

/// Delivers dead letters again.
#[utoipa::path(post, path = "/api/v1/dead/retry", request_body = DeadLettersRequest,
    responses((status = 200, body = CountAnswer)))]
pub(super) async fn retry_dead_letters(
    State(api): State<SharedApi>,
    CallerScope(scope): CallerScope,
    audit: AuditDraft,
    JsonBody(request): JsonBody<DeadLettersRequest>,
) -> ApiResult<CountAnswer> {
    let selection = visible_selection(&api.context, &scope, request).await?;
    let count = api.context.journal.retry_dead(selection).await?;
    audit.add_detail(&format!("{count} letters"));
    // Ids may belong to any reader; one without due events goes back to sleep.
    for reader in &readers_of(&api.context, &scope) {
        api.context.control.wake(reader.reader);
    }
    Ok(Json(CountAnswer { count }))
}

/// Deletes dead letters.
#[utoipa::path(post, path = "/api/v1/dead/drop", request_body = DeadLettersRequest,
    responses((status = 200, body = CountAnswer)))]
pub(super) async fn drop_dead_letters(
    State(api): State<SharedApi>,
    CallerScope(scope): CallerScope,
    audit: AuditDraft,
    JsonBody(request): JsonBody<DeadLettersRequest>,
) -> ApiResult<CountAnswer> {
    let selection = visible_selection(&api.context, &scope, request).await?;
    let count = api.context.journal.drop_dead(selection).await?;
    audit.add_detail(&format!("{count} letters"));
    Ok(Json(CountAnswer { count }))
}
