//! Browser libraries that speak to the gateway as to their vendors, each at its mount.

use serde_json::json;
use tagway::demo::simulator::Kind;

use crate::harness::{Gateway, send, vendor, webhook_site};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_the_segment_spec_and_snowplow_are_heard_and_answered() {
    let webhook = vendor(Kind::Webhook).await;
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
    for (path, body, told) in cases {
        let answer = gateway.post(path, &origin, body.to_string().as_bytes()).await;
        assert_eq!((answer.status, &*answer.body), (200, told), "{path}");
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
