//! `GET /tw/preview.js?token=`: the drafts among the site's integrations, for a browser with a token for them.
//! Without one the response is 404.

use http::Response;
use url::form_urlencoded::parse;

use super::script::served;
use crate::gateway::rejection::RequestRejection;
use crate::gateway::{SiteRequest, preview};
use tagway_core::answer::ResponseBody;
use tagway_pages::script::BrowserCaching;

pub(in crate::gateway) fn answer(
    arrived: &SiteRequest<'_>,
) -> Result<Response<ResponseBody>, RequestRejection> {
    arrived.gateway.limit_client(arrived.site, arrived.client)?;
    let site = arrived.site;
    let drafts = site.sdk.drafts().ok_or(RequestRejection::UnknownRoute)?;
    let query = arrived.head.uri.query().unwrap_or_default();
    let token = parse(query.as_bytes()).find(|(name, _)| name == "token").map(|(_, value)| value);
    let opens = |token: &str| preview::opens(&site.visitor, &site.name, token, arrived.received_at);
    if !token.as_deref().is_some_and(opens) {
        return Err(RequestRejection::UnknownRoute);
    }
    Ok(served(arrived, drafts, BrowserCaching::Never))
}
