//! Routes of the audit log: pages, the check of its chain, and the export.

use std::convert::Infallible;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use hyper::body::Frame;
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;

use super::reply;
use super::request::{NoParams, QueryParams, optional};
use super::router::{ApiResult, SharedApi};
use tagway_console::audit::{AuditCheckPage, AuditFilter, AuditPage, PAGE_ROWS};

/// The rows of a page by default.
const DEFAULT_ROWS: usize = 100;

/// The filter of the audit log.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// Lists only rows with a smaller id.
    #[serde(deserialize_with = "optional")]
    before: Option<i64>,
    /// The name of an account or token.
    #[serde(deserialize_with = "optional")]
    actor: Option<String>,
    /// An act, or a kind of acts such as `destination.*`.
    #[serde(deserialize_with = "optional")]
    action: Option<String>,
    #[serde(deserialize_with = "optional")]
    site: Option<String>,
    /// By default 100, at most 1000.
    #[serde(deserialize_with = "optional")]
    limit: Option<usize>,
}

/// The start of a check.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditCheckQuery {
    /// The member `next` of the check before; by default the check begins at the oldest row.
    #[serde(deserialize_with = "optional")]
    after: Option<i64>,
}

/// Lists the acts, newest first.
#[utoipa::path(get, path = "/api/v1/audit", params(AuditQuery),
    responses((status = 200, body = AuditPage)))]
pub(super) async fn list_audit(
    State(api): State<SharedApi>,
    QueryParams(query): QueryParams<AuditQuery>,
) -> ApiResult<AuditPage> {
    let AuditQuery { before, actor, action, site, limit } = query;
    let limit = limit.unwrap_or(DEFAULT_ROWS);
    let filter = AuditFilter { before, actor, action, site, limit };
    Ok(Json(api.context.audit.page(filter).await?))
}

/// Checks the chain of the audit log: some thousand rows.
#[utoipa::path(get, path = "/api/v1/audit/check", params(AuditCheckQuery),
    responses((status = 200, body = AuditCheckPage)))]
pub(super) async fn check_audit(
    State(api): State<SharedApi>,
    QueryParams(AuditCheckQuery { after }): QueryParams<AuditCheckQuery>,
) -> ApiResult<AuditCheckPage> {
    Ok(Json(api.context.audit.check(after).await?))
}

/// Streams all acts, newest first, one a line.
///
/// After an error, the last line has a member `error`.
#[utoipa::path(get, path = "/api/v1/audit/export",
    responses((status = 200, body = Object, content_type = "application/x-ndjson")))]
pub(super) async fn export_audit(
    State(api): State<SharedApi>,
    QueryParams(NoParams {}): QueryParams<NoParams>,
) -> Response {
    let audit = api.context.audit.clone();
    let pages = stream::unfold(Some(i64::MAX), move |before| {
        let audit = audit.clone();
        async move {
            let before = Some(before?);
            let filter = AuditFilter { before, limit: PAGE_ROWS, ..AuditFilter::default() };
            let (text, next) = match audit.page(filter).await {
                Ok(AuditPage { rows, next, .. }) => {
                    let lines = rows.iter().filter_map(|row| serde_json::to_string(row).ok());
                    (lines.map(|line| line + "\n").collect::<String>(), next)
                }
                Err(error) => (format!("{}\n", json!({ "error": error.to_string() })), None),
            };
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(text))), next))
        }
    });
    reply::json_lines(pages)
}
