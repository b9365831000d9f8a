//! The mapping on arbitrary events, and the delivery of batches. Every rule of the mapping has a fixture
//! under `tests/fixtures/vendors/ga4`.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::validate::validate;
use super::*;
use crate::test_support::{self, CannedReplies, event, now};
use tagway_core::event::DroppedFields;

fn ga4(settings: &str) -> Ga4Destination {
    let text = format!("measurement_id = \"G-ABC123\"\napi_secret = \"hush\"\n{settings}");
    Ga4Destination {
        settings: test_support::settings(&text, |section| Ga4Settings::read(section, None)),
    }
}

/// Returns the name and the parameters that are sent to Google.
pub(super) fn mapped(event: &EnrichedEvent) -> (String, Value) {
    let hit = map::map(event, &ga4("").settings, &mut DroppedFields::default()).unwrap();
    (hit.name, serde_json::from_str(&hit.params).unwrap())
}

fn body_of(
    envelope: &Ga4Envelope,
    together: &[(&Ga4Event, &EnrichedEvent)],
    now: Timestamp,
) -> Value {
    serde_json::from_slice(&render(envelope, together, now)).unwrap()
}

#[tokio::test]
async fn events_of_one_visitor_share_a_request_until_the_envelope_changes() {
    let batch: Vec<EnrichedEvent> = (0..5)
        .map(|n| {
            let user = if n < 3 { "u1" } else { "u2" };
            let timestamp = format!("2026-11-23T11:00:0{n}Z");
            event(json!({ "event": "Clicked", "userId": user, "timestamp": timestamp }))
        })
        .collect();
    let line = CannedReplies::default();
    let outcomes = ga4("").deliver(&batch, &line).await;
    assert_eq!(outcomes, vec![Outcome::Delivered; 5]);
    let bodies = line.bodies();
    let counts: Vec<usize> =
        bodies.iter().map(|body| body["events"].as_array().unwrap().len()).collect();
    assert_eq!(counts, [3, 2]);
    let micros = &bodies[0]["events"][1]["params"]["timestamp_micros"];
    assert_eq!(*micros, 1_795_431_601_000_000_i64, "each has its own time");
    assert_eq!(bodies[0]["timestamp_micros"], Value::Null);
}

#[tokio::test]
async fn later_events_of_the_visitor_wait_behind_a_retried_one() {
    let batch: Vec<EnrichedEvent> = ["u1", "u2", "u3"]
        .map(|user| event(json!({ "event": "Clicked", "userId": user })))
        .to_vec();
    let line = CannedReplies::statuses(&[204, 503]);
    let outcomes = ga4("").deliver(&batch, &line).await;
    assert_eq!(outcomes[0], Outcome::Delivered);
    assert!(matches!(outcomes[1], Outcome::Retry { .. }));
    assert!(matches!(outcomes[2], Outcome::Retry { .. }), "it was not sent at all");
    assert_eq!(line.requests().len(), 2);
}

#[tokio::test]
async fn timeout_is_retried_for_purchases_or_with_retry_ambiguous() {
    let order = json!({ "event": "Order Completed",
        "properties": { "order_id": "1", "products": [{ "sku": "a" }] } });
    let other = json!({ "event": "Clicked" });
    for (settings, value, again) in [
        ("", &other, true),
        ("retry_ambiguous = false", &other, false),
        ("retry_ambiguous = false", &order, true),
    ] {
        let outcomes = ga4(settings)
            .deliver(&[event(value.clone())], &CannedReplies::default().then_timeout())
            .await;
        let is_again = matches!(outcomes[0], Outcome::Retry { .. });
        assert_eq!(is_again, again, "{settings} {value}: {outcomes:?}");
    }
}

#[test]
fn late_events_are_dropped_unless_set_to_untimed() {
    let late = event(json!({ "event": "Clicked", "timestamp": "2026-11-20T11:00:00Z" }));
    let now = now();
    assert_eq!(ga4("").admit_event(&late, now), Err(Outcome::dead("too_old")));
    let untimed = ga4("late = \"untimed\"");
    assert_eq!(untimed.admit_event(&late, now), Ok(()));
    assert_eq!(timestamp_micros(&late, now), None);
    assert_eq!(untimed.delivery_limits().max_age, Duration::MAX);
}

fn any_object() -> impl Strategy<Value = Value> {
    const KNOWN: &str = "products product_id name price quantity order_id total revenue \
        currency query value url title page items session_id list_id clientIds ga4 clientId \
        sessionId consent categoryPreferences traits";
    test_support::any_object(
        KNOWN,
        prop_oneof!["[a-z]{1,5}@[a-z]{1,5}\\.com".prop_map(Value::from), Just(json!("12.50")),],
    )
}

proptest! {
    #[test]
    fn mapped_events_pass_validation_and_contain_no_address(
        kind in proptest::sample::select(&["track", "page", "group", "screen", "identify"][..]),
        name in prop_oneof![
            proptest::sample::select(rules::RULES).prop_map(|rule| rule.canonical.to_owned()),
            ".{0,50}",
        ],
        properties in any_object(),
        context in any_object(),
        user in ".{0,300}",
    ) {
        let ga4 = ga4("currency = \"EUR\"\nuser_properties = [\"plan\", \"name\"]\nuser_data = true");
        let event = event(json!({
            "type": kind, "event": name, "groupId": name, "userId": user,
            "properties": properties, "context": context,
        }));
        if let Ok(hit) = map::map(&event, &ga4.settings, &mut DroppedFields::default()) {
            let body = body_of(&hit.envelope, &[(&hit, &event)], now());
            prop_assert_eq!(validate(&body), vec![], "{}", body);
            let two = body_of(&hit.envelope, &[(&hit, &event), (&hit, &event)], now());
            prop_assert_eq!(validate(&two), vec![], "{}", two);
        }
    }
}
