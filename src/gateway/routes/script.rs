//! `GET /tw.js`: the site's script, made when the configuration was loaded.

use http::{Response, StatusCode};

use crate::answer::AnswerBody;
use crate::gateway::Arrived;
use crate::gateway::rejection::Rejection;
use crate::metrics::ScriptLabels;

pub(in crate::gateway) fn answer(arrived: &Arrived<'_>) -> Result<Response<AnswerBody>, Rejection> {
    arrived.gateway.limit_client(arrived.site, arrived.client)?;
    let (sdk, head) = (&arrived.site.sdk, arrived.head);
    let caching = sdk.caching_at(head.uri.path());
    let answer = sdk.file.answer(&head.method, &head.headers, caching);
    let result = match answer.status() {
        StatusCode::NOT_MODIFIED => "unchanged",
        _ => "served",
    };
    let labels = ScriptLabels { vendor: "tagway", result };
    arrived.gateway.metrics.script_requests.get_or_create(&labels).inc();
    Ok(answer.map(AnswerBody::from))
}
