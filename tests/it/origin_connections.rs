//! Connections before and behind the gateway: TLS, HTTP/2, connections that end,
//! and bodies that are larger than memory.

use std::convert::Infallible;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::server::conn as server;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::harness::{Gateway, Process, SITE, TAGWAY, eventually, raw, whole};
use crate::origin::{NAVIGATION, gateway, html, origin, read, read_head, saying, timed};

const HOST: &str = "t.shop.example";

/// A gateway with TLS, and the certificates that its clients trust.
struct Secure {
    gateway: Gateway,
    roots: RootCertStore,
    _files: TempDir,
}

impl Secure {
    async fn start(origin: SocketAddr) -> Self {
        let files = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
        let (cert, key) = (files.path().join("cert.pem"), files.path().join("key.pem"));
        fs::write(&cert, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let settings = format!(
            "[listen]\nhttps = \"127.0.0.1:0\"\n[[tls.certificates]]\ncert = {cert:?}\nkey = {key:?}\n\
             {SITE}origin = \"http://{origin}\"\n[sites.vendors.posthog]\n"
        );
        let gateway = Gateway::start(&settings).await;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        Self { gateway, roots, _files: files }
    }

    async fn connect(&self, protocol: &str) -> TlsStream<tokio::net::TcpStream> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = tokio::net::TcpStream::connect(self.gateway.https.unwrap()).await.unwrap();
        let name = ServerName::try_from(HOST).unwrap();
        TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap()
    }
}

/// An HTTP/2 connection, which ends with the set.
async fn http2<B>(secure: &Secure, tasks: &mut JoinSet<()>) -> SendRequest<B>
where
    B: hyper::body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::error::Error + Send + Sync,
{
    let stream = TokioIo::new(secure.connect("h2").await);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tasks.spawn(async move {
        connection.await.ok();
    });
    sender
}

fn get(fields: &[(&str, &str)]) -> http::request::Builder {
    let request = Request::get(format!("https://{HOST}/page"));
    fields.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_to_the_client_and_http1_to_the_origin() {
    let origin = origin(|stream, head| {
        assert!(head.contains("x-forwarded-proto: https\r\n"), "{head}");
        assert!(head.contains("cookie: a=1; b=2\r\n"), "{head}");
        let answer = match head.contains("accept: text/html\r\n") {
            true => html("keep-alive: timeout=5\r\n", "<head></head>"),
            // These trailers are not passed on: the site lists none.
            false => "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n\
                      3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n"
                .to_owned(),
        };
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let secure = Secure::start(origin).await;
    let mut tasks = JoinSet::new();
    let mut client = http2::<Empty<Bytes>>(&secure, &mut tasks).await;
    let cookies = [("cookie", "a=1"), ("cookie", "b=2")];
    let request = get(&cookies).header("accept", "text/html").body(Empty::new()).unwrap();
    let answer = client.send_request(request).await.unwrap();
    for name in ["connection", "keep-alive", "transfer-encoding"] {
        assert!(!answer.headers().contains_key(name), "{name}");
    }
    let page = answer.into_body().collect().await.unwrap().to_bytes();
    let page = String::from_utf8(page.to_vec()).unwrap();
    assert!(page.starts_with("<head><script>") && page.ends_with("</head>"), "{page}");

    let request = get(&cookies).body(Empty::new()).unwrap();
    let body = client.send_request(request).await.unwrap().into_body().collect().await.unwrap();
    assert!(body.trailers().is_none());
    assert_eq!(body.to_bytes(), "abc");
}

/// The next bytes of a body.
async fn next(body: &mut Incoming) -> Option<Bytes> {
    Some(body.frame().await?.unwrap().into_data().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_stream_both_ways_at_once_over_http2() {
    let origin = origin(|stream, head| {
        assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
        write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello").unwrap();
        for answered in ["one", "another"] {
            assert_eq!(
                read(stream, answered.len() + 5),
                format!("{:x}\r\n{answered}\r\n", answered.len())
            );
            stream.write_all(answered.as_bytes()).unwrap();
        }
        // Trailers of uploads are not passed to the origin.
        assert_eq!(read(stream, 5), "0\r\n\r\n");
        stream.write_all(b"end").unwrap();
    });
    let secure = Secure::start(origin).await;
    let mut tasks = JoinSet::new();
    let mut client = http2(&secure, &mut tasks).await;
    let (sender, frames) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let frames = stream::unfold(frames, async |mut frames| Some((frames.recv().await?, frames)));
    let body = StreamBody::new(Box::pin(frames));
    let request = Request::post(format!("https://{HOST}/up")).header("trailer", "x-sum");
    let answer = client.send_request(request.body(body).unwrap()).await.unwrap();
    let mut answer = answer.into_body();
    assert_eq!(next(&mut answer).await.unwrap(), "hello");
    for answered in ["one", "another"] {
        sender.send(Ok(Frame::data(Bytes::from(answered)))).await.unwrap();
        assert_eq!(next(&mut answer).await.unwrap(), answered);
    }
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "2".parse().unwrap())]);
    sender.send(Ok(Frame::trailers(trailers))).await.unwrap();
    drop(sender);
    assert_eq!(next(&mut answer).await.unwrap(), "end");
    assert_eq!(answer.collect().await.unwrap().to_bytes(), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websocket_works_over_tls() {
    let origin = origin(|stream, head| {
        assert!(head.contains("x-forwarded-proto: https\r\n"), "{head}");
        let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket";
        write!(stream, "{head}\r\nsec-websocket-accept: yes\r\n\r\n").unwrap();
        let mut buffer = [0; 100];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..length]).unwrap();
        }
    });
    let secure = Secure::start(origin).await;
    let mut stream = secure.connect("http/1.1").await;
    let ask = "GET /ws HTTP/1.1\r\nhost: t.shop.example\r\nconnection: upgrade\r\n\
        upgrade: websocket\r\nsec-websocket-key: k\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{head:?}");
    for answered in ["one", "another"] {
        stream.write_all(answered.as_bytes()).await.unwrap();
        let mut received = vec![0; answered.len()];
        stream.read_exact(&mut received).await.unwrap();
        assert_eq!(received, answered.as_bytes());
    }
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
}

