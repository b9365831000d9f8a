//! Routes that show the changes of pinned scripts, and approve them.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::audit_draft::AuditDraft;
use super::caller::CallerScope;
use super::request::{JsonBody, NoParams, QueryParams, required};
use super::router::{ApiResult, SharedApi};
use tagway_pages::script::proxy::{ScriptDiff, ScriptSummary};

/// The name of a pinned script.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ScriptQuery {
    #[serde(deserialize_with = "required")]
    site: String,
    #[serde(deserialize_with = "required")]
    vendor: String,
    /// Path and query below the mount.
    #[serde(deserialize_with = "required")]
    script: String,
}

/// The version of a script to approve.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ApproveScriptRequest {
    site: String,
    vendor: String,
    script: String,
    /// The hash of the reviewed version: a newer one may wait by now.
    hash: String,
}

/// The version of a script that visitors get from now on.
#[derive(Serialize, ToSchema)]
pub(super) struct ApproveScriptAnswer {
    site: String,
    vendor: String,
    script: String,
    /// The hash of the version.
    served: String,
}

/// Lists the pinned vendors' scripts, and some of the others.
#[utoipa::path(get, path = "/api/v1/scripts", responses((status = 200, body = Vec<ScriptSummary>)))]
pub(super) async fn list_scripts(
    State(api): State<SharedApi>,
    CallerScope(scope): CallerScope,
    QueryParams(NoParams {}): QueryParams<NoParams>,
) -> Json<Vec<ScriptSummary>> {
    let mut scripts = api.context.control.scripts();
    // Those without a site are shared by all.
    scripts.retain(|script| script.site.as_deref().is_none_or(|site| scope.may_see(site)));
    Json(scripts)
}

/// Compares the waiting version of a pinned script with the approved one.
#[utoipa::path(get, path = "/api/v1/scripts/diff", params(ScriptQuery),
    responses((status = 200, body = ScriptDiff)))]
pub(super) async fn diff_script(
    State(api): State<SharedApi>,
    QueryParams(ScriptQuery { site, vendor, script }): QueryParams<ScriptQuery>,
) -> ApiResult<ScriptDiff> {
    Ok(Json(api.context.control.script_diff(&site, &vendor, &script).await?))
}

/// Approves the waiting version of a pinned script, if it has this hash.
#[utoipa::path(post, path = "/api/v1/scripts/approve", request_body = ApproveScriptRequest,
    responses((status = 200, body = ApproveScriptAnswer)))]
pub(super) async fn approve_script(
    State(api): State<SharedApi>,
    audit: AuditDraft,
    JsonBody(request): JsonBody<ApproveScriptRequest>,
) -> ApiResult<ApproveScriptAnswer> {
    let ApproveScriptRequest { site, vendor, script, hash } = request;
    audit.set_object(format!("{vendor} {script}"));
    audit.add_detail(&hash);
    api.context.control.approve_script(&site, &vendor, &script, &hash).await?;
    Ok(Json(ApproveScriptAnswer { site, vendor, script, served: hash }))
}
