//! The routes of the listener, each with its access, and the OpenAPI document that is made of the same attributes.

use std::sync::Arc;

use axum::extract::State;
use axum::middleware::{from_fn_with_state, map_response_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio_util::sync::CancellationToken;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, Content, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::{RouteAccess, RouteTable, TOKEN_SCHEME, operations};
use super::reply::{self, AdminProblem};
use super::{
    AdminContext, AdminRequestError, alerts, dead_letters, destinations, events, guard, scripts,
    segments, sending, series, status, subject, tail,
};
use tagway_console::access::Role;

/// The name of the answer to rejected requests in the document.
const PROBLEM: &str = "Problem";

/// The state of all handlers.
pub(super) type SharedApi = Arc<ApiState>;

/// The result of a handler that answers in JSON.
pub(super) type ApiResult<T> = Result<Json<T>, AdminRequestError>;

/// The dependencies of the handlers, and the texts that are made once.
pub(super) struct ApiState {
    pub(super) context: Arc<AdminContext>,
    /// Cancelled when the listener stops: streams end.
    pub(super) drain: CancellationToken,
    document: OpenApi,
    index: String,
}

/// The routers of the listener's connections.
pub(super) struct AdminRouters {
    /// All routes.
    pub(super) complete: Router,
    /// Health and metrics only, for the connections of the reserve.
    pub(super) health: Router,
}

impl AdminRouters {
    /// Creates the routers. Streams end when `drain` is cancelled.
    pub(super) fn new(context: AdminContext, drain: CancellationToken) -> Self {
        let context = Arc::new(context);
        let (api, document) = api_routes(&context).split_for_parts();
        let index = index(&document);
        let state = Arc::new(ApiState { context, drain, document, index });
        let complete = api.merge(health_routes()).route("/", get(get_index));
        let complete = complete.fallback(|| async { AdminRequestError::NotFound });
        let health = health_routes().fallback(|| async { AdminRequestError::Full });
        Self { complete: guarded(complete, &state), health: guarded(health, &state) }
    }
}

/// The routes below `/api/v1`, each with its access.
fn api_routes(context: &Arc<AdminContext>) -> OpenApiRouter<SharedApi> {
    const OPEN: RouteAccess = RouteAccess::open();
    const READ: RouteAccess = RouteAccess::read(Role::Viewer);
    let edit = |action| RouteAccess::write(Role::Editor, action);
    let manage = |action| RouteAccess::write(Role::Admin, action);
    let table = RouteTable::new(context, empty_document())
        .add(OPEN, routes!(status::get_version))
        .add(OPEN, routes!(status::list_sites))
        .add(OPEN, routes!(status::get_ledger))
        .add(READ, routes!(get_openapi))
        .add(READ.needs_personal(), routes!(tail::watch_feed))
        .add(READ.needs_personal(), routes!(events::get_event))
        .add(READ.needs_personal(), routes!(events::find_event))
        .add(READ, routes!(dead_letters::list_dead_letters))
        .add(READ.masks_personal(), routes!(dead_letters::get_dead_letter))
        .add(edit("dead.retry"), routes!(dead_letters::retry_dead_letters))
        .add(edit("dead.drop"), routes!(dead_letters::drop_dead_letters))
        .add(edit("destination.pause"), routes!(destinations::pause_destination))
        .add(edit("destination.resume"), routes!(destinations::resume_destination))
        .add(edit("replay"), routes!(sending::replay_events))
        .add(edit("event.send"), routes!(sending::send_event))
        .add(manage("person.forget"), routes!(subject::forget_subject))
        .add(manage("person.export").needs_personal(), routes!(subject::export_subject))
        .add(READ.needs_personal(), routes!(subject::list_profiles))
        .add(READ, routes!(scripts::list_scripts))
        .add(READ, routes!(scripts::diff_script))
        .add(edit("script.approve"), routes!(scripts::approve_script))
        .add(READ, routes!(segments::list_segments))
        .add(READ, routes!(segments::get_segment))
        .add(READ.needs_personal(), routes!(segments::stream_members))
        .add(READ.needs_personal(), routes!(segments::stream_changes))
        .add(READ.needs_personal(), routes!(segments::preview_segment))
        .add(edit("segment.run"), routes!(segments::run_segment))
        .add(manage("segment.forget"), routes!(segments::forget_sync))
        .add(READ, routes!(series::get_series))
        .add(READ, routes!(series::get_outcomes))
        .add(READ, routes!(alerts::list_alerts))
        .add(READ, routes!(alerts::list_alert_rules))
        .add(READ, routes!(alerts::get_alert))
        .add(edit("alert.test"), routes!(alerts::test_alert_channel))
        .add(edit("alert.acknowledge"), routes!(alerts::acknowledge_alert));
    let mut all = table.into_router();
    let items = all.get_openapi_mut().paths.paths.values_mut();
    for Operation { summary, responses, .. } in items.flat_map(operations) {
        for response in responses.responses.values_mut() {
            let RefOr::T(response) = response else { continue };
            response.description = summary.clone().unwrap_or_default();
        }
        let problem = Ref::from_response_name(PROBLEM);
        responses.responses.insert("default".to_owned(), problem.into());
    }
    all
}

/// The routes that are answered with any number of connections.
fn health_routes() -> Router<SharedApi> {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(status::get_readiness))
        .route("/metrics", get(status::get_metrics))
}

