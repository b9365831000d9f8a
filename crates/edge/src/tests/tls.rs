//! TLS, and HTTP/2 over it.

use std::io;

use http::StatusCode;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::AsyncWrite;
use tokio_rustls::TlsConnector;

use super::*;

struct TestCertificateAuthority {
    folder: TempDir,
    roots: rustls::RootCertStore,
}

impl TestCertificateAuthority {
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

fn with_tls(certificates: Vec<CertificateFiles>) -> EdgeSettings {
    EdgeSettings {
        https: Some("127.0.0.1:0".parse().unwrap()),
        certificates,
        hsts_max_age: Duration::from_secs(3600),
        ..settings()
    }
}

#[tokio::test]
async fn certificates_are_chosen_by_name_and_reloaded() {
    let mut authority = TestCertificateAuthority::new();
    let first = authority.issue("first", &["t.shop.example"]);
    let second = authority.issue("second", &["*.other.example"]);
    let mut settings = with_tls(vec![first.clone(), second]);
    let edge = TestEdge::start(&settings).await;
    let address = edge.https.unwrap();
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
    edge.reload.reload(&settings).await.unwrap();
    let expiries = edge.reload.expiries();
    let names: Vec<&str> = expiries.iter().map(|expiry| &*expiry.name).collect();
    assert_eq!(names, ["t.shop.example", "*.other.example", "t.unknown.example"]);
    // The library's certificates last until the year 4096.
    assert!(expiries.iter().all(|it| it.expires_at.to_string().starts_with("409")), "{expiries:?}");
    authority.connect(address, "t.unknown.example", &[]).await.unwrap();
    let key_of_another = CertificateFiles { key: settings.certificates[1].key.clone(), ..first };
    settings.certificates = vec![key_of_another];
    let refused = edge.reload.reload(&settings).await;
    assert!(matches!(refused, Err(EdgeError::Mismatch { .. })), "{refused:?}");
    authority.connect(address, "t.shop.example", &[]).await.unwrap();
}

#[test]
fn unusable_certificate_files_are_reported_by_name() {
    let mut authority = TestCertificateAuthority::new();
    let (first, second) =
        (authority.issue("a", &["a.example"]), authority.issue("b", &["b.example"]));
    let none = authority.folder.path().join("none.pem");
    std::fs::write(&none, "no certificate\n").unwrap();
    let away = authority.folder.path().join("away.pem");
    let key_of = |cert: &std::path::Path| cert.with_extension("key");
    for (cert, key, expected) in [
        (first.cert.clone(), key_of(&first.cert), None),
        (
            first.cert.clone(),
            second.key,
            Some(("key", "the key does not belong to the certificate")),
        ),
        (none.clone(), first.key.clone(), Some(("cert", "contains no certificate"))),
        (first.cert.clone(), none, Some(("key", "contains no private key"))),
        (away, first.key, Some(("cert", "cannot be read: No such file"))),
    ] {
        let error = super::super::tls::check(&CertificateFiles { cert, key }).err();
        let is_said = match (&error, expected) {
            (None, None) => true,
            (Some((key, message)), Some((of, words))) => *key == of && message.contains(words),
            _ => false,
        };
        assert!(is_said, "{error:?} is not {expected:?}");
    }
}

/// An HTTP/2 client with one connection.
struct TestHttp2Client {
    sender: hyper::client::conn::http2::SendRequest<EdgeResponseBody>,
    _tasks: JoinSet<hyper::Result<()>>,
}

impl TestHttp2Client {
    async fn over<S>(stream: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let executor = hyper_util::rt::TokioExecutor::new();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (sender, connection) =
            hyper::client::conn::http2::handshake(executor, io).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        Self { sender, _tasks: tasks }
    }

