//! Effects of visitors' choices and sites' privacy settings, seen at the vendor.

use serde_json::{Value, json};
use tagway_simulator::vendors::SimulatorKind;

use crate::harness::{Gateway, batch, vendor, webhook_site};

fn event(id: &str, more: &Value) -> Value {
    let mut event = json!({ "type": "track", "event": "Seen", "messageId": id, "userId": id });
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusal_of_any_type_or_word_is_recognised() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let site = webhook_site(webhook.address(), "consent = [\"advertising\"]");
    let gateway = Gateway::start(&site).await;
    let answers = [
        ("granted", json!({ "categoryPreferences": { "Advertising": "granted" } })),
        ("one", json!({ "categoryPreferences": { "ADVERTISING": 1 } })),
        ("silent", json!({ "categoryPreferences": { "Advertising": null } })),
        ("word", json!({ "categoryPreferences": { "Advertising": "denied" } })),
        ("zero", json!({ "categoryPreferences": { "advertising": 0 } })),
        ("text", json!({ "categoryPreferences": { "advertising": "false" } })),
        ("all", json!("denied")),
        ("google", json!({ "google": { "ad_storage": "denied" } })),
    ];
    let mut sent = Vec::new();
    for (id, consent) in &answers {
        sent.push(event(id, &json!({ "context": { "consent": consent } })));
    }
    let answer = gateway.post("/v1/batch", &[], batch(&sent).as_bytes()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    gateway.settled(answers.len() as u64).await;
    let mut ids: Vec<String> = webhook.tally().events.into_keys().collect();
    ids.sort();
    assert_eq!(ids, ["granted", "one", "silent"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn personal_data_is_removed_at_every_depth() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let privacy = "[sites.privacy]\nanonymize_ip = true\ndeny_properties = [\"ssn\"]\n";
    let site = webhook_site(webhook.address(), "");
    let site =
        site.replacen("[[sites.destinations]]", &format!("{privacy}[[sites.destinations]]"), 1);
    let gateway = Gateway::start(&site).await;
    let url = "https://shop.example/a/jo%40mail.example/?next=%2Fb%3Fe%3Djo%2540mail.example#jo@mail.example";
    let all = json!({
        "context": { "ip": "203.0.113.77, 10.0.0.1", "page": { "url": url, "referrer": url },
                     "traits": { "ssn": "SECRET" } },
        "properties": { "url": url, "note": "call jo@mail.example", "client_ip": "203.0.113.77",
                        "products": [{ "sku": "1", "ssn": "SECRET" }] },
    });
    let answer = gateway.post("/v1/batch", &[], batch(&[event("m", &all)]).as_bytes()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    gateway.settled(1).await;
    let seen = webhook.tally().seen;
    let mut text = format!("{seen:?}");
    assert!(text.contains("203.0.113.0") && text.contains("sku"), "{text}");
    for _ in 0..4 {
        for secret in ["SECRET", "203.0.113.77", "jo@mail.example"] {
            assert!(!text.contains(secret), "{text}");
        }
        text = percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned();
    }
}
