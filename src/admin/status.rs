//! Routes for the gateway's state: version, sites, ledger, readiness and metrics.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::caller::CallerScope;
use super::router::{ApiResult, SharedApi};
use super::{exposition, readers_of};

/// The program's version.
#[derive(Serialize, ToSchema)]
pub(super) struct VersionAnswer {
    version: &'static str,
}

/// The state of a destination, and the counts of its events at one moment.
#[derive(Serialize, ToSchema)]
pub(super) struct LedgerRow {
    #[schema(value_type = String)]
    site: Arc<str>,
    #[schema(value_type = String)]
    destination: Arc<str>,
    /// The sum of the five counts below.
    accepted: u64,
    delivered: u64,
    skipped: u64,
    dead: u64,
    pending: u64,
    held: u64,
    /// `running`, `retrying`, `paused` and others.
    state: &'static str,
    /// The reason that it is not running. May quote the vendor.
    reason: Option<String>,
}

/// Returns the version of the program.
#[utoipa::path(get, path = "/api/v1/version", responses((status = 200, body = VersionAnswer)))]
pub(super) async fn get_version() -> Json<VersionAnswer> {
    Json(VersionAnswer { version: env!("CARGO_PKG_VERSION") })
}

/// Lists the names of all sites, in the order of the configuration.
#[utoipa::path(get, path = "/api/v1/sites", responses((status = 200, body = Vec<String>)))]
pub(super) async fn list_sites(
    State(api): State<SharedApi>,
    CallerScope(scope): CallerScope,
) -> Json<Vec<Arc<str>>> {
    let mut sites = api.context.control.sites();
    sites.retain(|site| scope.may_see(site));
    Json(sites)
}

/// Lists the state and the ledger of every destination.
#[utoipa::path(get, path = "/api/v1/ledger", responses((status = 200, body = Vec<LedgerRow>)))]
pub(super) async fn get_ledger(
    State(api): State<SharedApi>,
    CallerScope(scope): CallerScope,
) -> ApiResult<Vec<LedgerRow>> {
    let readers = readers_of(&api.context, &scope);
    let ids = readers.iter().map(|reader| reader.reader).collect();
    let accounts = api.context.journal.accounts(ids).await?;
    let rows = readers.into_iter().zip(accounts).map(|(reader, account)| LedgerRow {
        site: reader.site,
        destination: reader.destination,
        accepted: account.ledger.accepted,
        delivered: account.ledger.delivered,
        skipped: account.ledger.skipped,
        dead: account.ledger.dead,
        pending: account.ledger.pending,
        held: account.ledger.held,
        state: reader.state,
        reason: reader.reason,
    });
    Ok(Json(rows.collect()))
}

/// Answers `GET /readyz`.
pub(super) async fn get_readiness(State(api): State<SharedApi>) -> impl IntoResponse {
    let reasons = api.context.readiness.reasons();
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": ready, "reasons": reasons })))
}

/// Answers `GET /metrics`.
pub(super) async fn get_metrics(
    State(api): State<SharedApi>,
    headers: HeaderMap,
) -> impl IntoResponse {
    let text = api.context.control.scrape().await;
    let mut accepts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if accepts.any(exposition::wants_openmetrics) {
        ([(CONTENT_TYPE, exposition::OPENMETRICS)], text)
    } else {
        ([(CONTENT_TYPE, exposition::CLASSIC)], exposition::classic(&text))
    }
}
