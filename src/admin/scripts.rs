//! Pinned scripts: the routes that show what their vendors changed, and approve it.

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::reply::{self, Answer};
use super::routes::{Query, malformed, parse};
use super::{Context, RequestError};

pub(super) fn list(context: &Context, query: &Query<'_>) -> Result<Answer, RequestError> {
    query.allow(&[])?;
    Ok(reply::json(StatusCode::OK, &json!(context.control.scripts())))
}

pub(super) async fn diff(context: &Context, query: &Query<'_>) -> Result<Answer, RequestError> {
    query.allow(&["site", "vendor", "script"])?;
    let word = |key| query.get(key).ok_or_else(|| malformed("name a site, a vendor and a script"));
    let (site, vendor, script) = (word("site")?, word("vendor")?, word("script")?);
    let diff = context.control.script_diff(&site, &vendor, &script).await?;
    Ok(reply::json(StatusCode::OK, &json!(diff)))
}

pub(super) async fn approve(context: &Context, body: &[u8]) -> Result<Answer, RequestError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Approve {
        site: String,
        vendor: String,
        script: String,
        /// Of the version that was looked at: a newer one may wait by now.
        hash: String,
    }
    let Approve { site, vendor, script, hash } = parse(body)?;
    context.control.approve_script(&site, &vendor, &script, &hash).await?;
    let done = json!({ "site": site, "vendor": vendor, "script": script, "served": hash });
    Ok(reply::json(StatusCode::OK, &done))
}
