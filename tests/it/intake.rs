//! Beacons of browsers, pixels and servers.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tagway_simulator::vendors::SimulatorKind;

use crate::harness::{Gateway, SITE, batch, raw, send, track, vendor, webhook_site};

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
