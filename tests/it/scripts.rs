//! Vendors' scripts, first-party: what visitors get while the vendor's own host does all it can.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::harness::{Answer, Gateway, NO_RATES, SITE, admin_get, eventually, send};

/// A vendor's host that answers every request with the bytes it was told last.
struct Cdn {
    address: SocketAddr,
    reply: Arc<Mutex<Vec<u8>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Cdn {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let cdn = Self {
            address: listener.local_addr().unwrap(),
            reply: Arc::default(),
            asked: Arc::default(),
        };
        let (reply, asked) = (cdn.reply.clone(), cdn.asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (reply, asked) = (reply.clone(), asked.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &reply, &asked));
            }
        });
        cdn
    }

    fn reply(&self, bytes: impl Into<Vec<u8>>) {
        *self.reply.lock().unwrap() = bytes.into();
    }

    fn script(&self, text: &str) {
        self.reply(ok("text/javascript", "etag: \"one\"\r\n", text));
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// An empty reply is none: the connection stays open and silent.
fn serve(mut stream: TcpStream, reply: &Mutex<Vec<u8>>, asked: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while reader.read_line(&mut head).unwrap_or(0) > 2 {
        if head.ends_with("\r\n\r\n") {
            break;
        }
    }
    asked.lock().unwrap().push(head);
    let bytes = reply.lock().unwrap().clone();
    if bytes.is_empty() {
        // Until the other side gives up.
        drop(reader.read_line(&mut String::new()));
    }
    drop(stream.write_all(&bytes));
}

fn ok(content_type: &str, more: &str, text: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n{more}connection: close\r\n\
         content-length: {}\r\n\r\n{text}",
        text.len()
    )
}

fn settings(cdn: &Cdn, scripts: &str) -> String {
    let address = cdn.address;
    format!(
        "{NO_RATES}[scripts]\nscript_bytes = \"200KiB\"\ntimeout = \"300ms\"\n{scripts}\n{SITE}\
         [sites.vendors.ga4]\nscripts = \"proxy\"\nscript_endpoint = \"http://{address}\"\n"
    )
}

const ALWAYS_DUE: &str =
    "fresh_min = \"0s\"\nfresh_max = \"0s\"\nretry = \"0s\"\nabsent = \"0s\"\n";
const TAG: &str = "/ga4/gtag/js?id=G-1&cx=c";
const TEXT: &str = "u=\"https://www.google-analytics.com/g/collect\";h=\"google-analytics.com\"";
const SERVED: &str = "u=\"http://t.shop.example/ga4/g/collect\";h=\"google-analytics.com\"";

