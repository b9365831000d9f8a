//! Browser libraries that send to the gateway like to their vendors, each at its mount.

use serde_json::json;
use tagway_simulator::vendors::{SimulatorKind, WEBHOOK_SECRET};

use crate::harness::{Gateway, SITE, send, vendor, webhook_site};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segment_spec_and_snowplow_clients_are_accepted_and_answered() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let gateway = Gateway::start(&webhook_site(webhook.address(), "")).await;
    let message = |id: &str| {
        json!({ "type": "track", "event": "Clicked", "messageId": id, "userId": null,
                "anonymousId": "a1", "originalTimestamp": "2026-11-23T11:49:15.865Z" })
    };
    let payloads = json!({
        "schema": "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4",
        "data": [{ "e": "pv", "eid": "snowplow", "duid": "a1", "url": "https://shop.example/" }],
    });
    let cases = [
        ("/segment/v1/t", message("segment"), "{\"success\":true}"),
        ("/segment/v1/b", json!({ "batch": [message("batch")] }), "{\"success\":true}"),
        ("/rudderstack/beacon/v1/batch?writeKey=k", json!({ "batch": [message("rudder")] }), "OK"),
        ("/jitsu/api/s/track", message("jitsu"), "{\"ok\":true}"),
        ("/snowplow/com.snowplowanalytics.snowplow/tp2", payloads, "ok"),
    ];
    let origin = [("origin", "https://shop.example"), ("content-type", "text/plain")];
    for (path, body, expected) in cases {
        let answer = gateway.post(path, &origin, body.to_string().as_bytes()).await;
        assert_eq!((answer.status, &*answer.body), (200, expected), "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://shop.example"));
    }
    let settings = "/segment/v1/projects/KEY/settings";
    let answer = send(gateway.http, ("GET", settings), &origin, b"").unwrap();
    let host = answer.json()["integrations"]["Segment.io"]["apiHost"].clone();
    assert!(host.as_str().unwrap().ends_with("/segment/v1"), "{host}");
    gateway.settled(5).await;
    let mut ids: Vec<String> = webhook.tally().events.into_keys().collect();
    ids.sort();
    assert_eq!(ids, ["batch", "jitsu", "rudder", "segment", "snowplow"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_of_two_tags_is_sent_once_to_each_vendor() {
    let (ga4, meta) = (vendor(SimulatorKind::Ga4).await, vendor(SimulatorKind::Meta).await);
    let webhook = vendor(SimulatorKind::Webhook).await;
    let destination = |name: &str, address: std::net::SocketAddr, more: &str, settings: &str| {
        format!(
            "[[sites.destinations]]\nname = \"{name}\"\nvendor = \"{name}\"\n{more}\n\
             [sites.destinations.settings]\n{settings}\n",
        )
        .replace("ENDPOINT", &format!("endpoint = \"http://{address}\""))
    };
    let settings = [
        SITE.to_owned(),
        "[sites.sdk]\nshims = [\"ga4\"]\n[sites.vendors.meta]\n".to_owned(),
        destination(
            "ga4",
            ga4.address(),
            "ENDPOINT",
            "measurement_id = \"G-1\"\napi_secret = \"s\"",
        ),
        destination("meta", meta.address(), "ENDPOINT", "pixel_id = \"1\"\naccess_token = \"t\""),
        destination(
            "webhook",
            webhook.address(),
            "tags = [\"meta\"]",
            &format!("url = \"http://{}/hook\"\nsecret = \"{WEBHOOK_SECRET}\"", webhook.address()),
        ),
    ];
    let gateway = Gateway::start(&settings.concat()).await;
    let product = json!({ "item_id": "p1", "item_name": "Mug", "price": 12.5, "quantity": 2 });
    let context = json!({ "page": { "url": "https://shop.example/" }, "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36" });
    let track = |shim: &str, event: &str, properties: serde_json::Value| {
        json!({ "type": "track", "event": event, "messageId": shim, "shim": shim,
            "anonymousId": "a1", "userId": "u1", "properties": properties, "context": context })
    };
    let batch = json!({ "writeKey": "shop-web", "batch": [
        track("ga4", "purchase", json!({ "transaction_id": "t9", "value": 25, "currency": "EUR",
            "items": [product] })),
        track("meta", "Purchase", json!({ "value": 25, "currency": "EUR", "content_ids": ["p1"] })),
        track("sdk", "Signed Up", json!({})),
    ] });
    let fields = [
        ("origin", "https://shop.example"),
        ("content-type", "text/plain"),
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36",
        ),
    ];
    let answer = gateway.post("/e", &fields, batch.to_string().as_bytes()).await;
    assert!(answer.status < 300, "{answer:?}");
    let rows = gateway.settled(3).await;
    for row in &rows {
        assert_eq!((row.delivered, row.skipped, row.dead), (2, 1, 0), "{rows:?}");
    }
    let mut ids: Vec<String> = webhook.tally().events.into_keys().collect();
    ids.sort();
    assert_eq!(ids, ["meta", "sdk"]);
    // A beacon of the vendor's own library counts as its tag's event.
    let page = "dl=https%3A%2F%2Fshop.example%2F";
    let beacon =
        format!("/meta/tr/?id=1&ev=Lead&eid=beacon&fbp=fb.1.1700000000000.1234567890&{page}");
    let answer = send(gateway.http, ("GET", &beacon), &fields[2..], b"").unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let rows = gateway.settled(4).await;
    let skipped = |name: &str| rows.iter().find(|row| row.destination == name).unwrap().skipped;
    assert_eq!((skipped("ga4"), skipped("meta"), skipped("webhook")), (2, 1, 1), "{rows:?}");
    assert_eq!(webhook.tally().events.len(), 3);
}
