//! Pools over servers that are slow, silent or strict.

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
use super::super::upload::{UploadBody, UploadLimits};
use super::*;

/// Tasks that end with the test.
type TestOriginTasks = JoinSet<()>;

/// Starts an HTTP/1.1 server that responds to every head at once and reads whatever follows.
async fn hasty() -> (SocketAddr, Arc<AtomicUsize>, TestOriginTasks) {
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

fn upload<B>(method: &str, path: &str, body: B) -> (Request<OriginRequestBody>, Arc<UploadState>)
where
    B: Body<Data = Bytes, Error: Into<BodyStreamError>> + Send + 'static,
{
    let state = UploadState::new(None);
    let silence = Duration::from_secs(3600);
    let limits = UploadLimits { bytes: 1 << 20, idle_timeout: silence, trailers: Arc::new([]) };
    let body = UploadBody::new(body, limits, state.clone()).boxed_unsync();
    let request = Request::builder().method(method).uri(path).header("host", "x");
    (request.body(body).unwrap(), state)
}

fn get(path: &str) -> (Request<OriginRequestBody>, Arc<UploadState>) {
    upload("GET", path, Empty::new())
}

/// Returns the body of a client that sends a little and then nothing more.
fn trickle() -> impl Body<Data = Bytes, Error = Infallible> + Send + 'static {
    let first = stream::iter([Ok(Frame::data(Bytes::from_static(b"x")))]);
    StreamBody::new(futures_util::StreamExt::chain(first, stream::pending()))
}

fn plain(origin: SocketAddr) -> Arc<OriginPool> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider);
    let tls = tls.with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let settings = OriginSettings { idle_connections: 8, ..settings(&format!("http://{origin}")) };
    OriginPool::new(&settings, &tls, |_| true, true).unwrap()
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
        assert!(pool.idle.lock().unused.is_empty(), "nobody may wait for the upload's end");
    }
    // Visitors use connections of their own, one after the other over one.
    for _ in 0..3 {
        let (request, state) = get("/");
        assert_eq!(pool.send(request, &state).await.unwrap().status(), 405);
        assert_eq!(pool.idle.lock().unused.len(), 1);
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 4);
}

/// Returns a TLS server's end that speaks HTTP/2, and a client that trusts it as `localhost`.
fn tls() -> (TlsAcceptor, ClientConfig) {
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
    (TlsAcceptor::from(Arc::new(tls)), client)
}

/// Starts an HTTP/2 server over TLS, which takes `most` requests at once and responds to all but `/wait`, which it
/// reports.
async fn multiplexed(most: u32) -> (SocketAddr, ClientConfig, mpsc::Receiver<()>, TestOriginTasks) {
    let (acceptor, client) = tls();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let ((sender, waiting), mut tasks) = (mpsc::channel(100), JoinSet::new());
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, sender) = (acceptor.clone(), sender.clone());
            connections.spawn(async move {
                let stream = TokioIo::new(acceptor.accept(stream).await.unwrap());
                let service = service_fn(move |request: Request<Incoming>| {
                    let sender = sender.clone();
                    async move {
                        if request.uri().path() == "/wait" {
                            sender.send(()).await.unwrap();
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
    let pool = OriginPool::new(&settings, &tls, |_| true, false).unwrap();
    let answered = async || {
        let (request, state) = get("/");
        let answer = pool.send(request, &state).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "yes");
    };
    answered().await;
    assert_eq!(pool.idle.lock().shared.len(), 1, "the origin speaks HTTP/2");
    let mut slow = JoinSet::new();
    for _ in 0..4 {
        let pool = pool.clone();
        slow.spawn(async move {
            let (request, state) = get("/wait");
            pool.send(request, &state).await.unwrap();
        });
        waiting.recv().await.unwrap();
    }
    assert!(pool.idle.lock().shared.len() <= 4);
    assert!(pool.take_shared().is_none(), "the next takes a connection of its own");
    answered().await;
    slow.shutdown().await;
    assert!(pool.take_shared().is_some(), "places are given back");
}

/// Starts an HTTP/2 server over TLS whose first connection falls silent, to pings as well, after its first
/// response. Later ones respond with the host that they are requested for.
async fn silent_once() -> (SocketAddr, ClientConfig, Arc<AtomicUsize>, TestOriginTasks) {
    let (acceptor, client) = tls();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (accepted, mut tasks) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    let count = accepted.clone();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let is_first = count.fetch_add(1, Ordering::Relaxed) == 0;
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                let stream = TokioIo::new(acceptor.accept(stream).await.unwrap());
                let (answered, mut silence) = mpsc::channel(1);
                let service = service_fn(move |request: Request<Incoming>| {
                    let answered = answered.clone();
                    async move {
                        if request.uri().path() == "/wait" {
                            answered.send(()).await.unwrap();
                            std::future::pending::<()>().await;
                        }
                        let host = request.uri().authority().unwrap().to_string();
                        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(host))))
                    }
                });
                let builder = server::http2::Builder::new(TokioExecutor::new());
                let connection = builder.serve_connection(stream, service);
                if is_first {
                    let mut connection = std::pin::pin!(connection);
                    tokio::select! {
                        _ended = connection.as_mut() => {}
                        _ = silence.recv() => std::future::pending().await,
                    }
                } else {
                    connection.await.ok();
                }
            });
        }
    });
    (address, client, accepted, tasks)
}

#[tokio::test]
async fn http2_connection_without_traffic_is_replaced() {
    let (address, tls, accepted, _server) = silent_once().await;
    let time = Duration::from_millis(50);
    let settings = OriginSettings {
        ping_interval: time,
        ping_timeout: time,
        ..settings(&format!("https://localhost:{}", address.port()))
    };
    let pool = OriginPool::new(&settings, &tls, |_| true, false).unwrap();
    let ask = async |method: &str, path: &str| {
        let (mut request, state) = upload(method, path, Empty::new());
        request.headers_mut().insert(HOST, "www.shop.example".parse().unwrap());
        let answer = pool.send(request, &state).await?;
        Ok::<_, BodyStreamError>(answer.into_body().collect().await.unwrap().to_bytes())
    };
    assert_eq!(ask("GET", "/").await.unwrap(), "www.shop.example", "the host asked for");
    // A request that is not idempotent fails; an idempotent one goes over another connection.
    let lost = ask("POST", "/wait").await;
    assert!(lost.is_err(), "{lost:?}");
    assert_eq!(ask("GET", "/").await.unwrap(), "www.shop.example");
    assert_eq!(accepted.load(Ordering::Relaxed), 2);
    assert_eq!(pool.idle.lock().shared.len(), 1);
}
