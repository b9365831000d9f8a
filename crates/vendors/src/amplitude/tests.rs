//! The mapping on arbitrary events, and the delivery of batches. Every rule of the mapping and every reply
//! has a fixture under `tests/fixtures/vendors/amplitude`.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::validate::validate;
use super::*;
use crate::OutcomeReason;
use crate::test_support::{self, CannedReplies, event, now};

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn amplitude(settings: &str) -> AmplitudeDestination {
    let text = format!("api_key = \"{KEY}\"\n{settings}");
    AmplitudeDestination {
        settings: test_support::settings(&text, |section| AmplitudeSettings::read(section, None)),
    }
}

fn clicks(visitors: &[&str]) -> Vec<EnrichedEvent> {
    let click = |(number, visitor): (usize, &&str)| {
        event(json!({ "event": "Clicked", "messageId": format!("m{number}"),
            "anonymousId": visitor }))
    };
    visitors.iter().enumerate().map(click).collect()
}

/// Returns the insert ids of each request.
fn sent(line: &CannedReplies) -> Vec<Vec<String>> {
    let ids = |body: &Value| {
        let events = body["events"].as_array().unwrap();
        events.iter().map(|event| event["insert_id"].as_str().unwrap().to_owned()).collect()
    };
    line.bodies().iter().map(ids).collect()
}

fn codes(outcomes: &[Outcome]) -> Vec<&'static str> {
    let code = |outcome: &Outcome| match outcome {
        Outcome::Delivered => "delivered",
        Outcome::Skipped(reason) | Outcome::Dead(reason) | Outcome::Refused(reason) => reason.code,
        Outcome::Retry { reason, .. } | Outcome::Throttled { reason, .. } => reason.code,
        Outcome::Unauthorised(reason) => reason.code,
    };
    outcomes.iter().map(code).collect()
}

#[tokio::test]
async fn repeated_event_is_byte_identical() {
    let order = json!({ "event": "Order Completed", "messageId": "m",
        "properties": { "products": [{ "sku": "a", "price": 1 }] } });
    let (amplitude, line) =
        (amplitude("products = \"events\""), CannedReplies::statuses(&[503, 200]));
    let (first, again) = ([event(order.clone())], [event(order)]);
    amplitude.deliver(&first, &line).await;
    amplitude.deliver(&again, &line).await;
    let requests = line.requests();
    assert_eq!(requests[0].body(), requests[1].body());
    let body: Value = serde_json::from_slice(requests[0].body()).unwrap();
    let ids = [&body["events"][0]["insert_id"], &body["events"][1]["insert_id"]];
    assert_eq!(ids, ["m", "m-1"]);
}

#[tokio::test]
async fn blamed_events_are_removed_up_to_the_round_limit() {
    let visitors: Vec<String> = (0..12).map(|n| format!("v{n}")).collect();
    let visitors: Vec<&str> = visitors.iter().map(String::as_str).collect();
    let bad = json!({ "code": 400, "events_with_invalid_fields": { "time": [0] } });
    let line = (0..8).fold(CannedReplies::default(), |line, _| line.then(400, bad.clone()));
    let outcomes = amplitude("").deliver(&clicks(&visitors), &line).await;
    let expected = [["invalid_field"; 8].as_slice(), &["many_faults"; 4]].concat();
    assert_eq!(codes(&outcomes), expected);
    let counts: Vec<usize> = sent(&line).iter().map(Vec::len).collect();
    assert_eq!(counts, [12, 11, 10, 9, 8, 7, 6, 5]);
}

#[tokio::test]
async fn throttled_visitors_later_events_wait_and_the_others_are_sent() {
    let held = json!({ "code": 429, "throttled_users": { "u1": 31 }, "throttled_events": [1] });
    let line = CannedReplies::default().then(429, held);
    let mut batch = clicks(&["b", "a", "c"]);
    let of_user = json!({ "event": "x", "messageId": "m1", "anonymousId": "a", "userId": "u1" });
    batch[1] = event(of_user);
    // The same visitor, but no longer the user that Amplitude names.
    batch.push(event(json!({ "event": "x", "messageId": "m3", "anonymousId": "a" })));
    let outcomes = amplitude("").deliver(&batch, &line).await;
    assert_eq!(codes(&outcomes), ["delivered", "throttled", "delivered", "throttled"]);
    let after = Duration::from_secs(30);
    assert!(matches!(&outcomes[1], Outcome::Throttled { after: wait, .. } if *wait == after));
    assert_eq!(sent(&line)[1], ["m0", "m2"]);
}

#[tokio::test]
async fn body_over_the_limit_is_split() {
    let text = "x".repeat(1000);
    let large = |n: usize| {
        let texts: Vec<&str> = vec![&text; 300];
        event(json!({ "event": "x", "messageId": format!("m{n}"), "anonymousId": format!("v{n}"),
            "properties": { "texts": texts } }))
    };
    let batch: Vec<EnrichedEvent> = (0..7).map(large).collect();
    let line = CannedReplies::default();
    let outcomes = amplitude("").deliver(&batch, &line).await;
    assert_eq!(outcomes, vec![Outcome::Delivered; 7]);
    let requests = line.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|request| request.body().len() <= 1_000_000));
    let failing = CannedReplies::statuses(&[200, 503]);
    let outcomes = amplitude("").deliver(&batch, &failing).await;
    assert_eq!(codes(&outcomes)[..3], ["delivered"; 3]);
    assert_eq!(codes(&outcomes)[3..], ["vendor_error"; 4], "what was not sent waits as well");
    assert_eq!(failing.requests().len(), 2);
}

