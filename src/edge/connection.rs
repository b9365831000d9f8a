//! One connection: PROXY header, TLS, HTTP, and the watch over all of it.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, STRICT_TRANSPORT_SECURITY};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::listener::{Ends, Scheme};
use super::pulse::{Pulse, Watched};
use super::settings::Live;
use super::slots::Slots;
use super::{Arrival, Body, Handler, client_addr, proxy_protocol, redirect};
use crate::metrics::Metrics;

/// What all connections share.
pub(super) struct Shared {
    pub(super) live: ArcSwap<Live>,
    pub(super) slots: Arc<Slots>,
    handler: Arc<dyn Handler>,
}

impl Shared {
    pub(super) fn new(
        live: ArcSwap<Live>,
        metrics: Arc<Metrics>,
        handler: Arc<dyn Handler>,
    ) -> Self {
        Self { live, slots: Slots::new(metrics), handler }
    }
}

/// What the requests of one connection share.
struct Line {
    shared: Arc<Shared>,
    live: Arc<Live>,
    peer: IpAddr,
    is_tls: bool,
    pulse: Arc<Pulse>,
}

/// Spawns the tasks of HTTP/2 streams where the server waits for them.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tracked {
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(
    mut stream: TcpStream,
    mut peer: IpAddr,
    scheme: Scheme,
    shared: Arc<Shared>,
    live: Arc<Live>,
    ends: &Ends,
) {
    if live.proxy_protocol {
        let is_trusted = live.trusts(peer);
        let header = timeout(live.limits.header_time, proxy_protocol::read(&mut stream));
        peer = match header.await {
            Ok(Ok(source)) if is_trusted => source.unwrap_or(peer),
            _ => return shared.slots.refuse("proxy_protocol"),
        };
    }
    let (slots, acceptor) = (shared.slots.clone(), live.acceptor.clone());
    let handshake_time = live.handshake_time;
    let line = |is_tls, times_heads| {
        Arc::new(Line { shared, live, peer, is_tls, pulse: Pulse::new(times_heads) })
    };
    if scheme == Scheme::Http {
        return serve_http1(stream, line(false, true), ends).await;
    }
    let Some(acceptor) = acceptor else { return };
    match timeout(handshake_time, acceptor.accept(stream)).await {
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            serve_http2(stream, line(true, false), ends).await;
        }
        Ok(Ok(stream)) => serve_http1(stream, line(true, true), ends).await,
        Ok(Err(_)) => slots.refuse("handshake"),
        Err(_) => slots.refuse("handshake_time"),
    }
}

async fn serve_http1<S>(stream: S, line: Arc<Line>, ends: &Ends)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &line.live.limits;
    let stream = TokioIo::new(Watched::new(stream, line.pulse.clone()));
    let owned = line.clone();
    let service = service_fn(move |request| owned.clone().answer(request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The pulse times heads without moving a timer for each.
        .header_read_timeout(None)
        .max_buf_size(limits.header_bytes)
        .max_headers(limits.headers)
        .half_close(false)
        .serve_connection(stream, service);
    run(pin!(connection), &line, ends).await;
}

async fn serve_http2<S>(stream: S, line: Arc<Line>, ends: &Ends)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &line.live.limits;
    let stream = TokioIo::new(Watched::new(stream, line.pulse.clone()));
    let owned = line.clone();
    let service = service_fn(move |request| owned.clone().answer(request));
    let connection = http2::Builder::new(Tracked(ends.tasks.clone()))
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(limits.http2_resets)
        .max_local_error_reset_streams(limits.http2_resets)
        .serve_connection(stream, service);
    run(pin!(connection), &line, ends).await;
}

/// Drives a connection until it ends, is overdue, or is told to.
async fn run<C: GracefulConnection>(mut connection: Pin<&mut C>, line: &Line, ends: &Ends) {
    let mut watch = pin!(line.pulse.watch(&line.live.limits));
    let mut is_draining = false;
    loop {
        tokio::select! {
            // How a client ends its connection is the client's matter.
            _ended = connection.as_mut() => return,
            reason = watch.as_mut() => return line.shared.slots.refuse(reason),
            () = ends.drain.cancelled(), if !is_draining => {
                is_draining = true;
                connection.as_mut().graceful_shutdown();
            }
            () = ends.cut.cancelled() => return line.shared.slots.refuse("drain_time"),
        }
    }
}

impl Line {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        let _answering = self.pulse.answer();
        // The newest settings: a connection may live longer than they do.
        let live = self.shared.live.load_full();
        let Some(_slot) = self.shared.slots.request(&live.limits) else {
            return Ok(overloaded());
        };
        let (trusted, written) = (&live.trusted, live.forwarded);
        let forwarded = client_addr::resolve(trusted, written, self.peer, request.headers());
        let secure = self.is_tls || forwarded.secure;
        if let Some(port) = live.redirect.filter(|_| !secure) {
            return Ok(redirect::to_https(&request, port));
        }
        let arrival = Arrival { peer: self.peer, client: forwarded.client, secure };
        let mut response = self.shared.handler.handle(request, arrival).await;
        if let Some(hsts) = live.hsts.as_ref().filter(|_| secure) {
            response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        Ok(response)
    }
}

/// The answer when there are too many requests under way.
fn overloaded() -> Response<Body> {
    const PROBLEM: &[u8] = br#"{"type":"about:blank","title":"Service Unavailable","status":503,"code":"overloaded","detail":"too many requests are under way"}"#;
    let mut response = Response::new(Full::new(Bytes::from_static(PROBLEM)));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}
