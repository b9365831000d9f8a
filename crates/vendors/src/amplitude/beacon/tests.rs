//! Arbitrary requests are read without failure, their messages are bounded in size, and the library
//! understands every reply.

use http::Method;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::beacon_format::test_support::{TestBeaconRequest, broken};
use crate::test_support;
use tagway_core::event::JsonObject;

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// An upload with all kinds of members.
const GOOD: &str = r#"{"api_key":"k","client_upload_time":"2026-11-23T11:47:54.397Z","events":[
{"user_id":"u1","device_id":"d1","session_id":1795434456943,"time":1795434458397,"platform":"Web","language":"en-US",
"ip":"$remote","insert_id":"i1","event_type":"[Amplitude] Page Viewed","event_properties":{"utm_source":"google",
"gclid":"g1","[Amplitude] Page Location":"https://a.example/p?a=1","[Amplitude] Page Title":"P"},
"library":"amplitude-ts/2.48.1","groups":{"company":["acme","globex"]}},
{"device_id":"d1","event_type":"$identify","user_properties":{"$set":{"utm_source":"google","plan":"pro"},
"$setOnce":{"initial_utm_source":"EMPTY"},"$unset":{"gclid":"-","gone":"-"},"$add":{"count":1}}},
{"device_id":"d1","event_type":"$identify","user_properties":{"$set":{"company":"acme"}},"groups":{"company":"acme"}},
{"device_id":"d1","event_type":"$groupidentify","group_properties":{"$set":{"tier":"gold"}},"groups":{"company":"acme"}},
{"device_id":"d1","event_type":"revenue_amount","event_properties":{"$price":9.99,"$quantity":2,"$productId":"sku1"}}]}"#;

/// The most bytes of messages for a byte of the request.
const TIMES: usize = 20;

fn sent(path: &str, content_type: &str, body: impl Into<Vec<u8>>) -> TestBeaconRequest {
    TestBeaconRequest::new(Method::POST, path, body).with("content-type", content_type)
}

fn any_event() -> BoxedStrategy<Value> {
    let keys = "event_type user_id device_id session_id time timestamp insert_id uuid platform \
        library event_properties user_properties group_properties groups $set $setOnce $unset $add \
        price quantity revenue productId os_name os_version app_version user_agent ip plan utm_id \
        gclid referrer $price $quantity $revenue company";
    let leaf = prop_oneof![
        Just(json!("$identify")),
        Just(json!("$groupidentify")),
        Just(json!("revenue_amount")),
        Just(json!("[Amplitude] Page Viewed")),
        Just(json!("Web")),
        Just(json!(["a", "b", 3])),
        Just(json!({ "company": ["a", "b", "c", "d", "e", "f"] })),
        any::<f64>().prop_map(Value::from),
    ];
    test_support::any_object(keys, leaf)
}

proptest! {
    #[test]
    fn arbitrary_bytes_stay_within_bounds(body: Vec<u8>) {
        for path in ["/", "/2/httpapi", "/batch", "/v1/capture", "/config/k", "/sessions/v2/track"] {
            sent(path, JSON, body.clone()).check(&AmplitudeBeacon, TIMES);
        }
        sent("/", FORM, [b"e=", &body[..]].concat()).check(&AmplitudeBeacon, TIMES);
    }

    #[test]
    fn broken_requests_stay_within_bounds(body in broken(GOOD)) {
        sent("/2/httpapi", JSON, body.clone()).check(&AmplitudeBeacon, TIMES);
        let old: String = url::form_urlencoded::byte_serialize(&body).collect();
        sent("/", FORM, format!("client=k&v=2&upload_time=1795434458397&e={old}")).check(&AmplitudeBeacon, TIMES);
    }

    #[test]
    fn any_event_is_read_or_refused(events in prop::collection::vec(any_event(), 0..4)) {
        let events = Value::from(events);
        sent("/batch", JSON, json!({ "events": events }).to_string()).check(&AmplitudeBeacon, TIMES);
        let old: String = url::form_urlencoded::byte_serialize(events.to_string().as_bytes()).collect();
        sent("/", FORM, format!("e={old}")).check(&AmplitudeBeacon, TIMES);
    }
}

#[test]
fn short_events_stay_within_bounds() {
    let body = json!({ "events": vec![json!({ "event_type": "a" }); 1000] }).to_string();
    let events = sent("/batch", JSON, body);
    events.check(&AmplitudeBeacon, TIMES);
    assert_eq!(events.decode(&AmplitudeBeacon).unwrap().len(), 1000);
    let groups: JsonObject = (0..1000).map(|n| (n.to_string(), json!(["a", "b"]))).collect();
    let event = json!({ "event_type": "$groupidentify", "device_id": "d1", "groups": groups,
        "group_properties": { "text": "x".repeat(10_000) } });
    let body = json!({ "events": [event] }).to_string();
    let groups = sent("/batch", JSON, body);
    groups.check(&AmplitudeBeacon, TIMES);
    assert_eq!(groups.decode(&AmplitudeBeacon).unwrap().len(), 5);
}

#[test]
fn every_reply_to_the_current_library_has_its_code() {
    let verdicts = [
        (BeaconOutcome::Taken { events: 5 }, 200),
        (BeaconOutcome::Ignored, 200),
        (BeaconOutcome::TooLarge, 413),
        (BeaconOutcome::RetryLater { limited: true }, 429),
        (BeaconOutcome::RetryLater { limited: false }, 503),
    ];
    for (verdict, code) in verdicts {
        let answer = sent("/2/httpapi", JSON, GOOD).answer(&AmplitudeBeacon, verdict);
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((&body["code"], answer.status.as_u16()), (&json!(code), code));
    }
    let old = sent("/", FORM, "client=k&e=[]&v=2");
    let answer = old.answer(&AmplitudeBeacon, BeaconOutcome::Taken { events: 1 });
    assert_eq!(&answer.body[..], b"success");
}

#[test]
fn identify_apis_become_identify_and_group_messages() {
    let form = |identification: &Value| {
        let text = identification.to_string();
        let text: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
        format!("api_key=k&identification={text}")
    };
    let person = json!([{ "user_id": "u1", "user_properties": { "plan": "pro" } }]);
    let people = sent("/identify", FORM, form(&person));
    let messages = people.decode(&AmplitudeBeacon).unwrap();
    let [message] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!((&message["type"], &message["userId"]), (&json!("identify"), &json!("u1")));
    assert_eq!(message["traits"]["plan"], "pro");
    assert_eq!(people.answer(&AmplitudeBeacon, BeaconOutcome::Taken { events: 1 }).body, "success");
    let group = json!({ "group_type": "company", "group_value": "acme",
        "group_properties": { "tier": "gold" } });
    let messages = sent("/groupidentify", FORM, form(&group)).decode(&AmplitudeBeacon).unwrap();
    let [message] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!((&message["type"], &message["groupId"]), (&json!("group"), &json!("acme")));
    assert_eq!(message["traits"]["tier"], "gold");
}

#[test]
fn other_paths_have_no_endpoint() {
    for path in ["/1/httpapi", "/2/httpapi/x", "/configs", "/identify/x", "/v1"] {
        assert_eq!(Face::endpoint(&AmplitudeBeacon, path), None, "{path}");
    }
    assert_eq!(Face::endpoint(&AmplitudeBeacon, ""), Some(AllowedMethods::Post));
    assert_eq!(Face::endpoint(&AmplitudeBeacon, "/config/k"), Some(AllowedMethods::Get));
}