#[test]
fn event_too_large_for_any_request_is_dead() {
    let texts: Vec<String> = vec!["x".repeat(1000); 1000];
    let event = event(json!({ "event": "x", "properties": { "texts": texts } }));
    let dead = Err(Outcome::dead("event_too_large"));
    assert_eq!(amplitude("").admit_event(&event, now()), dead);
    assert_eq!(amplitude("api = \"batch\"").admit_event(&event, now()), Ok(()));
}

#[tokio::test]
async fn group_form_is_sent_only_for_delivered_events() {
    let group = |n: usize| {
        event(json!({ "type": "group", "messageId": format!("m{n}"), "groupId": format!("g{n}"),
            "anonymousId": format!("v{n}"), "traits": { "name": "G" } }))
    };
    let silenced = json!({ "code": 400, "silenced_events": [0] });
    let line = CannedReplies::default().then(400, silenced);
    let outcomes = amplitude("").deliver(&[group(0), group(1)], &line).await;
    assert_eq!(codes(&outcomes), ["silenced", "delivered"]);
    let form = line.requests().pop().unwrap();
    let field = url::form_urlencoded::parse(form.body()).find(|(name, _)| name == "identification");
    let entries: Value = serde_json::from_str(&field.unwrap().1).unwrap();
    assert_eq!(entries[0]["group_value"], "g1");
    assert_eq!(entries.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn forms_are_split_at_the_property_limit() {
    let traits: serde_json::Map<String, Value> =
        (0..600).map(|n| (format!("t{n}"), json!(n))).collect();
    let group = |n: usize| {
        event(json!({ "type": "group", "messageId": format!("m{n}"), "groupId": format!("g{n}"),
            "anonymousId": null, "traits": traits }))
    };
    let line = CannedReplies::default();
    let outcomes = amplitude("").deliver(&[group(0), group(1)], &line).await;
    assert_eq!(outcomes, vec![Outcome::Delivered; 2]);
    assert_eq!(line.requests().len(), 2, "1200 properties are more than 1024");
}

#[tokio::test]
async fn vendors_message_is_kept_bounded_and_without_the_key() {
    let error = format!("no {KEY} {}", "x".repeat(500));
    let line = CannedReplies::default().then(400, json!({ "code": 400, "error": error }));
    let outcomes = amplitude("").deliver(&clicks(&["a"]), &line).await;
    let Outcome::Refused(OutcomeReason { code: "refused", detail: Some(detail) }) = &outcomes[0]
    else {
        panic!("{outcomes:?}");
    };
    assert!(detail.starts_with("HTTP 400: no [api_key] xxx"), "{detail}");
    assert!(detail.chars().count() <= 310);
}

#[test]
fn invalid_settings_are_reported() {
    let read =
        |text: &str| test_support::read(text, |section| AmplitudeSettings::read(section, None)).1;
    let mistakes = read("region = \"au\"\napi = \"v2\"\ncurrency = \"euro\"\ngroup_type = \" \"");
    assert_eq!(mistakes.len(), 5, "{mistakes:?}");
    assert!(read(&format!("api_key = \"{KEY}\"\nsecret_key = \"x\"")).is_empty());
}

fn any_object() -> impl Strategy<Value = Value> {
    const KNOWN: &str = "products product_id name price quantity order_id total revenue \
        currency revenueType device type advertisingId os app locale location latitude campaign \
        source page referrer Amplitude groups session_id sessionId fieldsToUnset $set userAgent";
    test_support::any_object(
        KNOWN,
        prop_oneof![
            Just(json!("x".repeat(2000))),
            Just(json!("12.50")),
            Just(json!("eur")),
            Just(json!("0")),
        ],
    )
}

proptest! {
    #[test]
    fn mapped_events_pass_validation(
        kind in proptest::sample::select(&["track", "page", "group", "screen", "identify"][..]),
        name in prop_oneof![
            proptest::sample::select(map::RESERVED_EVENTS).prop_map(str::to_owned),
            proptest::sample::select(&["Order Completed", "Order Refunded", "null"][..])
                .prop_map(str::to_owned),
            ".{0,50}",
        ],
        properties in any_object(),
        traits in any_object(),
        context in any_object(),
        integrations in any_object(),
        products in proptest::sample::select(&["listed", "events", "revenue"][..]),
    ) {
        let settings = format!("user_properties = [\"name\", \"$set\"]\nproducts = {products:?}");
        let amplitude = amplitude(&settings);
        let event = event(json!({
            "type": kind, "event": name, "name": name, "groupId": name, "userId": name,
            "properties": properties, "traits": traits, "context": context,
            "integrations": integrations,
        }));
        if amplitude.admit_event(&event, now()) == Ok(()) {
            let hit = amplitude.hit(&event);
            let hit = hit.as_ref().as_ref().unwrap();
            let body = format!(
                "{{\"events\":[{}],\"options\":{{\"min_id_length\":1}}}}",
                hit.uploads.join(","),
            );
            let body: Value = serde_json::from_str(&body).unwrap();
            prop_assert_eq!(validate(&body), validate::AmplitudeFindings::default(), "{}", body);
        }
    }
}
