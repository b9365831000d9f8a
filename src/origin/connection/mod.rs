//! The pooled connections to an origin, and one request over them.
//!
//! A connection is a task of its own, so that an upload goes on while nobody takes of the answer; what
//! is pooled is where it takes requests from. An origin closes connections that are unused for long,
//! and may do so just when the next request is on its way. Such a request goes once more, over a
//! connection made for it, if nothing is lost or done twice by that.
//!
//! No request waits for another client's. A connection whose upload still runs behind its answer takes
//! no other request; one of HTTP/2 takes as many as the origin serves at once, and holds of each answer
//! no more than leaves room for the others'.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
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
use rustls::ClientConfig;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};
use tower_service::Service;

use super::connect::{Connector, Guard, connector};
use super::settings::Settings;
use super::trailers;
use super::upload::UploadState;
use crate::answer::BodyError;

/// For a connection to see that its answer has ended, which its client may see before. It depends on
/// nobody but this process, unless the origin does not read what it was sent.
const SETTLE_TIME: Duration = Duration::from_millis(10);

/// The largest window that there is (RFC 9113, section 6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;

/// The body of a request.
pub(super) type Sent = UnsyncBoxBody<Bytes, BodyError>;

/// Connections to one origin.
pub(super) struct Pool {
    connector: Connector,
    /// Where it is.
    scheme: Scheme,
    authority: Authority,
    silence: Duration,
    idle_time: Duration,
    idle_connections: usize,
    /// The requests under way in one connection of HTTP/2.
    streams: usize,
    stream_bytes: usize,
    /// The quiet time of a connection of HTTP/2 before a ping, and the time for the answer.
    ping_interval: Duration,
    ping_timeout: Duration,
    trailers: Arc<[HeaderName]>,
    idle: Mutex<Idle>,
    /// Connections, and the watch over them: they end with the pool.
    tasks: Mutex<JoinSet<()>>,
}

/// What stands ready.
#[derive(Default)]
struct Idle {
    /// Of HTTP/1.1, the latest used last.
    unused: VecDeque<(http1::SendRequest<Sent>, Instant)>,
    /// Whether somebody will end those that stay unused.
    is_watched: bool,
    /// The connections of HTTP/2, each for many requests.
    shared: Vec<Shared>,
}

/// A connection of HTTP/2.
struct Shared {
    sender: http2::SendRequest<Sent>,
    /// Each request under way holds one more of it.
    streams: Arc<()>,
    room: Arc<Room>,
    used: Instant,
}

/// The number of requests that an origin takes at once over a connection of HTTP/2.
struct Room {
    /// One, until the first answer: the origin says the number before that.
    most: AtomicUsize,
    has_answered: AtomicBool,
    /// The connection's task, which knows the number.
    task: AtomicWaker,
}

impl Room {
    fn new() -> Arc<Self> {
        let (most, has_answered) = (AtomicUsize::new(1), AtomicBool::new(false));
        Arc::new(Self { most, has_answered, task: AtomicWaker::new() })
    }

    /// An answer came.
    fn answer(&self) {
        if !self.has_answered.swap(true, Ordering::AcqRel) {
            self.task.wake();
        }
    }

    /// The connection's task runs, and the origin said this number, if it said one yet.
    fn note(&self, context: &Context<'_>, most: usize) {
        AtomicWaker::register(&self.task, context.waker());
        if self.has_answered.load(Ordering::Acquire) {
            self.most.store(most, Ordering::Relaxed);
        }
    }
}

/// Where a connection takes requests from.
enum Line {
    One(http1::SendRequest<Sent>),
    Shared(http2::SendRequest<Sent>, StreamPlace),
}

/// A request's place in a connection of HTTP/2.
struct StreamPlace {
    /// Held by the request from when it is sent.
    stream: Option<Arc<()>>,
    room: Arc<Room>,
}

impl Shared {
    /// A place for one more request, if there is one.
    fn take(&mut self, limit: usize) -> Option<Line> {
        let most = self.room.most.load(Ordering::Relaxed).clamp(1, limit);
        if self.under_way() >= most {
            return None;
        }
        self.used = Instant::now();
        let place = StreamPlace { stream: Some(self.streams.clone()), room: self.room.clone() };
        Some(Line::Shared(self.sender.clone(), place))
    }

