//! Paths of the gateway's that the application behind it may use as well: `/reset`, `/e`, `/v1/group`.
//!
//! Before an origin, a request at such a path is the gateway's only if it is evidently meant for it: by its method,
//! and by the beginning of its body. All other requests go to the origin unchanged. Paths that begin with `/tw` are
//! the gateway's own.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, Method};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use memchr::memmem;
use serde::de::IgnoredAny;

use super::cors::CorsOrigin;
use super::head;
use super::route::GatewayRoute;

/// The bytes of a body that are inspected: messages name their kind, their ids and their sender long before, and
/// the buffers of bodies that are not counted yet stay small.
const PEEKED_BYTES: usize = 16 << 10;

/// Members that messages have at their top level, and others rarely.
const EVIDENCE: &[&str] =
    &["batch", "messageId", "anonymousId", "userId", "writeKey", "event", "previousId"];

/// A body whose beginning was inspected.
pub(super) struct PeekedBody<B> {
    /// Allocated only where needed: every request has a body of this kind.
    begin: Option<Box<PeekedFrames>>,
    rest: Pin<Box<B>>,
}

/// The inspected frames, and their bytes.
#[derive(Default)]
struct PeekedFrames {
    frames: VecDeque<Frame<Bytes>>,
    bytes: usize,
}

impl<B: Body<Data = Bytes>> PeekedBody<B> {
    /// Wraps a body that was not inspected.
    pub(super) fn new(body: B) -> Self {
        Self { begin: None, rest: Box::pin(body) }
    }

    /// Returns the beginning of the body, and true if it is complete. `None` if it does not arrive.
    async fn peek(&mut self) -> Option<(Vec<u8>, bool)> {
        let begin = self.begin.get_or_insert_default();
        while begin.bytes < PEEKED_BYTES && !self.rest.is_end_stream() {
            let Some(frame) = self.rest.frame().await else { break };
            let frame = frame.ok()?;
            begin.bytes += frame.data_ref().map_or(0, Bytes::len);
            begin.frames.push_back(frame);
        }
        let pieces = begin.frames.iter().filter_map(Frame::data_ref).flatten();
        Some((pieces.copied().collect(), begin.bytes < PEEKED_BYTES))
    }
}

impl<B: Body<Data = Bytes>> Body for PeekedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(begin) = &mut self.begin
            && let Some(frame) = begin.frames.pop_front()
        {
            begin.bytes -= frame.data_ref().map_or(0, Bytes::len);
            return Poll::Ready(Some(Ok(frame)));
        }
        self.rest.as_mut().poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        let is_passed = self.begin.as_ref().is_none_or(|begin| begin.frames.is_empty());
        is_passed && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.size_hint();
        let bytes = self.begin.as_ref().map_or(0, |begin| begin.bytes as u64);
        let mut all = SizeHint::new();
        if let Some(upper) = rest.upper() {
            all.set_upper(upper.saturating_add(bytes));
        }
        all.set_lower(rest.lower().saturating_add(bytes));
        all
    }
}

/// Returns true if a request at a route of the gateway's is evidently meant for it. `body_time` is the time limit
/// for the beginning of its body.
pub(super) async fn is_meant_for_gateway<B>(
    route: GatewayRoute,
    head: &Parts,
    body: &mut PeekedBody<B>,
    source: &CorsOrigin,
    body_time: Duration,
) -> bool
where
    B: Body<Data = Bytes, Error: Error + Send + Sync + 'static>,
{
    let fields = &head.headers;
    if matches!(route, GatewayRoute::Script | GatewayRoute::Preview | GatewayRoute::Problem) {
        return true;
    }
    if head.method == Method::OPTIONS && fields.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        return !matches!(source, CorsOrigin::Foreign);
    }
    if !route.takes(&head.method) {
        return false;
    }
    match route {
        GatewayRoute::Me => !head::is_navigation(fields),
        GatewayRoute::Pixel => has_event(head.uri.query().unwrap_or_default()),
        GatewayRoute::Sdk
        | GatewayRoute::Message(_)
        | GatewayRoute::Batch
        | GatewayRoute::Reset => {
            if head::is_navigation(fields) || is_form(fields) {
                return false;
            }
            if fields.contains_key(CONTENT_ENCODING) {
                return true;
            }
            match tokio::time::timeout(body_time, body.peek()).await {
                Ok(Some((begin, is_whole))) => {
                    (route == GatewayRoute::Reset && begin.is_empty())
                        || is_message(&begin, is_whole)
                }
                // The route responds best to it.
                Ok(None) | Err(_) => true,
            }
        }
        _ => true,
    }
}

