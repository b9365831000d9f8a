//! The mapping of arbitrary events and the delivery of batches. Every rule of the mapping has a
//! fixture under `tests/fixtures/vendors/meta`.

use serde_json::{Value, json};

use super::*;
use crate::test_support::{self, CannedReplies, event, now};
use tagway_core::event::DroppedFields;

fn meta(settings: &str) -> MetaDestination {
    let text = format!("pixel_id = \"123\"\naccess_token = \"hush\"\n{settings}");
    MetaDestination {
        settings: test_support::settings(&text, |section| MetaSettings::read(section, None)),
    }
}

/// Returns an event with these fields, of a person whom Meta can match.
fn found(fields: Value) -> EnrichedEvent {
    let mut all =
        json!({ "event": "Clicked", "context": { "traits": { "email": "jo@x.example" } } });
    all.as_object_mut().unwrap().extend(test_support::object(fields));
    event(all)
}

fn error(code: i64) -> Value {
    json!({ "error": { "message": "no", "code": code } })
}

#[tokio::test]
async fn a_batch_is_one_request() {
    let batch: Vec<EnrichedEvent> =
        (0..3).map(|n| found(json!({ "messageId": format!("m{n}") }))).collect();
    let line = CannedReplies::default().then(200, json!({ "events_received": 3 }));
    let outcomes = meta("test_event_code = \"TEST\\\"1\"").deliver(&batch, &line).await;
    assert_eq!(outcomes, vec![Outcome::Delivered; 3]);
    let requests = line.requests();
    let [request] = requests.as_slice() else { panic!("{requests:?}") };
    assert_eq!(request.uri(), "https://graph.facebook.com/v25.0/123/events");
    assert_eq!(request.headers()["authorization"], "Bearer hush");
    let body: Value = serde_json::from_slice(request.body()).unwrap();
    assert_eq!(body["data"].as_array().unwrap().len(), 3);
    assert_eq!(body["data"][2]["event_id"], "m2");
    assert_eq!(body["test_event_code"], "TEST\"1");
    assert_eq!(body["partner_agent"], "tagway");
    assert!(!body.to_string().contains("jo@"), "an address goes as a digest");
}

#[tokio::test]
async fn retry_sends_the_same_bytes() {
    let batch = [found(json!({ "properties": { "b": 1, "a": 2 } }))];
    let line = CannedReplies::statuses(&[503, 200]);
    let meta = meta("");
    assert!(matches!(meta.deliver(&batch, &line).await[0], Outcome::Retry { .. }));
    assert_eq!(meta.deliver(&batch, &line).await, [Outcome::Delivered]);
    let requests = line.requests();
    assert_eq!(requests[0].body(), requests[1].body());
}

#[tokio::test]
async fn large_batch_is_split_and_stops_after_a_blocking_reply() {
    let text = "x".repeat(2 * MAX_BYTES / 5);
    let batch: Vec<EnrichedEvent> =
        (0..5).map(|_| found(json!({ "properties": { "text": text } }))).collect();
    let line = CannedReplies::default().then(200, json!(null)).then(400, error(190));
    let outcomes = meta("").deliver(&batch, &line).await;
    let counts: Vec<usize> =
        line.bodies().iter().map(|body| body["data"].as_array().unwrap().len()).collect();
    assert_eq!(counts, [2, 2], "the third call would be refused as well");
    assert_eq!(outcomes[..2], [Outcome::Delivered, Outcome::Delivered]);
    assert!(outcomes[2..].iter().all(|end| matches!(end, Outcome::Unauthorised(_))));
    let line = CannedReplies::default().then(400, error(100));
    let outcomes = meta("").deliver(&batch, &line).await;
    assert!(outcomes[..2].iter().all(|end| matches!(end, Outcome::Refused(_))), "to be divided");
    assert_eq!(outcomes[2..], vec![Outcome::Delivered; 3], "of them Meta said nothing bad");
}

#[tokio::test]
async fn event_too_old_at_delivery_is_dead_and_others_are_sent() {
    let old = found(json!({ "timestamp": "2026-11-16T12:00:59Z" }));
    let meta = meta("");
    let earlier = "2026-11-23T11:00:00Z".parse().unwrap();
    assert_eq!(meta.admit_event(&old, earlier), Ok(()));
    assert_eq!(meta.admit_event(&old, now()), Err(Outcome::dead("too_old")));
    let line = CannedReplies::default();
    let outcomes = meta.deliver(&[old, found(json!({}))], &line).await;
    assert_eq!(outcomes, [Outcome::dead("too_old"), Outcome::Delivered]);
    assert_eq!(line.bodies()[0]["data"].as_array().unwrap().len(), 1);
    let in_store = json!({ "timestamp": "2026-10-01T12:00:00Z",
        "properties": { "action_source": "physical_store" } });
    assert_eq!(meta.admit_event(&found(in_store), now()), Ok(()));
}

#[test]
fn secrets_are_listed_and_authorization_is_sensitive() {
    assert_eq!(meta("app_secret = \"key\"").secrets().len(), 2);
    let sensitive = meta("").graph(http::Method::POST, http::Uri::default(), String::new());
    assert!(sensitive.headers()["authorization"].is_sensitive());
}

#[test]
fn fbc_comes_from_cookie_then_property_then_click() {
    let fbc = |facts: Value, properties: Value, url: &str| {
        let event = found(json!({ "facts": facts, "properties": properties,
            "context": { "page": { "url": url }, "traits": { "email": "jo@x.example" } } }));
        let hit = map(&event, &meta("").settings, &mut DroppedFields::default()).unwrap();
        let body: Value = serde_json::from_str(&hit.json).unwrap();
        body["user_data"]["fbc"].as_str().map(str::to_owned)
    };
    let cookie = json!({ "cookies": { "_fbc": "fb.1.5.AbC.AQAAAQIB" },
        "clickIds": { "fbclid": { "value": "Def", "at": "2026-11-20T12:00:00Z" } } });
    let stated = json!({ "fbc": "fb.1.6.Ghi" });
    let plain = "https://www.shop.co.uk/";
    let clicked = "https://www.shop.co.uk/?fbclid=Xyz";
    let expected = |text: &str| Some(text.to_owned());
    assert_eq!(fbc(cookie.clone(), stated.clone(), clicked), expected("fb.1.5.AbC.AQAAAQIB"));
    assert_eq!(fbc(json!({}), stated.clone(), clicked), expected("fb.1.6.Ghi"));
    assert_eq!(fbc(json!({}), json!({ "fbc": "broken" }), plain), None);
    let mut remembered = cookie;
    remembered.as_object_mut().unwrap().remove("cookies");
    assert_eq!(fbc(remembered.clone(), json!({}), plain), expected("fb.2.1795176000000.Def"));
    assert_eq!(fbc(remembered, json!({}), clicked), expected("fb.2.1795435200000.Xyz"));
}
