//! The edge over real sockets.

use std::io;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::*;

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: t.shop.example\r\n\r\n";

fn settings() -> Settings {
    Settings {
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
        hsts_max_age: Duration::ZERO,
    }
}

/// Says who asked; waits on `/wait` until it is told to go on.
#[derive(Default)]
struct Echo {
    waiting: Arc<Notify>,
    go: Arc<Notify>,
}

impl Handler for Echo {
    fn handle(
        &self,
        request: Request<Incoming>,
        arrival: Arrival,
    ) -> BoxFuture<'static, Response<Body>> {
        let (waiting, go) = (self.waiting.clone(), self.go.clone());
        Box::pin(async move {
            if request.uri().path() == "/wait" {
                waiting.notify_one();
                go.notified().await;
            }
            if request.uri().path() == "/big" {
                return Response::new(Body::new(Bytes::from(vec![b'x'; 64 << 20])));
            }
            let scheme = if arrival.secure { "https" } else { "http" };
            let said = format!("{} {scheme} {:?}", arrival.client, request.version());
            Response::new(Body::new(said.into()))
        })
    }
}

struct House {
    http: Option<SocketAddr>,
    https: Option<SocketAddr>,
    reload: Reload,
    metrics: Arc<Metrics>,
    echo: Arc<Echo>,
    drain: CancellationToken,
    tasks: JoinSet<()>,
}

impl House {
    async fn start(settings: &Settings) -> Self {
        let (metrics, echo) = (Arc::new(Metrics::new()), Arc::new(Echo::default()));
        let server = Server::bind(settings, metrics.clone(), echo.clone()).await.unwrap();
        let (http, https) = (server.http_addr(), server.https_addr());
        let (reload, drain) = (server.reload_handle(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(server.serve(drain.clone()));
        Self { http, https, reload, metrics, echo, drain, tasks }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.http.unwrap()).await.unwrap()
    }

    async fn ask(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request).await.unwrap();
        read_answer(&mut stream).await
    }

    fn refused(&self, reason: &str) -> bool {
        let line = format!("tagway_connections_refused_total{{reason=\"{reason}\"}} ");
        self.metrics.render().lines().any(|found| found.starts_with(&line))
    }
}

/// One answer, as far as its Content-Length says.
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

/// Whether the other end closes.
async fn is_closed(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut rest = Vec::new();
    timeout(LONG, stream.read_to_end(&mut rest)).await.is_ok()
}

fn short(mut change: impl FnMut(&mut EdgeLimits)) -> Settings {
    let mut settings = settings();
    change(&mut settings.limits);
    settings
}

const SHORT: Duration = Duration::from_millis(60);

#[tokio::test]
async fn a_request_is_answered_and_the_connection_kept() {
    let house = House::start(&settings()).await;
    let mut stream = house.connect().await;
    for _ in 0..3 {
        stream.write_all(GET).await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with("127.0.0.1 http HTTP/1.1"), "{answer}");
    }
}

#[tokio::test]
async fn trickled_heads_silent_connections_and_idle_ones_are_cut() {
    let house = House::start(&short(|limits| limits.header_time = SHORT)).await;
    let mut silent = house.connect().await;
    let mut trickle = house.connect().await;
    let started = Instant::now();
    let mut sent = 0;
    for byte in GET.iter().cycle() {
        if trickle.write_all(&[*byte | 1]).await.is_err() {
            break;
        }
        sent += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(started.elapsed() < LONG, "the trickle was never cut");
    }
    assert!(sent > 1);
    assert!(is_closed(&mut silent).await);
    assert!(house.refused("header_time"));

    let house = House::start(&short(|limits| limits.idle_time = SHORT)).await;
    let mut idle = house.connect().await;
    idle.write_all(GET).await.unwrap();
    read_answer(&mut idle).await;
    assert!(is_closed(&mut idle).await);
    assert!(house.refused("idle_time"));
}

