//! Requests of batches and outcomes of replies. The wire form has fixtures under
//! `tests/fixtures/vendors/webhook`.

use serde_json::json;

use super::*;
use crate::test_support::{self, CannedReplies};

fn read(settings: &str) -> (WebhookSettings, Vec<String>) {
    test_support::read(settings, |section| WebhookSettings::read(section, None))
}

fn webhook(settings: &str) -> WebhookDestination {
    WebhookDestination {
        settings: test_support::settings(settings, |section| WebhookSettings::read(section, None)),
    }
}

fn event(message_id: &str) -> EnrichedEvent {
    test_support::event(json!({ "event": "Clicked", "messageId": message_id }))
}

async fn deliver(
    settings: &str,
    batch: &[EnrichedEvent],
    status: u16,
) -> (Outcome, Request<Bytes>) {
    let line = CannedReplies::statuses(&[status]);
    let outcomes = webhook(settings).deliver(batch, &line).await;
    assert_eq!(outcomes.len(), batch.len());
    let request = line.requests().remove(0);
    (outcomes[0].clone(), request)
}

#[tokio::test]
async fn webhook_id_depends_on_message_ids_and_their_order() {
    let id = async |ids: &[&str]| {
        let batch: Vec<_> = ids.iter().map(|id| event(id)).collect();
        let (_, request) = deliver("url = \"https://hook.example/in\"", &batch, 200).await;
        request.headers()["webhook-id"].to_str().unwrap().to_owned()
    };
    assert_eq!(id(&["a", "b"]).await, id(&["a", "b"]).await);
    assert_ne!(id(&["a", "b"]).await, id(&["ab"]).await);
    assert_ne!(id(&["a", "b"]).await, id(&["b", "a"]).await);
}

#[tokio::test]
async fn every_key_signs_and_no_key_sends_no_signature() {
    let batch = [event("m")];
    let settings = "url = \"https://hook.example/in\"\nsecret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\nprevious_secrets = [\"an older one\"]";
    let (_, request) = deliver(settings, &batch, 200).await;
    let signatures = request.headers()["webhook-signature"].to_str().unwrap();
    assert_eq!(signatures.split(' ').filter(|one| one.starts_with("v1,")).count(), 2);
    let (_, request) = deliver("url = \"https://hook.example/in\"", &batch, 200).await;
    assert!(!request.headers().contains_key("webhook-signature"));
}

#[tokio::test]
async fn profile_is_sent_if_the_person_is_known() {
    let known =
        test_support::known(json!({ "event": "Clicked" }), Some("u1"), json!({ "plan": "pro" }));
    let batch = [known, event("m2")];
    let (_, request) = deliver("url = \"https://hook.example/in\"", &batch, 200).await;
    let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
    assert_eq!(body[0]["profile"], json!({ "userId": "u1", "traits": { "plan": "pro" } }));
    assert_eq!(body[1].get("profile"), None);
    assert_eq!(body[1]["messageId"], "m2");
}

#[tokio::test]
async fn reply_status_decides_the_outcome() {
    let batch = [event("m")];
    for (status, expected) in [
        (200, "Delivered"),
        (204, "Delivered"),
        (301, "Refused"),
        (400, "Refused"),
        (401, "Unauthorised"),
        (410, "Unauthorised"),
        (429, "Retry"),
        (502, "Retry"),
    ] {
        let (outcome, _) = deliver("url = \"https://hook.example/in\"", &batch, status).await;
        assert!(format!("{outcome:?}").starts_with(expected), "{status}: {outcome:?}");
    }
}

#[test]
fn invalid_settings_are_reported() {
    for (settings, expected) in [
        ("", "is required"),
        ("url = \"ftp://hook.example\"", "http or https"),
        ("url = \"https://me:secret@hook.example\"", "user name"),
        ("url = \"https://hook.example\"\nsecret = \"whsec_c2hvcnQ=\"", "24 to 64 bytes"),
        ("url = \"https://hook.example\"\nheaders = { Host = \"a\" }", "\"Host\" is set by"),
        ("url = \"https://hook.example\"\nheaders = { \"webhook-id\" = \"a\" }", "is set by"),
        ("url = \"https://hook.example\"\nheaders = { \"a b\" = \"a\" }", "not a header name"),
        ("url = \"https://hook.example\"\nheaders = { a = \"b\\nc\" }", "not valid in a header"),
    ] {
        let (_, mistakes) = read(settings);
        let [mistake] = mistakes.as_slice() else { panic!("{settings}: {mistakes:?}") };
        assert!(mistake.contains(expected), "{settings}: {mistake}");
    }
}

#[test]
fn keys_and_header_values_are_secrets() {
    let hook = webhook(
        "url = \"https://hook.example\"\nsecret = \"signing\"\nheaders = { authorization = \"Bearer abc\" }",
    );
    let secrets = hook.secrets();
    assert_eq!(secrets, [SecretString::new("signing"), SecretString::new("Bearer abc")]);
}