fn get(gateway: &Gateway, path: &str, fields: &[(&str, &str)]) -> Answer {
    tokio::task::block_in_place(|| send(gateway.http, ("GET", path), fields, b"")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_script_is_fetched_once_for_many_and_without_the_visitor() {
    let cdn = Cdn::start();
    cdn.script(TEXT);
    let gateway = Gateway::start(&settings(&cdn, "")).await;
    let http = gateway.http;
    let visitor = [
        ("cookie", "secret=1"),
        ("referer", "https://shop.example/private"),
        ("x-forwarded-for", "203.0.113.9"),
        ("user-agent", "the-visitors"),
        ("origin", "https://elsewhere.example"),
    ];
    let all: Vec<_> = (0..50)
        .map(|n| {
            std::thread::spawn(move || {
                send(http, ("GET", &format!("{TAG}&n={n}")), &visitor, b"").unwrap()
            })
        })
        .collect();
    for thread in all {
        let answer = tokio::task::block_in_place(|| thread.join().unwrap());
        assert_eq!((answer.status, answer.body.as_str()), (200, SERVED), "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("text/javascript; charset=utf-8"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cross-origin-resource-policy"), Some("cross-origin"));
        assert_eq!(answer.header("set-cookie"), None);
    }
    let asked = cdn.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    let head = asked[0].to_ascii_lowercase();
    assert!(head.starts_with("get /gtag/js?id=g-1&cx=c http/1.1\r\n"), "{head}");
    for secret in ["secret", "private", "203.0.113", "the-visitors", "elsewhere"] {
        assert!(!head.contains(secret), "{head}");
    }
    let metrics = admin_get(gateway.admin, "/metrics").unwrap().body;
    assert!(metrics.contains("tagway_script_requests_total{vendor=\"ga4\",result=\""), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_ranges_and_codings() {
    let cdn = Cdn::start();
    let text = "let a = 1;\n".repeat(100);
    cdn.script(&text);
    let gateway = Gateway::start(&settings(&cdn, "")).await;
    let whole = get(&gateway, TAG, &[]);
    let tag = whole.header("etag").unwrap();
    assert_eq!(get(&gateway, TAG, &[("if-none-match", tag)]).status, 304);
    for (range, status, said) in [
        ("bytes=0-9", 206, Some("bytes 0-9/1100")),
        ("bytes=1090-", 206, Some("bytes 1090-1099/1100")),
        ("bytes=-5", 206, Some("bytes 1095-1099/1100")),
        ("bytes=1100-", 416, Some("bytes */1100")),
        ("bytes=0-1,3-4", 200, None),
        ("bytes=9-1", 200, None),
        ("bytes=18446744073709551616-", 416, Some("bytes */1100")),
    ] {
        let answer = get(&gateway, TAG, &[("range", range)]);
        assert_eq!((answer.status, answer.header("content-range")), (status, said), "{range}");
    }
    let stale = get(&gateway, TAG, &[("range", "bytes=0-9"), ("if-range", "\"other\"")]);
    assert_eq!((stale.status, stale.body.len()), (200, 1100));
    let packed = eventually(|| {
        let answer = get(&gateway, TAG, &[("accept-encoding", "gzip, br")]);
        match answer.header("content-encoding") {
            Some("br") => Ok(answer),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_ne!(packed.header("etag"), Some(tag));
    assert_eq!(packed.header("vary"), Some("Accept-Encoding"));
    let head = send(gateway.http, ("HEAD", TAG), &[], b"").unwrap();
    assert_eq!((head.header("content-length"), head.body.as_str()), (Some("1100"), ""));
    assert_eq!(send(gateway.http, ("POST", TAG), &[], b"").unwrap().status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_is_ill_changes_nothing_for_visitors() {
    let cdn = Cdn::start();
    cdn.script(TEXT);
    let gateway = Gateway::start(&settings(&cdn, ALWAYS_DUE)).await;
    assert_eq!(get(&gateway, TAG, &[]).body, SERVED);
    let illnesses: [Vec<u8>; 8] = [
        b"HTTP/1.1 503 no\r\ncontent-length: 0\r\n\r\n".into(),
        b"HTTP/1.1 302 no\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".into(),
        b"HTTP/1.1 404 no\r\ncontent-length: 0\r\n\r\n".into(),
        Vec::new(),
        b"HTTP/1.1 200 OK\r\ncontent-type: text/javascript\r\ncontent-length: 99\r\n\r\nlet".into(),
        ok("text/html", "", "<html>").into_bytes(),
        ok("text/javascript", "", " <!doctype html>").into_bytes(),
        ok("text/javascript", "", &"a".repeat(300 << 10)).into_bytes(),
    ];
    for illness in illnesses {
        cdn.reply(illness.clone());
        let before = cdn.asked().len();
        // Each is tried several times, so that what it did would be seen.
        eventually(|| {
            assert_eq!(
                get(&gateway, TAG, &[]).body,
                SERVED,
                "{:?}",
                &illness[..illness.len().min(99)]
            );
            let asked = cdn.asked().len() - before;
            if asked >= 3 { Ok(()) } else { Err(format!("asked {asked} times")) }
        })
        .await;
    }
    assert!(cdn.asked().last().unwrap().contains("if-none-match: \"one\""));
    cdn.script("let recovered = 1");
    eventually(|| match get(&gateway, TAG, &[]).body {
        body if body == "let recovered = 1" => Ok(()),
        body => Err(body),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_had_is_refused_and_no_path_leads_elsewhere() {
    let cdn = Cdn::start();
    cdn.reply(ok("text/html", "", "<html>"));
    let gateway = Gateway::start(&settings(&cdn, "retry = \"1h\"")).await;
    for _ in 0..5 {
        assert_eq!(get(&gateway, TAG, &[]).status, 502);
    }
    assert_eq!(cdn.asked().len(), 1, "left alone after a failure");
    for path in [
        "/ga4/../gtag/js",
        "/ga4//evil.example/gtag/js",
        "/ga4/gtag/js/..",
        "/ga4/%2e%2e/gtag/js",
        "/ga4/gtag%2fjs",
        "/ga4/@evil.example",
        "/ga4/gtag/js?id=a%0d%0ab",
        "/ga4/gtag/js?id=//evil",
    ] {
        assert_eq!(get(&gateway, path, &[]).status, 404, "{path}");
    }
    assert_eq!(cdn.asked().len(), 1);
    drop(gateway);
    let private =
        settings(&cdn, "").replace("[scripts]", "[egress]\nallow_private = false\n[scripts]");
    let guarded = Gateway::start(&private).await;
    assert_eq!(get(&guarded, TAG, &[]).status, 502);
    assert_eq!(cdn.asked().len(), 1);
}

/// What pages load of each vendor that has a shim.
const ENTRIES: [(&str, &str); 8] = [
    ("ga4", "/gtag/js?id=G-1"),
    ("meta", "/en_US/fbevents.js"),
    ("mixpanel", "/libs/mixpanel-2-latest.min.js"),
    ("amplitude", "/libs/analytics-browser-2.11.1-min.js.gz"),
    ("segment", "/analytics.js/v1/KEY/analytics.min.js"),
    ("posthog", "/static/array.js"),
    ("intercom", "/widget/app"),
    ("drift", "/include/1700000000000/app.js"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_stands_in_for_each_vendors_script_by_default() {
    let gateway = Gateway::start(&format!("{NO_RATES}{SITE}")).await;
    for (vendor, path) in ENTRIES {
        let path = format!("/{vendor}{path}");
        let answer = get(&gateway, &path, &[("origin", "https://elsewhere.example")]);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("text/javascript; charset=utf-8"));
        assert_eq!(
            answer.header("cache-control").unwrap(),
            "public, max-age=300, stale-while-revalidate=86400"
        );
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(answer.header("set-cookie"), None);
        assert!(answer.body.starts_with("if(!(window.tagway&&window.tagway.loaded)){"), "{path}");
        assert!(answer.body.contains(&format!("tagway.loaded.{vendor}=1;")), "{path}");
        assert!(!answer.body.contains("\"page\":true"), "its own calls say which pages are opened");
        let packed = get(&gateway, &path, &[("accept-encoding", "gzip, br")]);
        assert_eq!(packed.header("content-encoding"), Some("br"), "{path}");
        let tag = answer.header("etag").unwrap();
        let again = get(&gateway, &path, &[("if-none-match", tag)]);
        assert_eq!((again.status, again.header("etag")), (304, Some(tag)), "{path}");
        let head = tokio::task::block_in_place(|| send(gateway.http, ("HEAD", &path), &[], b""));
        assert_eq!((head.as_ref().unwrap().status, head.unwrap().body.as_str()), (200, ""));
        let post = tokio::task::block_in_place(|| send(gateway.http, ("POST", &path), &[], b""));
        assert_eq!(post.unwrap().status, 405, "{path}");
    }
    let (one, other) = (
        "/segment/analytics.js/v1/A/analytics.min.js",
        "/segment/analytics.js/v1/B/analytics.min.js",
    );
    assert_eq!(get(&gateway, one, &[]).header("etag"), get(&gateway, other, &[]).header("etag"));
    // Parts of the vendors' own libraries, scripts that no shim replaces, vendors without a shim.
    for path in [
        "/ga4/gtm.js?id=GTM-1",
        "/ga4/gtag/../gtag/js",
        "/meta/signals/config/1",
        "/mixpanel/libs/mixpanel-recorder.min.js",
        "/segment/analytics-next/bundles/a.js",
        "/posthog/static/recorder.js",
        "/umami/script.js",
        "/matomo/matomo.js",
    ] {
        assert_eq!(get(&gateway, path, &[]).status, 404, "{path}");
    }
    let metrics = admin_get(gateway.admin, "/metrics").unwrap().body;
    for line in [
        "tagway_script_requests_total{vendor=\"meta\",result=\"shim\"} 3",
        "tagway_script_requests_total{vendor=\"meta\",result=\"unchanged\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_chooses_what_is_under_the_paths_of_scripts() {
    let cdn = Cdn::start();
    cdn.script("let own = 1;");
    let endpoint = format!("script_endpoint = \"http://{}\"\n", cdn.address);
    let settings = format!(
        "{NO_RATES}{SITE}[[sites.destinations]]\nname = \"mixpanel\"\nvendor = \"mixpanel\"\n\
         mode = \"client\"\n[sites.destinations.settings]\nproject_token = \"token\"\n\
         [sites.vendors.mixpanel]\n{endpoint}[sites.vendors.ga4]\nscripts = \"off\"\n\
         [sites.vendors.umami]\nscripts = \"proxy\"\n{endpoint}\
         [sites.vendors.posthog]\nmount = \"/\"\n[sites.vendors.drift]\nmount = \"/\"\n"
    );
    let gateway = Gateway::start(&settings).await;
    for path in ["/mixpanel/libs/mixpanel-2-latest.min.js", "/umami/script.js"] {
        assert_eq!(get(&gateway, path, &[]).body, "let own = 1;", "{path}");
    }
    assert_eq!(get(&gateway, TAG, &[]).status, 404);
    for path in ["/static/array.js", "/include/1/app.js"] {
        assert!(get(&gateway, path, &[]).body.contains("window.tagway"), "{path}");
    }
    // Beside scripts, beacons are what they were.
    assert!(get(&gateway, "/array/token/config.js", &[]).body.contains("_POSTHOG_REMOTE_CONFIG"));
    assert_ne!(get(&gateway, "/ga4/g/collect?v=1", &[]).status, 404);
}
