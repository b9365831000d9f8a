//! Subject rights: the routes that show and erase a person's stored data.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::reply::{self, AdminResponse};
use super::routes::parse;
use super::{AdminContext, AdminRequestError};
use tagway_storage::journal::SubjectCursor;

/// The numbers of erased data of a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ForgetReport {
    /// Names that are suppressed from now on.
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
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ExportPage {
    /// The stored data, each item with its `kind`.
    pub held: Vec<serde_json::Value>,
    /// The position of the next page; none at the end.
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ForgetSubjectRequest {
    site: String,
    id: String,
    /// Lifts the suppression.
    #[serde(default)]
    undo: bool,
}

pub(super) async fn forget(
    context: &AdminContext,
    body: &[u8],
) -> Result<AdminResponse, AdminRequestError> {
    let asked: ForgetSubjectRequest = parse(body)?;
    check(&asked.id)?;
    let answer = if asked.undo {
        let lifted = context.control.lift_suppression(&asked.site, &asked.id).await?;
        json!({ "site": asked.site, "lifted": lifted })
    } else {
        let report = context.control.forget(&asked.site, &asked.id).await?;
        json!({ "site": asked.site, "suppressed": report.names, "erased": {
            "profiles": report.profiles,
            "events": report.events,
            "parked": report.parked,
            "dead": report.dead,
        } })
    };
    Ok(reply::json(hyper::StatusCode::OK, &answer))
}

pub(super) async fn export(
    context: &AdminContext,
    body: &[u8],
) -> Result<AdminResponse, AdminRequestError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct ExportSubjectRequest {
        site: String,
        id: String,
        from: Option<SubjectCursor>,
    }
    let asked: ExportSubjectRequest = parse(body)?;
    check(&asked.id)?;
    let page = context.control.export(&asked.site, &asked.id, asked.from).await?;
    let answer = json!({ "held": page.held, "next": page.next });
    Ok(reply::json(hyper::StatusCode::OK, &answer))
}

/// The profiles of one person: the stored data without the events.
pub(super) async fn profiles(
    context: &AdminContext,
    body: &[u8],
) -> Result<AdminResponse, AdminRequestError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct SubjectProfilesRequest {
        site: String,
        id: String,
    }
    let asked: SubjectProfilesRequest = parse(body)?;
    check(&asked.id)?;
    let profiles = context.control.profiles(&asked.site, &asked.id).await?;
    Ok(reply::json(hyper::StatusCode::OK, &json!({ "profiles": profiles })))
}

fn check(id: &str) -> Result<(), AdminRequestError> {
    if id.trim().is_empty() {
        return Err(AdminRequestError::Malformed("id must not be empty".to_owned()));
    }
    Ok(())
}
