//! `GET /tw.js`: the site's script, made when the configuration was loaded, and its companions.

use http::{Response, StatusCode};

use crate::gateway::SiteRequest;
use crate::gateway::rejection::RequestRejection;
use tagway_core::answer::ResponseBody;
use tagway_core::metrics::ScriptRequestLabels;
use tagway_pages::script::{BrowserCaching, ServedScript};

pub(in crate::gateway) fn answer(
    arrived: &SiteRequest<'_>,
) -> Result<Response<ResponseBody>, RequestRejection> {
    arrived.gateway.limit_client(arrived.site, arrived.client)?;
    let (sdk, head) = (&arrived.site.sdk, arrived.head);
    let path = head.uri.path();
    let path = path.strip_suffix('/').unwrap_or(path);
    let (file, caching) = sdk.file_at(path).ok_or(RequestRejection::UnknownRoute)?;
    Ok(served(arrived, file, caching))
}

/// Serves one of the gateway's own scripts.
pub(super) fn served(
    arrived: &SiteRequest<'_>,
    file: &ServedScript,
    caching: BrowserCaching,
) -> Response<ResponseBody> {
    let answer = file.answer(&arrived.head.method, &arrived.head.headers, caching);
    let result = match answer.status() {
        StatusCode::NOT_MODIFIED => "unchanged",
        _ => "served",
    };
    let labels = ScriptRequestLabels { vendor: "tagway", result };
    arrived.gateway.metrics.script_requests.get_or_create(&labels).inc();
    answer.map(ResponseBody::from)
}