    fn under_way(&self) -> usize {
        Arc::strong_count(&self.streams) - 1
    }

    fn is_unused(&self, idle_time: Duration) -> bool {
        self.under_way() == 0 && self.used.elapsed() > idle_time
    }
}

impl Pool {
    /// Nothing is connected yet.
    pub(super) fn new(
        settings: &Settings,
        tls: &ClientConfig,
        guard: Guard,
        is_http1: bool,
    ) -> Result<Arc<Self>, http::Error> {
        let origin: Uri = settings.origin.as_str().parse()?;
        let origin = origin.into_parts();
        Ok(Arc::new(Self {
            connector: connector(settings, tls, guard, is_http1),
            scheme: origin.scheme.unwrap_or(Scheme::HTTP),
            authority: origin.authority.map_or_else(|| Authority::try_from(""), Ok)?,
            silence: settings.silence,
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

    /// The head of the answer, and what follows it. The request names a path alone; `upload` is the
    /// state of its body.
    pub(super) async fn send(
        self: &Arc<Self>,
        mut request: Request<Sent>,
        upload: &Arc<UploadState>,
    ) -> Result<Response<Flow>, BodyError> {
        while let Some(mut line) = self.take().await {
            let again = repeatable(&request);
            let mut error = match self.ask(&mut line, request, upload).await {
                Ok(answer) => return Ok(self.flow(answer, line, upload)),
                Err(error) => error,
            };
            request = match (error.take_message(), again) {
                // It was not sent at all.
                (Some(request), _) => request,
                (None, Some(again)) if was_at_its_end(error.error()) => {
                    request = again;
                    break;
                }
                (None, _) => return Err(error.into_error().into()),
            };
        }
        let mut line = self.connect().await?;
        match self.ask(&mut line, request, upload).await {
            Ok(answer) => Ok(self.flow(answer, line, upload)),
            Err(error) => Err(error.into_error().into()),
        }
    }

    async fn ask(
        &self,
        line: &mut Line,
        mut request: Request<Sent>,
        upload: &UploadState,
    ) -> Result<Response<Incoming>, TrySendError<Request<Sent>>> {
        match line {
            Line::One(sender) => {
                // One of HTTP/2 may have had it before.
                if request.uri().authority().is_some()
                    && let Some(path) = request.uri().path_and_query().cloned()
                {
                    *request.uri_mut() = Uri::from(path);
                }
                sender.try_send_request(request).await
            }
            Line::Shared(sender, place) => {
                if let Some(stream) = place.stream.take() {
                    upload.join(stream);
                }
                // The host that the request is for is not always the connection's.
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

    /// A connection that was used before and takes a request.
    async fn take(&self) -> Option<Line> {
        if let Some(line) = self.take_shared() {
            return Some(line);
        }
        loop {
            let (mut sender, since) = self.lock().unused.pop_back()?;
            if since.elapsed() > self.idle_time {
                // Those that were used before it are older.
                self.lock().unused.clear();
                return None;
            }
            if sender.is_ready() {
                return Some(Line::One(sender));
            }
            match tokio::time::timeout(SETTLE_TIME, sender.ready()).await {
                Ok(Ok(())) => return Some(Line::One(sender)),
                // The origin closed it.
                Ok(Err(_)) => {}
                Err(_elapsed) => return None,
            }
        }
    }

    fn take_shared(&self) -> Option<Line> {
        let mut idle = self.lock();
        idle.shared.retain(|shared| !shared.sender.is_closed());
        idle.shared.iter_mut().find_map(|shared| shared.take(self.streams))
    }

    async fn connect(self: &Arc<Self>) -> Result<Line, BodyError> {
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
            let room = Room::new();
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
        Ok(Line::One(sender))
    }

    /// A place in a new connection of HTTP/2, which later requests share unless others have room.
    fn share(self: &Arc<Self>, sender: http2::SendRequest<Sent>, room: Arc<Room>) -> Line {
        let streams = Arc::new(());
        let place = StreamPlace { stream: Some(streams.clone()), room: room.clone() };
        let line = Line::Shared(sender.clone(), place);
        let mut idle = self.lock();
        let has_room = idle.shared.iter_mut().any(|shared| shared.take(self.streams).is_some());
        if !has_room {
            idle.shared.push(Shared { sender, streams, room, used: Instant::now() });
            self.watch(&mut idle);
        }
        line
    }

    /// The answer, which gives the connection back at its end.
    fn flow(
        self: &Arc<Self>,
        answer: Response<Incoming>,
        line: Line,
        upload: &Arc<UploadState>,
    ) -> Response<Flow> {
        let line = match line {
            Line::One(sender) => Some(sender),
            Line::Shared(_, place) => {
                place.room.answer();
                None
            }
        };
        answer.map(|body| {
            let (pool, upload) = (self.clone(), upload.clone());
            let mut flow = Flow { body, line, pool, upload, waiting: None };
            if flow.body.is_end_stream() {
                flow.give_back();
            }
            flow
        })
    }

    fn put(self: &Arc<Self>, sender: http1::SendRequest<Sent>) {
        if sender.is_closed() || self.idle_connections == 0 {
            return;
        }
        let mut idle = self.lock();
        if idle.unused.len() >= self.idle_connections {
            idle.unused.pop_front();
        }
        idle.unused.push_back((sender, Instant::now()));
        self.watch(&mut idle);
    }

    /// Sees to it that somebody ends those that stay unused.
    fn watch(self: &Arc<Self>, idle: &mut Idle) {
        if !mem::replace(&mut idle.is_watched, true) {
            self.spawn(watch(Arc::downgrade(self), self.idle_time));
        }
    }

    /// Ends those that were not used for long. Whether there are others.
    fn prune(&self) -> bool {
        let mut idle = self.lock();
        let fresh = idle.unused.partition_point(|(_, since)| since.elapsed() > self.idle_time);
        idle.unused.drain(..fresh);
        idle.shared.retain(|shared| !shared.is_unused(self.idle_time));
        idle.is_watched = !idle.unused.is_empty() || !idle.shared.is_empty();
        idle.is_watched
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks after unused connections as long as there are any.
async fn watch(pool: Weak<Pool>, idle_time: Duration) {
    loop {
        tokio::time::sleep(idle_time).await;
        if !pool.upgrade().is_some_and(|pool| pool.prune()) {
            return;
        }
    }
}

/// The request once more, if it may be made twice and has no body that would be lost.
fn repeatable(request: &Request<Sent>) -> Option<Request<Sent>> {
    if !request.method().is_idempotent() || !request.body().is_end_stream() {
        return None;
    }
    let mut again = Request::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.headers_mut() = request.headers().clone();
    Some(again)
}

/// Returns true if a connection that had served before was at its end, found by a ping or not.
fn was_at_its_end(error: &hyper::Error) -> bool {
    !error.is_parse() && !error.is_user()
}

/// The body of an answer, which must not be silent for too long.
pub(super) struct Flow {
    body: Incoming,
    /// Since the last of it came.
    waiting: Option<Pin<Box<Sleep>>>,
    /// Where its connection takes requests from, if it has one of its own.
    line: Option<http1::SendRequest<Sent>>,
    /// Whose connection it is.
    pool: Arc<Pool>,
    /// The state of the request that it answers.
    upload: Arc<UploadState>,
}

impl Flow {
    /// Gives the connection back, once all is here and nothing is sent any more. What is dropped before
    /// ends its connection, after its upload if that still runs.
    fn give_back(&mut self) {
        if let Some(sender) = self.line.take()
            && self.upload.is_ended()
        {
            self.pool.put(sender);
        }
    }
}

impl Body for Flow {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
                let silence = self.pool.silence;
                let waiting =
                    self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
                ready!(waiting.as_mut().poll(context));
                return Poll::Ready(Some(Err("the origin fell silent".into())));
            };
            self.waiting = None;
            match &frame {
                Some(Err(_)) => self.line = None,
                // Nobody may ask for the end of a body whose length was said.
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
