//! The body of a request on its way from the client to an origin.
//!
//! An upload that ends early is the client's error, not the origin's. The state of an upload outlives the request:
//! a connection whose upload still runs takes no other request, even after its response has arrived.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

use super::client_requests::ClientRequestSlot;
use super::trailers;
use tagway_core::answer::BodyStreamError;

/// An error of a request body that was not received whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// The upload is longer than `upload_bytes`.
    #[error("the upload is too large")]
    TooLarge,
    /// Nothing of it arrived for `upload_silence`.
    #[error("the upload took too long")]
    TooSlow,
    /// Its framing violates HTTP.
    #[error("the upload is malformed")]
    Malformed,
    /// The client went away.
    #[error("the client is gone")]
    Gone,
}

impl UploadError {
    /// Returns the status that reports the error to the client.
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Gone => client_gone(),
        }
    }

    fn of(error: &BodyStreamError) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let mut source: Option<&(dyn Error + 'static)> = Some(&**error);
        while let Some(cause) = source {
            if let Some(cause) = cause.downcast_ref::<hyper::Error>()
                && (cause.is_incomplete_message() || cause.is_canceled() || cause.is_closed())
            {
                return Self::Gone;
            }
            if let Some(cause) = cause.downcast_ref::<io::Error>()
                && matches!(
                    cause.kind(),
                    BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
                )
            {
                return Self::Gone;
            }
            source = cause.source();
        }
        Self::Malformed
    }
}

/// Returns the status that is counted for a client that went away before its response; it is never sent. It is not
/// in RFC 9110, but the one that other proxies' logs use.
pub fn client_gone() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

/// The stages of an upload.
#[derive(Clone, Copy)]
#[repr(u8)]
enum UploadStage {
    /// The origin takes what is there.
    Passing,
    /// The client has to send more.
    Waiting,
    /// All of it was sent, or nothing more will be.
    Ended,
}

/// The state of an upload, and the slots that it keeps until it and its response end.
pub(super) struct UploadState {
    stage: AtomicU8,
    began: Instant,
    /// The time of its latest progress, in milliseconds since it began.
    progress_ms: AtomicU64,
    error: OnceLock<UploadError>,
    _place: Option<ClientRequestSlot>,
    /// The counted stream of an HTTP/2 connection.
    stream: Mutex<Option<Arc<()>>>,
}

impl UploadState {
    /// Creates the state of an upload that did not begin.
    pub(super) fn new(place: Option<ClientRequestSlot>) -> Arc<Self> {
        Arc::new(Self {
            stage: AtomicU8::new(UploadStage::Passing as u8),
            began: Instant::now(),
            progress_ms: AtomicU64::new(0),
            error: OnceLock::new(),
            _place: place,
            stream: Mutex::default(),
        })
    }

    /// Returns true if the connection is done with the upload.
    pub(super) fn is_ended(&self) -> bool {
        self.stage.load(Ordering::Acquire) == UploadStage::Ended as u8
    }

    /// Returns the time from which the origin's delay counts: the upload's latest progress, or its end. It is the
    /// current time as long as the upload waits for its client.
    pub(super) fn progress(&self) -> Instant {
        if self.stage.load(Ordering::Acquire) == UploadStage::Waiting as u8 {
            return Instant::now();
        }
        self.began + Duration::from_millis(self.progress_ms.load(Ordering::Relaxed))
    }

    /// Returns the error that ended it early.
    pub(super) fn error(&self) -> Option<UploadError> {
        self.error.get().copied()
    }

    /// Counts the upload among a connection's streams.
    pub(super) fn join(&self, place: Arc<()>) {
        let mut stream = self.stream.lock();
        *stream = Some(place);
    }

    fn enter(&self, stage: UploadStage) {
        let passed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.progress_ms.store(passed, Ordering::Relaxed);
        self.stage.store(stage as u8, Ordering::Release);
    }
}

/// The limits of an upload.
#[derive(Clone, Debug)]
pub(super) struct UploadLimits {
    pub(super) bytes: u64,
    pub(super) idle_timeout: Duration,
    pub(super) trailers: Arc<[HeaderName]>,
}

/// The body of a request, as the origin gets it.
pub(super) struct UploadBody<B> {
    body: Pin<Box<B>>,
    limits: UploadLimits,
    /// The number of bytes received.
    length: u64,
    /// The timer of the silence since the last frame.
    waiting: Option<Pin<Box<Sleep>>>,
    state: Arc<UploadState>,
}

