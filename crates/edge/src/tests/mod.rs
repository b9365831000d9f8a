//! The edge over real sockets.

mod proxy;
mod tls;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::*;

/// A time far longer than any test takes.
const LONG: Duration = Duration::from_secs(120);

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: t.shop.example\r\n\r\n";

pub(super) fn settings() -> EdgeSettings {
    EdgeSettings {
        http: Some("127.0.0.1:0".parse().unwrap()),
        https: None,
        trusted_proxies: Vec::new(),
        forwarded: ForwardedField::XForwardedFor,
        proxy_protocol: false,
        redirect_to_https: false,
        redirect_port: 443,
        limits: EdgeLimits {
            connections: 100,
            connections_per_client: 50,
            header_bytes: 8 * 1024,
            headers: 20,
            header_time: LONG,
            idle_time: LONG,
            write_time: LONG,
            requests_in_flight: 100,
            http2_streams: 10,
            http2_resets: 10,
            drain_time: LONG,
        },
        certificates: Vec::new(),
        handshake_time: LONG,
        expiry_warning: LONG,
        hsts_max_age: Duration::ZERO,
    }
}

/// Responds with the caller's address; waits on `/wait` until the test releases it.
#[derive(Default)]
struct EchoHandler {
    waiting: Arc<Notify>,
    go: Arc<Notify>,
}

impl RequestHandler for EchoHandler {
    fn handle(
        &self,
        request: Request<Incoming>,
        arrival: EdgeClientFacts,
    ) -> BoxFuture<'static, Response<EdgeResponseBody>> {
        let (waiting, go) = (self.waiting.clone(), self.go.clone());
        Box::pin(async move {
            if request.uri().path() == "/wait" {
                waiting.notify_one();
                go.notified().await;
            }
            if request.uri().path() == "/big" {
                return Response::new(EdgeResponseBody::new(Bytes::from(vec![b'x'; 64 << 20])));
            }
            let scheme = if arrival.secure { "https" } else { "http" };
            let seen = format!("{} {scheme} {:?}", arrival.client, request.version());
            Response::new(EdgeResponseBody::new(seen.into()))
        })
    }

    fn is_host_served(&self, request: &Request<Incoming>) -> bool {
        let evil = http::HeaderValue::from_static("evil.example");
        request.headers().get("host") != Some(&evil)
    }

    fn respond_overloaded(
        &self,
        _request: &Request<Incoming>,
        arrival: EdgeClientFacts,
    ) -> Response<EdgeResponseBody> {
        let mut response =
            Response::new(EdgeResponseBody::new(format!("no place, {}", arrival.client).into()));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response
    }

    fn record_edge_response(
        &self,
        _request: &Request<Incoming>,
        _arrival: EdgeClientFacts,
        mut answer: Response<EdgeResponseBody>,
    ) -> Response<EdgeResponseBody> {
        answer.headers_mut().insert("x-told", HeaderValue::from_static("1"));
        answer
    }
}

struct TestEdge {
    http: Option<SocketAddr>,
    https: Option<SocketAddr>,
    reload: EdgeReloadHandle,
    metrics: Arc<Metrics>,
    echo: Arc<EchoHandler>,
    drain: CancellationToken,
    tasks: JoinSet<()>,
}

impl TestEdge {
    async fn start(settings: &EdgeSettings) -> Self {
        let (metrics, echo) = (Arc::new(Metrics::new()), Arc::new(EchoHandler::default()));
        let server = EdgeServer::bind(settings, metrics.clone(), echo.clone()).await.unwrap();
        let (http, https) = (server.http_addr(), server.https_addr());
        let (reload, drain) = (server.reload_handle(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(server.serve(drain.clone()));
        Self { http, https, reload, metrics, echo, drain, tasks }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.http.unwrap()).await.unwrap()
    }

    async fn request(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request).await.unwrap();
        read_answer(&mut stream).await
    }

    fn refused(&self, reason: &str) -> bool {
        let line = format!("tagway_connections_refused_total{{reason=\"{reason}\"}} ");
        self.metrics.render().lines().any(|found| found.starts_with(&line))
    }
}

