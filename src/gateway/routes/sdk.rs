//! `POST /e`: the SDK's events, one or many, as JSON in whatever content type the browser sends
//! without a preflight. The site is known by its host and the page by its origin, so there is no
//! key.

use std::error::Error;

use bytes::Bytes;
use http::Response;
use hyper::body::Body;

use crate::gateway::accept::SenderKind;
use crate::gateway::rejection::RequestRejection;
use crate::gateway::{SiteRequest, answer};
use tagway_core::answer::ResponseBody;

pub(in crate::gateway) async fn answer<B>(
    arrived: &SiteRequest<'_>,
    body: B,
) -> Result<Response<ResponseBody>, RequestRejection>
where
    B: Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Send,
{
    arrived.limit()?;
    arrived.check_volume(SenderKind::Client)?;
    let messages = arrived.read(body, None, Some(SenderKind::Client)).await?;
    arrived.accept(messages, SenderKind::Client).await.map(answer::quiet)
}