    async fn request(&mut self, request: http::request::Builder) -> Response<Incoming> {
        self.sender.send_request(request.body(EdgeResponseBody::default()).unwrap()).await.unwrap()
    }
}

#[tokio::test]
async fn http2_is_used_where_both_sides_offer_it() {
    let mut authority = TestCertificateAuthority::new();
    let edge = TestEdge::start(&with_tls(vec![authority.issue("a", &["t.shop.example"])])).await;
    let address = edge.https.unwrap();
    let stream = authority.connect(address, "t.shop.example", &[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let response =
        TestHttp2Client::over(stream).await.request(Request::get("https://t.shop.example/")).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["strict-transport-security"], "max-age=3600");
    let stream = authority.connect(address, "t.shop.example", &[b"http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn client_without_a_handshake_is_cut() {
    let mut authority = TestCertificateAuthority::new();
    let usual = with_tls(vec![authority.issue("a", &["t.shop.example"])]);
    let mut hasty = usual.clone();
    hasty.handshake_time = SHORT;
    let edge = TestEdge::start(&hasty).await;
    let mut silent = TcpStream::connect(edge.https.unwrap()).await.unwrap();
    assert!(is_closed(&mut silent).await);
    assert!(edge.refused("handshake_time"));
    // With the usual time limit, so that bytes that are not TLS are seen before it is over.
    let edge = TestEdge::start(&usual).await;
    let mut plain = TcpStream::connect(edge.https.unwrap()).await.unwrap();
    plain.write_all(GET).await.unwrap();
    assert!(is_closed(&mut plain).await);
    assert!(edge.refused("handshake"));
}

#[tokio::test]
async fn a_drain_does_not_wait_for_handshakes() {
    let mut authority = TestCertificateAuthority::new();
    let mut settings = with_tls(vec![authority.issue("a", &["t.shop.example"])]);
    settings.limits.drain_time = SHORT;
    let mut edge = TestEdge::start(&settings).await;
    let mut silent = TcpStream::connect(edge.https.unwrap()).await.unwrap();
    let mut after = authority.connect(edge.https.unwrap(), "t.shop.example", &[]).await.unwrap();
    edge.drain.cancel();
    assert!(is_closed(&mut silent).await && is_closed(&mut after).await);
    timeout(LONG, edge.tasks.join_next()).await.unwrap().unwrap().unwrap();
    assert!(edge.refused("drain_time"));
}

#[tokio::test]
async fn client_that_does_not_read_its_response_is_cut_under_tls() {
    let mut authority = TestCertificateAuthority::new();
    let mut settings = with_tls(vec![authority.issue("a", &["t.shop.example"])]);
    settings.limits.write_time = SHORT;
    let edge = TestEdge::start(&settings).await;
    let address = edge.https.unwrap();
    let mut stream = authority.connect(address, "t.shop.example", &[]).await.unwrap();
    stream.write_all(b"GET /big HTTP/1.1\r\nhost: t.shop.example\r\n\r\n").await.unwrap();
    until_refused(&edge, "write_time").await;
}

#[tokio::test]
async fn http2_client_that_reads_nothing_of_its_response_is_cut() {
    let mut authority = TestCertificateAuthority::new();
    let mut settings = with_tls(vec![authority.issue("a", &["t.shop.example"])]);
    settings.limits.write_time = SHORT;
    let edge = TestEdge::start(&settings).await;
    let address = edge.https.unwrap();
    let stream = authority.connect(address, "t.shop.example", &[b"h2"]).await.unwrap();
    let mut client = TestHttp2Client::over(stream).await;
    let _small = client.request(Request::get("https://t.shop.example/")).await;
    // The response is larger than any window, and the client does not read it: the connection stays.
    let stream = authority.connect(address, "t.shop.example", &[b"h2"]).await.unwrap();
    let mut other = TestHttp2Client::over(stream).await;
    let _unread = other.request(Request::get("https://t.shop.example/big")).await;
    until_refused(&edge, "write_time").await;
    // The older response, unread as well, fits the window: it is taken, and its client goes on.
    let again = client.request(Request::get("https://t.shop.example/")).await;
    assert_eq!(again.status(), StatusCode::OK);
    let cut = "tagway_connections_refused_total{reason=\"write_time\"} 1";
    assert!(edge.metrics.render().lines().any(|line| line == cut));
}

#[tokio::test]
async fn heads_of_http2_are_bounded_in_bytes_and_fields() {
    let mut authority = TestCertificateAuthority::new();
    let edge = TestEdge::start(&with_tls(vec![authority.issue("a", &["t.shop.example"])])).await;
    let address = edge.https.unwrap();
    let stream = authority.connect(address, "t.shop.example", &[b"h2"]).await.unwrap();
    let mut client = TestHttp2Client::over(stream).await;
    let mut request = async |fields: &[(&str, String)]| {
        let mut request = Request::get("https://t.shop.example/");
        for (name, value) in fields {
            request = request.header(*name, value);
        }
        client.request(request).await.status().as_u16()
    };
    let field = |n: usize| ("a", n.to_string());
    assert_eq!(request(&(0..20).map(field).collect::<Vec<_>>()).await, 200);
    assert_eq!(request(&(0..21).map(field).collect::<Vec<_>>()).await, 431);
    let crumbs: Vec<_> = (0..40).map(|n| ("cookie", format!("c{n}=1"))).collect();
    assert_eq!(request(&crumbs).await, 200, "cookies are one field, as over HTTP/1");
    let around = "GET https://t.shop.example/ HTTP/1.1\r\na: \r\n\r\n".len();
    assert_eq!(request(&[("a", "x".repeat(8 * 1024 - around))]).await, 200);
    assert_eq!(request(&[("a", "x".repeat(8 * 1024 - around + 1))]).await, 431);
}

#[tokio::test]
async fn reload_without_certificates_keeps_the_listeners_certificates() {
    let mut authority = TestCertificateAuthority::new();
    let mut settings = with_tls(vec![authority.issue("a", &["t.shop.example"])]);
    let edge = TestEdge::start(&settings).await;
    let address = edge.https.unwrap();
    (settings.https, settings.certificates) = (None, Vec::new());
    edge.reload.reload(&settings).await.unwrap();
    let mut stream = authority.connect(address, "t.shop.example", &[]).await.unwrap();
    stream.write_all(GET).await.unwrap();
    assert!(read_answer(&mut stream).await.contains("https HTTP/1.1"));
}
