//! A site's own server behind the gateway.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use flate2::read::GzDecoder;
use parking_lot::Mutex;
use tagway_pages::script::compose::snippet;

use crate::harness::{Answer, DEADLINE, Gateway, SITE, batch, raw, send, track};

/// A server that answers one request on each connection; `answer` gets the request's head.
pub(crate) fn origin(answer: impl Fn(&mut TcpStream, &str) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (address, answer) = (listener.local_addr().unwrap(), Arc::new(answer));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (timed(stream.unwrap()), answer.clone());
            thread::spawn(move || {
                let head = read_head(&mut stream);
                if !head.is_empty() {
                    answer(&mut stream, &head);
                }
            });
        }
    });
    address
}

/// A server that answers every request with these bytes.
pub(crate) fn saying(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer = answer.into();
    origin(move |stream, _| stream.write_all(&answer).unwrap())
}

pub(crate) fn timed(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Reads a head, and nothing after it.
pub(crate) fn read_head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Reads up to and including this text.
fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        bytes.push(read_byte(stream));
    }
    String::from_utf8(bytes).unwrap()
}

pub(crate) fn read(stream: &mut TcpStream, length: usize) -> String {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn read_byte(stream: &mut TcpStream) -> u8 {
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    byte[0]
}

/// A signal for which one side waits until the other sends it.
pub(crate) fn signal() -> (SyncSender<()>, impl Fn() + Send + Sync) {
    let (sender, receiver): (_, Receiver<()>) = mpsc::sync_channel(1);
    let receiver = Mutex::new(receiver);
    (sender, move || receiver.lock().recv_timeout(DEADLINE).unwrap())
}

pub(crate) async fn gateway(origin: SocketAddr, proxy: &str) -> Gateway {
    Gateway::start(&format!("{SITE}origin = \"http://{origin}\"\n[sites.proxy]\n{proxy}\n")).await
}

fn connect(gateway: &Gateway, head: &str) -> TcpStream {
    let mut stream = timed(TcpStream::connect(gateway.http).unwrap());
    write!(stream, "{head}\r\nhost: t.shop.example\r\n\r\n").unwrap();
    stream
}

/// A request of a page in HTTP/1.0, whose bodies have no framing.
fn page(gateway: &Gateway, fields: &str) -> Answer {
    let request = format!("GET /a?b=c HTTP/1.0\r\nhost: t.shop.example\r\n{fields}\r\n");
    raw(gateway.http, request.as_bytes()).unwrap()
}

pub(crate) fn html(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n{fields}connection: close\r\n\r\n{body}")
}

/// The snippet removes itself from the page.
pub(crate) const LEAVE: &str = "document.currentScript.remove()";

pub(crate) const NAVIGATION: &str = "accept: text/html,*/*;q=0.8\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_and_pages_stream() {
    for kind in ["application/octet-stream", "text/html"] {
        let (go, wait) = signal();
        let origin = origin(move |stream, _| {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n");
            write!(stream, "{head}transfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n").unwrap();
            wait();
            write!(stream, "6\r\nsecond\r\n0\r\n\r\n").unwrap();
        });
        let gateway = gateway(origin, "").await;
        let mut stream = connect(&gateway, "GET / HTTP/1.1\r\naccept: text/html");
        read_head(&mut stream);
        read_until(&mut stream, "first\r\n");
        go.send(()).unwrap();
        assert_eq!(read(&mut stream, 16), "6\r\nsecond\r\n0\r\n\r\n", "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_answers_arrive_whole() {
    let body: Vec<u8> = (0_u32..5 << 20).flat_map(u32::to_le_bytes).collect();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    let gateway = gateway(saying([head.as_bytes(), &body].concat()), "").await;
    let mut stream = connect(&gateway, "GET / HTTP/1.1\r\nconnection: close");
    let head = read_head(&mut stream);
    assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    let mut found = Vec::new();
    stream.read_to_end(&mut found).unwrap();
    assert!(found == body, "{} bytes of {}", found.len(), body.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_stream() {
    let (arrived, wait) = signal();
    let origin = origin(move |stream, head| {
        assert!(head.contains("content-length: 11\r\n"), "{head}");
        let first = read(stream, 5);
        arrived.send(()).unwrap();
        let rest = read(stream, 6);
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{first}{rest}").unwrap();
    });
    let gateway = gateway(origin, "").await;
    let mut stream = connect(&gateway, "PUT / HTTP/1.1\r\ncontent-length: 11");
    stream.write_all(b"first").unwrap();
    wait();
    stream.write_all(b"second").unwrap();
    read_head(&mut stream);
    assert_eq!(read(&mut stream, 11), "firstsecond");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_fields_are_removed_and_the_client_is_forwarded() {
    let origin = origin(move |stream, head| {
        let own = "connection: close, x-inner\r\nx-inner: 1\r\nkeep-alive: timeout=9\r\nx-own: 1";
        let length = head.len();
        write!(stream, "HTTP/1.1 200 OK\r\n{own}\r\ncontent-length: {length}\r\n\r\n{head}")
            .unwrap();
    });
    let settings = ["preserve_host = false", ""];
    for (settings, host) in
        settings.into_iter().zip([origin.to_string().as_str(), "t.shop.example"])
    {
        let gateway = gateway(origin, settings).await;
        let request = "GET /a%20b/../c?d=%C3 HTTP/1.1\r\nhost: t.shop.example\r\n\
            connection: close, x-secret\r\nx-secret: 1\r\nte: trailers\r\nkeep-alive: 1\r\n\
            proxy-authorization: x\r\nx-forwarded-for: 6.6.6.6\r\nx_forwarded_for: 6.6.6.6\r\n\
            forwarded: for=6.6.6.6\r\nx-forwarded-proto: https\r\nx-forwarded-host: evil\r\n\
            x-real-ip: 6.6.6.6\r\ncookie: a=b\r\nx-mine: 1\r\n\r\n";
        let answer = raw(gateway.http, request.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let (line, fields) = answer.body.split_once("\r\n").unwrap();
        assert_eq!(line, "GET /a%20b/../c?d=%C3 HTTP/1.1");
        let mut fields: Vec<&str> = fields.lines().filter(|line| !line.is_empty()).collect();
        fields.sort_unstable();
        let host = format!("host: {host}");
        let expected = [
            "cookie: a=b",
            "forwarded: for=127.0.0.1;host=\"t.shop.example\";proto=http",
            &host,
            "via: 1.1 tagway",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: t.shop.example",
            "x-forwarded-proto: http",
            "x-mine: 1",
        ];
        assert_eq!(fields, expected);
        assert_eq!((answer.header("x-own"), answer.header("x-inner")), (Some("1"), None));
        assert_eq!(answer.header("keep-alive"), None);
        assert_eq!(answer.header("via"), Some("1.1 tagway"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websocket_works_in_both_directions() {
    let origin = origin(|stream, head| {
        assert!(
            head.contains("upgrade: websocket\r\n") && head.contains("connection: upgrade\r\n")
        );
        let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket";
        write!(stream, "{head}\r\nsec-websocket-accept: yes\r\n\r\nhello").unwrap();
        let mut buffer = [0; 100];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..length]).unwrap();
        }
    });
    let gateway = gateway(origin, "").await;
    let ask =
        "GET /ws HTTP/1.1\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: k";
    let mut stream = connect(&gateway, ask);
    let head = read_head(&mut stream);
    assert!(
        head.starts_with("HTTP/1.1 101 ") && head.contains("sec-websocket-accept: yes"),
        "{head}"
    );
    assert_eq!(read(&mut stream, 5), "hello");
    for word in ["one", "another"] {
        stream.write_all(word.as_bytes()).unwrap();
        assert_eq!(read(&mut stream, word.len()), word);
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn origin_failures_get_their_status() {
    let nobody = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let gone = gateway(nobody, "").await;
    assert_eq!(page(&gone, "").status, 502);
    let (_never, wait) = signal();
    let silent = gateway(origin(move |_, _| wait()), "head_time = \"200ms\"").await;
    assert_eq!(page(&silent, "").status, 504);
    let strict =
        gateway(saying("HTTP/1.1 204 No Content\r\n\r\n"), "upload_bytes = \"1KiB\"").await;
    assert_eq!(send(strict.http, ("POST", "/up"), &[], &[0; 1025]).unwrap().status, 413);
    // Of an unknown length: detected while streaming.
    let (_never, wait) = signal();
    let patient = gateway(origin(move |_, _| wait()), "upload_bytes = \"1KiB\"").await;
    let chunk = format!("401\r\n{}\r\n0\r\n\r\n", "x".repeat(0x401));
    let head = "POST /up HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked";
    let answer = raw(patient.http, format!("{head}\r\n\r\n{chunk}").as_bytes()).unwrap();
    assert_eq!(answer.status, 413);
    let via = page(&strict, "via: 1.1 tagway\r\n");
    assert_eq!(via.status, 508);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncated_response_stays_truncated() {
    let chunked = "transfer-encoding: chunked\r\n\r\n9\r\n<p>01234\n\r\n";
    let cases = [
        ("content-type: text/plain\r\ncontent-length: 100\r\n\r\n01234".to_owned(), "01234"),
        (format!("content-type: text/plain\r\n{chunked}"), "01234\n\r\n"),
        (format!("content-type: text/html\r\n{chunked}"), "01234\n\r\n"),
    ];
    for (answer, last) in cases {
        let (go, wait) = signal();
        let sent = answer.clone();
        let origin = origin(move |stream, _| {
            write!(stream, "HTTP/1.1 200 OK\r\n{sent}").unwrap();
            wait();
        });
        let gateway = gateway(origin, "").await;
        let mut stream = connect(&gateway, "GET / HTTP/1.1\r\naccept: text/html");
        read_head(&mut stream);
        read_until(&mut stream, last);
        go.send(()).unwrap();
        let mut rest = Vec::new();
        // Closed or reset, but not properly ended.
        stream.read_to_end(&mut rest).ok();
        assert_eq!(rest, b"", "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_get_the_script_with_the_nonce_and_no_other_change() {
    let (before, after) =
        ("<!doctype html>\n<HTML><Head a=1>", "\r\n<title>ä&amp;</title>\r\n<p>x");
    let policy = "content-security-policy: script-src 'nonce-abc='\r\netag: \"1\"\r\n\
        content-md5: x\r\naccept-ranges: bytes\r\n";
    let gateway_of_page = gateway(saying(html(policy, &format!("{before}{after}"))), "").await;
    let answer = page(&gateway_of_page, NAVIGATION);
    let tag = format!("<script nonce=\"abc=\">{}{LEAVE}</script>", snippet("/tw.js"));
    let placed = format!("{before}{after}").replace("<p>", &format!("{tag}<p>"));
    assert_eq!(answer.body, placed);
    assert_eq!(answer.header("etag"), Some("W/\"1\""));
    assert_eq!((answer.header("content-md5"), answer.header("accept-ranges")), (None, None));
    // A script that fetches the page gets it unchanged.
    assert_eq!(page(&gateway_of_page, "accept: */*\r\n").body, format!("{before}{after}"));

    let own = "<head><script src=/tw.js></script></head>";
    let doubled = gateway(saying(html("", own)), "").await;
    assert_eq!(page(&doubled, NAVIGATION).body.matches("/tw.js").count(), 1);
}

/// The readable part of the beginning of a compressed page.
fn decoded(coding: &str, bytes: &[u8]) -> String {
    let mut text = Vec::new();
    match coding {
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut text).ok(),
        "zstd" => zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut text).ok(),
        _ => GzDecoder::new(bytes).read_to_end(&mut text).ok(),
    };
    String::from_utf8(text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_compressed_while_streaming_in_the_clients_best_coding() {
    let first = "<head></head><p>first</p>";
    for (accepts, coding) in
        [("gzip, deflate, br, zstd", "zstd"), ("gzip, br", "br"), ("gzip, br;q=0", "gzip")]
    {
        let (go, wait) = signal();
        let origin = origin(move |stream, head| {
            assert!(head.contains("accept-encoding: identity\r\n"), "{head}");
            let fields = "etag: \"1\"\r\nvary: Cookie, accept-encoding\r\n";
            write!(stream, "{}", html(fields, first)).unwrap();
            wait();
            stream.write_all(b"<p>second").unwrap();
        });
        let gateway = gateway(origin, "").await;
        let fields = format!("{NAVIGATION}accept-encoding: {accepts}");
        let mut stream = connect(&gateway, &format!("GET / HTTP/1.0\r\n{fields}"));
        let head = read_head(&mut stream);
        for field in [&*format!("content-encoding: {coding}"), "etag: W/\"1\""] {
            assert!(head.contains(&format!("{field}\r\n")), "{head}");
        }
        assert!(!head.contains("content-length"), "{head}");
        assert_eq!(head.matches("ccept-encoding").count(), 1, "{head}");
        let mut bytes = Vec::new();
        while !decoded(coding, &bytes).ends_with("first</p>") {
            bytes.push(read_byte(&mut stream));
        }
        go.send(()).unwrap();
        stream.read_to_end(&mut bytes).unwrap();
        let whole = decoded(coding, &bytes);
        assert!(whole.starts_with("<head><script") && whole.ends_with("<p>second"), "{whole}");
    }
    let body = "<head></head>";
    let plain = gateway(saying(html("", body)), "compress = false").await;
    let answer = page(&plain, &format!("{NAVIGATION}accept-encoding: gzip\r\n"));
    assert_eq!((answer.header("content-encoding"), answer.header("vary")), (None, None));
    assert!(answer.body.ends_with("</head>"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vendor_tags_load_the_gateways_scripts() {
    let gtag = |src: &str| format!("<script async src=\"{src}?id=G-1\"></script>");
    let fbq = |src: &str| format!("<script>f('{src}/en_US/fbevents.js')</script>");
    let (google, meta) =
        ("https://www.googletagmanager.com/gtag/js", "https://connect.facebook.net");
    let hint = "<link rel=preconnect href=https://www.googletagmanager.com>";
    let body = format!("<body>{hint}{}{}", gtag(google), fbq(meta));
    let found = async |fields: &str, settings: &str| {
        let settings = format!("inject = false\n{settings}");
        let gateway = gateway(saying(html(fields, &body)), &settings).await;
        let answer = page(&gateway, NAVIGATION);
        for path in answer.body.split("src=\"/").skip(1) {
            let path = format!("/{}", path.split('"').next().unwrap());
            let script = send(gateway.http, ("GET", &path), &[], b"").unwrap();
            assert_eq!(script.status, 200, "{path}");
            assert!(script.header("content-type").unwrap().starts_with("text/javascript"));
        }
        answer.body
    };
    let (here, hint) = ("//t.shop.example/meta", "<link rel=preconnect href=//t.shop.example>");
    assert_eq!(found("", "").await, body, "vendors that the site says nothing of");
    let both = "[sites.vendors.ga4]\n[sites.vendors.meta]";
    assert_eq!(found("", both).await, format!("<body>{hint}{}{}", gtag("/ga4/gtag/js"), fbq(here)));
    let settings = "[sites.vendors.ga4]\nmount = \"/g\"\n[sites.vendors.meta]\nscripts = \"off\"";
    assert_eq!(
        found("", settings).await,
        format!("<body>{hint}{}{}", gtag("/g/gtag/js"), fbq(meta))
    );
    assert_eq!(found("", &format!("rewrite_tags = false\n{both}")).await, body);
    // A hash in the policy covers every byte of an inline script.
    let policy = "content-security-policy: script-src 'self' 'sha256-x'\r\n";
    assert_eq!(
        found(policy, both).await,
        format!("<body>{hint}{}{}", gtag("/ga4/gtag/js"), fbq(meta))
    );
    let policy = "content-security-policy: script-src https://www.googletagmanager.com\r\n";
    assert_eq!(found(policy, both).await, body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partial_responses_and_other_files_pass_unchanged() {
    let origin = origin(|stream, head| {
        let answer = if head.contains("range: bytes=0-3\r\n") {
            "206 Partial Content\r\ncontent-range: bytes 0-3/9\r\ncontent-length: 4\r\n\r\n<hea"
        } else if head.contains("if-none-match: W/\"1\"\r\n") {
            "304 Not Modified\r\netag: \"1\"\r\n\r\n"
        } else {
            "200 OK\r\ncontent-length: 9\r\n\r\n"
        };
        write!(stream, "HTTP/1.1 {answer}").unwrap();
    });
    let gateway = gateway(origin, "").await;
    let part = page(&gateway, &format!("{NAVIGATION}range: bytes=0-3\r\n"));
    assert_eq!((part.status, &*part.body), (206, "<hea"));
    assert_eq!(part.header("content-range"), Some("bytes 0-3/9"));
    let same = page(&gateway, &format!("{NAVIGATION}if-none-match: W/\"1\"\r\n"));
    // The entity tag of the client's version, which differs from the origin's.
    assert_eq!((same.status, same.header("etag")), (304, Some("W/\"1\"")));
    let mut stream =
        connect(&gateway, &format!("HEAD / HTTP/1.1\r\n{NAVIGATION}connection: close"));
    let head = read_head(&mut stream);
    assert!(head.contains("content-length: 9\r\n") && head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unchangeable_responses_pass_unchanged() {
    let body = "<head></head>";
    let answers = [
        html("content-encoding: gzip\r\n", body),
        html("content-encoding: br\r\n", body),
        html("cache-control: no-transform\r\n", body),
        html("", body).replace("text/html", "text/plain"),
        html("", body).replace("text/html", "text/html; charset=utf-16"),
    ];
    for answer in answers {
        let gateway = gateway(saying(answer.clone()), "").await;
        assert_eq!(page(&gateway, NAVIGATION).body, body, "{answer}");
    }
    let without = gateway(saying(html("", body)), "inject = false").await;
    assert_eq!(page(&without, NAVIGATION).body, body);
    // A tag larger than the limit: everything after it is passed on unchanged.
    let long = format!("<script id='{}'></script>{body}", "x".repeat(100_000));
    let bounded = gateway(saying(html("", &long)), "tag_bytes = \"32KiB\"").await;
    assert!(page(&bounded, NAVIGATION).body.ends_with(&long));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateways_own_routes_come_first() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let origin = origin(move |stream, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        write!(
            stream,
            "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 6\r\n\r\norigin"
        )
        .unwrap();
    });
    let gateway = gateway(origin, "").await;
    gateway.accept(&[track("m1", "Clicked")]).await;
    let body = batch(&[track("m2", "Clicked")]);
    assert_eq!(send(gateway.http, ("POST", "/tw.js"), &[], body.as_bytes()).unwrap().status, 405);
    let script = send(gateway.http, ("GET", "/tw.js"), &[], b"").unwrap();
    assert_eq!(script.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(send(gateway.http, ("GET", "/px.gif?event=x"), &[], b"").unwrap().status, 200);
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    for method in ["GET", "POST", "DELETE", "OPTIONS"] {
        let answer = send(gateway.http, (method, "/v2/batch"), &[], b"").unwrap();
        assert_eq!((answer.status, &*answer.body), (404, "origin"), "{method}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 4);
}
