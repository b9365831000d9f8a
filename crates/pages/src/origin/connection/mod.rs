//! The pooled connections to an origin, and one request over them.
//!
//! A connection is a task, so that an upload continues while the response is not read; the pool stores its request
//! sender. An origin may close an unused connection just when the next request is being sent: such a request is
//! repeated once over a new connection, if it is idempotent and has no body that would be lost.
//!
//! No request waits for another client's. A connection whose upload outlasts its response takes no other request;
//! an HTTP/2 connection takes as many as the origin allows, and limits the buffer of each response.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::task::AtomicWaker;
use http::header::HOST;
use http::uri::{Authority, Scheme};
use http::{HeaderName, Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::client::legacy::connect::Connection as _;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};
use tower_service::Service;

use super::connect::{OriginConnector, connector};
use super::settings::OriginSettings;
use super::trailers;
use super::upload::UploadState;
use tagway_core::address::AddressGuard;
use tagway_core::answer::BodyStreamError;

/// The time for a connection to notice that its response has ended, which its client may see first. It depends only
/// on this process, unless the origin does not read the request.
const SETTLE_TIME: Duration = Duration::from_millis(10);

/// The largest window that there is (RFC 9113, section 6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;

/// The body of a request to the origin.
pub(super) type OriginRequestBody = UnsyncBoxBody<Bytes, BodyStreamError>;

/// The pool of connections to one origin.
pub(super) struct OriginPool {
    connector: OriginConnector,
    /// The scheme of the origin's URL.
    scheme: Scheme,
    authority: Authority,
    idle_timeout: Duration,
    idle_time: Duration,
    idle_connections: usize,
    /// The most active requests on one HTTP/2 connection.
    streams: usize,
    stream_bytes: usize,
    /// The quiet time of an HTTP/2 connection before a ping, and the time for the reply.
    ping_interval: Duration,
    ping_timeout: Duration,
    trailers: Arc<[HeaderName]>,
    idle: Mutex<OriginPoolState>,
    /// The tasks of the connections and of their watcher: they end with the pool.
    tasks: Mutex<JoinSet<()>>,
}

/// The connections that can take requests.
#[derive(Default)]
struct OriginPoolState {
    /// The unused HTTP/1.1 connections, the latest used last.
    unused: VecDeque<(http1::SendRequest<OriginRequestBody>, Instant)>,
    /// True if a task ends connections that stay unused.
    is_watched: bool,
    /// The HTTP/2 connections, each for many requests.
    shared: Vec<Http2Connection>,
}

/// A pooled HTTP/2 connection.
struct Http2Connection {
    sender: http2::SendRequest<OriginRequestBody>,
    /// The counter of active requests: each one has a clone.
    streams: Arc<()>,
    stream_limit: Arc<Http2StreamLimit>,
    used: Instant,
}

/// The number of requests that an origin serves at once over an HTTP/2 connection.
struct Http2StreamLimit {
    /// The number; 1 until the first response, since the origin's settings arrive before that.
    max_streams: AtomicUsize,
    has_answered: AtomicBool,
    /// The waker of the connection's task, which knows the number.
    task: AtomicWaker,
}

impl Http2StreamLimit {
    fn new() -> Arc<Self> {
        let (most, has_answered) = (AtomicUsize::new(1), AtomicBool::new(false));
        Arc::new(Self { max_streams: most, has_answered, task: AtomicWaker::new() })
    }

    /// Records the first response.
    fn answer(&self) {
        if !self.has_answered.swap(true, Ordering::AcqRel) {
            self.task.wake();
        }
    }

    /// Records the origin's number as the connection's task sees it, once the origin has responded.
    fn note(&self, context: &Context<'_>, most: usize) {
        AtomicWaker::register(&self.task, context.waker());
        if self.has_answered.load(Ordering::Acquire) {
            self.max_streams.store(most, Ordering::Relaxed);
        }
    }
}

/// The request sender of a connection.
enum RequestSender {
    One(http1::SendRequest<OriginRequestBody>),
    Shared(http2::SendRequest<OriginRequestBody>, Http2StreamSlot),
}

