//! The body of a response: complete, or a stream of unknown length.

use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;

/// The error that ends a stream early.
pub type BodyStreamError = Box<dyn Error + Send + Sync>;

/// The body of a response.
pub struct ResponseBody(ResponseBodyKind);

enum ResponseBodyKind {
    Whole(Full<Bytes>),
    Stream(Box<ResponseStream>),
}

struct ResponseStream {
    body: UnsyncBoxBody<Bytes, BodyStreamError>,
    /// Guards that are dropped when the stream ends, such as request counters.
    guards: Vec<Box<dyn Send>>,
}

impl ResponseBody {
    /// Creates a complete body.
    pub fn new(bytes: Bytes) -> Self {
        Self(ResponseBodyKind::Whole(Full::new(bytes)))
    }

    /// Creates a streamed body. It is polled no faster than the client reads.
    pub fn stream<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes, Error: Into<BodyStreamError>> + Send + 'static,
    {
        let body = body.map_err(Into::into).boxed_unsync();
        Self(ResponseBodyKind::Stream(Box::new(ResponseStream { body, guards: Vec::new() })))
    }

    /// Keeps `guard` until a streamed body ends; a complete body drops it at once.
    pub fn with_guard(mut self, guard: impl Send + 'static) -> Self {
        if let ResponseBodyKind::Stream(stream) = &mut self.0 {
            stream.guards.push(Box::new(guard));
        }
        self
    }

    /// Returns true if the body is streamed.
    pub fn is_stream(&self) -> bool {
        matches!(self.0, ResponseBodyKind::Stream(_))
    }
}

impl Default for ResponseBody {
    fn default() -> Self {
        Self::new(Bytes::new())
    }
}

impl From<Full<Bytes>> for ResponseBody {
    fn from(whole: Full<Bytes>) -> Self {
        Self(ResponseBodyKind::Whole(whole))
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BodyStreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyStreamError>>> {
        match &mut self.0 {
            ResponseBodyKind::Whole(whole) => {
                let frame = Pin::new(whole).poll_frame(context);
                frame.map(|frame| frame.map(|frame| frame.map_err(from_infallible)))
            }
            ResponseBodyKind::Stream(stream) => {
                let frame = Pin::new(&mut stream.body).poll_frame(context);
                if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
                    stream.guards.clear();
                }
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            ResponseBodyKind::Whole(whole) => whole.is_end_stream(),
            ResponseBodyKind::Stream(stream) => stream.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            ResponseBodyKind::Whole(whole) => whole.size_hint(),
            ResponseBodyKind::Stream(stream) => stream.body.size_hint(),
        }
    }
}

fn from_infallible(error: Infallible) -> BodyStreamError {
    match error {}
}

/// The rest of a connection after a 101 response: an extension of that response. The edge runs it in the
/// connection's place, and drops it when the connection must end.
#[derive(Clone)]
pub struct UpgradeTunnel(Arc<Mutex<Option<BoxFuture<'static, ()>>>>);

impl UpgradeTunnel {
    /// Creates a tunnel that ends with this future.
    pub fn new(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::pin(future)))))
    }

    /// Takes the future; `None` the second time.
    pub fn take(&self) -> Option<BoxFuture<'static, ()>> {
        self.0.lock().take()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;

    use super::*;

    #[tokio::test]
    async fn guard_is_kept_until_a_stream_ends_and_not_for_a_complete_body() {
        let (guard, count) = (Arc::new(()), Arc::strong_count);
        let whole = ResponseBody::new(Bytes::from_static(b"x")).with_guard(guard.clone());
        assert_eq!(count(&guard), 1);
        assert_eq!(whole.collect().await.unwrap().to_bytes(), "x");
        let frames =
            ["a", "b"].map(|text| Ok::<_, BodyStreamError>(Frame::data(Bytes::from(text))));
        let frames = StreamBody::new(futures_util::stream::iter(frames));
        let mut body = ResponseBody::stream(frames).with_guard(guard.clone());
        for _ in 0..2 {
            assert!(body.frame().await.unwrap().is_ok());
            assert_eq!(count(&guard), 2);
        }
        assert!(body.frame().await.is_none());
        assert_eq!(count(&guard), 1);
    }
}
