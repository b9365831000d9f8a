//! Subject rights: the routes that show and erase a person's stored data.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::audit_draft::AuditDraft;
use super::caller::Caller;
use super::masking::mask_profile;
use super::request::{JsonBody, required};
use super::router::{ApiResult, SharedApi};
use tagway_storage::journal::SubjectCursor;

/// The numbers of erased data of a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ForgetReport {
    /// Names that are suppressed from now on.
    #[serde(skip)]
    pub names: u64,
    /// Profiles erased.
    pub profiles: u64,
    /// Events of the journal erased, delivered or not.
    pub events: u64,
    /// Erased events that waited at a destination and had left the journal.
    pub parked: u64,
    /// Dead letters erased.
    pub dead: u64,
}

/// Some of a person's stored data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct ExportPage {
    /// The stored data, each item with its `kind`.
    pub held: Vec<serde_json::Value>,
    /// The position of the next page; none at the end.
    #[schema(value_type = Option<Object>)]
    pub next: Option<SubjectCursor>,
}

/// The reason that a command for a person fails.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    /// The site is not configured.
    #[error("the configuration has no such site")]
    UnknownSite,
    /// The store failed. A started erasure resumes at the next start, or with the next request.
    #[error("the database does not answer; send the request again to resume")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The person to forget.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ForgetSubjectRequest {
    site: String,
    /// A user id, an anonymous or cookie id, or an e-mail address.
    #[serde(deserialize_with = "required")]
    id: String,
    /// Lifts the suppression.
    #[serde(default)]
    undo: bool,
}

/// The person to export, and the start of the page.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportSubjectRequest {
    site: String,
    #[serde(deserialize_with = "required")]
    id: String,
    /// The member `next` of the page before.
    #[schema(value_type = Option<Object>)]
    from: Option<SubjectCursor>,
}

/// The person whose profiles are listed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SubjectProfilesRequest {
    site: String,
    #[serde(deserialize_with = "required")]
    id: String,
}

/// The result of an erasure, or of its suppression's end.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum ForgetAnswer {
    /// The person is suppressed: `suppressed` counts the names.
    Erased { site: String, suppressed: u64, erased: ForgetReport },
    /// The suppression is lifted: `lifted` counts the names.
    Lifted { site: String, lifted: u64 },
}

/// The profiles of a person.
#[derive(Serialize, ToSchema)]
pub(super) struct ProfilesAnswer {
    profiles: Vec<serde_json::Value>,
}

/// Suppresses a person and erases their stored data, or lifts the suppression.
#[utoipa::path(post, path = "/api/v1/forget", request_body = ForgetSubjectRequest,
    responses((status = 200, body = ForgetAnswer)))]
pub(super) async fn forget_subject(
    State(api): State<SharedApi>,
    audit: AuditDraft,
    JsonBody(ForgetSubjectRequest { site, id, undo }): JsonBody<ForgetSubjectRequest>,
) -> ApiResult<ForgetAnswer> {
    // The person's id is not in the row: it would outlive the person's data.
    if undo {
        let lifted = api.context.control.lift_suppression(&site, &id).await?;
        audit.add_detail(&format!("undone for {lifted} ids"));
        return Ok(Json(ForgetAnswer::Lifted { site, lifted }));
    }
    let erased = api.context.control.forget(&site, &id).await?;
    let ForgetReport { names, profiles, events, parked, dead } = erased;
    let (events, letters) = (events + parked, dead);
    audit.add_detail(&format!(
        "{names} ids, {profiles} profiles, {events} events, {letters} dead letters"
    ));
    Ok(Json(ForgetAnswer::Erased { site, suppressed: erased.names, erased }))
}

/// Returns a page of a person's stored data.
#[utoipa::path(post, path = "/api/v1/export", request_body = ExportSubjectRequest,
    responses((status = 200, body = ExportPage)))]
pub(super) async fn export_subject(
    State(api): State<SharedApi>,
    audit: AuditDraft,
    JsonBody(ExportSubjectRequest { site, id, from }): JsonBody<ExportSubjectRequest>,
) -> ApiResult<ExportPage> {
    let page = api.context.control.export(&site, &id, from).await?;
    audit.add_detail(&format!("{} items", page.held.len()));
    Ok(Json(page))
}

/// Lists the profiles of one person: the stored data without the events.
#[utoipa::path(post, path = "/api/v1/profiles", request_body = SubjectProfilesRequest,
    responses((status = 200, body = ProfilesAnswer)))]
pub(super) async fn list_profiles(
    State(api): State<SharedApi>,
    caller: Caller,
    JsonBody(SubjectProfilesRequest { site, id }): JsonBody<SubjectProfilesRequest>,
) -> ApiResult<ProfilesAnswer> {
    let mut profiles = api.context.control.profiles(&site, &id).await?;
    if !caller.shows_personal {
        profiles.iter_mut().for_each(mask_profile);
    }
    Ok(Json(ProfilesAnswer { profiles }))
}
