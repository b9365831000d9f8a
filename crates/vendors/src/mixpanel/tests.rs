//! The delivery of batches and the mapping of arbitrary events. Every rule of the mapping has a
//! fixture under `tests/fixtures/vendors/mixpanel`.

use std::io::Read as _;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use super::*;
use crate::OutcomeReason;
use crate::test_support::{self, CannedReplies, event, now};

const TOKEN: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

fn mixpanel(settings: &str) -> MixpanelDestination {
    let text = format!("project_token = \"{TOKEN}\"\n{settings}");
    MixpanelDestination {
        settings: test_support::settings(&text, |section| MixpanelSettings::read(section, None)),
    }
}

fn original(settings: &str) -> MixpanelDestination {
    mixpanel(&format!(
        "id_merge = \"original\"\nservice_account = \"gateway\"\nservice_secret = \"hush\"\nproject_id = \"1001\"\n{settings}"
    ))
}

fn track(visitor: &str, id: &str) -> EnrichedEvent {
    event(json!({ "event": "Clicked", "anonymousId": visitor, "messageId": id }))
}

fn identify(visitor: &str, id: &str) -> EnrichedEvent {
    event(json!({ "type": "identify", "anonymousId": visitor, "userId": format!("u-{visitor}"),
        "messageId": id, "traits": { "plan": "gold" } }))
}

fn json_body(request: &Request<Bytes>) -> Value {
    let mut body = request.body().to_vec();
    if request.headers().get(CONTENT_ENCODING).is_some() {
        body.clear();
        GzDecoder::new(&**request.body()).read_to_end(&mut body).unwrap();
    }
    serde_json::from_slice(&body).unwrap()
}

/// Returns the calls that were made: path and message ids or operations.
fn call_log(line: &CannedReplies) -> Vec<String> {
    let requests = line.requests();
    let sent = requests.iter().map(|request| {
        let records = json_body(request);
        let name = |record: &Value| {
            let id = record.pointer("/properties/$insert_id").or(record.get("event"));
            let own = id.and_then(Value::as_str).map(str::to_owned);
            own.or_else(|| record.as_object()?.keys().next_back().cloned()).unwrap()
        };
        let names: Vec<String> = records.as_array().unwrap().iter().map(name).collect();
        format!("{} {}", request.uri().path(), names.join(" "))
    });
    sent.collect()
}

fn is_retry(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Retry { .. })
}

#[tokio::test]
async fn events_share_a_call_and_calls_keep_a_visitors_order() {
    let batch = [track("a", "a1"), identify("b", "b1"), identify("a", "a2"), track("a", "a3")];
    let line = CannedReplies::default();
    let outcomes = mixpanel("").deliver(&batch, &line).await;
    assert_eq!(outcomes, vec![Outcome::Delivered; 4]);
    assert_eq!(
        call_log(&line),
        ["/import a1 a2 b1", "/engage $set $set", "/import a3"],
        "a3 is anonymous, so a2 needs its own event"
    );
}

#[tokio::test]
async fn identify_sends_no_link_event_if_an_event_of_both_ids_follows() {
    let after = || {
        event(json!({ "event": "Clicked", "anonymousId": "a", "userId": "u-a", "messageId": "a2" }))
    };
    let line = CannedReplies::default();
    mixpanel("").deliver(&[identify("a", "a1"), after()], &line).await;
    assert_eq!(call_log(&line), ["/engage $set", "/import a2"]);
    mixpanel("").deliver(&[after(), identify("a", "a1")], &line).await;
    assert_eq!(call_log(&line), ["/import a2 a1", "/engage $set"], "what came before may be older");
    mixpanel("link_event = \"\"").deliver(&[identify("a", "a1")], &line).await;
    assert_eq!(call_log(&line), ["/engage $set"]);
}

#[tokio::test]
async fn identify_is_delivered_after_both_calls_and_repeats_neither() {
    let device = "507f191e-810c-4197-9de8-60ea00000001";
    let batch = [identify(device, "i"), track(device, "t")];
    let ok = json!({ "status": 1 });
    let line = CannedReplies::default().then(200, ok.clone()).then(503, json!(null));
    let mixpanel = original("");
    let outcomes = mixpanel.deliver(&batch, &line).await;
    assert!(outcomes.iter().all(is_retry), "{outcomes:?}");
    assert_eq!(call_log(&line), ["/track $identify", "/engage $set"], "the track waits behind");
    let outcomes = mixpanel.deliver(&batch, &line).await;
    assert_eq!(outcomes, vec![Outcome::Delivered; 2]);
    assert_eq!(call_log(&line), ["/engage $set", "/import t"], "it goes on where it stood");
}

#[tokio::test]
async fn failed_path_stops_only_the_events_that_need_it() {
    let batch = [track("a", "a1"), identify("b", "b1"), track("a", "a2")];
    let line = CannedReplies::default().then(503, json!(null)).then(200, json!({ "status": 1 }));
    let outcomes = mixpanel("link_event = \"\"").deliver(&batch, &line).await;
    assert_eq!(outcomes[1], Outcome::Delivered);
    assert!(is_retry(&outcomes[0]) && is_retry(&outcomes[2]), "{outcomes:?}");
    assert_eq!(line.requests().len(), 2);
    let unauthorised = CannedReplies::statuses(&[401, 200]);
    let outcomes = mixpanel("link_event = \"\"").deliver(&batch, &unauthorised).await;
    assert!(matches!(outcomes[0], Outcome::Unauthorised(_)), "{outcomes:?}");
    assert_eq!(outcomes[1], Outcome::Delivered);
}