/// Reads one response, as long as its Content-Length says.
async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        let read = timeout(LONG, stream.read_buf(&mut bytes)).await.unwrap();
        if read.unwrap_or(0) == 0 {
            return String::from_utf8_lossy(&bytes).into_owned();
        }
    }
}

/// Returns true if the other end closes.
async fn is_closed(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut rest = Vec::new();
    timeout(LONG, stream.read_to_end(&mut rest)).await.is_ok()
}

fn short(mut change: impl FnMut(&mut EdgeLimits)) -> EdgeSettings {
    let mut settings = settings();
    change(&mut settings.limits);
    settings
}

const SHORT: Duration = Duration::from_millis(60);

#[tokio::test]
async fn request_is_answered_and_the_connection_kept() {
    let edge = TestEdge::start(&settings()).await;
    let mut stream = edge.connect().await;
    for _ in 0..3 {
        stream.write_all(GET).await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with("127.0.0.1 http HTTP/1.1"), "{answer}");
    }
}

#[tokio::test]
async fn slow_heads_silent_connections_and_idle_ones_are_cut() {
    let edge = TestEdge::start(&short(|limits| limits.header_time = SHORT)).await;
    let mut silent = edge.connect().await;
    let mut trickle = edge.connect().await;
    let started = Instant::now();
    for byte in GET.iter().cycle() {
        if trickle.write_all(&[*byte | 1]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(started.elapsed() < LONG, "the trickle was never cut");
    }
    assert!(is_closed(&mut silent).await);
    assert!(edge.refused("header_time"));

    let edge = TestEdge::start(&short(|limits| limits.idle_time = SHORT)).await;
    let mut idle = edge.connect().await;
    idle.write_all(GET).await.unwrap();
    read_answer(&mut idle).await;
    assert!(is_closed(&mut idle).await);
    assert!(edge.refused("idle_time"));
}

/// Opens a connection whose request waits for its response. Where heads have little time, one may come too late.
async fn until_it_waits(edge: &TestEdge) -> TcpStream {
    let deadline = Instant::now() + LONG;
    loop {
        assert!(Instant::now() < deadline, "no request arrives");
        let mut stream = edge.connect().await;
        stream.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut byte = [0];
        tokio::select! {
            () = edge.echo.waiting.notified() => return stream,
            _closed = stream.peek(&mut byte) => {}
        }
    }
}

async fn until_refused(edge: &TestEdge, reason: &str) {
    let deadline = Instant::now() + LONG;
    while !edge.refused(reason) {
        assert!(Instant::now() < deadline, "no connection is cut for {reason}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn slow_response_does_not_count_as_idle() {
    let settings = short(|limits| (limits.header_time, limits.idle_time) = (SHORT, SHORT));
    let edge = TestEdge::start(&settings).await;
    let mut stream = until_it_waits(&edge).await;
    // Younger connections that are cut show that the older one's time is over as well.
    let mut silent = edge.connect().await;
    assert!(is_closed(&mut silent).await);
    until_refused(&edge, "header_time").await;
    let deadline = Instant::now() + LONG;
    while !edge.refused("idle_time") {
        assert!(Instant::now() < deadline, "no idle connection is cut");
        let mut idle = edge.connect().await;
        // On a busy machine the request may come too late: then another connection is tried.
        idle.write_all(GET).await.ok();
        assert!(is_closed(&mut idle).await);
    }
    edge.echo.go.notify_one();
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn client_that_does_not_read_its_response_is_cut() {
    let edge = TestEdge::start(&short(|limits| limits.write_time = SHORT)).await;
    let mut stream = edge.connect().await;
    stream.write_all(b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    until_refused(&edge, "write_time").await;
}

#[tokio::test]
async fn connections_are_counted_in_all_and_per_client() {
    for (reason, change) in [
        ("connections", (|limits| limits.connections = 2) as fn(&mut EdgeLimits)),
        ("connections_per_client", |limits| limits.connections_per_client = 2),
    ] {
        let edge = TestEdge::start(&short(change)).await;
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut stream = edge.connect().await;
            stream.write_all(GET).await.unwrap();
            read_answer(&mut stream).await;
            held.push(stream);
        }
        let mut third = edge.connect().await;
        assert!(is_closed(&mut third).await);
        assert!(edge.refused(reason));
        drop(held);
        let deadline = Instant::now() + LONG;
        while !edge.request(GET).await.starts_with("HTTP/1.1 200") {
            assert!(Instant::now() < deadline, "the places are not given back");
        }
    }
}

#[tokio::test]
async fn requests_beyond_the_limit_get_503() {
    let edge = TestEdge::start(&short(|limits| limits.requests_in_flight = 1)).await;
    let mut first = edge.connect().await;
    first.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    edge.echo.waiting.notified().await;
    let second = edge.request(GET).await;
    assert!(second.starts_with("HTTP/1.1 503"), "{second}");
    assert!(second.contains("no place, 127.0.0.1"), "the handler answers: {second}");
    edge.echo.go.notify_one();
    assert!(read_answer(&mut first).await.starts_with("HTTP/1.1 200"));
    assert!(edge.request(GET).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn heads_are_bounded_in_bytes_and_fields() {
    let edge = TestEdge::start(&settings()).await;
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "x".repeat(20_000));
    assert!(edge.request(long.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(30));
    assert!(edge.request(many.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let preface = edge.request(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(!preface.contains("200"), "HTTP/2 without TLS is not spoken: {preface}");
}

#[tokio::test]
async fn drain_closes_the_listener_and_finishes_active_requests() {
    let mut edge = TestEdge::start(&settings()).await;
    let mut idle = edge.connect().await;
    idle.write_all(GET).await.unwrap();
    read_answer(&mut idle).await;
    let mut busy = edge.connect().await;
    busy.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    edge.echo.waiting.notified().await;
    edge.drain.cancel();
    assert!(is_closed(&mut idle).await);
    assert!(TcpStream::connect(edge.http.unwrap()).await.is_err());
    assert!(edge.tasks.try_join_next().is_none(), "a request is still under way");
    edge.echo.go.notify_one();
    assert!(read_answer(&mut busy).await.starts_with("HTTP/1.1 200"));
    timeout(LONG, edge.tasks.join_next()).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn drain_ends_when_its_time_is_over() {
    let mut edge = TestEdge::start(&short(|limits| limits.drain_time = SHORT)).await;
    let mut busy = edge.connect().await;
    busy.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    edge.echo.waiting.notified().await;
    edge.drain.cancel();
    timeout(LONG, edge.tasks.join_next()).await.unwrap().unwrap().unwrap();
    assert!(is_closed(&mut busy).await);
}

#[tokio::test]
async fn plain_requests_are_redirected_to_https() {
    let mut settings = settings();
    settings.redirect_to_https = true;
    let edge = TestEdge::start(&settings).await;
    let answer = edge
        .request(b"POST /e?x=1 HTTP/1.1\r\nhost: t.shop.example:8080\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 308"), "{answer}");
    assert!(answer.contains("location: https://t.shop.example/e?x=1\r\n"), "{answer}");
    assert!(answer.contains("x-told: 1\r\n"), "the handler counts it: {answer}");
    let twice = edge.request(b"GET / HTTP/1.1\r\nhost: a.example\r\nhost: b.example\r\n\r\n").await;
    assert!(twice.starts_with("HTTP/1.1 400"), "{twice}");
    let bad = edge.request(b"GET / HTTP/1.1\r\nhost: a@b\r\n\r\n").await;
    assert!(bad.starts_with("HTTP/1.1 400"), "{bad}");
}

#[tokio::test]
async fn redirect_to_https_applies_to_served_hosts_only() {
    let mut settings = settings();
    settings.redirect_to_https = true;
    let edge = TestEdge::start(&settings).await;
    let answer = edge.request(b"GET / HTTP/1.1\r\nhost: evil.example\r\n\r\n").await;
    assert!(!answer.starts_with("HTTP/1.1 308") && !answer.contains("location"), "{answer}");
}
