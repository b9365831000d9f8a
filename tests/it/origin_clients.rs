//! Clients of an origin that send slowly, wrongly or not at all, and their effect on others.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::harness::{Gateway, admin_get, eventually, raw};
use crate::origin::{NAVIGATION, gateway, html, origin, read, read_head, saying, timed};

/// A server that answers every head at once, keeps its connections, and reads all that follows.
fn hasty() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = timed(stream.unwrap());
            thread::spawn(move || {
                while !read_head(&mut stream).is_empty() {
                    let answer = b"HTTP/1.1 405 No\r\ncontent-length: 2\r\n\r\nno";
                    if stream.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn start(gateway: &Gateway, request: &str) -> TcpStream {
    let mut stream = timed(TcpStream::connect(gateway.http).unwrap());
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

const UPLOAD: &str = "POST /up HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nx";

fn requests(gateway: &Gateway, code: u16) -> String {
    let metrics = admin_get(gateway.admin, "/metrics").unwrap().body;
    let line = format!("tagway_requests_total{{site=\"shop\",route=\"origin\",code=\"{code}\"}} ");
    let found = metrics.lines().find_map(|found| found.strip_prefix(&line));
    found.unwrap_or("0").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visitors_do_not_wait_for_uploads_that_were_answered_early() {
    let gateway = gateway(hasty(), "client_requests = 0").await;
    let mut slow = Vec::new();
    for _ in 0..40 {
        let mut stream = start(&gateway, UPLOAD);
        assert!(read_head(&mut stream).starts_with("HTTP/1.1 405 "));
        assert_eq!(read(&mut stream, 2), "no");
        slow.push(stream);
    }
    for _ in 0..40 {
        let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        assert_eq!(raw(gateway.http, request).unwrap().status, 405);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_one_client_at_the_origin_are_limited() {
    let gateway = gateway(hasty(), "client_requests = 2").await;
    let mut slow: Vec<_> = (0..2).map(|_| start(&gateway, UPLOAD)).collect();
    for stream in &mut slow {
        assert!(read_head(stream).starts_with("HTTP/1.1 405 "));
    }
    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let refused = raw(gateway.http, request).unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    drop(slow.pop());
    eventually(|| match raw(gateway.http, request).unwrap().status {
        405 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_uploads_are_client_errors() {
    let origin = origin(|stream, _| {
        // Until the gateway gives up.
        let _length = stream.read_to_end(&mut Vec::new());
    });
    let gateway = gateway(origin, "upload_bytes = \"1KiB\"\nupload_idle_timeout = \"50ms\"").await;
    let chunked = "POST /up HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let large = format!("{chunked}800\r\n{}\r\n", "x".repeat(0x800));
    for (request, status) in [
        (format!("{chunked}3\r\nabc\r\nzz\r\n"), 400),
        (format!("{chunked}3\r\nabcdef\r\n"), 400),
        (format!("{chunked}ffffffffffffffffff\r\n"), 400),
        (large, 413),
        (format!("{chunked}3\r\nabc\r\n"), 408),
    ] {
        let mut stream = start(&gateway, &request);
        let head = read_head(&mut stream);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {head}");
        drop(stream);
    }
    let stream = start(&gateway, &format!("{chunked}3\r\nabc\r\n"));
    stream.shutdown(Shutdown::Both).unwrap();
    eventually(|| match &*requests(&gateway, 499) {
        "0" => Err("the client that went away is not counted".to_owned()),
        _ => Ok(()),
    })
    .await;
    assert_eq!(requests(&gateway, 400), "3");
    assert_eq!((requests(&gateway, 502), requests(&gateway, 504)), ("0".into(), "0".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disconnect_during_the_origins_work_is_a_client_error() {
    let (has_come, came) = std::sync::mpsc::sync_channel(1);
    let origin = origin(move |stream, _| {
        has_come.try_send(()).ok();
        let _length = stream.read_to_end(&mut Vec::new());
    });
    let gateway = gateway(origin, "").await;
    let client = start(&gateway, "GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    came.recv().unwrap();
    drop(client);
    eventually(|| match &*requests(&gateway, 499) {
        "1" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_pass_only_if_the_site_lists_them() {
    let response = "HTTP/1.1 200 OK\r\ntrailer: x-forwarded-for, x-sum\r\ntransfer-encoding: chunked\r\n\r\n\
                3\r\nabc\r\n0\r\nx-forwarded-for: 6.6.6.6\r\nx-sum: 6\r\n\r\n";
    for (proxy, passes) in [("", false), ("trailers = [\"x-sum\"]", true)] {
        let origin = origin(move |stream, head| {
            let announces = head.contains("trailer: x-sum\r\n");
            assert_eq!((announces, head.contains("te: trailers\r\n")), (passes, passes), "{head}");
            let sum = if passes { "x-sum: 2\r\n" } else { "" };
            let expected = format!("3\r\nabc\r\n0\r\n{sum}\r\n");
            assert_eq!(read(stream, expected.len()), expected);
            stream.write_all(response.as_bytes()).unwrap();
        });
        let gateway = gateway(origin, proxy).await;
        let request = "POST / HTTP/1.1\r\nhost: x\r\nte: trailers\r\nconnection: te, close\r\n\
                       trailer: cookie, x-sum\r\ntransfer-encoding: chunked\r\n\r\n\
                       3\r\nabc\r\n0\r\ncookie: a=1\r\nx-sum: 2\r\n\r\n";
        let mut stream = start(&gateway, request);
        let head = read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(head.contains("trailer: x-sum\r\n"), passes, "{head}");
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        let sum = if passes { "x-sum: 6\r\n" } else { "" };
        assert_eq!(rest, format!("3\r\nabc\r\n0\r\n{sum}\r\n"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunked_body_reaches_the_origin_with_every_method() {
    let origin = origin(|stream, head| {
        assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
        let expected = "3\r\nabc\r\n0\r\n\r\n";
        assert_eq!(read(stream, expected.len()), expected);
        // The connection ends here: said, so that no other request with a body is sent into its end.
        stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").unwrap();
    });
    let gateway = gateway(origin, "").await;
    for method in ["GET", "HEAD", "DELETE"] {
        let request = format!(
            "{method} /search HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        );
        let answer = raw(gateway.http, request.as_bytes()).unwrap();
        assert_eq!(answer.status, 204, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn obsolete_header_syntax_of_an_origin_is_accepted() {
    let old = "HTTP/1.0 200 OK\r\nX-Space : 1\r\nX-Fold: a\r\n b\r\n\r\nabc";
    let gateway = gateway(saying(old), "").await;
    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = raw(gateway.http, request).unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!((answer.header("x-space"), answer.header("x-fold")), (Some("1"), Some("a b")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_of_a_changed_page_has_the_fields_of_get() {
    let body = "<head></head>";
    let fields = "etag: \"1\"\r\naccept-ranges: bytes\r\ncontent-length: 13\r\ndigest: x\r\n";
    let gateway = gateway(saying(html(fields, body)), "").await;
    let request = |method: &str| {
        let request = format!(
            "{method} / HTTP/1.1\r\nhost: x\r\n{NAVIGATION}\
             accept-encoding: gzip\r\nconnection: close\r\n\r\n"
        );
        let mut stream = start(&gateway, &request);
        let head = read_head(&mut stream);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        let is_same =
            |line: &&str| !line.starts_with("date") && !line.starts_with("transfer-encoding");
        let head: Vec<String> = head.lines().filter(is_same).map(str::to_owned).collect();
        (head, rest.len())
    };
    let ((get, length), (head, nothing)) = (request("GET"), request("HEAD"));
    assert_eq!(head, get);
    assert!(length > 0 && nothing == 0);
    let has = |start: &str| head.iter().any(|line| line.starts_with(start));
    assert!(has("etag: W/\"1\"") && has("content-encoding: gzip"), "{head:?}");
    assert!(!has("content-length") && !has("accept-ranges") && !has("digest"), "{head:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn downloads_and_ranges_pass_unchanged() {
    let body = "<head></head>";
    let request = async |answer: String, fields: &str| {
        let gateway = gateway(saying(answer), "").await;
        let request = format!("GET / HTTP/1.0\r\nhost: x\r\n{NAVIGATION}{fields}\r\n");
        raw(gateway.http, request.as_bytes()).unwrap()
    };
    for disposition in ["attachment", "Attachment; filename=\"x.html\"", "form-data", "\"inline"] {
        let field = format!("content-disposition: {disposition}\r\netag: \"1\"\r\n");
        let answer = request(html(&field, body), "").await;
        assert_eq!((&*answer.body, answer.header("etag")), (body, Some("\"1\"")), "{disposition}");
    }
    let shown = request(html("content-disposition: Inline; filename=x\r\n", body), "").await;
    assert!(shown.body.contains("<script"), "{}", shown.body);
    let twice = html("content-type: text/plain\r\n", body);
    assert_eq!(request(twice, "").await.body, body, "of two types nobody knows which counts");
    // A server that ignores ranges answers with the complete page, which is changed like any other.
    let whole = request(html("etag: \"1\"\r\n", body), "range: bytes=0-3\r\n").await;
    assert!(whole.body.contains("<script"), "{}", whole.body);
    let part = html("etag: \"1\"\r\naccept-ranges: bytes\r\n", "<hea");
    let part = part.replace("200 OK", "206 Partial Content");
    let part = request(part, "range: bytes=0-3\r\n").await;
    assert_eq!((part.status, &*part.body), (206, "<hea"));
    // A weak tag: the client must not combine it with a changed page.
    assert_eq!((part.header("etag"), part.header("accept-ranges")), (Some("W/\"1\""), None));
}
