//! Pages of a site's own server: the choice of pages that get the snippet, its place, and the rewriting
//! of the server's own address.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use tagway_pages::script::compose::snippet;

use crate::harness::{Answer, Gateway, admin_get, batch, raw, send, track};
use crate::origin::{
    LEAVE, NAVIGATION, gateway, html, origin, read, read_head, saying, signal, timed,
};

fn tag() -> String {
    format!("<script>{}{LEAVE}</script>", snippet("/tw.js"))
}

fn request(gateway: &Gateway, method: &str, path: &str, fields: &str) -> Answer {
    let request = format!("{method} {path} HTTP/1.0\r\nhost: www.shop.example\r\n{fields}\r\n");
    raw(gateway.http, request.as_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn origin_address_is_rewritten_to_the_visitors() {
    // It names itself by the Host field that it received, which is its own.
    let origin = origin(|stream, head| {
        let host = head.split("host: ").nth(1).unwrap().split("\r\n").next().unwrap();
        let domain = host.split(':').next().unwrap();
        let fields = format!(
            "location: http://{host}/login?next=%2Fa\r\ncontent-location: http://{host}/things/1\r\n\
             set-cookie: a=1; Path=/; Domain={domain}\r\nset-cookie: b=1; Domain=other.example\r\n\
             refresh: 3; url=https://pay.example/\r\ncontent-length: 0\r\nconnection: close"
        );
        write!(stream, "HTTP/1.1 302 Found\r\n{fields}\r\n\r\n").unwrap();
    });
    for settings in ["preserve_host = false", ""] {
        let gateway = gateway(origin, settings).await;
        let answer = request(&gateway, "GET", "/account", "");
        assert_eq!(
            answer.header("location"),
            Some("http://www.shop.example/login?next=%2Fa"),
            "{settings}"
        );
        assert_eq!(answer.header("content-location"), Some("http://www.shop.example/things/1"));
        assert_eq!(answer.header("refresh"), Some("3; url=https://pay.example/"));
        let refused = format!("Domain={}", origin.ip());
        assert!(!format!("{answer:?}").contains(&refused), "{answer:?}");
        assert!(format!("{answer:?}").contains("Domain=other.example"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_get_the_snippet_whatever_their_status_and_method() {
    let page = "<!doctype html>\n<meta charset=utf-8><title>x</title><h1>x";
    let expected = page.replace("<h1>", &format!("{}<h1>", tag()));
    let request = async |status: &str, method: &str, path: &str, fields: &str| {
        let answer = html("", page).replace("200 OK", status);
        let gateway = gateway(saying(answer), "").await;
        request(&gateway, method, path, fields).body
    };
    let document = "sec-fetch-dest: document\r\nsec-fetch-mode: navigate\r\n";
    let worker = "sec-fetch-dest: empty\r\nsec-fetch-mode: navigate\r\n";
    let prefetch = "sec-fetch-dest: empty\r\nsec-fetch-mode: no-cors\r\nsec-purpose: prefetch\r\n";
    for (status, method, path, fields) in [
        ("200 OK", "POST", "/", document),
        ("422 Unprocessable Content", "POST", "/form", NAVIGATION),
        ("404 Not Found", "GET", "/x.png", document),
        ("500 Internal Server Error", "GET", "/", document),
        ("200 OK", "GET", "/", worker),
        ("200 OK", "GET", "/a.html", prefetch),
    ] {
        let fields = format!("{fields}content-length: 0\r\n");
        assert_eq!(request(status, method, path, &fields).await, expected, "{status} {fields}");
    }
    let fetch = "sec-fetch-dest: empty\r\nsec-fetch-mode: cors\r\naccept: text/html\r\n";
    let script = format!("{NAVIGATION}x-requested-with: XMLHttpRequest\r\n");
    for (method, path, fields) in [
        ("POST", "/", fetch),
        ("GET", "/", &*script),
        ("PUT", "/", NAVIGATION),
        ("GET", "/app.js", prefetch),
    ] {
        let fields = format!("{fields}content-length: 0\r\n");
        assert_eq!(request("200 OK", method, path, &fields).await, page, "{fields}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn charset_behind_the_snippet_is_added_to_the_fields() {
    let request = async |kind: &str, page: &str, fields: &str| {
        let answer = html("", page).replace("text/html", kind);
        let gateway = gateway(saying(answer), "").await;
        let answer = request(&gateway, "GET", "/", &format!("{NAVIGATION}{fields}"));
        (answer.header("content-type").unwrap().to_owned(), answer.body)
    };
    let late = "<head><script>1</script><meta charset=latin1></head>";
    for (kind, page, expected) in [
        ("text/html", late, "text/html; charset=windows-1252"),
        ("text/html; charset=\"\"; a=b", late, "text/html; a=b; charset=windows-1252"),
        ("text/html; charset=utf8", late, "text/html; charset=utf8"),
        ("text/html; charset=nonsense", "<p>x", "text/html; charset=nonsense"),
        ("text/html", "<head><meta charset=latin1><script>1</script>", "text/html"),
        ("text/html", "<script>1</script>", "text/html"),
    ] {
        let (found, body) = request(kind, page, "").await;
        assert_eq!(found, expected, "{page}");
        assert_eq!(body.replace(&tag(), ""), page);
        assert!(body.contains(&tag()));
    }
    // The buffered beginning is compressed like the rest.
    let (found, _) = request("text/html", late, "accept-encoding: gzip\r\n").await;
    assert_eq!(found, "text/html; charset=windows-1252");
}

/// A page without a charset in its fields is buffered; once it declares one, it is streamed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_with_a_declared_charset_is_streamed() {
    let (go, wait) = signal();
    let origin = origin(move |stream, _| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n";
        write!(stream, "{head}<head><meta charset=utf-8><title>x</title>").unwrap();
        wait();
        stream.write_all(b"<link rel=stylesheet href=/a.css>").unwrap();
    });
    let gateway = gateway(origin, "").await;
    let mut stream = timed(TcpStream::connect(gateway.http).unwrap());
    write!(stream, "GET / HTTP/1.0\r\nhost: x\r\n{NAVIGATION}\r\n").unwrap();
    let head = read_head(&mut stream);
    assert!(head.contains("content-type: text/html\r\n"), "{head}");
    assert_eq!(read(&mut stream, 28), "<head><meta charset=utf-8><t");
    go.send(()).unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, format!("itle>x</title>{}<link rel=stylesheet href=/a.css>", tag()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skipped_pages_are_counted_by_reason() {
    let meta = |policy: &str| {
        format!("<head><meta http-equiv=content-security-policy content=\"{policy}\"><p>x")
    };
    let pages = [
        ("", "<html ⚡4email><p>x".to_owned(), "amp"),
        ("content-encoding: br\r\n", "x".to_owned(), "compressed"),
        ("cache-control: no-transform\r\n", "<p>".to_owned(), "no_transform"),
        ("content-type: text/html\r\n", "<p>".to_owned(), "ambiguous"),
        ("content-security-policy: connect-src 'none'\r\n", "<p>".to_owned(), "policy"),
        ("", meta("script-src 'none'"), "policy"),
        ("", format!("<p>{}", meta("script-src 'none'")), "late_policy"),
        ("", "\n".to_owned(), "empty"),
        ("", meta("script-src 'nonce-abc'"), ""),
    ];
    for (fields, page, reason) in pages {
        let gateway = gateway(saying(html(fields, &page)), "").await;
        let body = request(&gateway, "GET", "/", NAVIGATION).body;
        let metrics = admin_get(gateway.admin, "/metrics").unwrap().body;
        let counted = metrics.lines().filter(|line| {
            line.starts_with("tagway_pages_left_alone_total{") && line.ends_with(" 1")
        });
        let counted: Vec<&str> = counted.collect();
        if reason.is_empty() {
            assert!(counted.is_empty() && body.contains("<script nonce=\"abc\">"), "{body}");
            continue;
        }
        assert!(
            counted.len() == 1 && counted[0].contains(&format!("reason=\"{reason}\"")),
            "{reason}: {counted:?}"
        );
        assert_eq!(body == page, reason != "late_policy", "{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn application_paths_reach_the_origin_unless_a_message_is_sent() {
    let asked = Arc::new(AtomicUsize::new(0));
    let (counted, last) = (asked.clone(), Arc::new(Mutex::new(String::new())));
    let heads = last.clone();
    let origin = origin(move |stream, head| {
        counted.fetch_add(1, Ordering::Relaxed);
        head.clone_into(&mut heads.lock());
        let length: usize = head
            .split("content-length: ")
            .nth(1)
            .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
        let body = read(stream, length);
        let answer = format!("app {body}");
        let fields = format!("content-length: {}\r\nconnection: close", answer.len());
        write!(stream, "HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{answer}").unwrap();
    });
    let gateway = gateway(origin, "").await;
    let json = [("content-type", "application/json")];
    let form = [("content-type", "application/x-www-form-urlencoded")];
    type Fields<'f> = &'f [(&'f str, &'f str)];
    let cases: [(&str, &str, Fields<'_>, &str); 7] = [
        ("GET", "/reset", &[], ""),
        ("POST", "/reset", &form, "email=a%40b.example"),
        ("GET", "/e", &[], ""),
        ("POST", "/v1/group", &json, r#"{"name":"Ops","members":[1,2]}"#),
        ("PUT", "/v1/group", &json, r#"{"groupId":1,"userId":2}"#),
        ("GET", "/px.gif", &[], ""),
        ("POST", "/v1/track/", &form, "userId=1"),
    ];
    for (number, (method, path, fields, body)) in cases.into_iter().enumerate() {
        let answer = send(gateway.http, (method, path), fields, body.as_bytes()).unwrap();
        assert_eq!((answer.status, answer.body), (200, format!("app {body}")), "{method} {path}");
        assert_eq!(asked.load(Ordering::Relaxed), number + 1);
    }
    let message = track("m1", "Clicked");
    gateway.accept(&[message]).await;
    let own: [(&str, &str, String, u16); 4] = [
        ("POST", "/e", batch(&[track("m2", "Clicked")]), 204),
        ("POST", "/reset", String::new(), 204),
        ("GET", "/px.gif?event=x", String::new(), 200),
        // It lacks the write key, and the gateway answers so.
        ("POST", "/v1/group", r#"{"groupId":"g","userId":"u"}"#.to_owned(), 401),
    ];
    for (method, path, body, status) in own {
        let answer = send(gateway.http, (method, path), &json, body.as_bytes()).unwrap();
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 7, "{}", last.lock());
}
