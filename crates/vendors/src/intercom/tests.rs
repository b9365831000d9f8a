//! Delivery of batches, and checks of the settings. Every rule of the mapping has a fixture under
//! `tests/fixtures/vendors/intercom`; whole conversations are tested with the simulator.

use serde_json::json;

use super::*;
use crate::OutcomeReason;
use crate::test_support::{self, CannedReplies as Wire};

fn intercom(settings: &str) -> Box<dyn Destination> {
    let text = format!("access_token = \"hush\"\n{settings}");
    test_support::settings(&text, |section| VENDOR.destination.unwrap()(section, None))
}

fn clicked(user_id: &str) -> EnrichedEvent {
    test_support::event(json!({ "event": "Clicked", "userId": user_id }))
}

#[tokio::test]
async fn later_events_of_the_visitor_wait_behind_a_retried_one() {
    let wire = Wire::statuses(&[202, 503]);
    let batch = [clicked("u1"), clicked("u1"), clicked("u1")];
    let outcomes = intercom("").deliver(&batch, &wire).await;
    assert_eq!(outcomes[0], Outcome::Delivered);
    assert!(matches!(outcomes[1], Outcome::Retry { .. }));
    assert!(matches!(outcomes[2], Outcome::Retry { .. }), "it was not sent at all");
    assert_eq!(wire.requests().len(), 2);
}

#[tokio::test]
async fn refused_event_does_not_delay_the_others() {
    let error = json!({ "type": "error.list",
        "errors": [{ "code": "parameter_invalid", "message": "no" }] });
    let wire = Wire::default().then(400, error).then(202, json!(null));
    let outcomes = intercom("").deliver(&[clicked("u1"), clicked("u1")], &wire).await;
    let reason = OutcomeReason::detailed("refused", "HTTP 400 parameter_invalid: no");
    assert_eq!(outcomes, [Outcome::Dead(reason), Outcome::Delivered]);
}

#[tokio::test]
async fn repeated_event_is_byte_identical() {
    let wire = Wire::statuses(&[503, 202]);
    let (vendor, event) = (intercom(""), clicked("u1"));
    vendor.deliver(std::slice::from_ref(&event), &wire).await;
    vendor.deliver(&[event], &wire).await;
    let bodies = wire.bodies();
    assert_eq!(bodies[0], bodies[1]);
}

#[tokio::test]
async fn cached_contact_that_is_gone_is_looked_up_again() {
    let vendor = intercom("");
    let event = || {
        test_support::known(json!({ "event": "Clicked" }), None, json!({ "email": "jo@x.example" }))
    };
    let found = |id: &str| json!({ "data": [{ "id": id, "role": "user", "external_id": "u1" }] });
    let wire = Wire::default().then(200, found("c1")).then(202, json!(null));
    assert_eq!(vendor.deliver(&[event()], &wire).await, [Outcome::Delivered]);
    let wire = Wire::default().then(404, json!(null)).then(200, found("c2")).then(202, json!(null));
    assert_eq!(vendor.deliver(&[event()], &wire).await, [Outcome::Delivered]);
    let bodies = wire.bodies();
    assert_eq!((&bodies[0]["id"], &bodies[2]["id"]), (&json!("c1"), &json!("c2")));
    let wire = Wire::default().then(404, json!(null)).then(200, found("c2")).then(404, json!(null));
    let gone = Outcome::Dead(OutcomeReason::new("unknown_contact"));
    assert_eq!(vendor.deliver(&[event()], &wire).await, [gone]);
}

#[test]
fn invalid_settings_are_reported() {
    for (settings, expected) in [
        ("", "access_token"),
        ("access_token = \"a\\nb\"", "not valid in a header"),
        ("access_token = \"t\"\nregion = \"uk\"", "not one of us, eu, au"),
        ("access_token = \"t\"\napi_version = \"latest\"", "of the form"),
        ("access_token = \"t\"\ncurrency = \"euro\"", "ISO 4217"),
        ("access_token = \"t\"\nlead_attribute = \"visitor\"", "without leads"),
    ] {
        let (_, mistakes) =
            test_support::read(settings, |section| VENDOR.destination.unwrap()(section, None));
        let [mistake] = mistakes.as_slice() else { panic!("{settings}: {mistakes:?}") };
        assert!(mistake.contains(expected), "{settings}: {mistake}");
    }
}

#[test]
fn access_token_is_a_secret() {
    assert_eq!(intercom("").secrets(), [SecretString::new("hush")]);
}
