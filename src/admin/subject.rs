//! Subject rights: the routes that show and erase a person's stored data.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AdminRequestError;
use super::audit_draft::AuditDraft;
use super::caller::Caller;
use super::masking::mask_profile;
use super::request::{JsonBody, invalid_field};
use super::router::{ApiResult, ApiState, SharedApi};
use tagway_storage::journal::SubjectCursor;
use tagway_storage::profile::{IdentityKind, ProfileId, ProfileSearch, SearchPosition};

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
    id: Option<String>,
    /// In place of `id`: the number of a profile.
    profile: Option<i64>,
    /// Lifts the suppression.
    #[serde(default)]
    undo: bool,
}

/// The person to export, and the start of the page.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportSubjectRequest {
    site: String,
    id: Option<String>,
    /// In place of `id`: the number of a profile.
    profile: Option<i64>,
    /// The member `next` of the page before.
    #[schema(value_type = Option<Object>)]
    from: Option<SubjectCursor>,
}

/// The person whose profiles are listed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SubjectProfilesRequest {
    site: String,
    id: Option<String>,
    /// In place of `id`: the number of a profile. The first row then has it, and the names of its segments.
    profile: Option<i64>,
}

/// Returns the name of the person of a request. A caller who sees no names gives the number of a profile.
async fn named(
    api: &ApiState,
    site: &str,
    id: Option<String>,
    profile: Option<i64>,
) -> Result<String, AdminRequestError> {
    match (id, profile) {
        (Some(id), None) if !id.trim().is_empty() => Ok(id),
        (None, Some(number)) => {
            let after = SearchPosition {
                kind: String::new(),
                profile: ProfileId(number.saturating_add(1)),
            };
            let search = ProfileSearch { text: None, after: Some(after), limit: 1 };
            let page = api.context.control.search_profiles(site, search).await?;
            let found = page.profiles.into_iter().find(|it| it.profile.0 == number);
            let name = found.and_then(|found| {
                let mut devices = found.identities.into_iter();
                let device = devices.find(|it| it.kind != IdentityKind::Email);
                found.user_id.or(device.map(|it| it.value.to_string()))
            });
            name.ok_or(AdminRequestError::NotFound)
        }
        (Some(_), None) => Err(invalid_field("id", "id: must not be empty")),
        _ => Err(invalid_field("id", "give either id or profile")),
    }
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
    JsonBody(request): JsonBody<ForgetSubjectRequest>,
) -> ApiResult<ForgetAnswer> {
    let ForgetSubjectRequest { site, id, profile, undo } = request;
    let id = named(&api, &site, id, profile).await?;
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
    JsonBody(request): JsonBody<ExportSubjectRequest>,
) -> ApiResult<ExportPage> {
    let ExportSubjectRequest { site, id, profile, from } = request;
    let id = named(&api, &site, id, profile).await?;
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
    JsonBody(request): JsonBody<SubjectProfilesRequest>,
) -> ApiResult<ProfilesAnswer> {
    let SubjectProfilesRequest { site, id, profile } = request;
    let id = named(&api, &site, id, profile).await?;
    let mut profiles = api.context.control.profiles(&site, &id).await?;
    if let (Some(number), Some(serde_json::Value::Object(row))) = (profile, profiles.first_mut()) {
        let mut segments = api.context.segments.memberships(&site, &[ProfileId(number)]).await?;
        let segments = segments.remove(&ProfileId(number)).unwrap_or_default();
        row.insert("profile".to_owned(), number.into());
        row.insert("segments".to_owned(), segments.iter().map(|name| name.to_string()).collect());
    }
    if !caller.shows_personal {
        profiles.iter_mut().for_each(mask_profile);
    }
    Ok(Json(ProfilesAnswer { profiles }))
}
