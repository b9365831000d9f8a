//! `POST /tw/problem`: a page reports that one of the site's integrations failed. It is counted by the
//! integration's name if the site has one of that name, and nothing else of it is stored.

use std::error::Error;

use bytes::Bytes;
use http::Response;
use hyper::body::Body;
use serde::Deserialize;

use crate::gateway::answer::{self, AcceptOutcome};
use crate::gateway::rejection::RequestRejection;
use crate::gateway::settings::GatewayLimits;
use crate::gateway::{SiteRequest, body};
use tagway_core::answer::ResponseBody;

/// The largest report, in bytes: three times a page's.
const REPORT_BYTES: usize = 2048;

/// The characters of an error's text that are shown to a developer.
const SHOWN_CHARS: usize = 200;

#[derive(Deserialize)]
struct IntegrationErrorReport {
    integration: String,
    kind: IntegrationErrorKind,
    #[serde(default)]
    message: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum IntegrationErrorKind {
    Load,
    Error,
    Timeout,
}

pub(in crate::gateway) async fn answer<B>(
    arrived: &SiteRequest<'_>,
    body: B,
) -> Result<Response<ResponseBody>, RequestRejection>
where
    B: Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Send,
{
    arrived.gateway.limit_client(arrived.site, arrived.client)?;
    let limits = GatewayLimits {
        body_bytes: REPORT_BYTES,
        inflated_bytes: REPORT_BYTES,
        ..arrived.snapshot.limits.clone()
    };
    let account = arrived.budget_account(arrived.budget_owner());
    let received = body::read(body, &arrived.head.headers, &limits, account).await?;
    let report: IntegrationErrorReport = serde_json::from_slice(&received.text)
        .map_err(|_error| RequestRejection::Malformed("the body is not a report"))?;
    let errors = &arrived.site.integration_errors;
    // A page that is older than the configuration may report a removed integration.
    if let Some((name, count)) = errors.iter().find(|(name, _)| **name == *report.integration) {
        count.inc();
        let message: String = report.message.chars().take(SHOWN_CHARS).collect();
        let (site, kind) = (&*arrived.site.name, report.kind);
        tracing::debug!(site, integration = &**name, ?kind, ?message, "an integration failed");
    }
    Ok(answer::quiet(AcceptOutcome::default()))
}