/// A server that answers one request on each connection, leaves it open, and closes it when the next
/// request arrives. Counts how often it did.
fn impatient() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (address, closed) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = closed.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, counter) = (timed(stream.unwrap()), counter.clone());
            thread::spawn(move || {
                if read_head(&mut stream).is_empty() {
                    return;
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                if !read_head(&mut stream).is_empty() {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    (address, closed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idempotent_request_is_retried_once_on_a_closed_connection() {
    let (origin, closed) = impatient();
    let gateway = gateway(origin, "").await;
    let request = |method: &str, rest: &str| {
        let head = format!("{method} / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
        raw(gateway.http, format!("{head}{rest}").as_bytes()).unwrap().status
    };
    let count = || closed.load(Ordering::Relaxed);
    // A connection is pooled shortly after its response, so that not every request finds one.
    for method in ["GET", "PUT", "DELETE"] {
        let before = count();
        eventually(|| {
            assert_eq!(request(method, "\r\n"), 200, "{method}");
            if count() > before { Ok(()) } else { Err("no connection was used twice".to_owned()) }
        })
        .await;
    }
    for (method, rest) in
        [("POST", "content-length: 0\r\n\r\n"), ("PUT", "content-length: 1\r\n\r\nx")]
    {
        eventually(|| {
            assert_eq!(request("GET", "\r\n"), 200);
            let before = count();
            match request(method, rest) {
                502 if count() > before => Ok(()),
                200 if count() == before => Err("no connection was used twice".to_owned()),
                other => panic!("{method}: {other}"),
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_without_a_response_is_not_retried() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let origin = origin(move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let gateway = gateway(origin, "").await;
    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert_eq!(raw(gateway.http, request).unwrap().status, 502);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

/// The most memory that a process had, in bytes.
fn most_memory(process: &Process) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Reads to the end and returns the length.
fn drain(stream: &mut TcpStream) -> usize {
    let (mut buffer, mut length) = (vec![0; 64 << 10], 0);
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        length += read;
    }
    length
}

/// 256 MiB up and down at once, and as a page. The allocator's reserve varies; a buffered body would
/// show anyway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_does_not_grow_with_bodies() {
    static PIECE: [u8; 64 << 10] = [b'a'; 64 << 10];
    // Half of one body: memory does not depend on the body's length.
    const ROOM: usize = 128 << 20;
    let origin = origin(move |stream, head| {
        let words: Vec<&str> = head.split(['/', ' ', '\r']).collect();
        let pieces: usize = words[2].parse().unwrap();
        if words[0] == "GET" {
            stream.write_all(html("", "<head>").as_bytes()).unwrap();
            (0..pieces).for_each(|_| stream.write_all(&PIECE).unwrap());
            return;
        }
        let mut left = PIECE.len() * pieces;
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {left}\r\n\r\n").unwrap();
        let (mut from, mut buffer) = (stream.try_clone().unwrap(), vec![0; 64 << 10]);
        while left > 0 {
            let read = from.read(&mut buffer).unwrap();
            assert!(read > 0, "{left} bytes did not come");
            stream.write_all(&buffer[..read]).unwrap();
            left -= read;
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let settings =
        format!("{SITE}origin = \"http://{origin}\"\n[sites.proxy]\nupload_bytes = \"1GiB\"\n");
    let process =
        Process::start(&folder.path().join("data"), &folder.path().join("tagway.toml"), &settings);
    let start = |request: &str| {
        let mut stream = timed(TcpStream::connect(process.http).unwrap());
        let rest = "host: x\r\nconnection: close\r\n\r\n";
        stream.write_all(format!("{request}\r\n{rest}").as_bytes()).unwrap();
        stream
    };
    let most_after = |pieces: usize| {
        let length = PIECE.len() * pieces;
        let mut stream = start(&format!("PUT /{pieces} HTTP/1.1\r\ncontent-length: {length}"));
        let mut up = stream.try_clone().unwrap();
        let upload = thread::spawn(move || (0..pieces).for_each(|_| up.write_all(&PIECE).unwrap()));
        let head = read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(drain(&mut stream), length);
        upload.join().unwrap();
        let mut stream = start(&format!("GET /{pieces} HTTP/1.0\r\n{}", NAVIGATION.trim()));
        let head = read_head(&mut stream);
        assert!(head.contains(" 200 "), "{head}");
        assert!(drain(&mut stream) > length);
        most_memory(&process)
    };
    let before = most_after(256);
    let grown = most_after(4096).saturating_sub(before);
    assert!(grown < ROOM, "{grown} bytes more");
    process.terminate();
}

/// The page's resources must be requested from the same gateway with either scheme.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_over_tls_load_from_a_secure_gateway() {
    let body = "<script>posthog.init('k',{api_host:'https://eu.i.posthog.com'})</script>";
    let secure = Secure::start(saying(html("", body))).await;
    let mut tasks = JoinSet::new();
    let mut client = http2::<Empty<Bytes>>(&secure, &mut tasks).await;
    let request = get(&[("accept", "text/html")]).body(Empty::new()).unwrap();
    let page = client.send_request(request).await.unwrap().into_body().collect().await.unwrap();
    let page = String::from_utf8(page.to_bytes().to_vec()).unwrap();
    assert!(page.contains("{api_host:'https://t.shop.example/posthog'}"), "{page}");
}

/// An origin that speaks TLS and one protocol, and ends each connection after three requests. It replies
/// with the request's protocol and counts its connections.
async fn secure_origin(
    protocol: &'static str,
    tasks: &mut JoinSet<()>,
) -> (SocketAddr, String, Arc<AtomicUsize>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = count.clone();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not trust it disconnects.
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            counter.fetch_add(1, Ordering::Relaxed);
            connections.spawn(serve_three(TokioIo::new(stream), protocol));
        }
    });
    (address, made.cert.pem(), count)
}

async fn serve_three<S>(stream: TokioIo<S>, protocol: &str)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (asked, last) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Notify::new()));
    let ended = last.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (asked, last) = (asked.clone(), last.clone());
        async move {
            let host = request.headers().get("host").and_then(|host| host.to_str().ok());
            let host = request.uri().authority().map(|it| it.as_str()).or(host);
            let answered = format!("{:?} {} ", request.version(), host.unwrap_or_default());
            let body = request.into_body().collect().await?.to_bytes();
            if asked.fetch_add(1, Ordering::Relaxed) == 2 {
                last.notify_one();
            }
            let body = [answered.as_bytes(), &body].concat();
            Ok::<_, hyper::Error>(http::Response::new(Full::new(Bytes::from(body))))
        }
    });
    if protocol == "h2" {
        let connection =
            server::http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            _ended = connection.as_mut() => return,
            () = ended.notified() => connection.as_mut().graceful_shutdown(),
        }
        connection.await.ok();
    } else {
        let connection = server::http1::Builder::new().serve_connection(stream, service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            _ended = connection.as_mut() => return,
            () = ended.notified() => connection.as_mut().graceful_shutdown(),
        }
        connection.await.ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_origin_is_reached_in_its_protocol_over_few_connections() {
    let mut tasks = JoinSet::new();
    for (protocol, version) in [("h2", "HTTP/2.0"), ("http/1.1", "HTTP/1.1")] {
        let (origin, cert, connections) = secure_origin(protocol, &mut tasks).await;
        let folder = tempfile::tempdir().unwrap();
        let (file, roots) = (folder.path().join("tagway.toml"), folder.path().join("roots.pem"));
        fs::write(&roots, cert).unwrap();
        let authority = format!("localhost:{}", origin.port());
        let settings = format!("{SITE}origin = \"https://{authority}\"\n");
        fs::write(&file, whole(&folder.path().join("data"), &settings)).unwrap();
        let mut command = Command::new(TAGWAY);
        let command = command.arg("serve").arg("--config").arg(&file);
        let stranger = Process::run(command.env("SSL_CERT_FILE", "/dev/null"));
        let get = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        assert_eq!(raw(stranger.http, get).unwrap().status, 502, "{protocol}");
        stranger.terminate();

        let process = Process::run(command.env("SSL_CERT_FILE", &roots));
        for number in 0..7 {
            let body = format!("number {number}");
            let answer = raw(
                process.http,
                format!(
                    "POST /?a=%20 HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                )
                .as_bytes(),
            )
            .unwrap();
            assert_eq!(answer.body, format!("{version} x {body}"), "the host asked for");
        }
        // Three requests each, or one more that was sent before the GOAWAY arrived.
        let connections = connections.load(Ordering::Relaxed);
        assert!((2..=3).contains(&connections), "{protocol}: {connections}");
        process.terminate();
    }
}
