//! The routes of the listener, each with its access, and the OpenAPI document that is made of the same attributes.

use std::sync::Arc;

use axum::extract::State;
use axum::middleware::{from_fn_with_state, map_response_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, Content, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::{RouteAccess, RouteTable, SESSION_SCHEME, TOKEN_SCHEME, operations};
use super::reply::{self, AdminProblem};
use super::{
    AdminContext, AdminRequestError, accounts, alerts, audit, console_files, dead_groups,
    dead_letters, destination_details, destinations, effective, event_pages, events, guard,
    overview, profile_search, rehearsal, scripts, segments, sending, series, sessions, status,
    subject, tail, traces,
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
    pub(super) index: String,
}

/// The routers of the listener's connections.
pub(super) struct AdminRouters {
    /// All routes.
    pub(super) complete: Router,
    /// Health and metrics only, for the connections of the reserve.
    pub(super) health: Router,
    /// The requests under way that change something.
    pub(super) acts: TaskTracker,
}

impl AdminRouters {
    /// Creates the routers. Streams end when `drain` is cancelled.
    pub(super) fn new(context: AdminContext, drain: CancellationToken) -> Self {
        let (context, acts) = (Arc::new(context), TaskTracker::new());
        let (api, document) = api_routes(&context, &acts).split_for_parts();
        let index = index(&document);
        let state = Arc::new(ApiState { context, drain, document, index });
        let complete = api.merge(health_routes()).route("/", get(console_files::get_root));
        let complete = complete.route("/{file}", get(console_files::get_file));
        let complete = complete.fallback(|| async { AdminRequestError::NotFound });
        let health = health_routes().fallback(|| async { AdminRequestError::Full });
        Self { complete: guarded(complete, &state), health: guarded(health, &state), acts }
    }
}

/// The routes below `/api/v1`, each with its access.
fn api_routes(context: &Arc<AdminContext>, acts: &TaskTracker) -> OpenApiRouter<SharedApi> {
    const OPEN: RouteAccess = RouteAccess::open();
    const READ: RouteAccess = RouteAccess::read(Role::Viewer);
    const EXPORT: RouteAccess =
        RouteAccess::write(Role::Admin, "person.export").needs_personal().needs_proof();
    const FOLLOW: RouteAccess = RouteAccess::read(Role::Editor);
    let edit = |action| RouteAccess::write(Role::Editor, action);
    let manage = |action| RouteAccess::write(Role::Admin, action);
    let table = account_routes(RouteTable::new(context, acts, empty_document()))
        .add(OPEN, routes!(status::get_version))
        .add(OPEN, routes!(status::list_sites))
        .add(OPEN, routes!(status::get_ledger))
        .add(READ, routes!(get_openapi))
        .add(READ.masks_personal(), routes!(tail::watch_feed))
        .add(READ.masks_personal(), routes!(events::get_event))
        .add(READ.masks_personal(), routes!(event_pages::list_events))
        .add(edit("trace.start"), routes!(traces::start_trace))
        .add(FOLLOW.masks_personal(), routes!(traces::list_traces))
        .add(FOLLOW.masks_personal(), routes!(traces::get_trace))
        .add(edit("trace.end"), routes!(traces::end_trace))
        .add(READ.masks_personal(), routes!(rehearsal::rehearse_event))
        .add(READ.masks_personal(), routes!(dead_letters::list_dead_letters))
        .add(READ, routes!(dead_groups::list_dead_groups))
        .add(READ.masks_personal(), routes!(dead_letters::get_dead_letter))
        .add(edit("dead.retry"), routes!(dead_letters::retry_dead_letters))
        .add(edit("dead.drop"), routes!(dead_letters::drop_dead_letters))
        .add(edit("destination.pause"), routes!(destinations::pause_destination))
        .add(edit("destination.resume"), routes!(destinations::resume_destination))
        .add(edit("destination.test"), routes!(destinations::test_destination))
        .add(READ.masks_personal(), routes!(destination_details::list_destinations))
        .add(READ.masks_personal(), routes!(destination_details::get_destination))
        .add(READ, routes!(destination_details::get_match_quality))
        .add(READ, routes!(overview::get_overview))
        .add(READ, routes!(effective::list_settings))
        .add(READ, routes!(effective::list_warnings))
        .add(READ.masks_personal(), routes!(profile_search::search_profiles))
        .add(edit("replay"), routes!(sending::replay_events))
        .add(edit("event.send"), routes!(sending::send_event))
        .add(manage("person.forget").needs_proof(), routes!(subject::forget_subject))
        .add(EXPORT, routes!(subject::export_subject))
        .add(READ.masks_personal(), routes!(subject::list_profiles))
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

/// The routes of accounts, sessions, tokens and the audit log.
fn account_routes(table: RouteTable) -> RouteTable {
    const LOOK: RouteAccess = RouteAccess::read(Role::Admin).of_all_sites();
    let people = |action| RouteAccess::write(Role::Admin, action).of_all_sites().needs_proof();
    table
        .add(RouteAccess::login("session.begin"), routes!(sessions::log_in))
        .add(RouteAccess::login("session.begin"), routes!(sessions::log_in_by_link))
        .add(RouteAccess::own(Some("session.end")), routes!(sessions::log_out))
        .add(RouteAccess::own(Some("session.prove")), routes!(sessions::prove_session))
        .add(RouteAccess::own(None), routes!(sessions::get_me))
        .add(RouteAccess::own(Some("password.change")), routes!(sessions::set_password))
        .add(RouteAccess::read(Role::Viewer), routes!(sessions::list_sessions))
        .add(RouteAccess::write(Role::Viewer, "session.revoke"), routes!(sessions::end_session))
        .add(LOOK, routes!(accounts::list_accounts))
        .add(people("account.invite"), routes!(accounts::invite_account))
        .add(people("account.change"), routes!(accounts::change_account))
        .add(people("account.reset"), routes!(accounts::reset_account))
        .add(LOOK, routes!(accounts::list_tokens))
        .add(people("token.make"), routes!(accounts::make_token))
        .add(
            RouteAccess::write(Role::Admin, "token.remove").of_all_sites(),
            routes!(accounts::remove_token),
        )
        .add(RouteAccess::file("console.link"), routes!(accounts::make_login_link))
        .add(LOOK, routes!(audit::list_audit))
        .add(LOOK, routes!(audit::check_audit))
        .add(LOOK, routes!(audit::export_audit))
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
        .description(Some("An API token, or the text of data_dir/admin.token."))
        .build();
    let session = ApiKeyValue::with_description(
        "tagway",
        "The cookie of a web session; over TLS __Host-tagway. admin.cookie changes the name.",
    );
    let problem = ResponseBuilder::new()
        .description("The request is rejected, or failed (RFC 9457).")
        .content(
            "application/problem+json",
            Content::new(Some(Ref::from_schema_name("AdminProblem"))),
        )
        .build();
    let components = ComponentsBuilder::new()
        .security_scheme(TOKEN_SCHEME, SecurityScheme::Http(token))
        .security_scheme(SESSION_SCHEME, SecurityScheme::ApiKey(ApiKey::Cookie(session)))
        .schema_from::<AdminProblem>()
        .response(PROBLEM, problem)
        .build();
    let info = InfoBuilder::new().title("Tagway admin API").version(env!("CARGO_PKG_VERSION"));
    OpenApiBuilder::new().info(info.build()).components(Some(components)).build()
}

/// The text of `GET /`: one line for each operation.
fn index(document: &OpenApi) -> String {
    let mut text = "Tagway's operators' listener. A browser gets the console here.

\
         GET    /livez
GET    /readyz
GET    /metrics
"
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
    text.push_str(
        "\nThe token is an API token, or in data_dir/admin.token: Authorization: Bearer TOKEN\n",
    );
    text.push_str("GET /api/v1/openapi.json describes parameters, bodies and answers.\n");
    text
}

/// Describes all routes of the API in OpenAPI 3.1.
#[utoipa::path(get, path = "/api/v1/openapi.json", responses((status = 200, body = Object)))]
async fn get_openapi(State(api): State<SharedApi>) -> Response {
    Json(&api.document).into_response()
}
