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
            Line::One(sender) => sender.try_send_request(request).await,
            Line::Shared(sender, place) => {
                if let Some(stream) = place.stream.take() {
                    upload.join(stream);
                }
                let mut whole = mem::take(request.uri_mut()).into_parts();
                whole.scheme = Some(self.scheme.clone());
                whole.authority = Some(self.authority.clone());
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
        let (sender, connection) = http1::handshake(stream).await?;
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

/// Whether a connection that had served before was at its end.
fn was_at_its_end(error: &hyper::Error) -> bool {
    !error.is_parse() && !error.is_user() && !error.is_timeout()
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
mod tests {
    use std::convert::Infallible;
    use std::net::SocketAddr;

    use futures_util::stream;
    use http_body_util::{Full, StreamBody};
    use hyper::server::conn as server;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use rustls::{RootCertStore, ServerConfig};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;
    use tokio_rustls::TlsAcceptor;

    use super::super::client::tests::settings;
    use super::super::upload::{Upload, UploadLimits};
    use super::*;

    /// Ends with the test.
    type Server = JoinSet<()>;

    /// A server of HTTP/1.1 that answers every head at once and reads whatever follows.
    async fn hasty() -> (SocketAddr, Arc<AtomicUsize>, Server) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (address, accepted) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let (count, mut tasks) = (accepted.clone(), JoinSet::new());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                connections.spawn(async move {
                    let mut seen = Vec::new();
                    while let Ok(byte) = stream.read_u8().await {
                        seen.push(byte);
                        if seen.ends_with(b" HTTP/1.1\r\n") {
                            seen.clear();
                        }
                        if seen.ends_with(b"\r\n\r\n") && seen.len() > 8 {
                            seen.clear();
                            let answer = b"HTTP/1.1 405 No\r\ncontent-length: 0\r\n\r\n";
                            stream.write_all(answer).await.unwrap();
                        }
                    }
                });
            }
        });
        (address, accepted, tasks)
    }

    fn upload<B>(method: &str, path: &str, body: B) -> (Request<Sent>, Arc<UploadState>)
    where
        B: Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
    {
        let state = UploadState::new(None);
        let silence = Duration::from_secs(3600);
        let limits = UploadLimits { bytes: 1 << 20, silence, trailers: Arc::new([]) };
        let body = Upload::new(body, limits, state.clone()).boxed_unsync();
        let request = Request::builder().method(method).uri(path).header("host", "x");
        (request.body(body).unwrap(), state)
    }

    fn get(path: &str) -> (Request<Sent>, Arc<UploadState>) {
        upload("GET", path, Empty::new())
    }

    /// The body of a client that sends a little and then nothing more.
    fn trickle() -> impl Body<Data = Bytes, Error = Infallible> + Send + 'static {
        let first = stream::iter([Ok(Frame::data(Bytes::from_static(b"x")))]);
        StreamBody::new(futures_util::StreamExt::chain(first, stream::pending()))
    }

    fn plain(origin: SocketAddr) -> Arc<Pool> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider);
        let tls = tls.with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        let settings = Settings { idle_connections: 8, ..settings(&format!("http://{origin}")) };
        Pool::new(&settings, &tls, |_| true, true).unwrap()
    }

    #[tokio::test]
    async fn connection_whose_upload_still_runs_takes_no_other_request() {
        let (origin, accepted, _server) = hasty().await;
        let pool = plain(origin);
        for uploads in 1..=3 {
            let (request, state) = upload("POST", "/up", trickle());
            let answer = pool.send(request, &state).await.unwrap();
            assert_eq!(answer.status(), 405);
            assert!(answer.body().is_end_stream() && !state.is_ended());
            drop(answer);
            assert_eq!(accepted.load(Ordering::Relaxed), uploads);
            assert!(pool.lock().unused.is_empty(), "nobody may wait for the upload's end");
        }
        // Visitors go over connections of their own, one after the other over one.
        for _ in 0..3 {
            let (request, state) = get("/");
            assert_eq!(pool.send(request, &state).await.unwrap().status(), 405);
            assert_eq!(pool.lock().unused.len(), 1);
        }
        assert_eq!(accepted.load(Ordering::Relaxed), 4);
    }

    /// A server of HTTP/2 over TLS, which takes so many requests at once and answers all but `/wait`,
    /// of which it tells.
    async fn multiplexed(most: u32) -> (SocketAddr, ClientConfig, mpsc::Receiver<()>, Server) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let mut tls = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.unwrap())
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let ((told, waiting), mut tasks) = (mpsc::channel(100), JoinSet::new());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            let acceptor = TlsAcceptor::from(Arc::new(tls));
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, told) = (acceptor.clone(), told.clone());
                connections.spawn(async move {
                    let stream = TokioIo::new(acceptor.accept(stream).await.unwrap());
                    let service = service_fn(move |request: Request<Incoming>| {
                        let told = told.clone();
                        async move {
                            if request.uri().path() == "/wait" {
                                told.send(()).await.unwrap();
                                std::future::pending::<()>().await;
                            }
                            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("yes"))))
                        }
                    });
                    let mut builder = server::http2::Builder::new(TokioExecutor::new());
                    builder.max_concurrent_streams(most);
                    builder.serve_connection(stream, service).await.ok();
                });
            }
        });
        (address, client, waiting, tasks)
    }

    #[tokio::test]
    async fn http2_request_never_waits_for_the_streams_of_others() {
        let (address, tls, mut waiting, _server) = multiplexed(2).await;
        let settings = settings(&format!("https://localhost:{}", address.port()));
        let pool = Pool::new(&settings, &tls, |_| true, false).unwrap();
        let answered = async || {
            let (request, state) = get("/");
            let answer = pool.send(request, &state).await.unwrap();
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "yes");
        };
        answered().await;
        assert_eq!(pool.lock().shared.len(), 1, "the origin speaks HTTP/2");
        let mut slow = JoinSet::new();
        for _ in 0..4 {
            let pool = pool.clone();
            slow.spawn(async move {
                let (request, state) = get("/wait");
                pool.send(request, &state).await.unwrap();
            });
            waiting.recv().await.unwrap();
        }
        assert!(pool.lock().shared.len() <= 4);
        assert!(pool.take_shared().is_none(), "the next takes a connection of its own");
        answered().await;
        slow.shutdown().await;
        assert!(pool.take_shared().is_some(), "places are given back");
    }
}