#[tokio::test]
async fn refused_records_are_dead_and_the_others_are_delivered() {
    let batch = [track("a", "a1"), track("a", "a2"), track("b", "b1")];
    let failed = json!({ "code": 400, "error": "some data points in the request failed validation",
        "failed_records": [{ "index": 1, "insert_id": "a2", "field": "properties.time", "message": "bad" }],
        "num_records_imported": 2, "status": "Bad Request" });
    let line = CannedReplies::default().then(400, failed);
    let outcomes = mixpanel("").deliver(&batch, &line).await;
    let reason = OutcomeReason::detailed("invalid_record", "properties.time: bad");
    assert_eq!(outcomes, [Outcome::Delivered, Outcome::Dead(reason), Outcome::Delivered]);
}

#[tokio::test]
async fn wholly_refused_call_is_split_and_a_single_event_is_dead() {
    let no = json!({ "status": 0, "error": "data, missing or empty" });
    let batch = [identify("a", "a1"), identify("b", "b1"), track("b", "b2"), track("c", "c1")];
    let line = CannedReplies::default().then(200, json!(1)).then(200, no.clone());
    let outcomes = mixpanel("").deliver(&batch, &line).await;
    assert!(matches!(outcomes[0], Outcome::Refused(_)), "{outcomes:?}");
    assert!(matches!(outcomes[1], Outcome::Refused(_)), "{outcomes:?}");
    assert!(is_retry(&outcomes[2]), "b2 waits until it is known: {outcomes:?}");
    assert_eq!(outcomes[3], Outcome::Delivered);
    assert_eq!(call_log(&line), ["/import a1 b1 c1", "/engage $set $set"]);
    let line = CannedReplies::default().then(200, json!(1)).then(200, no);
    let batch = [identify("b", "b1"), track("b", "b2")];
    let outcomes = mixpanel("").deliver(&batch, &line).await;
    let reason = OutcomeReason::detailed("rejected", "data, missing or empty");
    assert_eq!(outcomes, [Outcome::Dead(reason), Outcome::Delivered], "b2 goes on without b1");
}

#[tokio::test]
async fn bodies_stay_within_the_vendors_limits() {
    let long = "x".repeat(250);
    let fat: Vec<String> = (0..100).map(|_| long.clone()).collect();
    let batch: Vec<EnrichedEvent> = (0..200)
        .map(|n| event(json!({ "event": "Clicked", "messageId": format!("m{n}"), "properties": { "fat": fat } })))
        .collect();
    let line = CannedReplies::default();
    let outcomes = mixpanel("").deliver(&batch, &line).await;
    assert_eq!(outcomes, vec![Outcome::Delivered; 200]);
    let requests = line.requests();
    assert_eq!(requests.len(), 3, "5 MB are three pages");
    for request in &requests {
        assert!(json_body(request).to_string().len() <= batch_run::MAX_BODY_BYTES);
        assert!(request.body().len() < 200_000, "they are compressed");
    }
    let group = |n: usize| {
        event(json!({ "type": "group", "groupId": format!("g{n}"), "anonymousId": format!("a{n}"),
            "traits": { "plan": "gold" } }))
    };
    let batch: Vec<EnrichedEvent> = (0..450).map(group).collect();
    mixpanel("").deliver(&batch, &line).await;
    let sizes: Vec<usize> = line
        .requests()
        .iter()
        .map(|request| json_body(request).as_array().unwrap().len())
        .collect();
    assert_eq!(sizes, [450, 200, 200, 50], "one /engage, three /groups");
}

#[tokio::test]
async fn events_after_a_failed_call_of_a_visitor_are_not_sent() {
    let fat = vec!["x".repeat(250); 200];
    let batch: Vec<EnrichedEvent> = (0..100)
        .map(|n| event(json!({ "event": "Clicked", "messageId": format!("m{n}"), "properties": { "fat": fat } })))
        .collect();
    let line = CannedReplies::statuses(&[200, 503]);
    let outcomes = mixpanel("").deliver(&batch, &line).await;
    assert_eq!(line.requests().len(), 2);
    let first_kept = outcomes.iter().position(is_retry).unwrap();
    assert!(first_kept > 10 && outcomes[first_kept..].iter().all(is_retry));
}

#[test]
fn times_that_mixpanel_rejects_are_dead_at_admission() {
    for (timestamp, expected) in [
        ("1970-12-31T23:59:59Z", Err(Outcome::dead("too_old"))),
        ("1971-01-01T00:00:00Z", Ok(())),
        ("2026-11-23T13:00:00Z", Ok(())),
        ("2026-11-23T13:00:01Z", Err(Outcome::dead("in_the_future"))),
    ] {
        let event = event(json!({ "event": "Clicked", "timestamp": timestamp }));
        assert_eq!(mixpanel("").admit_event(&event, now()), expected, "{timestamp}");
    }
}

#[test]
fn record_is_unchanged_by_a_change_of_profile() {
    let event = json!({ "event": "Clicked", "messageId": "m_1" });
    let record = |user: Option<&str>| {
        let event = test_support::known(event.clone(), user, json!({}));
        mixpanel("").plan(&event).as_ref().as_ref().unwrap().steps[0].record.clone()
    };
    assert_eq!(record(None), record(Some("u1")));
}
