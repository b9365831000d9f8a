//! Routes that show the changes of pinned scripts, and approve them.

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::reply::{self, AdminResponse};
use super::routes::{QueryString, malformed, parse};
use super::{AdminContext, AdminRequestError};

pub(super) fn list(
    context: &AdminContext,
    query: &QueryString<'_>,
) -> Result<AdminResponse, AdminRequestError> {
    query.allow(&[])?;
    Ok(reply::json(StatusCode::OK, &json!(context.control.scripts())))
}

pub(super) async fn diff(
    context: &AdminContext,
    query: &QueryString<'_>,
) -> Result<AdminResponse, AdminRequestError> {
    query.allow(&["site", "vendor", "script"])?;
    let word = |key| query.get(key).ok_or_else(|| malformed("name a site, a vendor and a script"));
    let (site, vendor, script) = (word("site")?, word("vendor")?, word("script")?);
    let diff = context.control.script_diff(&site, &vendor, &script).await?;
    Ok(reply::json(StatusCode::OK, &json!(diff)))
}

pub(super) async fn approve(
    context: &AdminContext,
    body: &[u8],
) -> Result<AdminResponse, AdminRequestError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct ApproveScriptRequest {
        site: String,
        vendor: String,
        script: String,
        /// The hash of the reviewed version: a newer one may wait by now.
        hash: String,
    }
    let ApproveScriptRequest { site, vendor, script, hash } = parse(body)?;
    context.control.approve_script(&site, &vendor, &script, &hash).await?;
    let done = json!({ "site": site, "vendor": vendor, "script": script, "served": hash });
    Ok(reply::json(StatusCode::OK, &done))
}
