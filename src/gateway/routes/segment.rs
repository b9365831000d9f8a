//! The Segment-compatible HTTP API (`contracts/beacons.md` 7.1): the write key as the user name of
//! Basic authorization or in the body, or the server token in either place or as a bearer token.

use std::error::Error;

use bytes::Bytes;
use http::Response;
use hyper::body::Body;

use crate::answer::AnswerBody;
use crate::event::Kind;
use crate::gateway::accept::Sender;
use crate::gateway::answer::Taken;
use crate::gateway::credentials::Key;
use crate::gateway::rejection::Rejection;
use crate::gateway::{Arrived, answer, head};

pub(in crate::gateway) async fn answer<B>(
    arrived: &Arrived<'_>,
    kind: Option<Kind>,
    body: B,
) -> Result<Response<AnswerBody>, Rejection>
where
    B: Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Send,
{
    let shown = Key::in_head(arrived.site, &arrived.head.headers);
    let mut over = None;
    let sender = match shown {
        Key::Of(sender) => Some(sender),
        Key::Missing | Key::Wrong => None,
    };
    match shown {
        Key::Of(Sender::Server) => arrived.limit_site()?,
        Key::Of(Sender::Client) => arrived.limit()?,
        Key::Missing => over = arrived.limit_unproven()?,
        Key::Wrong => {
            arrived.limit()?;
            return refuse(arrived);
        }
    }
    if let Some(sender) = sender {
        arrived.check_volume(sender)?;
    }
    let messages = arrived.read(body, kind, sender).await?;
    let shown = match (shown, &messages.write_key) {
        (Key::Missing, Some(key)) => Key::of(arrived.site, key),
        _ => shown,
    };
    if let Some(limited) = over.filter(|_| shown != Key::Of(Sender::Server)) {
        return Err(arrived.site.limited(limited));
    }
    if sender.is_none() {
        let payer = if let Key::Of(sender) = shown { sender } else { Sender::Client };
        arrived.spend_bytes(payer, messages.bytes)?;
    }
    let Key::Of(sender) = shown else { return refuse(arrived) };
    arrived.accept(messages, sender).await.map(answer::success)
}

/// A browser is told of success, because it could only try again or complain where nobody looks;
/// anybody else is told the truth.
fn refuse(arrived: &Arrived<'_>) -> Result<Response<AnswerBody>, Rejection> {
    if !head::is_from_page(&arrived.head.headers) {
        return Err(Rejection::BadKey);
    }
    arrived.count_refused(&Rejection::BadKey);
    Ok(answer::success(Taken::default()))
}
