//! One connection: PROXY header, TLS, HTTP, and the timeouts of all three.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, STRICT_TRANSPORT_SECURITY};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::{Body as HttpBody, Incoming};
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::rt::{Executor, Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::connection_activity::{ActivityScope, ConnectionActivity, MonitoredStream};
use super::listener::{ListenerScheme, ShutdownSignals};
use super::settings::{EdgeLimits, LiveEdgeSettings};
use super::slots::{ConnectionSlot, EdgeSlots};
use super::{
    EdgeClientFacts, EdgeResponseBody, RequestHandler, client_addr, head, proxy_protocol, redirect,
    response_backpressure,
};
use tagway_core::answer::{BodyStreamError, UpgradeTunnel};
use tagway_core::metrics::Metrics;

/// The state that all connections share.
pub(super) struct EdgeContext {
    pub(super) live: ArcSwap<LiveEdgeSettings>,
    pub(super) slots: Arc<EdgeSlots>,
    handler: Arc<dyn RequestHandler>,
}

impl EdgeContext {
    pub(super) fn new(
        live: ArcSwap<LiveEdgeSettings>,
        metrics: Arc<Metrics>,
        handler: Arc<dyn RequestHandler>,
    ) -> Self {
        Self { live, slots: EdgeSlots::new(metrics), handler }
    }
}

/// A connection that was just accepted.
pub(super) struct AcceptedConnection {
    pub(super) stream: TcpStream,
    pub(super) peer: IpAddr,
    pub(super) scheme: ListenerScheme,
    pub(super) slot: ConnectionSlot,
}

/// The other end of the connection.
#[derive(Clone, Copy)]
struct ConnectionPeer {
    address: IpAddr,
    /// False if a PROXY header was due and named no source: the address is then the proxy's own, and forwarding
    /// fields of the request are not trusted.
    is_client_known: bool,
}

/// The state that the requests of one connection share.
struct ConnectionContext {
    shared: Arc<EdgeContext>,
    live: Arc<LiveEdgeSettings>,
    peer: ConnectionPeer,
    is_tls: bool,
    activity: Arc<ConnectionActivity>,
    /// The tunnel that replaces HTTP once a client and the handler agreed on an upgrade.
    tunnel: Mutex<Option<UpgradeTunnel>>,
}

/// An HTTP connection of either version.
trait DrainableConnection: Future {
    /// Stops accepting requests.
    fn drain(self: Pin<&mut Self>);
}

impl<I, S, B> DrainableConnection for http1::UpgradeableConnection<I, S>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BodyStreamError>,
    I: Read + Write + Unpin + Send + 'static,
    B: HttpBody + 'static,
    B::Error: Into<BodyStreamError>,
{
    fn drain(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, B, E> DrainableConnection for http2::Connection<I, S, E>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BodyStreamError>,
    I: Read + Write + Unpin,
    B: HttpBody + 'static,
    B::Error: Into<BodyStreamError>,
    E: Http2ServerConnExec<S::Future, B>,
{
    fn drain(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Spawns the tasks of HTTP/2 streams in the tracker that the server waits for.
#[derive(Clone, Debug)]
pub struct TrackedExecutor(pub TaskTracker);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for TrackedExecutor {
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

/// Serves a connection until it ends.
pub(super) async fn serve(
    accepted: AcceptedConnection,
    shared: Arc<EdgeContext>,
    live: Arc<LiveEdgeSettings>,
    ends: &ShutdownSignals,
) {
    let AcceptedConnection { mut stream, peer, scheme, mut slot } = accepted;
    let slots = shared.slots.clone();
    let caller = identify_peer(&mut stream, peer, &mut slot, &live);
    let caller = match run_until_cut(caller, ends).await {
        Ok(caller) => caller,
        Err(reason) => return slots.refuse(reason),
    };
    let (acceptor, handshake_time) = (live.acceptor.clone(), live.handshake_time);
    let pulse = ConnectionActivity::new();
    let line = |is_tls| {
        let (pulse, tunnel) = (pulse.clone(), Mutex::default());
        Arc::new(ConnectionContext { shared, live, peer: caller, is_tls, activity: pulse, tunnel })
    };
    if scheme == ListenerScheme::Http {
        let stream = MonitoredStream::new(stream, pulse.clone(), ActivityScope::All);
        return serve_http1(stream, line(false), ends).await;
    }
    let Some(acceptor) = acceptor else { return };
    let stream = MonitoredStream::new(stream, pulse.clone(), ActivityScope::Writes);
    let handshake = async {
        match timeout(handshake_time, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(_)) => Err("handshake"),
            Err(_) => Err("handshake_time"),
        }
    };
    match run_until_cut(handshake, ends).await {
        Ok(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            let stream = MonitoredStream::new(stream, pulse.clone(), ActivityScope::Reads);
            serve_http2(stream, line(true), ends).await;
        }
        Ok(stream) => {
            let stream = MonitoredStream::new(stream, pulse.clone(), ActivityScope::Reads);
            serve_http1(stream, line(true), ends).await;
        }
        Err(reason) => slots.refuse(reason),
    }
}

/// Runs a step that comes before HTTP, unless the connection is cut first.
async fn run_until_cut<T>(
    step: impl Future<Output = Result<T, &'static str>>,
    ends: &ShutdownSignals,
) -> Result<T, &'static str> {
    tokio::select! {
        result = step => result,
        () = ends.cut.cancelled() => Err("drain_time"),
    }
}

/// Finds the peer by the PROXY header, where one is due. The connection then counts as that of the client named
/// there, as it would without a proxy.
async fn identify_peer(
    stream: &mut TcpStream,
    peer: IpAddr,
    slot: &mut ConnectionSlot,
    live: &LiveEdgeSettings,
) -> Result<ConnectionPeer, &'static str> {
    if !live.proxy_protocol {
        return Ok(ConnectionPeer { address: peer, is_client_known: true });
    }
    let header = timeout(live.limits.header_time, proxy_protocol::read(stream)).await;
    match header {
        Ok(Ok(source)) if live.trusts(peer) => {
            let Some(source) = source else {
                return Ok(ConnectionPeer { address: peer, is_client_known: false });
            };
            if !live.trusts(source) && !slot.assign_client(source, &live.limits) {
                return Err("connections_per_client");
            }
            Ok(ConnectionPeer { address: source, is_client_known: true })
        }
        _ => Err("proxy_protocol"),
    }
}

async fn serve_http1<S>(stream: S, line: Arc<ConnectionContext>, ends: &ShutdownSignals)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &line.live.limits;
    line.activity.begin(true);
    let owned = line.clone();
    let service = service_fn(move |request| owned.clone().answer(request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // `ConnectionActivity` times heads without moving a timer for each.
        .header_read_timeout(None)
        .max_buf_size(limits.header_bytes)
        .max_headers(limits.headers)
        .half_close(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    run(pin!(connection), &line, ends).await;
    let tunnel = line.tunnel.lock().take();
    if let Some(tunnel) = tunnel.and_then(|tunnel| tunnel.take()) {
        // A tunnel has no request that could finish: it ends when the shutdown begins.
        tokio::select! {
            () = tunnel => {}
            () = ends.drain.cancelled() => {}
            () = ends.cut.cancelled() => line.shared.slots.refuse("drain_time"),
        }
    }
}

async fn serve_http2<S>(stream: S, line: Arc<ConnectionContext>, ends: &ShutdownSignals)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &line.live.limits;
    line.activity.begin(false);
    let owned = line.clone();
    let service = service_fn(move |request| {
        let line = owned.clone();
        async move {
            let pulse = line.activity.clone();
            let answer = line.answer(request).await;
            answer.map(|answer| {
                answer.map(|body| response_backpressure::MonitoredBody::new(body, &pulse))
            })
        }
    });
    let connection = http2::Builder::new(TrackedExecutor(ends.tasks.clone()))
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams)
        .max_header_list_size(header_list_bytes(limits))
        .max_pending_accept_reset_streams(limits.http2_resets)
        .max_local_error_reset_streams(limits.http2_resets)
        .serve_connection(TokioIo::new(stream), service);
    run(pin!(connection), &line, ends).await;
}

/// The limit of HTTP/2 on a head. HTTP/2 counts 32 bytes extra for each field (RFC 9113, section 6.5.2), including
/// the four pseudo-fields of the request line; the client sends no such bytes.
fn header_list_bytes(limits: &EdgeLimits) -> u32 {
    let bytes = limits.headers.saturating_add(4).saturating_mul(32);
    u32::try_from(bytes.saturating_add(limits.header_bytes)).unwrap_or(u32::MAX)
}

/// Drives a connection until it ends, is overdue, or is cut.
async fn run<C: DrainableConnection>(
    mut connection: Pin<&mut C>,
    line: &ConnectionContext,
    ends: &ShutdownSignals,
) {
    let mut watch = pin!(line.activity.watch(&line.live.limits));
    let mut is_draining = false;
    loop {
        tokio::select! {
            // Errors at the end of a connection are the client's and are not logged.
            _ended = connection.as_mut() => return,
            reason = watch.as_mut() => return line.shared.slots.refuse(reason),
            () = ends.drain.cancelled(), if !is_draining => {
                is_draining = true;
                connection.as_mut().drain();
            }
            () = ends.cut.cancelled() => return line.shared.slots.refuse("drain_time"),
        }
    }
}

impl ConnectionContext {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<EdgeResponseBody>, Infallible> {
        let answering = self.activity.start_request();
        // The newest settings: a connection may outlive those it began with.
        let live = self.shared.live.load_full();
        let trusted: &[IpNet] = if self.peer.is_client_known { &live.trusted } else { &[] };
        let peer = self.peer.address;
        let forwarded =
            client_addr::resolve_client(trusted, live.forwarded, peer, request.headers());
        let secure = self.is_tls || forwarded.secure;
        let arrival = EdgeClientFacts { peer, client: forwarded.client, secure };
        let handler = &self.shared.handler;
        let slot = self.shared.slots.request(&live.limits);
        let is_too_large = head::is_too_large(&request, &live.limits);
        let mut response = match (&slot, live.redirect.filter(|_| !secure)) {
            (None, _) => handler.respond_overloaded(&request, arrival),
            (Some(_), _) if is_too_large => {
                handler.record_edge_response(&request, arrival, too_large())
            }
            // Other hosts are not redirected: the handler refuses them.
            (Some(_), Some(port)) if handler.is_host_served(&request) => {
                handler.record_edge_response(&request, arrival, redirect::to_https(&request, port))
            }
            (Some(_), _) => handler.handle(request, arrival).await,
        };
        if let Some(hsts) = live.hsts.as_ref().filter(|_| secure) {
            response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(tunnel) = response.extensions_mut().remove::<UpgradeTunnel>()
        {
            *self.tunnel.lock() = Some(tunnel);
        }
        // A streamed response keeps its request active until it ends.
        Ok(response.map(|body| body.with_guard((answering, slot))))
    }
}

/// The response to a head with too many bytes or fields, as the HTTP/1 parser gives it.
fn too_large() -> Response<EdgeResponseBody> {
    let mut response = Response::new(EdgeResponseBody::new(Bytes::new()));
    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
