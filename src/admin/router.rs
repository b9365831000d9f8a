//! The routes of the listener, and the OpenAPI document that is made of the same attributes.
//!
//! [`require_token`] adds the check of the token to routes and the security scheme to their operations in one
//! step, so that the document cannot differ from the checks.

use std::sync::Arc;

use axum::extract::State;
use axum::middleware::{from_fn_with_state, map_response_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio_util::sync::CancellationToken;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, Content, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::reply::{self, AdminProblem};
use super::{
    AdminContext, AdminRequestError, dead_letters, destination_details, destinations, effective,
    events, guard, overview, profile_search, scripts, segments, sending, status, subject, tail,
};

/// The names of the security scheme and of the answer to rejected requests in the document.
const TOKEN: &str = "token";
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

/// The routes below `/api/v1`.
fn api_routes(context: &Arc<AdminContext>) -> OpenApiRouter<SharedApi> {
    let protected = OpenApiRouter::new()
        .routes(routes!(get_openapi))
        .routes(routes!(tail::watch_feed))
        .routes(routes!(events::get_event))
        .routes(routes!(events::find_event))
        .routes(routes!(dead_letters::list_dead_letters))
        .routes(routes!(dead_letters::get_dead_letter))
        .routes(routes!(dead_letters::retry_dead_letters))
        .routes(routes!(dead_letters::drop_dead_letters))
        .routes(routes!(destinations::pause_destination))
        .routes(routes!(destinations::resume_destination))
        .routes(routes!(destinations::test_destination))
        .routes(routes!(destination_details::list_destinations))
        .routes(routes!(destination_details::get_destination))
        .routes(routes!(destination_details::get_match_quality))
        .routes(routes!(overview::get_overview))
        .routes(routes!(effective::list_settings))
        .routes(routes!(effective::list_warnings))
        .routes(routes!(profile_search::search_profiles))
        .routes(routes!(sending::replay_events))
        .routes(routes!(sending::send_event))
        .routes(routes!(subject::forget_subject))
        .routes(routes!(subject::export_subject))
        .routes(routes!(subject::list_profiles))
        .routes(routes!(scripts::list_scripts))
        .routes(routes!(scripts::diff_script))
        .routes(routes!(scripts::approve_script))
        .routes(routes!(segments::list_segments))
        .routes(routes!(segments::get_segment))
        .routes(routes!(segments::stream_members))
        .routes(routes!(segments::stream_changes))
        .routes(routes!(segments::preview_segment))
        .routes(routes!(segments::run_segment))
        .routes(routes!(segments::forget_sync));
    let open = OpenApiRouter::with_openapi(empty_document())
        .routes(routes!(status::get_version))
        .routes(routes!(status::list_sites))
        .routes(routes!(status::get_ledger));
    let mut all = open.merge(require_token(protected, context));
    for Operation { summary, responses, .. } in operations(all.get_openapi_mut()) {
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

/// Adds the check of the token to the routes, and the security scheme to their operations.
fn require_token(
    routes: OpenApiRouter<SharedApi>,
    context: &Arc<AdminContext>,
) -> OpenApiRouter<SharedApi> {
    let mut routes = routes.route_layer(from_fn_with_state(context.clone(), guard::require_token));
    for operation in operations(routes.get_openapi_mut()) {
        operation.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>(TOKEN, [])]);
    }
    routes
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
        .security_scheme(TOKEN, SecurityScheme::Http(token))
        .schema_from::<AdminProblem>()
        .response(PROBLEM, problem)
        .build();
    let info = InfoBuilder::new().title("Tagway admin API").version(env!("CARGO_PKG_VERSION"));
    OpenApiBuilder::new().info(info.build()).components(Some(components)).build()
}

fn operations(document: &mut OpenApi) -> impl Iterator<Item = &mut Operation> {
    let items = document.paths.paths.values_mut();
    items.flat_map(|PathItem { get, post, .. }| get.iter_mut().chain(post.iter_mut()))
}

/// The text of `GET /`: one line for each operation.
fn index(document: &OpenApi) -> String {
    let mut text =
        "Tagway's operators' listener.\n\nGET  /livez\nGET  /readyz\nGET  /metrics\n".to_owned();
    for (path, item) in &document.paths.paths {
        for (method, operation) in [("GET ", &item.get), ("POST", &item.post)] {
            let Some(operation) = operation else { continue };
            let summary = operation.summary.as_deref().unwrap_or_default();
            let token = if operation.security.is_some() { " (token)" } else { "" };
            text.push_str(&format!("{method} {path}{token}: {summary}\n"));
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
