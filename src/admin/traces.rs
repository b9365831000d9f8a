//! Routes for traces: everything that happens to one visitor's events, for half an hour.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::AdminRequestError;
use super::audit_draft::AuditDraft;
use super::caller::Caller;
use super::events::check_site;
use super::masking::mask_happening;
use super::request::{JsonBody, PathParams, invalid_field};
use super::router::{ApiResult, SharedApi};
use tagway_core::feed::{FeedEvent, TraceSummary, shortened};

/// The longest id of a visitor that a trace follows: ids in events are not longer.
const VISITOR_CHARS: usize = 512;

/// A trace to start.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTraceBody {
    site: String,
    /// The visitor to follow: the id in the gateway's cookie, an anonymous id or a user id. Without one, the trace
    /// follows the browsers that open its link.
    #[serde(default)]
    visitor: Option<String>,
}

/// A trace.
#[derive(Serialize, ToSchema)]
pub(super) struct TraceRow {
    id: String,
    site: String,
    /// The page to open in the browser that is to be followed; null for a trace of a visitor, or if the site has
    /// neither an origin nor a host with a name.
    link: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// The visitor that it follows.
    visitor: Option<String>,
    /// The number of events that it follows.
    events: usize,
    /// The number of happenings that it did not keep, because a trace has at most 1 MiB.
    missed: u64,
}

/// All traces.
#[derive(Serialize, ToSchema)]
pub(super) struct TracesAnswer {
    rows: Vec<TraceRow>,
}

/// A trace with its happenings.
#[derive(Serialize, ToSchema)]
pub(super) struct TraceDetails {
    #[serde(flatten)]
    row: TraceRow,
    /// Objects as the lines of the live feed, with complete requests and replies, the oldest first.
    happenings: Vec<Value>,
}

/// A trace that has ended.
#[derive(Serialize, ToSchema)]
pub(super) struct EndedTrace {
    id: String,
}

impl TraceRow {
    fn new(api: &SharedApi, trace: TraceSummary, shows_personal: bool) -> Self {
        let TraceSummary { id, site, visitor, expires_at, events, missed } = trace;
        let link = match &visitor {
            Some(_) => None,
            None => api.context.control.trace_link(&site, &id, expires_at),
        };
        let visitor = match shows_personal {
            true => visitor,
            false => visitor.as_deref().map(shortened),
        };
        let (id, site) = (id.to_string(), site.to_string());
        Self { id, site, link, expires_at, visitor, events, missed }
    }
}

/// Starts a trace: complete requests and replies of one visitor's events are kept for 30 minutes, in memory.
#[utoipa::path(post, path = "/api/v1/traces", request_body = NewTraceBody,
    responses((status = 200, body = TraceRow)))]
pub(super) async fn start_trace(
    State(api): State<SharedApi>,
    caller: Caller,
    audit: AuditDraft,
    JsonBody(body): JsonBody<NewTraceBody>,
) -> ApiResult<TraceRow> {
    check_site(&api.context, &body.site)?;
    let visitor = body.visitor.map(|id| id.trim().to_owned()).filter(|id| !id.is_empty());
    if visitor.as_ref().is_some_and(|id| id.chars().count() > VISITOR_CHARS) {
        return Err(invalid_field("visitor", "no id of a visitor is as long"));
    }
    let id = Uuid::new_v4().simple().to_string();
    let now = api.context.control.now();
    // The visitor's id is not in the row: it would outlive the visitor's data.
    audit.add_detail(if visitor.is_some() { "a visitor" } else { "a link" });
    let trace = api.context.feed.traces().start(&id, &body.site, visitor, now)?;
    Ok(Json(TraceRow::new(&api, trace, caller.shows_personal)))
}

/// Lists the traces.
#[utoipa::path(get, path = "/api/v1/traces", responses((status = 200, body = TracesAnswer)))]
pub(super) async fn list_traces(
    State(api): State<SharedApi>,
    caller: Caller,
) -> ApiResult<TracesAnswer> {
    let mut traces = api.context.feed.traces().list(api.context.control.now());
    traces.retain(|trace| caller.may_see(&trace.site));
    let rows = traces.into_iter().map(|trace| TraceRow::new(&api, trace, caller.shows_personal));
    Ok(Json(TracesAnswer { rows: rows.collect() }))
}

/// Returns a trace with everything that happened to the events that it follows.
#[utoipa::path(get, path = "/api/v1/traces/{id}", params(("id" = String, Path)),
    responses((status = 200, body = TraceDetails)))]
pub(super) async fn get_trace(
    State(api): State<SharedApi>,
    caller: Caller,
    PathParams(id): PathParams<String>,
) -> ApiResult<TraceDetails> {
    let shows_personal = caller.shows_personal;
    let (trace, happenings) = visible_trace(&api, &caller, &id)?;
    let shown = |happening: &FeedEvent| {
        let mut value = serde_json::to_value(happening).ok()?;
        if !shows_personal {
            mask_happening(&mut value);
        }
        Some(value)
    };
    let happenings = happenings.iter().filter_map(|happening| shown(happening)).collect();
    Ok(Json(TraceDetails { row: TraceRow::new(&api, trace, shows_personal), happenings }))
}

/// Ends a trace, and forgets what it kept.
#[utoipa::path(delete, path = "/api/v1/traces/{id}", params(("id" = String, Path)),
    responses((status = 200, body = EndedTrace)))]
pub(super) async fn end_trace(
    State(api): State<SharedApi>,
    caller: Caller,
    audit: AuditDraft,
    PathParams(id): PathParams<String>,
) -> ApiResult<EndedTrace> {
    audit.set_object(id.as_str());
    let (trace, _) = visible_trace(&api, &caller, &id)?;
    audit.set_site(&trace.site);
    api.context.feed.traces().end(&id);
    Ok(Json(EndedTrace { id }))
}

/// Reads a trace of a site that the caller may see.
fn visible_trace(
    api: &SharedApi,
    caller: &Caller,
    id: &str,
) -> Result<(TraceSummary, Vec<Arc<FeedEvent>>), AdminRequestError> {
    let found = api.context.feed.traces().read(id, api.context.control.now());
    found.filter(|(trace, _)| caller.may_see(&trace.site)).ok_or(AdminRequestError::NotFound)
}