#[tokio::test]
async fn a_slow_answer_is_not_an_idle_connection() {
    let settings = short(|limits| (limits.header_time, limits.idle_time) = (SHORT, SHORT));
    let house = House::start(&settings).await;
    let mut stream = house.connect().await;
    stream.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    house.echo.waiting.notified().await;
    tokio::time::sleep(SHORT * 4).await;
    house.echo.go.notify_one();
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_cut() {
    let house = House::start(&short(|limits| limits.write_time = SHORT)).await;
    let mut stream = house.connect().await;
    stream.write_all(b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let deadline = Instant::now() + LONG;
    while !house.refused("write_time") {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn connections_are_counted_in_all_and_per_client() {
    for (reason, change) in [
        ("connections", (|limits| limits.connections = 2) as fn(&mut EdgeLimits)),
        ("connections_per_client", |limits| limits.connections_per_client = 2),
    ] {
        let house = House::start(&short(change)).await;
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut stream = house.connect().await;
            stream.write_all(GET).await.unwrap();
            read_answer(&mut stream).await;
            held.push(stream);
        }
        let mut third = house.connect().await;
        assert!(is_closed(&mut third).await);
        assert!(house.refused(reason));
        drop(held);
        let deadline = Instant::now() + LONG;
        while !house.ask(GET).await.starts_with("HTTP/1.1 200") {
            assert!(Instant::now() < deadline, "the places are not given back");
        }
    }
}

#[tokio::test]
async fn requests_beyond_the_limit_are_told_to_come_again() {
    let house = House::start(&short(|limits| limits.requests_in_flight = 1)).await;
    let mut first = house.connect().await;
    first.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    house.echo.waiting.notified().await;
    let second = house.ask(GET).await;
    assert!(second.starts_with("HTTP/1.1 503"), "{second}");
    assert!(second.contains("retry-after: 1\r\n") && second.contains("problem+json"), "{second}");
    house.echo.go.notify_one();
    assert!(read_answer(&mut first).await.starts_with("HTTP/1.1 200"));
    assert!(house.ask(GET).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn heads_are_bounded_in_bytes_and_fields() {
    let house = House::start(&settings()).await;
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "x".repeat(20_000));
    assert!(house.ask(long.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(30));
    assert!(house.ask(many.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let preface = house.ask(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(!preface.contains("200"), "HTTP/2 without TLS is not spoken: {preface}");
}

#[tokio::test]
async fn a_drain_closes_the_door_and_finishes_what_is_under_way() {
    let mut house = House::start(&settings()).await;
    let mut idle = house.connect().await;
    idle.write_all(GET).await.unwrap();
    read_answer(&mut idle).await;
    let mut busy = house.connect().await;
    busy.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    house.echo.waiting.notified().await;
    house.drain.cancel();
    assert!(is_closed(&mut idle).await);
    assert!(TcpStream::connect(house.http.unwrap()).await.is_err());
    assert!(house.tasks.try_join_next().is_none(), "a request is still under way");
    house.echo.go.notify_one();
    assert!(read_answer(&mut busy).await.starts_with("HTTP/1.1 200"));
    timeout(LONG, house.tasks.join_next()).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_drain_ends_when_its_time_is_over() {
    let mut house = House::start(&short(|limits| limits.drain_time = SHORT)).await;
    let mut busy = house.connect().await;
    busy.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    house.echo.waiting.notified().await;
    house.drain.cancel();
    timeout(LONG, house.tasks.join_next()).await.unwrap().unwrap().unwrap();
    assert!(is_closed(&mut busy).await);
}

#[tokio::test]
async fn a_trusted_proxy_names_the_client_and_a_reload_ends_the_trust() {
    let mut settings = settings();
    settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let house = House::start(&settings).await;
    let forwarded = b"GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: https\r\n\r\n";
    assert!(house.ask(forwarded).await.contains("192.0.2.7 https"));
    settings.trusted_proxies.clear();
    house.reload.reload(&settings).await.unwrap();
    assert!(house.ask(forwarded).await.contains("127.0.0.1 http "));
}

#[tokio::test]
async fn a_proxy_header_is_wanted_from_trusted_proxies_only() {
    let mut settings = settings();
    settings.proxy_protocol = true;
    settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let house = House::start(&settings).await;
    let with = [b"PROXY TCP4 192.0.2.7 127.0.0.1 5000 443\r\n", GET].concat();
    assert!(house.ask(&with).await.contains("192.0.2.7 http"));
    assert_eq!(house.ask(GET).await, "");
    settings.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    house.reload.reload(&settings).await.unwrap();
    assert_eq!(house.ask(&with).await, "");
    assert!(house.refused("proxy_protocol"));
}

#[tokio::test]
async fn plain_requests_are_sent_to_https() {
    let mut settings = settings();
    settings.redirect_to_https = true;
    let house = House::start(&settings).await;
    let answer = house
        .ask(b"POST /e?x=1 HTTP/1.1\r\nhost: t.shop.example:8080\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 308"), "{answer}");
    assert!(answer.contains("location: https://t.shop.example/e?x=1\r\n"), "{answer}");
    let bad = house.ask(b"GET / HTTP/1.1\r\nhost: a@b\r\n\r\n").await;
    assert!(bad.starts_with("HTTP/1.1 400"), "{bad}");
}

struct Authority {
    folder: TempDir,
    roots: rustls::RootCertStore,
}

impl Authority {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), roots: rustls::RootCertStore::empty() }
    }

    fn issue(&mut self, file: &str, names: &[&str]) -> CertificateFiles {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        self.roots.add(cert.der().clone()).unwrap();
        let path = |end: &str| self.folder.path().join(format!("{file}.{end}"));
        std::fs::write(path("pem"), cert.pem()).unwrap();
        std::fs::write(path("key"), signing_key.serialize_pem()).unwrap();
        CertificateFiles { cert: path("pem"), key: path("key") }
    }

    async fn connect(
        &self,
        address: SocketAddr,
        name: &str,
        protocols: &[&[u8]],
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

fn with_tls(certificates: Vec<CertificateFiles>) -> Settings {
    Settings {
        https: Some("127.0.0.1:0".parse().unwrap()),
        certificates,
        hsts_max_age: Duration::from_secs(3600),
        ..settings()
    }
}

#[tokio::test]
async fn certificates_are_chosen_by_name_and_reloaded() {
    let mut authority = Authority::new();
    let first = authority.issue("first", &["t.shop.example"]);
    let second = authority.issue("second", &["*.other.example"]);
    let mut settings = with_tls(vec![first.clone(), second]);
    let house = House::start(&settings).await;
    let address = house.https.unwrap();
    for name in ["t.shop.example", "t.other.example"] {
        let mut stream = authority.connect(address, name, &[]).await.unwrap();
        stream.write_all(GET).await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert!(answer.contains("https HTTP/1.1"), "{answer}");
        assert!(answer.contains("strict-transport-security: max-age=3600\r\n"), "{answer}");
    }
    let unknown = authority.connect(address, "t.unknown.example", &[]).await;
    assert!(unknown.is_err(), "the fallback is for another name");
    let third = authority.issue("third", &["t.unknown.example"]);
    settings.certificates.push(third);
    house.reload.reload(&settings).await.unwrap();
    authority.connect(address, "t.unknown.example", &[]).await.unwrap();
    let key_of_another = CertificateFiles { key: settings.certificates[1].key.clone(), ..first };
    settings.certificates = vec![key_of_another];
    let refused = house.reload.reload(&settings).await;
    assert!(matches!(refused, Err(EdgeError::Certificate { .. })), "{refused:?}");
    authority.connect(address, "t.shop.example", &[]).await.unwrap();
}

async fn ask_http2<S>(stream: S) -> (StatusCode, HeaderValue)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let request = Request::get("https://t.shop.example/").body(Body::default()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    (response.status(), response.headers()["strict-transport-security"].clone())
}

#[tokio::test]
async fn http2_is_spoken_where_both_sides_offer_it() {
    let mut authority = Authority::new();
    let house = House::start(&with_tls(vec![authority.issue("a", &["t.shop.example"])])).await;
    let address = house.https.unwrap();
    let stream = authority.connect(address, "t.shop.example", &[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (status, hsts) = ask_http2(stream).await;
    assert_eq!((status.as_u16(), hsts.to_str().unwrap()), (200, "max-age=3600"));
    let stream = authority.connect(address, "t.shop.example", &[b"http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn who_does_not_shake_hands_is_cut() {
    let mut authority = Authority::new();
    let mut settings = with_tls(vec![authority.issue("a", &["t.shop.example"])]);
    settings.handshake_time = SHORT;
    let house = House::start(&settings).await;
    let mut silent = TcpStream::connect(house.https.unwrap()).await.unwrap();
    assert!(is_closed(&mut silent).await);
    assert!(house.refused("handshake_time"));
    let mut plain = TcpStream::connect(house.https.unwrap()).await.unwrap();
    plain.write_all(GET).await.unwrap();
    assert!(is_closed(&mut plain).await);
    assert!(house.refused("handshake"));
}
