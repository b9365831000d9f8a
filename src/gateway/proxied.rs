//! Requests that are not the gateway's: the site's own server answers them.
//!
//! They are no beacons, and take nothing of a client's quota: one page has a hundred of them. The
//! edge's bounds on connections and on requests under way hold for them as for all. Cookies pass as
//! they are, the visitor's among them: it belongs to the site that the origin serves.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Response};
use hyper::body::Body;

use super::ClientFacts;
use crate::answer::AnswerBody;
use crate::origin::{Exchange, Origin, Tags};

/// The origin's answer, or that it has none.
pub(super) async fn answer<B>(
    (origin, tags): (&Origin, &Arc<Tags>),
    head: Parts,
    body: B,
    authority: &str,
    client: ClientFacts,
) -> Response<AnswerBody>
where
    B: Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Send + 'static,
{
    let from = Exchange { client: client.client, secure: client.secure, authority, tags };
    match origin.exchange(head, body, from).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(error = &error as &dyn Error, "the origin gave no answer");
            let status = error.status();
            let mut response = Response::new(AnswerBody::new(Bytes::from(format!("{error}\n"))));
            *response.status_mut() = status;
            let fields = response.headers_mut();
            fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            response
        }
    }
}
