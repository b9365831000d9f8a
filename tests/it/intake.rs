//! Beacons of browsers, pixels and servers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tagway_simulator::vendors::SimulatorKind;

use crate::harness::{
    DEADLINE, Gateway, NO_RATES, SITE, admin_get, batch, eventually, ledger, raw, send, track,
    vendor, webhook_site,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_intake_route_leads_to_the_destination() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let gateway = Gateway::start(&webhook_site(webhook.address(), "")).await;
    let basic = format!("Basic {}", STANDARD.encode("shop-web:"));
    let one = |id: &str| json!({ "event": "Clicked", "messageId": id, "userId": "u" }).to_string();
    for (index, path) in ["/v1/track", "/v1/t"].into_iter().enumerate() {
        let body = one(&format!("basic{index}"));
        let answer = gateway.post(path, &[("authorization", &basic)], body.as_bytes()).await;
        assert_eq!((answer.status, &*answer.body), (200, "{\"success\":true}"), "{path}");
    }
    let sdk = json!({ "type": "page", "messageId": "sdk", "writeKey": "shop-web" }).to_string();
    let origin = [("origin", "https://shop.example"), ("content-type", "text/plain")];
    let answer = gateway.post("/e", &origin, sdk.as_bytes()).await;
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://shop.example"));
    assert!(answer.header("set-cookie").unwrap().starts_with("_tw="), "{answer:?}");
    let pixel = "/px.gif?event=Mail%20Opened&writeKey=shop-web&messageId=pixel";
    let answer = send(gateway.http, ("GET", pixel), &[], b"").unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("image/gif")));
    gateway.settled(4).await;
    let mut ids: Vec<String> = webhook.tally().events.into_keys().collect();
    ids.sort();
    assert_eq!(ids, ["basic0", "basic1", "pixel", "sdk"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_batches_are_read_and_bombs_rejected() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let gateway = Gateway::start(&webhook_site(webhook.address(), "")).await;
    let gzip = |bytes: &[u8]| {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    };
    let body = batch(&[track("z1", "Clicked")]);
    let encoded = [("content-encoding", "gzip")];
    assert_eq!(gateway.post("/v1/batch", &encoded, &gzip(body.as_bytes())).await.status, 200);
    let bomb = gzip(&vec![b' '; 100 << 20]);
    assert!(bomb.len() < 1 << 20, "it passes the limit of the body as sent");
    let answer = gateway.post("/v1/batch", &encoded, &bomb).await;
    assert_eq!(answer.status, 413, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(gateway.settled(1).await[0].accepted, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_message_does_not_reject_the_good_ones() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let gateway = Gateway::start(&webhook_site(webhook.address(), "")).await;
    let bad = json!({ "type": "track", "messageId": "bad", "userId": "u" });
    let body = batch(&[track("good1", "Clicked"), bad, track("good2", "Clicked")]);
    let answer = gateway.post("/v1/batch", &[], body.as_bytes()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let named = answer.json().to_string();
    assert!(named.contains('1') && named.contains("event"), "{named}");
    gateway.settled(2).await;
    assert_eq!(webhook.tally().events.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejected_requests_get_their_status_and_a_problem() {
    let gateway = Gateway::start(SITE).await;
    let body = batch(&[track("x", "Clicked")]);
    let wrong_key = body.replace("shop-web", "other");
    let plain = ("x-nothing", "1");
    let cases = [
        ("/v1/batch", plain, &*wrong_key, 401),
        ("/e", ("origin", "https://evil.example"), &body, 403),
        ("/v1/batch", plain, "{", 400),
        ("/nothing", plain, &body, 404),
        ("/v1/batch", ("content-encoding", "lzma"), &body, 415),
    ];
    for (path, field, body, status) in cases {
        let answer = gateway.post(path, &[field], body.as_bytes()).await;
        assert_eq!(answer.status, status, "{path} {field:?}: {answer:?}");
        assert!(!answer.head.contains("evil.example"), "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
    }
    let answer = raw(gateway.http, b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n").unwrap();
    assert_eq!(answer.status, 400, "HTTP/1.1 without a host: {answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttled_client_gets_retry_after() {
    let settings = format!("[limits]\nclient_per_second = 1\nclient_burst = 3\n{SITE}");
    let gateway = Gateway::start(&settings).await;
    let mut refused = None;
    for n in 0..5 {
        let body = batch(&[track(&format!("m{n}"), "Clicked")]);
        let answer = gateway.post("/v1/batch", &[], body.as_bytes()).await;
        assert!(matches!(answer.status, 200 | 429), "{answer:?}");
        refused = Some(answer).filter(|answer| answer.status == 429).or(refused);
    }
    let refused = refused.expect("the fourth is one too many");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert!(refused.header("ratelimit").is_some(), "{refused:?}");
    assert!(refused.header("ratelimit-policy").is_some(), "{refused:?}");
}

/// Sends requests on one connection while its answers are read; returns them all as text.
fn exchange(gateway: &Gateway, requests: &[u8]) -> String {
    let mut stream = TcpStream::connect(gateway.http).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let reading = thread::spawn(move || {
        let mut answers = Vec::new();
        // A connection that is closed early may end with a reset, behind the answer.
        reader.read_to_end(&mut answers).ok();
        String::from_utf8_lossy(&answers).into_owned()
    });
    stream.write_all(requests).ok();
    reading.join().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_is_usable_or_closed_after_a_body_that_is_too_large() {
    let gateway = Gateway::start(SITE).await;
    let get = b"GET /tw.js HTTP/1.1\r\nhost: t.shop.example\r\nconnection: close\r\n\r\n";
    for (bytes, stays) in [(2 << 20, true), (9 << 20, false)] {
        for path in ["/v1/batch", "/e", "/posthog/batch", "/mixpanel/track", "/nothing"] {
            let body = vec![b'x'; bytes];
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: t.shop.example\r\ncontent-length: {bytes}\r\n\r\n"
            );
            let requests = [head.as_bytes(), &body, get].concat();
            let answers = tokio::task::block_in_place(|| exchange(&gateway, &requests));
            let (first, rest) = answers.split_once("\r\n\r\n").expect(&answers);
            let code = if path == "/nothing" { "404" } else { "413" };
            assert_eq!(first.split(' ').nth(1), Some(code), "{path} {bytes}: {answers}");
            let is_closed = first.to_ascii_lowercase().contains("connection: close");
            assert_eq!(is_closed, !stays, "{path} {bytes}: {first}");
            assert_eq!(rest.contains("HTTP/1.1 200 OK"), stays, "{path} {bytes}: {answers}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_clients_that_close_at_once_are_counted_where_they_are_durable() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let gateway = format!("{NO_RATES}{}", webhook_site(webhook.address(), ""));
    let gateway = Gateway::start(&gateway).await;
    tokio::task::block_in_place(|| {
        for number in 0..200 {
            let body = batch(&[track(&format!("hasty-{number}"), "Clicked")]);
            let mut stream = TcpStream::connect(gateway.http).unwrap();
            let head = "POST /v1/batch HTTP/1.1\r\nhost: t.shop.example\r\ncontent-length:";
            write!(stream, "{head} {}\r\n\r\n{body}", body.len()).unwrap();
        }
    });
    gateway.accept(&[track("last", "Clicked")]).await;
    eventually(|| {
        let row = ledger(gateway.admin).remove(0);
        let metrics = admin_get(gateway.admin, "/metrics").unwrap().body;
        let counted: u64 = metrics
            .lines()
            .filter(|line| line.starts_with("tagway_events_accepted_total{"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum();
        let heard = webhook.tally().events;
        let is_whole = row.accepted > 1 && heard.contains_key("last") && row.pending == 0;
        let are_same = [row.accepted, row.delivered, heard.len() as u64] == [counted; 3];
        match is_whole && are_same {
            true => Ok(()),
            false => Err(format!("{row:?}, counted {counted}, heard {}", heard.len())),
        }
    })
    .await;
}