/// Returns true if the request is an HTML form's.
fn is_form(fields: &HeaderMap) -> bool {
    let kind = fields.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    ["application/x-www-form-urlencoded", "multipart/form-data"]
        .iter()
        .any(|form| kind.eq_ignore_ascii_case(form))
}

/// Returns true if a query has an event.
fn has_event(query: &str) -> bool {
    let mut names = url::form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name);
    names.any(|name| ["data", "event", "type"].contains(&&*name))
}

/// Returns true if a text begins as messages do.
fn is_message(begin: &[u8], is_whole: bool) -> bool {
    if is_whole && let Ok(members) = serde_json::from_slice::<HashMap<String, IgnoredAny>>(begin) {
        return EVIDENCE.iter().any(|name| members.contains_key(*name));
    }
    // Cut off, or not JSON: whatever error the message has, the gateway reports it.
    EVIDENCE.iter().any(|name| memmem::find(begin, format!("\"{name}\"").as_bytes()).is_some())
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::Full;

    use super::*;
    use tagway_core::event::EventKind;

    async fn evident(
        route: GatewayRoute,
        method: &str,
        uri: &str,
        fields: &[(&str, &str)],
        body: &str,
    ) -> bool {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let mut peeked = PeekedBody::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
        let time = Duration::from_secs(5);
        let found = is_meant_for_gateway(route, &head, &mut peeked, &CorsOrigin::Same, time).await;
        let exact = peeked.size_hint().exact();
        let all = peeked.collect().await.unwrap().to_bytes();
        assert_eq!((&*all, exact), (body.as_bytes(), Some(body.len() as u64)), "nothing is lost");
        found
    }

    const GROUP: GatewayRoute = GatewayRoute::Message(EventKind::Group);

    #[tokio::test]
    async fn messages_go_to_the_gateway() {
        let long =
            format!("{{\"properties\":{{\"a\":\"{}\"}},\"userId\":\"u\"}}", "x".repeat(9000));
        for (route, body) in [
            (GatewayRoute::Sdk, r#"{"batch":[],"sentAt":"2026-01-01T00:00:00Z"}"#),
            (GatewayRoute::Batch, r#"{"sentAt":1,"batch":[{"type":"track"}]}"#),
            (GatewayRoute::Reset, r#"{"batch":[],"sentAt":"2026-01-01T00:00:00Z"}"#),
            (GatewayRoute::Reset, ""),
            (GROUP, r#"{"groupId":"g","userId":"u"}"#),
            (GROUP, r#"{"groupId":"g","anonymousId":"#),
            (GatewayRoute::Message(EventKind::Track), r#"{"event":"Clicked"}"#),
            (GatewayRoute::Message(EventKind::Page), &long),
        ] {
            assert!(evident(route, "POST", "/x", &[], body).await, "{body}");
        }
        assert!(evident(GROUP, "POST", "/v1/group", &[("content-encoding", "gzip")], "?").await);
        for query in ["event=x", "data=e30", "a=1&type=page"] {
            assert!(
                evident(GatewayRoute::Pixel, "GET", &format!("/px.gif?{query}"), &[], "").await
            );
        }
        assert!(evident(GatewayRoute::Me, "GET", "/me", &[], "").await);
        assert!(evident(GatewayRoute::Script, "POST", "/tw.js", &[], "").await);
    }

    #[tokio::test]
    async fn other_requests_go_to_the_application() {
        let navigation: &[_] = &[("sec-fetch-mode", "navigate")];
        let form: &[_] = &[("content-type", "Application/x-www-form-urlencoded; charset=utf-8")];
        for (route, method, fields, body) in [
            (GatewayRoute::Reset, "GET", &[][..], ""),
            (GatewayRoute::Reset, "POST", &[], r#"{"email":"a@b.example"}"#),
            (GatewayRoute::Reset, "POST", form, ""),
            (GatewayRoute::Sdk, "GET", &[], ""),
            (GatewayRoute::Sdk, "POST", navigation, r#"{"batch":[]}"#),
            (GROUP, "POST", &[], r#"{"name":"Ops","members":[{"userId":"u"}]}"#),
            (GROUP, "POST", &[], ""),
            (GROUP, "DELETE", &[], ""),
            (GatewayRoute::Pixel, "GET", &[], ""),
            (GatewayRoute::Me, "GET", navigation, ""),
        ] {
            assert!(!evident(route, method, "/x?a=event", fields, body).await, "{route:?} {body}");
        }
    }
}
