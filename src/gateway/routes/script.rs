//! `GET /tw.js`: the site's script, made when the configuration was loaded, and those beside it.

use http::{Response, StatusCode};

use crate::answer::AnswerBody;
use crate::gateway::Arrived;
use crate::gateway::rejection::Rejection;
use crate::metrics::ScriptLabels;
use crate::script::{Caching, File};

pub(in crate::gateway) fn answer(arrived: &Arrived<'_>) -> Result<Response<AnswerBody>, Rejection> {
    arrived.gateway.limit_client(arrived.site, arrived.client)?;
    let (sdk, head) = (&arrived.site.sdk, arrived.head);
    let path = head.uri.path();
    let path = path.strip_suffix('/').unwrap_or(path);
    let (file, caching) = sdk.file_at(path).ok_or(Rejection::UnknownRoute)?;
    Ok(served(arrived, file, caching))
}

/// One of the gateway's own scripts.
pub(super) fn served(arrived: &Arrived<'_>, file: &File, caching: Caching) -> Response<AnswerBody> {
    let answer = file.answer(&arrived.head.method, &arrived.head.headers, caching);
    let result = match answer.status() {
        StatusCode::NOT_MODIFIED => "unchanged",
        _ => "served",
    };
    let labels = ScriptLabels { vendor: "tagway", result };
    arrived.gateway.metrics.script_requests.get_or_create(&labels).inc();
    answer.map(AnswerBody::from)
}