impl<B: Body> UploadBody<B> {
    pub(super) fn new(body: B, limits: UploadLimits, state: Arc<UploadState>) -> Self {
        if body.is_end_stream() {
            state.enter(UploadStage::Ended);
        }
        Self { body: Box::pin(body), limits, length: 0, waiting: None, state }
    }

    fn fail(&self, error: UploadError) -> UploadError {
        *self.state.error.get_or_init(|| error)
    }
}

impl<B> Drop for UploadBody<B> {
    fn drop(&mut self) {
        self.state.enter(UploadStage::Ended);
    }
}

impl<B> Body for UploadBody<B>
where
    B: Body<Data = Bytes, Error: Into<BodyStreamError>>,
{
    type Data = Bytes;
    type Error = BodyStreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyStreamError>>> {
        let this = &mut *self;
        loop {
            let Poll::Ready(frame) = this.body.as_mut().poll_frame(context) else {
                this.state.enter(UploadStage::Waiting);
                let silence = this.limits.idle_timeout;
                let waiting =
                    this.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
                ready!(waiting.as_mut().poll(context));
                return Poll::Ready(Some(Err(this.fail(UploadError::TooSlow).into())));
            };
            this.waiting = None;
            this.state.enter(if frame.is_some() {
                UploadStage::Passing
            } else {
                UploadStage::Ended
            });
            let frame = match frame {
                None => return Poll::Ready(None),
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    let error = error.into();
                    let why = this.fail(UploadError::of(&error));
                    tracing::debug!(error = &*error as &dyn Error, "an upload ended early: {why}");
                    return Poll::Ready(Some(Err(why.into())));
                }
            };
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            this.length = this.length.saturating_add(length);
            if this.length > this.limits.bytes {
                return Poll::Ready(Some(Err(this.fail(UploadError::TooLarge).into())));
            }
            if let Some(frame) = trailers::filtered(frame, &this.limits.trailers) {
                return Poll::Ready(Some(Ok(frame)));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http::{HeaderMap, HeaderValue};
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    fn limits() -> UploadLimits {
        let silence = Duration::from_secs(30);
        UploadLimits { bytes: 4, idle_timeout: silence, trailers: Arc::new([]) }
    }

    fn upload(
        frames: Vec<Result<Frame<Bytes>, BodyStreamError>>,
    ) -> (impl Body<Data = Bytes, Error = BodyStreamError> + Unpin, Arc<UploadState>) {
        let state = UploadState::new(None);
        let body = StreamBody::new(stream::iter(frames));
        (UploadBody::new(body, limits(), state.clone()), state)
    }

    fn data(text: &'static str) -> Result<Frame<Bytes>, BodyStreamError> {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    #[tokio::test]
    async fn upload_errors_are_the_clients() {
        let io = |kind: io::ErrorKind| Err(io::Error::from(kind).into());
        for (last, expected) in [
            (io(io::ErrorKind::InvalidInput), UploadError::Malformed),
            (io(io::ErrorKind::UnexpectedEof), UploadError::Gone),
            (io(io::ErrorKind::ConnectionReset), UploadError::Gone),
            (data("345"), UploadError::TooLarge),
        ] {
            let (body, state) = upload(vec![data("12"), last]);
            let error = body.collect().await.unwrap_err();
            assert_eq!(error.downcast_ref::<UploadError>(), Some(&expected));
            assert_eq!(state.error(), Some(expected));
            assert!(state.is_ended());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn upload_of_a_silent_client_ends_as_too_slow() {
        let state = UploadState::new(None);
        let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, BodyStreamError>>());
        let mut body = UploadBody::new(body, limits(), state.clone());
        let began = Instant::now();
        let error = body.frame().await.unwrap().unwrap_err();
        assert_eq!(error.downcast_ref::<UploadError>(), Some(&UploadError::TooSlow));
        assert!(state.progress() > began, "the client was waited for, not the origin");
        assert!(!state.is_ended());
        drop(body);
        assert!(state.is_ended());
    }

    #[tokio::test]
    async fn upload_trailers_are_dropped() {
        let trailers = HeaderMap::from_iter([(
            HeaderName::from_static("x-forwarded-for"),
            HeaderValue::from_static("6.6.6.6"),
        )]);
        let (body, state) = upload(vec![data("12"), Ok(Frame::trailers(trailers))]);
        let body = body.collect().await.unwrap();
        assert!(body.trailers().is_none());
        assert_eq!(body.to_bytes(), "12");
        assert!(state.is_ended());
    }
}