/// A request's slot in an HTTP/2 connection.
struct Http2StreamSlot {
    /// The counted stream; the upload takes it when the request is sent.
    stream: Option<Arc<()>>,
    stream_limit: Arc<Http2StreamLimit>,
}

impl Http2Connection {
    /// Takes a slot for one more request, if there is one.
    fn take(&mut self, limit: usize) -> Option<RequestSender> {
        let most = self.stream_limit.max_streams.load(Ordering::Relaxed).clamp(1, limit);
        if self.under_way() >= most {
            return None;
        }
        self.used = Instant::now();
        let place = Http2StreamSlot {
            stream: Some(self.streams.clone()),
            stream_limit: self.stream_limit.clone(),
        };
        Some(RequestSender::Shared(self.sender.clone(), place))
    }

    fn under_way(&self) -> usize {
        Arc::strong_count(&self.streams) - 1
    }

    fn is_unused(&self, idle_time: Duration) -> bool {
        self.under_way() == 0 && self.used.elapsed() > idle_time
    }
}

impl OriginPool {
    /// Creates a pool without connections.
    pub(super) fn new(
        settings: &OriginSettings,
        tls: &ClientConfig,
        guard: AddressGuard,
        is_http1: bool,
    ) -> Result<Arc<Self>, http::Error> {
        let origin: Uri = settings.origin.as_str().parse()?;
        let origin = origin.into_parts();
        Ok(Arc::new(Self {
            connector: connector(settings, tls, guard, is_http1),
            scheme: origin.scheme.unwrap_or(Scheme::HTTP),
            authority: origin.authority.map_or_else(|| Authority::try_from(""), Ok)?,
            idle_timeout: settings.idle_timeout,
            idle_time: settings.idle_time,
            idle_connections: settings.idle_connections,
            streams: settings.streams,
            stream_bytes: settings.stream_bytes,
            ping_interval: settings.ping_interval,
            ping_timeout: settings.ping_timeout,
            trailers: settings.trailers.clone(),
            idle: Mutex::default(),
            tasks: Mutex::default(),
        }))
    }

    /// Sends a request, and returns the head of the response with a streamed body. The request names a path alone;
    /// `upload` is the state of its body.
    pub(super) async fn send(
        self: &Arc<Self>,
        mut request: Request<OriginRequestBody>,
        upload: &Arc<UploadState>,
    ) -> Result<Response<OriginResponseBody>, BodyStreamError> {
        while let Some(mut line) = self.take_sender().await {
            let again = repeatable(&request);
            let mut error = match self.send_with(&mut line, request, upload).await {
                Ok(answer) => return Ok(self.flow(answer, line, upload)),
                Err(error) => error,
            };
            request = match (error.take_message(), again) {
                // No byte of it was sent.
                (Some(request), _) => request,
                (None, Some(again)) if was_at_its_end(error.error()) => {
                    request = again;
                    break;
                }
                (None, _) => return Err(error.into_error().into()),
            };
        }
        let mut line = self.connect().await?;
        match self.send_with(&mut line, request, upload).await {
            Ok(answer) => Ok(self.flow(answer, line, upload)),
            Err(error) => Err(error.into_error().into()),
        }
    }

    async fn send_with(
        &self,
        line: &mut RequestSender,
        mut request: Request<OriginRequestBody>,
        upload: &UploadState,
    ) -> Result<Response<Incoming>, TrySendError<Request<OriginRequestBody>>> {
        match line {
            RequestSender::One(sender) => {
                // An HTTP/2 connection may have been tried before.
                if request.uri().authority().is_some()
                    && let Some(path) = request.uri().path_and_query().cloned()
                {
                    *request.uri_mut() = Uri::from(path);
                }
                sender.try_send_request(request).await
            }
            RequestSender::Shared(sender, place) => {
                if let Some(stream) = place.stream.take() {
                    upload.join(stream);
                }
                // The request's host is not always the connection's.
                let host = request.headers().get(HOST);
                let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
                let mut whole = mem::take(request.uri_mut()).into_parts();
                whole.scheme = Some(self.scheme.clone());
                whole.authority = Some(authority.unwrap_or_else(|| self.authority.clone()));
                // A path with a scheme and an authority is always a URI.
                *request.uri_mut() = Uri::from_parts(whole).unwrap_or_default();
                sender.try_send_request(request).await
            }
        }
    }

