//! `POST /e`: the SDK's events, one or many, as JSON in whatever content type the browser sends
//! without a preflight. The site is known by its host and the page by its origin, so there is no
//! key.

use std::error::Error;

use bytes::Bytes;
use http::Response;
use hyper::body::Body;

use crate::answer::AnswerBody;
use crate::gateway::accept::Sender;
use crate::gateway::rejection::Rejection;
use crate::gateway::{Arrived, answer};

pub(in crate::gateway) async fn answer<B>(
    arrived: &Arrived<'_>,
    body: B,
) -> Result<Response<AnswerBody>, Rejection>
where
    B: Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Send,
{
    arrived.limit()?;
    let messages = arrived.read(body, None, arrived.payer()).await?;
    arrived.accept(messages, Sender::Client).await.map(answer::quiet)
}
