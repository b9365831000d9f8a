//! The listener: accepts, encrypts, limits and drains connections.
//!
//! Health and metrics are answered with any number of connections: if the listener is full, a new
//! connection replaces the one idle longest; if none is idle, it takes one of the reserve, which serves
//! nothing else.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;

use super::AdminContext;
use super::idle_connections::{AdminConnection, BusyResponseBody, IdleConnections};
use super::request_source::AdminPeer;
use super::router::AdminRouters;
use tagway_edge::{HttpVersionOffer, TerminatedStream, TlsTerminator, TrackedExecutor};

/// The longest head of a request: tokens and queries are short.
const HEAD_BYTES: u16 = 16 * 1024;

/// Requests at once in one HTTP/2 connection: a browser uses one connection for all its tabs, each with a stream and
/// the few requests of a screen.
const HTTP2_STREAMS: u32 = 64;

/// Resets by a client that are not served yet, per HTTP/2 connection. Screens that are left reset a few; an attack
/// with rapid resets (CVE-2023-44487) sends thousands.
const HTTP2_RESETS: usize = 32;

/// The silence after which an HTTP/2 connection is tested, so that lost browsers do not keep their streams.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);

/// The time for the answer to the test.
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause of accepting when the system has no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bound listener.
pub struct AdminServer {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsTerminator>,
}

impl AdminServer {
    /// Binds the address; port 0 takes a free port. With certificates the listener speaks only TLS.
    ///
    /// # Errors
    ///
    /// Fails if the address is in use or not of this machine.
    pub async fn bind(address: SocketAddr, tls: Option<TlsTerminator>) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, tls })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `drain` is cancelled, then ends the watchers, finishes the responses under way
    /// within `admin.drain_time`, and returns.
    pub async fn serve(self, context: AdminContext, drain: CancellationToken) {
        let room = AdminConnectionSlots::new(context.settings.connections);
        let reserve = AdminConnectionSlots::new(context.settings.reserve);
        let (header_time, drain_time) = (context.settings.header_time, context.settings.drain_time);
        let routers = AdminRouters::new(context, drain.clone());
        let (mut connections, streams) = (JoinSet::new(), TaskTracker::new());
        loop {
            let (stream, address) = tokio::select! {
                () = drain.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = self.accept() => accepted,
            };
            let (slot, idle, purpose) = tokio::select! {
                () = drain.cancelled() => break,
                place = acquire_connection_slot(&room, &reserve) => place,
            };
            // Idle from now on, even before its task first runs.
            let evicted = CancellationToken::new();
            let seat = idle.add_connection(evicted.clone());
            let context = ConnectionContext {
                peer: AdminPeer { address: address.ip(), secure: self.tls.is_some() },
                purpose,
                router: purpose.router(&routers),
                header_time,
                seat,
                drain: drain.clone(),
                evicted,
                streams: streams.clone(),
            };
            let tls = self.tls.clone();
            connections.spawn(async move {
                serve_connection(stream, tls, context).await;
                drop(slot);
            });
        }
        drop(self.listener);
        let finished = async {
            while connections.join_next().await.is_some() {}
            for tasks in [&streams, &routers.acts] {
                tasks.close();
                tasks.wait().await;
            }
        };
        if tokio::time::timeout(drain_time, finished).await.is_err() {
            connections.shutdown().await;
        }
    }

    /// Accepts the next connection. An accept error never ends the listener.
    async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    tracing::warn!(%error, "the admin listener could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// The requests that a connection may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AdminConnectionUse {
    Anything,
    /// One request for health or metrics.
    Health,
}

impl AdminConnectionUse {
    fn router(self, routers: &AdminRouters) -> Router {
        match self {
            Self::Anything => routers.complete.clone(),
            Self::Health => routers.health.clone(),
        }
    }
}

/// Slots for connections, and the idle ones among them.
struct AdminConnectionSlots {
    limit: Arc<Semaphore>,
    idle: IdleConnections,
}

impl AdminConnectionSlots {
    fn new(places: usize) -> Self {
        Self { limit: Arc::new(Semaphore::new(places)), idle: IdleConnections::default() }
    }

    /// Takes a slot, if need be that of the connection idle longest. `None` if all are busy.
    async fn acquire_slot(&self) -> Option<OwnedSemaphorePermit> {
        let free = Arc::clone(&self.limit).try_acquire_owned();
        if free.is_err() && !self.idle.evict() {
            return None;
        }
        match free {
            Ok(slot) => Some(slot),
            // The evicted connection ends when its task next runs, and only this task takes slots.
            Err(_) => Arc::clone(&self.limit).acquire_owned().await.ok(),
        }
    }
}

