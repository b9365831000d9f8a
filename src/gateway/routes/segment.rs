//! The Segment-compatible HTTP API (`contracts/beacons.md` 7.1): the write key as the user name of
//! Basic authorization or in the body, or the server token in either place or as a bearer token.

use std::error::Error;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Response;
use http::header::AUTHORIZATION;
use hyper::body::Body;
use subtle::ConstantTimeEq as _;

use crate::answer::AnswerBody;
use crate::event::Kind;
use crate::gateway::accept::Sender;
use crate::gateway::answer::Taken;
use crate::gateway::rejection::Rejection;
use crate::gateway::snapshot::Site;
use crate::gateway::{Arrived, answer, head};

/// Longer credentials are not ours, and are not decoded.
const MAX_CREDENTIALS_BYTES: usize = 1024;

/// What a key proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    /// Nothing was shown.
    Missing,
    /// It is none of ours.
    Wrong,
    /// It is ours.
    Of(Sender),
}

pub(in crate::gateway) async fn answer<B>(
    arrived: &Arrived<'_>,
    kind: Option<Kind>,
    body: B,
) -> Result<Response<AnswerBody>, Rejection>
where
    B: Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Send,
{
    let shown = key_in_head(arrived);
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
        (Key::Missing, Some(key)) => check(arrived.site, key),
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

fn key_in_head(arrived: &Arrived<'_>) -> Key {
    let Some(value) = arrived.head.headers.get(AUTHORIZATION) else { return Key::Missing };
    let words = value.to_str().ok().filter(|value| value.len() <= MAX_CREDENTIALS_BYTES);
    let Some((scheme, rest)) = words.and_then(|words| words.split_once(' ')) else {
        return Key::Wrong;
    };
    if scheme.eq_ignore_ascii_case("bearer") {
        return check(arrived.site, rest.trim());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Key::Wrong;
    }
    let Ok(pair) = STANDARD.decode(rest.trim()) else { return Key::Wrong };
    let Ok(pair) = String::from_utf8(pair) else { return Key::Wrong };
    check(arrived.site, pair.split_once(':').map_or(pair.as_str(), |(user, _)| user))
}

fn check(site: &Site, key: &str) -> Key {
    let token = site.server_token.as_ref().map(|token| token.expose().as_bytes());
    if token.is_some_and(|token| bool::from(token.ct_eq(key.as_bytes()))) {
        return Key::Of(Sender::Server);
    }
    // The write key is public: it stands in the page.
    if site.write_key.as_deref() == Some(key) { Key::Of(Sender::Client) } else { Key::Wrong }
}