/// Adds the checks and the fields of every request and response.
fn guarded(routes: Router<SharedApi>, state: &SharedApi) -> Router {
    routes
        // Replaces the fallback below the check of the token: the method is checked first.
        .method_not_allowed_fallback(|| async { AdminRequestError::Method })
        .layer(from_fn_with_state(state.context.clone(), guard::require_own_source))
        .layer(map_response_with_state(state.context.clone(), reply::finish))
        .with_state(state.clone())
}

fn empty_document() -> OpenApi {
    let token = Http::builder()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("The text of data_dir/admin.token."))
        .build();
    let problem = ResponseBuilder::new()
        .description("The request is rejected, or failed (RFC 9457).")
        .content(
            "application/problem+json",
            Content::new(Some(Ref::from_schema_name("AdminProblem"))),
        )
        .build();
    let components = ComponentsBuilder::new()
        .security_scheme(TOKEN_SCHEME, SecurityScheme::Http(token))
        .schema_from::<AdminProblem>()
        .response(PROBLEM, problem)
        .build();
    let info = InfoBuilder::new().title("Tagway admin API").version(env!("CARGO_PKG_VERSION"));
    OpenApiBuilder::new().info(info.build()).components(Some(components)).build()
}

/// The text of `GET /`: one line for each operation.
fn index(document: &OpenApi) -> String {
    let mut text =
        "Tagway's operators' listener.\n\nGET    /livez\nGET    /readyz\nGET    /metrics\n"
            .to_owned();
    for (path, item) in &document.paths.paths {
        let methods = [
            ("GET", &item.get),
            ("POST", &item.post),
            ("PATCH", &item.patch),
            ("DELETE", &item.delete),
        ];
        for (method, operation) in methods {
            let Some(operation) = operation else { continue };
            let summary = operation.summary.as_deref().unwrap_or_default();
            let token = if operation.security.is_some() { " (token)" } else { "" };
            text.push_str(&format!("{method:<6} {path}{token}: {summary}\n"));
        }
    }
    text.push_str("\nThe token is in data_dir/admin.token: Authorization: Bearer TOKEN\n");
    text.push_str("GET /api/v1/openapi.json describes parameters, bodies and answers.\n");
    text
}

async fn get_index(State(api): State<SharedApi>) -> impl IntoResponse {
    api.index.clone()
}

/// Describes all routes of the API in OpenAPI 3.1.
#[utoipa::path(get, path = "/api/v1/openapi.json", responses((status = 200, body = Object)))]
async fn get_openapi(State(api): State<SharedApi>) -> Response {
    Json(&api.document).into_response()
}
