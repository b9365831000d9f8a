//! Events that wait for their visitor's identity, with the real program: they are sent with the identity
//! once it is known, without it after the deadline, and exactly once despite restarts and crashes.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tagway_core::clock::{Clock as _, SystemClock};
use tagway_simulator::vendors::{SimulatorKind, VendorSimulator};

use crate::harness::{
    NO_RATES, Process, TAGWAY, batch, eventually, ledger, send, vendor, webhook_site,
};

/// SHA-256 of `u1@shop.example`.
const ADDRESS: &str = "01a8e2a67a4511c9af6e36f62cc505833cfa4fe34b3aac75c1fba72c33a3770c";

fn settings(webhook: &VendorSimulator, meta: &VendorSimulator, hold: &str) -> String {
    let more = format!("identity_wait = \"{hold}\"");
    let key = "write_key = \"shop-web\"\n";
    let site =
        webhook_site(webhook.address(), &more).replace(key, &format!("{key}bots = \"pass\"\n"));
    let meta = meta.address();
    format!(
        r#"{NO_RATES}{site}
[[sites.destinations]]
name = "meta"
vendor = "meta"
endpoint = "http://{meta}"
identity_wait = "{hold}"
events = ["Order Completed"]
[sites.destinations.settings]
pixel_id = "1"
access_token = "t"
currency = "EUR"
"#
    )
}

/// An event of a visitor, dated one hour ago.
fn event(kind: &str, id: &str, visitor: &str) -> Value {
    json!({
        "type": kind, "event": "Order Completed", "messageId": id, "anonymousId": visitor,
        "timestamp": SystemClock.now() - jiff::SignedDuration::from_hours(1),
        "properties": { "order_id": id, "total": 10, "currency": "EUR",
            "products": [{ "product_id": "p1", "price": 10 }] },
        "context": { "userAgent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0.0.0 Safari/537.36",
            "page": { "url": "https://shop.example/thanks" } },
    })
}

fn post(process: &Process, events: &[Value]) {
    let body = batch(events);
    let answer = send(process.http, ("POST", "/v1/batch"), &[], body.as_bytes());
    assert_eq!(answer.unwrap().status, 200);
}

async fn becomes(process: &Process, destination: &str, (delivered, pending): (u64, u64)) {
    eventually(|| {
        let row = ledger(process.admin).into_iter().find(|row| row.destination == destination);
        let row = row.unwrap();
        let is_so = row.delivered == delivered && row.pending + row.held == pending;
        if is_so { Ok(()) } else { Err(format!("{row:?}")) }
    })
    .await;
}

/// The events that the webhook received, in order.
fn received(webhook: &VendorSimulator) -> Vec<Value> {
    let seen = webhook.tally().seen;
    let batches = seen.iter().map(|seen| serde_json::from_slice::<Value>(&seen.body).unwrap());
    batches.flat_map(|batch| batch.as_array().unwrap().clone()).collect()
}

fn start(folder: &Path, settings: &str) -> Process {
    Process::start(&folder.join("data"), &folder.join("tagway.toml"), settings)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_of_a_later_login_is_delivered_once_with_the_identity() {
    let (webhook, meta) = (vendor(SimulatorKind::Webhook).await, vendor(SimulatorKind::Meta).await);
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&webhook, &meta, "10m");
    let process = start(folder.path(), &settings);
    post(
        &process,
        &[event("page", "p1", "a"), event("track", "o1", "a"), event("track", "o2", "b")],
    );
    becomes(&process, "webhook", (0, 3)).await;
    becomes(&process, "meta", (0, 2)).await;
    process.kill();
    let process = start(folder.path(), &settings);
    becomes(&process, "webhook", (0, 3)).await;
    let mut signed_in = event("identify", "i1", "a");
    signed_in["userId"] = json!("u1");
    signed_in["traits"] = json!({ "email": "u1@shop.example" });
    post(&process, &[signed_in]);
    becomes(&process, "webhook", (3, 1)).await;
    becomes(&process, "meta", (1, 1)).await;
    let received = received(&webhook);
    let ids: Vec<_> = received.iter().map(|event| event["messageId"].as_str().unwrap()).collect();
    assert_eq!(ids, ["p1", "o1", "i1"], "in the visitor's order");
    for event in &received {
        assert_eq!(event["profile"]["userId"], "u1", "{event}");
        assert_eq!(event["profile"]["traits"]["email"], "u1@shop.example", "{event}");
    }
    let at: jiff::Timestamp = received[1]["timestamp"].as_str().unwrap().parse().unwrap();
    let age = SystemClock.now().duration_since(at);
    assert!(age >= jiff::SignedDuration::from_hours(1), "as of its own time: {age:?}");
    let tally = meta.tally();
    assert_eq!(tally.objections, Vec::<String>::new());
    let [seen] = &tally.seen[..] else { panic!("{} calls", tally.seen.len()) };
    let body = String::from_utf8_lossy(&seen.body);
    assert!(body.contains(ADDRESS) && body.contains("o1"), "{body}");
    assert!(process.terminate().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_of_an_unknown_visitor_is_delivered_after_the_deadline() {
    let (webhook, meta) = (vendor(SimulatorKind::Webhook).await, vendor(SimulatorKind::Meta).await);
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&webhook, &meta, "3s");
    let process = start(folder.path(), &settings);
    post(&process, &[event("page", "p1", "a"), event("track", "o1", "a")]);
    becomes(&process, "webhook", (0, 2)).await;
    assert_eq!(received(&webhook), Vec::<Value>::new());
    process.kill();
    let process = start(folder.path(), &settings);
    becomes(&process, "webhook", (2, 0)).await;
    let received = received(&webhook);
    let ids: Vec<_> = received.iter().map(|event| event["messageId"].as_str().unwrap()).collect();
    assert_eq!(ids, ["p1", "o1"]);
    assert!(received.iter().all(|event| event.get("profile").is_none()), "{received:?}");
    assert!(process.terminate().success());
}

#[test]
fn hold_longer_than_the_vendor_accepts_is_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tagway.toml");
    let destination = |name: &str, more: &str| {
        format!("[[sites.destinations]]\nname = \"{name}\"\nvendor = \"{name}\"\n{more}\n")
    };
    let text = [
        crate::harness::SITE.to_owned(),
        destination(
            "ga4",
            "identity_wait = \"37h\"\nsettings = { measurement_id = \"G-A1\", api_secret = \"s\" }",
        ),
        destination(
            "meta",
            "identity_wait = \"80h\"\nsettings = { pixel_id = \"1\", access_token = \"t\" }",
        ),
        destination("console", "identity_wait = \"11m\"\nmax_age = \"20m\""),
    ];
    fs::write(&file, text.concat()).unwrap();
    let output = Command::new(TAGWAY).args(["check", "--config"]).arg(&file).output().unwrap();
    let printed = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{printed}");
    let named = |index: usize| printed.contains(&format!("destinations[{index}].identity_wait"));
    assert_eq!([named(0), named(1), named(2)], [true, false, true], "{printed}");
    assert!(printed.contains("must be at most 36h, half the age"), "{printed}");
}
