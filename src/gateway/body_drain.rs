//! Drains the rest of a request's body when its response is already known. Clients that reuse a connection send the
//! whole body before they read the response: closing with an unread body would lose the response and the next
//! request.

use bytes::{Buf, Bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT};
use http::request::Parts;
use http::{HeaderValue, Response, Version};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::time::{Instant, timeout_at};

use super::settings::GatewayLimits;
use tagway_core::answer::ResponseBody;

/// Reads the rest of a body, within `limits.inflated_bytes` and `limits.body_time`. If it is longer, the response
/// closes the connection.
pub(super) async fn drain_body<B>(
    head: &Parts,
    body: B,
    limits: &GatewayLimits,
    mut answer: Response<ResponseBody>,
) -> Response<ResponseBody>
where
    B: Body<Data = Bytes> + Unpin,
{
    // An HTTP/2 stream ends without its connection.
    if head.version >= Version::HTTP_2 || body.is_end_stream() {
        return answer;
    }
    if !can_read_rest(head, limits) || !read_to_end(body, limits).await {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// Returns true if the rest may be read: the client does not expect a 100 first, and its declared length is within
/// the limit or missing.
fn can_read_rest(head: &Parts, limits: &GatewayLimits) -> bool {
    let stated = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let stated = stated.and_then(|length| length.parse::<usize>().ok());
    !head.headers.contains_key(EXPECT)
        && stated.is_none_or(|length| length <= limits.inflated_bytes)
}

async fn read_to_end<B>(mut body: B, limits: &GatewayLimits) -> bool
where
    B: Body<Data = Bytes> + Unpin,
{
    let deadline = Instant::now() + limits.body_time;
    let mut room = limits.inflated_bytes;
    loop {
        match timeout_at(deadline, body.frame()).await {
            Ok(None) => return true,
            Ok(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Buf::remaining);
                let Some(rest) = room.checked_sub(bytes) else { return false };
                room = rest;
            }
            Ok(Some(Err(_))) | Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;
    use crate::gateway::tests::limits;

    async fn connection(version: Version, length: usize, expects: bool) -> Option<HeaderValue> {
        let request = Request::builder().version(version).header(CONTENT_LENGTH, length);
        let request = if expects { request.header(EXPECT, "100-continue") } else { request };
        let (head, ()) = request.body(()).unwrap().into_parts();
        let body = Full::new(Bytes::from(vec![b' '; length]));
        let answer = Response::new(ResponseBody::new(Bytes::new()));
        let answer = drain_body(&head, body, &limits(), answer).await;
        answer.headers().get(CONNECTION).cloned()
    }

    #[tokio::test]
    async fn connection_stays_if_the_rest_of_a_body_can_be_read() {
        let (most, close) = (limits().inflated_bytes, Some(HeaderValue::from_static("close")));
        assert_eq!(connection(Version::HTTP_11, most, false).await, None);
        assert_eq!(connection(Version::HTTP_11, 0, false).await, None);
        assert_eq!(connection(Version::HTTP_11, most + 1, false).await, close);
        assert_eq!(connection(Version::HTTP_11, 10, true).await, close);
        assert_eq!(connection(Version::HTTP_2, most + 1, false).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn body_without_an_end_closes_the_connection() {
        let pieces = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(limits().body_time / 4).await;
            Some((Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b" "))), ()))
        });
        let (head, ()) = Request::new(()).into_parts();
        let answer = Response::new(ResponseBody::new(Bytes::new()));
        let body = Box::pin(StreamBody::new(pieces));
        let answer = drain_body(&head, body, &limits(), answer).await;
        assert_eq!(answer.headers()[CONNECTION], "close");
    }
}
