//! Delivery of batches, and checks of the settings. Every rule of the mapping has a fixture under
//! `tests/fixtures/vendors/drift`; whole conversations are tested with the simulator.

use serde_json::{Value, json};

use super::*;
use crate::OutcomeReason;
use crate::test_support::{self, CannedReplies as Wire};

/// An id that a float cannot represent.
const ID: i64 = 9_007_199_254_740_993;

fn drift(settings: &str) -> Box<dyn Destination> {
    let text = format!("access_token = \"hush\"\n{settings}");
    test_support::settings(&text, |section| VENDOR.destination.unwrap()(section, None))
}

fn clicked() -> EnrichedEvent {
    test_support::known(json!({ "event": "Clicked" }), None, json!({ "email": "jo@x.example" }))
}

fn found() -> Value {
    json!({ "data": [{ "id": ID, "attributes": { "email": "jo@x.example" } }] })
}

#[tokio::test]
async fn later_events_of_the_visitor_wait_behind_a_retried_one() {
    let wire = Wire::default().then(200, found()).then(503, json!(null));
    let outcomes = drift("").deliver(&[clicked(), clicked()], &wire).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Retry { .. })));
    assert_eq!(wire.requests().len(), 2);
}

#[tokio::test]
async fn timeline_timeout_is_retried_only_with_retry_ambiguous() {
    for (settings, is_again) in [("", false), ("retry_ambiguous = true", true)] {
        let wire = Wire::default().then(200, found()).then_timeout();
        let outcomes = drift(settings).deliver(&[clicked()], &wire).await;
        let dead = Outcome::Dead(OutcomeReason::new("ambiguous_timeout"));
        assert_eq!(outcomes[0] != dead, is_again, "{settings}: {outcomes:?}");
    }
    let outcomes = drift("").deliver(&[clicked()], &Wire::default().then_timeout()).await;
    assert!(matches!(outcomes[0], Outcome::Retry { .. }), "a search may be repeated");
}

#[tokio::test]
async fn ids_keep_all_their_bits() {
    let wire = Wire::default().then(200, found());
    assert_eq!(drift("").deliver(&[clicked()], &wire).await, [Outcome::Delivered]);
    let sent: Value = serde_json::from_slice(wire.requests()[1].body()).unwrap();
    assert_eq!(sent["contactId"], ID);
}

#[tokio::test]
async fn cached_contact_that_is_gone_is_looked_up_again() {
    let vendor = drift("");
    let wire = Wire::default().then(200, found());
    assert_eq!(vendor.deliver(&[clicked()], &wire).await, [Outcome::Delivered]);
    let made = json!({ "data": { "id": ID + 1, "attributes": {} } });
    let wire = Wire::default()
        .then(404, json!(null))
        .then(200, json!({ "data": [] }))
        .then(200, made)
        .then(200, json!(null));
    assert_eq!(vendor.deliver(&[clicked()], &wire).await, [Outcome::Delivered]);
    let sent: Value = serde_json::from_slice(wire.requests()[3].body()).unwrap();
    assert_eq!(sent["contactId"], ID + 1);
}

#[tokio::test]
async fn contact_that_another_call_made_meanwhile_is_found() {
    let duplicate = json!({ "error": { "type": "duplicate", "message": "exists" } });
    let wire = Wire::default()
        .then(200, json!({ "data": [] }))
        .then(400, duplicate)
        .then(200, found())
        .then(200, json!(null));
    assert_eq!(drift("").deliver(&[clicked()], &wire).await, [Outcome::Delivered]);
    let refused = json!({ "error": { "type": "invalid", "message": "email" } });
    let wire = Wire::default()
        .then(200, json!({ "data": [] }))
        .then(400, refused)
        .then(200, json!({ "data": [] }));
    let reason = OutcomeReason::detailed("refused", "HTTP 400 invalid: email");
    assert_eq!(drift("").deliver(&[clicked()], &wire).await, [Outcome::Dead(reason)]);
}

#[test]
fn invalid_settings_are_reported() {
    for (settings, expected) in [
        ("", "access_token"),
        ("access_token = \"t\"\nattributes = [\"tags\"]", "written by Drift itself"),
        ("access_token = \"t\"\nattributes = [\"_END_USER_VERSION\"]", "written by Drift itself"),
        ("access_token = \"t\"\nattributes = [\"original.ip\"]", "written by Drift itself"),
        ("access_token = \"t\"\naccount_owner_id = 7", "is required to update existing accounts"),
        ("access_token = \"t\"\norg_id = \"7\"", "org_id"),
    ] {
        let (_, mistakes) =
            test_support::read(settings, |section| VENDOR.destination.unwrap()(section, None));
        let [mistake] = mistakes.as_slice() else { panic!("{settings}: {mistakes:?}") };
        assert!(mistake.contains(expected), "{settings}: {mistake}");
    }
}

#[test]
fn access_token_is_a_secret() {
    assert_eq!(drift("").secrets(), [SecretString::new("hush")]);
}
