//! Routes for dead letters.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::audit_draft::AuditDraft;
use super::caller::{Caller, CallerScope};
use super::dead_groups::{DeadFilter, optional_time};
use super::events::{VendorCallRow, parse_record};
use super::masking::{mask_event, mask_message_text, mask_text};
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

/// The filter of a list of dead letters.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeadLettersQuery {
    #[serde(deserialize_with = "optional")]
    site: Option<String>,
    #[serde(deserialize_with = "optional")]
    destination: Option<String>,
    /// The reason's code.
    #[serde(deserialize_with = "optional")]
    reason: Option<String>,
    /// The event's name, or its kind.
    #[serde(deserialize_with = "optional")]
    event: Option<String>,
    /// A part of the event's name, of the reason's code or of the group's reply.
    #[serde(deserialize_with = "optional")]
    q: Option<String>,
    /// The reply, as the groups of letters have it.
    #[serde(deserialize_with = "optional")]
    reply: Option<String>,
    /// The earliest time of the death, RFC 3339.
    #[param(value_type = Option<String>, format = DateTime)]
    #[serde(deserialize_with = "optional_time")]
    from: Option<Timestamp>,
    /// The end of the times, not included, RFC 3339.
    #[param(value_type = Option<String>, format = DateTime)]
    #[serde(deserialize_with = "optional_time")]
    to: Option<Timestamp>,
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
    last_call: Option<VendorCallRow>,
    /// The canonical event.
    body: Value,
}

/// Dead letters by their ids, all of one destination, or all that a filter selects.
#[derive(Deserialize, ToSchema)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum DeadLettersRequest {
    /// At most 10,000 ids.
    Ids { ids: Vec<i64> },
    /// A destination of a site.
    Reader { site: String, destination: String },
    /// The letters that a filter selects, up to and including the greatest id that the operator has seen.
    Filter {
        filter: DeadFilter,
        until_id: i64,
        /// True if the letters are only counted.
        #[serde(default)]
        plan: bool,
    },
}

/// The letters of a request.
struct ResolvedLetters {
    selection: DeadLetterSelection,
    /// True if they are only counted.
    is_plan: bool,
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

impl DeadLetterRow {
    /// Masks what the vendor or the site wrote.
    fn mask(&mut self) {
        self.detail = mask_text(&self.detail);
        self.event = self.event.as_deref().map(mask_text);
        self.message_id = self.message_id.as_deref().map(mask_message_text);
    }
}

impl DeadLetterDetails {
    fn mask(&mut self) {
        self.row.mask();
        mask_event(&mut self.body);
        self.last_call.iter_mut().for_each(VendorCallRow::mask);
    }
}

impl DeadLettersRequest {
    /// `is_limited` if the caller may see no other readers.
    fn resolve(
        self,
        readers: &[ReaderSummary],
        is_limited: bool,
    ) -> Result<ResolvedLetters, AdminRequestError> {
        let (selection, is_plan) = match self {
            Self::Ids { ids } if ids.len() > IDS_LIMIT => {
                return Err(invalid_field("ids", "too many ids"));
            }
            Self::Ids { ids } => (DeadLetterSelection::Ids(ids), false),
            Self::Reader { site, destination } => {
                let reader = find_reader(readers, &site, &destination)?.reader;
                (DeadLetterSelection::Reader(reader), false)
            }
            Self::Filter { filter, until_id, plan } => {
                let filter = filter.resolve(readers, is_limited)?;
                (DeadLetterSelection::Matching { filter, until_id }, plan)
            }
        };
        Ok(ResolvedLetters { selection, is_plan })
    }
}

/// Lists dead letters, newest first.
#[utoipa::path(get, path = "/api/v1/dead", params(DeadLettersQuery),
    responses((status = 200, body = Vec<DeadLetterRow>)))]
pub(super) async fn list_dead_letters(
    State(api): State<SharedApi>,
    caller: Caller,
    QueryParams(query): QueryParams<DeadLettersQuery>,
) -> ApiResult<Vec<DeadLetterRow>> {
    let readers = readers_of(&api.context, &caller.sites);
    let DeadLettersQuery { site, destination, reason, event, q, reply, from, to, before, limit } =
        query;
    let filter = DeadFilter { site, destination, reason, event, q, reply, from, to };
    let filter = filter.resolve(&readers, !caller.sites.is_all())?;
    let limit = limit.unwrap_or(DEFAULT_DEAD_LIMIT).clamp(1, DEAD_LIMIT);
    let records = api.context.search.list_dead_letters(filter, before, limit).await?;
    let row = |record: &DeadLetterRecord| {
        let mut row = DeadLetterRow::new(record, &readers);
        if !caller.shows_personal {
            row.mask();
        }
        row
    };
    Ok(Json(records.iter().map(row).collect()))
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
    let mut details = DeadLetterDetails {
        row: DeadLetterRow::new(&record, &api.context.control.readers()),
        last_call: record.last_call.as_ref().map(VendorCallRow::from),
        body: parse_record(&record.body),
    };
    if !caller.shows_personal {
        details.mask();
    }
    Ok(Json(details))
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
) -> Result<ResolvedLetters, AdminRequestError> {
    let mut resolved = request.resolve(&readers_of(context, scope), !scope.is_all())?;
    if let DeadLetterSelection::Ids(ids) = &mut resolved.selection
        && !scope.is_all()
    {
        let mut visible = Vec::new();
        for id in std::mem::take(ids) {
            visible.extend(visible_letter(context, scope, id).await?.map(|letter| letter.id));
        }
        *ids = visible;
    }
    Ok(resolved)
}

/// Delivers dead letters again, or counts those that a filter selects.
#[utoipa::path(post, path = "/api/v1/dead/retry", request_body = DeadLettersRequest,
    responses((status = 200, body = CountAnswer)))]
pub(super) async fn retry_dead_letters(
    State(api): State<SharedApi>,
    CallerScope(scope): CallerScope,
    audit: AuditDraft,
    JsonBody(request): JsonBody<DeadLettersRequest>,
) -> ApiResult<CountAnswer> {
    let ResolvedLetters { selection, is_plan } =
        visible_selection(&api.context, &scope, request).await?;
    if is_plan {
        let count = api.context.search.count_dead_letters(selection).await?;
        audit.add_detail(&format!("plan: {count} letters"));
        return Ok(Json(CountAnswer { count }));
    }
    let count = api.context.journal.retry_dead(selection).await?;
    audit.add_detail(&format!("{count} letters"));
    // Ids may belong to any reader; one without due events goes back to sleep.
    for reader in &readers_of(&api.context, &scope) {
        api.context.control.wake(reader.reader);
    }
    Ok(Json(CountAnswer { count }))
}

/// Deletes dead letters, or counts those that a filter selects.
#[utoipa::path(post, path = "/api/v1/dead/drop", request_body = DeadLettersRequest,
    responses((status = 200, body = CountAnswer)))]
pub(super) async fn drop_dead_letters(
    State(api): State<SharedApi>,
    CallerScope(scope): CallerScope,
    audit: AuditDraft,
    JsonBody(request): JsonBody<DeadLettersRequest>,
) -> ApiResult<CountAnswer> {
    let ResolvedLetters { selection, is_plan } =
        visible_selection(&api.context, &scope, request).await?;
    let (count, plan) = match is_plan {
        true => (api.context.search.count_dead_letters(selection).await?, "plan: "),
        false => (api.context.journal.drop_dead(selection).await?, ""),
    };
    audit.add_detail(&format!("{plan}{count} letters"));
    Ok(Json(CountAnswer { count }))
}