/// Takes a slot for a connection, and returns its allowed use.
async fn acquire_connection_slot(
    room: &AdminConnectionSlots,
    reserve: &AdminConnectionSlots,
) -> (Option<OwnedSemaphorePermit>, IdleConnections, AdminConnectionUse) {
    if let Some(slot) = room.acquire_slot().await {
        return (Some(slot), room.idle.clone(), AdminConnectionUse::Anything);
    }
    loop {
        if let Some(slot) = reserve.acquire_slot().await {
            return (Some(slot), reserve.idle.clone(), AdminConnectionUse::Health);
        }
        // Responses of the reserve never wait: soon a connection is idle or gone.
        tokio::select! {
            slot = Arc::clone(&reserve.limit).acquire_owned() => {
                return (slot.ok(), reserve.idle.clone(), AdminConnectionUse::Health);
            }
            () = reserve.idle.wait_for_idle() => {}
        }
    }
}

/// The state of one connection.
struct ConnectionContext {
    peer: AdminPeer,
    purpose: AdminConnectionUse,
    router: Router,
    /// The time limit for a request's head.
    header_time: Duration,
    seat: Arc<AdminConnection>,
    /// Cancelled when the listener stops.
    drain: CancellationToken,
    /// Cancelled when the slot is needed for another connection.
    evicted: CancellationToken,
    /// The tasks of the requests of HTTP/2.
    streams: TaskTracker,
}

/// Serves a connection until it ends, is evicted, or is drained.
async fn serve_connection(
    stream: TcpStream,
    tls: Option<TlsTerminator>,
    context: ConnectionContext,
) {
    let Some(tls) = tls else { return serve_http1(stream, context).await };
    // The reserve is for one request a connection, which HTTP/2 does not promise.
    let offer = match context.purpose {
        AdminConnectionUse::Anything => HttpVersionOffer::All,
        AdminConnectionUse::Health => HttpVersionOffer::Http1,
    };
    let terminated = tokio::select! {
        terminated = tls.accept(stream, offer) => terminated,
        () = context.evicted.cancelled() => return,
        () = context.drain.cancelled() => return,
    };
    match terminated {
        Ok(TerminatedStream { stream, is_http2: true }) => serve_http2(stream, context).await,
        Ok(TerminatedStream { stream, is_http2: false }) => serve_http1(stream, context).await,
        Err(error) => tracing::debug!(%error, "a client of the admin listener could not begin TLS"),
    }
}

async fn serve_http1<S>(stream: S, context: ConnectionContext)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| context.answer(request));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(context.header_time);
    http.max_buf_size(usize::from(HEAD_BYTES));
    http.keep_alive(context.purpose == AdminConnectionUse::Anything);
    let connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    drive(connection, |connection| connection.graceful_shutdown(), &context).await;
}

async fn serve_http2<S>(stream: S, context: ConnectionContext)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|mut request: Request<Incoming>| {
        name_host(&mut request);
        context.answer(request)
    });
    let connection = http2::Builder::new(TrackedExecutor(context.streams.clone()))
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_header_list_size(u32::from(HEAD_BYTES))
        .max_pending_accept_reset_streams(HTTP2_RESETS)
        .max_local_error_reset_streams(HTTP2_RESETS)
        .keep_alive_interval(HTTP2_PING_INTERVAL)
        .keep_alive_timeout(HTTP2_PING_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    drive(pin!(connection), |connection| connection.graceful_shutdown(), &context).await;
}

/// Adds the Host of a request of HTTP/2, which names it in its target. A Host that differs makes two, which the check
/// of all routes rejects.
fn name_host(request: &mut Request<Incoming>) {
    let named = request.uri().authority().map(|named| HeaderValue::from_str(named.as_str()));
    if let Some(Ok(named)) = named
        && request.headers().get(HOST) != Some(&named)
    {
        request.headers_mut().append(HOST, named);
    }
}

/// Runs a connection until it ends, is evicted, or is drained.
async fn drive<C: Future>(
    mut connection: Pin<&mut C>,
    begin_drain: impl FnOnce(Pin<&mut C>),
    context: &ConnectionContext,
) {
    // The end of a caller's connection is not an error here.
    tokio::select! {
        result = connection.as_mut() => drop(result),
        () = context.evicted.cancelled() => {}
        () = context.drain.cancelled() => {
            begin_drain(connection.as_mut());
            drop(connection.await);
        }
    }
}

impl ConnectionContext {
    /// Passes a request to the routes. The connection is busy until the response is sent.
    fn answer(
        &self,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<BusyResponseBody>, Infallible>> + use<> {
        request.extensions_mut().insert(self.peer);
        let (busy, mut router) = (self.seat.begin(), self.router.clone());
        async move {
            let response = router.call(request).await?;
            Ok(response.map(|body| BusyResponseBody { body, _busy: busy }))
        }
    }
}
