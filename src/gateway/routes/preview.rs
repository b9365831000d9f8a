//! `GET /tw/preview.js?token=`: the drafts among the site's integrations, for a browser that was given a
//! token for them. To all others there is nothing here.

use http::Response;
use url::form_urlencoded::parse;

use super::script::served;
use crate::answer::AnswerBody;
use crate::gateway::rejection::Rejection;
use crate::gateway::{Arrived, preview};
use crate::script::Caching;

pub(in crate::gateway) fn answer(arrived: &Arrived<'_>) -> Result<Response<AnswerBody>, Rejection> {
    arrived.gateway.limit_client(arrived.site, arrived.client)?;
    let site = arrived.site;
    let drafts = site.sdk.drafts().ok_or(Rejection::UnknownRoute)?;
    let query = arrived.head.uri.query().unwrap_or_default();
    let token = parse(query.as_bytes()).find(|(name, _)| name == "token").map(|(_, value)| value);
    let opens = |token: &str| preview::opens(&site.visitor, &site.name, token, arrived.received_at);
    if !token.as_deref().is_some_and(opens) {
        return Err(Rejection::UnknownRoute);
    }
    Ok(served(arrived, drafts, Caching::Never))
}
