//! Deliveries to vendors that work, fail, and misbehave.

use std::time::Duration;

use serde_json::{Value, json};
use tagway_simulator::vendors::{SimulatedFault, SimulatorKind, VendorSimulator};
use tokio::time::Instant;

use crate::harness::{
    DEADLINE, Gateway, NO_RATES, Row, eventually, ledger, track, vendor, webhook_site,
};

fn with_ga4(webhook: &VendorSimulator, ga4: &VendorSimulator) -> String {
    let address = ga4.address();
    let site = webhook_site(webhook.address(), "timeout = \"300ms\"");
    format!(
        r#"{NO_RATES}{site}
[[sites.destinations]]
name = "ga4"
vendor = "ga4"
endpoint = "http://{address}"
timeout = "300ms"
[sites.destinations.retry]
min_wait = "5ms"
max_wait = "50ms"
[sites.destinations.settings]
measurement_id = "G-ABC123"
api_secret = "hush"
"#
    )
}

fn orders(prefix: &str, count: usize) -> Vec<serde_json::Value> {
    (0..count).map(|n| track(&format!("{prefix}{n}"), "Order Completed")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_reaches_every_destination_once_in_the_vendors_format() {
    let (webhook, ga4) = (vendor(SimulatorKind::Webhook).await, vendor(SimulatorKind::Ga4).await);
    let gateway = Gateway::start(&with_ga4(&webhook, &ga4)).await;
    gateway.accept(&orders("o", 40)).await;
    gateway.accept(&orders("o", 40)).await;
    let rows = gateway.settled(40).await;
    for (row, vendor) in rows.iter().zip([&ga4, &webhook]) {
        assert_eq!((row.accepted, row.delivered), (40, 40), "{row:?}");
        let tally = vendor.tally();
        assert_eq!(tally.objections, Vec::<String>::new());
        assert_eq!(tally.events.len(), 40);
        assert!(tally.events.values().all(|times| *times == 1), "{:?}", tally.events);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vendor_faults_lose_no_event() {
    let faults = [
        SimulatedFault::Status(503),
        SimulatedFault::Status(500),
        SimulatedFault::RetryAfter(429, 0),
        SimulatedFault::Hang,
        SimulatedFault::ResetAfter(0),
        SimulatedFault::ResetAfter(10),
        SimulatedFault::Trickle,
        SimulatedFault::HugeBody(503),
    ];
    for fault in faults {
        let (webhook, ga4) =
            (vendor(SimulatorKind::Webhook).await, vendor(SimulatorKind::Ga4).await);
        webhook.add_faults(3, fault);
        ga4.add_faults(3, fault);
        let gateway = Gateway::start(&with_ga4(&webhook, &ga4)).await;
        gateway.accept(&orders("f", 30)).await;
        let rows = gateway.settled(30).await;
        for (row, vendor) in rows.iter().zip([&ga4, &webhook]) {
            assert_eq!(row.delivered, 30, "{fault:?}: {row:?}");
            let tally = vendor.tally();
            assert!(tally.requests >= 4, "{fault:?} was not met: {}", tally.requests);
            assert_eq!(tally.events.len(), 30, "{fault:?}");
            assert!(tally.events.values().all(|times| *times == 1), "{fault:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepted_event_with_an_endless_reply_is_not_sent_again() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    webhook.set_fault(Some(SimulatedFault::HugeBody(200)));
    let gateway = Gateway::start(&webhook_site(webhook.address(), "")).await;
    gateway.accept(&orders("b", 5)).await;
    assert_eq!(gateway.settled(5).await[0].delivered, 5);
    assert!(
        webhook.tally().events.values().all(|times| *times == 1),
        "{:?}",
        webhook.tally().events
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_after_is_respected() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    webhook.add_faults(1, SimulatedFault::RetryAfter(429, 1));
    let gateway = Gateway::start(&webhook_site(webhook.address(), "")).await;
    let started = Instant::now();
    gateway.accept(&orders("r", 1)).await;
    gateway.settled(1).await;
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(webhook.tally().requests, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging_vendor_slows_neither_intake_nor_other_destinations() {
    let (webhook, ga4) = (vendor(SimulatorKind::Webhook).await, vendor(SimulatorKind::Ga4).await);
    webhook.set_fault(Some(SimulatedFault::Hang));
    let gateway = Gateway::start(&with_ga4(&webhook, &ga4)).await;
    for round in 0..20 {
        gateway.accept(&orders(&format!("h{round}-"), 50)).await;
    }
    ga4.wait_for(DEADLINE, |tally| tally.accepted == 1000).await.expect("all of them at ga4");
    let of_webhook = |rows: Vec<Row>| rows.into_iter().find(|row| row.destination == "webhook");
    assert_eq!(of_webhook(ledger(gateway.admin)).unwrap().pending, 1000);
    webhook.set_fault(None);
    assert_eq!(of_webhook(gateway.settled(1000).await).unwrap().delivered, 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_credentials_hold_events_until_corrected() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    webhook.set_fault(Some(SimulatedFault::Status(401)));
    let gateway =
        Gateway::start(&webhook_site(webhook.address(), "auth_retry_interval = \"50ms\"")).await;
    gateway.accept(&orders("a", 10)).await;
    eventually(|| {
        let rows = ledger(gateway.admin);
        if rows[0].state == "unauthorised" { Ok(()) } else { Err(format!("{rows:?}")) }
    })
    .await;
    assert_eq!(ledger(gateway.admin)[0].pending, 10, "none is burnt");
    webhook.set_fault(None);
    assert_eq!(gateway.settled(10).await[0].delivered, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traits_of_a_visitor_are_sent_with_later_events() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let gateway = Gateway::start(&webhook_site(webhook.address(), "")).await;
    let identify = json!({ "type": "identify", "messageId": "i1", "anonymousId": "a1",
        "userId": "u1", "traits": { "plan": "pro" } });
    let later = json!({ "type": "track", "event": "Clicked", "messageId": "t1",
        "anonymousId": "a1" });
    gateway.accept(&[identify]).await;
    gateway.accept(&[later]).await;
    gateway.settled(2).await;
    let seen = webhook.tally().seen;
    let last: serde_json::Value = serde_json::from_slice(&seen.last().unwrap().body).unwrap();
    let event = last.as_array().unwrap().last().unwrap();
    assert_eq!(event["messageId"], "t1");
    assert_eq!(event["profile"], json!({ "userId": "u1", "traits": { "plan": "pro" } }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn person_is_identified_by_every_linked_id() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let token = "one-of-our-servers";
    let key = "write_key = \"shop-web\"\n";
    let settings = webhook_site(webhook.address(), "")
        .replace(key, &format!("{key}server_token = \"{token}\"\n"));
    let gateway = Gateway::start(&settings).await;
    let google = json!({ "clientIds": { "ga4": { "client_id": "5.6" } } });
    let message = |id: &str, members: Value| {
        let mut message = json!({ "type": "track", "event": "Seen", "messageId": id });
        message.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        message
    };
    let messages = [
        // Another client's id for the same browser, before its user is known.
        message("m1", json!({ "anonymousId": "cid", "context": google })),
        message("m2", json!({ "anonymousId": "a1", "context": google })),
        message(
            "m3",
            json!({ "type": "identify", "userId": "u1", "anonymousId": "a1",
            "traits": { "email": "Jo@x.example", "plan": "pro" } }),
        ),
        message("m4", json!({ "anonymousId": "cid" })),
        message(
            "m5",
            json!({ "anonymousId": "phone",
            "context": { "traits": { "email": "jo@x.example" } } }),
        ),
        // In a browser anyone can name any address; only a server is trusted.
        message(
            "m6",
            json!({ "anonymousId": "phone",
            "context": { "traits": { "email": "jo@x.example" } } }),
        ),
        message("m7", json!({ "anonymousId": "phone" })),
        // Another user at the browser.
        message("m8", json!({ "userId": "u2", "anonymousId": "a1", "context": google })),
        message("m9", json!({ "anonymousId": "cid", "context": google })),
    ];
    for (before, message) in (1..).zip(messages) {
        if message["messageId"] == "m6" {
            let text = json!({ "writeKey": token, "batch": [message] }).to_string();
            assert_eq!(gateway.post("/v1/batch", &[], text.as_bytes()).await.status, 200);
        } else {
            gateway.accept(&[message]).await;
        }
        // An event still under way would already use the identity of the next one.
        gateway.settled(before).await;
    }
    let bodies = webhook.tally().seen;
    let events = bodies.iter().flat_map(|seen| {
        let batch: Value = serde_json::from_slice(&seen.body).unwrap();
        batch.as_array().unwrap().clone()
    });
    let user = |event: &Value| event["profile"]["userId"].as_str().unwrap_or("nobody").to_owned();
    let users: std::collections::BTreeMap<String, String> = events
        .map(|event| (event["messageId"].as_str().unwrap().to_owned(), user(&event)))
        .collect();
    let users: Vec<&str> = users.values().map(String::as_str).collect();
    assert_eq!(users, ["nobody", "nobody", "u1", "u1", "nobody", "u1", "u1", "u2", "u2"]);
}