    /// Takes a used connection that accepts a request.
    async fn take_sender(&self) -> Option<RequestSender> {
        if let Some(line) = self.take_shared() {
            return Some(line);
        }
        loop {
            let (mut sender, since) = self.idle.lock().unused.pop_back()?;
            if since.elapsed() > self.idle_time {
                // Those that were unused before it are older.
                self.idle.lock().unused.clear();
                return None;
            }
            if sender.is_ready() {
                return Some(RequestSender::One(sender));
            }
            match tokio::time::timeout(SETTLE_TIME, sender.ready()).await {
                Ok(Ok(())) => return Some(RequestSender::One(sender)),
                // The origin closed it.
                Ok(Err(_)) => {}
                Err(_elapsed) => return None,
            }
        }
    }

    fn take_shared(&self) -> Option<RequestSender> {
        let mut idle = self.idle.lock();
        idle.shared.retain(|shared| !shared.sender.is_closed());
        idle.shared.iter_mut().find_map(|shared| shared.take(self.streams))
    }

    async fn connect(self: &Arc<Self>) -> Result<RequestSender, BodyStreamError> {
        let origin = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query("/")
            .build()?;
        let stream = self.connector.clone().call(origin).await?;
        if stream.connected().is_negotiated_h2() {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            let window = u32::try_from(self.stream_bytes).unwrap_or(MAX_WINDOW).min(MAX_WINDOW);
            let all = u32::try_from(self.streams).unwrap_or(u32::MAX);
            builder
                .timer(TokioTimer::new())
                .keep_alive_interval(self.ping_interval)
                .keep_alive_timeout(self.ping_timeout)
                .keep_alive_while_idle(true)
                .initial_stream_window_size(window)
                .initial_connection_window_size(window.saturating_mul(all).min(MAX_WINDOW));
            let (sender, mut connection) = builder.handshake(stream).await?;
            let room = Http2StreamLimit::new();
            let known = room.clone();
            self.spawn(poll_fn(move |context| {
                let ended = Pin::new(&mut connection).poll(context).map(drop);
                known.note(context, connection.current_max_send_streams());
                ended
            }));
            return Ok(self.share(sender, room));
        }
        // Old servers write heads that only others of their age would: what they mean is clear, and the
        // client gets it as it has to be (RFC 9112, sections 5.1 and 5.2).
        let mut builder = http1::Builder::new();
        builder
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true);
        let (sender, connection) = builder.handshake(stream).await?;
        self.spawn(connection.with_upgrades().map(drop));
        Ok(RequestSender::One(sender))
    }

    /// Takes a slot in a new HTTP/2 connection, which later requests share unless others have room.
    fn share(
        self: &Arc<Self>,
        sender: http2::SendRequest<OriginRequestBody>,
        room: Arc<Http2StreamLimit>,
    ) -> RequestSender {
        let streams = Arc::new(());
        let place = Http2StreamSlot { stream: Some(streams.clone()), stream_limit: room.clone() };
        let line = RequestSender::Shared(sender.clone(), place);
        let mut idle = self.idle.lock();
        let has_room = idle.shared.iter_mut().any(|shared| shared.take(self.streams).is_some());
        if !has_room {
            idle.shared.push(Http2Connection {
                sender,
                streams,
                stream_limit: room,
                used: Instant::now(),
            });
            self.watch(&mut idle);
        }
        line
    }

    /// Wraps the response, so that it returns the connection to the pool at its end.
    fn flow(
        self: &Arc<Self>,
        answer: Response<Incoming>,
        line: RequestSender,
        upload: &Arc<UploadState>,
    ) -> Response<OriginResponseBody> {
        let line = match line {
            RequestSender::One(sender) => Some(sender),
            RequestSender::Shared(_, place) => {
                place.stream_limit.answer();
                None
            }
        };
        answer.map(|body| {
            let (pool, upload) = (self.clone(), upload.clone());
            let mut flow = OriginResponseBody { body, sender: line, pool, upload, waiting: None };
            if flow.body.is_end_stream() {
                flow.give_back();
            }
            flow
        })
    }

    fn put(self: &Arc<Self>, sender: http1::SendRequest<OriginRequestBody>) {
        if sender.is_closed() || self.idle_connections == 0 {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.unused.len() >= self.idle_connections {
            idle.unused.pop_front();
        }
        idle.unused.push_back((sender, Instant::now()));
        self.watch(&mut idle);
    }

    /// Spawns the task that ends unused connections, unless it runs already.
    fn watch(self: &Arc<Self>, idle: &mut OriginPoolState) {
        if !mem::replace(&mut idle.is_watched, true) {
            self.spawn(watch(Arc::downgrade(self), self.idle_time));
        }
    }

    /// Ends connections that were not used for long. Returns true if any are left.
    fn prune(&self) -> bool {
        let mut idle = self.idle.lock();
        let fresh = idle.unused.partition_point(|(_, since)| since.elapsed() > self.idle_time);
        idle.unused.drain(..fresh);
        idle.shared.retain(|shared| !shared.is_unused(self.idle_time));
        idle.is_watched = !idle.unused.is_empty() || !idle.shared.is_empty();
        idle.is_watched
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

/// Prunes unused connections until none are left.
async fn watch(pool: Weak<OriginPool>, idle_time: Duration) {
    loop {
        tokio::time::sleep(idle_time).await;
        if !pool.upgrade().is_some_and(|pool| pool.prune()) {
            return;
        }
    }
}

/// Copies the request for a repetition, if it is idempotent and has no body that would be lost.
fn repeatable(request: &Request<OriginRequestBody>) -> Option<Request<OriginRequestBody>> {
    if !request.method().is_idempotent() || !request.body().is_end_stream() {
        return None;
    }
    let mut again = Request::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.headers_mut() = request.headers().clone();
    Some(again)
}

/// Returns true if a used connection had ended, whether or not a ping showed it.
fn was_at_its_end(error: &hyper::Error) -> bool {
    !error.is_parse() && !error.is_user()
}

/// The body of a response, with a limit on its silence.
pub(super) struct OriginResponseBody {
    body: Incoming,
    /// The timer of the silence since the last frame.
    waiting: Option<Pin<Box<Sleep>>>,
    /// The sender of an HTTP/1.1 connection, to return to the pool.
    sender: Option<http1::SendRequest<OriginRequestBody>>,
    /// The pool of the connection.
    pool: Arc<OriginPool>,
    /// The state of the request's upload.
    upload: Arc<UploadState>,
}

impl OriginResponseBody {
    /// Returns the connection to the pool, once the response is complete and the upload has ended. A body dropped
    /// earlier ends its connection, after its upload if that still runs.
    fn give_back(&mut self) {
        if let Some(sender) = self.sender.take()
            && self.upload.is_ended()
        {
            self.pool.put(sender);
        }
    }
}

impl Body for OriginResponseBody {
    type Data = Bytes;
    type Error = BodyStreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyStreamError>>> {
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
                let silence = self.pool.idle_timeout;
                let waiting =
                    self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
                ready!(waiting.as_mut().poll(context));
                return Poll::Ready(Some(Err("the origin fell silent".into())));
            };
            self.waiting = None;
            match &frame {
                Some(Err(_)) => self.sender = None,
                // Readers might never poll for the end of a body of known length.
                Some(Ok(_)) if !self.body.is_end_stream() => {}
                Some(Ok(_)) | None => self.give_back(),
            }
            let Some(frame) = frame else { return Poll::Ready(None) };
            let frame = trailers::filtered(frame?, &self.pool.trailers);
            if let Some(frame) = frame {
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
mod tests;
