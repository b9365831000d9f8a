//! The Segment-compatible HTTP API (`docs/contracts/beacons.md` 7.1): the write key as the user name of
//! Basic authorization or in the body, or the server token in either place or as a bearer token.

use std::error::Error;

use bytes::Bytes;
use http::Response;
use hyper::body::Body;

use crate::gateway::accept::SenderKind;
use crate::gateway::answer::AcceptOutcome;
use crate::gateway::credentials::CredentialCheck;
use crate::gateway::rejection::RequestRejection;
use crate::gateway::{SiteRequest, answer, head};
use tagway_core::answer::ResponseBody;
use tagway_core::event::EventKind;

pub(in crate::gateway) async fn answer<B>(
    arrived: &SiteRequest<'_>,
    kind: Option<EventKind>,
    body: B,
) -> Result<Response<ResponseBody>, RequestRejection>
where
    B: Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Send,
{
    let shown = CredentialCheck::in_head(arrived.site, &arrived.head.headers);
    let mut over = None;
    let sender = match shown {
        CredentialCheck::Of(sender) => Some(sender),
        CredentialCheck::Missing | CredentialCheck::Wrong => None,
    };
    match shown {
        CredentialCheck::Of(SenderKind::Server) => arrived.limit_site()?,
        CredentialCheck::Of(SenderKind::Client) => arrived.limit()?,
        CredentialCheck::Missing => over = arrived.limit_unverified()?,
        CredentialCheck::Wrong => {
            arrived.limit()?;
            return refuse(arrived);
        }
    }
    if let Some(sender) = sender {
        arrived.check_volume(sender)?;
    }
    let messages = arrived.read(body, kind, sender).await?;
    let shown = match (shown, &messages.messages.write_key) {
        (CredentialCheck::Missing, Some(key)) => CredentialCheck::of(arrived.site, key),
        _ => shown,
    };
    if let Some(limited) = over.filter(|_| shown != CredentialCheck::Of(SenderKind::Server)) {
        return Err(arrived.site.limited(limited));
    }
    if sender.is_none() {
        let payer =
            if let CredentialCheck::Of(sender) = shown { sender } else { SenderKind::Client };
        arrived.spend_bytes(payer, messages.bytes)?;
    }
    let CredentialCheck::Of(sender) = shown else { return refuse(arrived) };
    arrived.accept(messages, sender).await.map(answer::success)
}

/// Responds with success to a browser, because it could only retry or show the error to no one; other clients get
/// the error.
fn refuse(arrived: &SiteRequest<'_>) -> Result<Response<ResponseBody>, RequestRejection> {
    if !head::is_from_page(&arrived.head.headers) {
        return Err(RequestRejection::BadKey);
    }
    arrived.count_refused(&RequestRejection::BadKey);
    Ok(answer::success(AcceptOutcome::default()))
}
