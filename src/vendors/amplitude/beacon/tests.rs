//! Whatever is sent, nothing breaks, and what comes of it is no more than a few times as much; and
//! every answer is one that the library understands.

use http::Method;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::event::Object;
use crate::vendors::trial;
use crate::vendors::wire::trial::{Sent, broken};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// An upload with what events say.
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

/// How many bytes of messages may come of a byte.
const TIMES: usize = 20;

fn sent(path: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Sent {
    Sent::new(Method::POST, path, body).with("content-type", content_type)
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
    trial::any_object(keys, leaf)
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_no_harm(body: Vec<u8>) {
        for path in ["/", "/2/httpapi", "/batch", "/v1/capture", "/config/k", "/sessions/v2/track"] {
            sent(path, JSON, body.clone()).check(&Beacon, TIMES);
        }
        sent("/", FORM, [b"e=", &body[..]].concat()).check(&Beacon, TIMES);
    }

    #[test]
    fn broken_requests_do_no_harm(body in broken(GOOD)) {
        sent("/2/httpapi", JSON, body.clone()).check(&Beacon, TIMES);
        let old: String = url::form_urlencoded::byte_serialize(&body).collect();
        sent("/", FORM, format!("client=k&v=2&upload_time=1795434458397&e={old}")).check(&Beacon, TIMES);
    }

    #[test]
    fn any_event_is_read_or_refused(events in prop::collection::vec(any_event(), 0..4)) {
        let events = Value::from(events);
        sent("/batch", JSON, json!({ "events": events }).to_string()).check(&Beacon, TIMES);
        let old: String = url::form_urlencoded::byte_serialize(events.to_string().as_bytes()).collect();
        sent("/", FORM, format!("e={old}")).check(&Beacon, TIMES);
    }
}

#[test]
fn the_shortest_events_are_not_blown_up() {
    let body = json!({ "events": vec![json!({ "event_type": "a" }); 1000] }).to_string();
    let events = sent("/batch", JSON, body);
    events.check(&Beacon, TIMES);
    assert_eq!(events.decode(&Beacon).unwrap().len(), 1000);
    let groups: Object = (0..1000).map(|n| (n.to_string(), json!(["a", "b"]))).collect();
    let event = json!({ "event_type": "$groupidentify", "device_id": "d1", "groups": groups,
        "group_properties": { "text": "x".repeat(10_000) } });
    let body = json!({ "events": [event] }).to_string();
    let groups = sent("/batch", JSON, body);
    groups.check(&Beacon, TIMES);
    assert_eq!(groups.decode(&Beacon).unwrap().len(), 5);
}

#[test]
fn every_answer_to_the_library_of_today_says_its_code() {
    let verdicts = [
        (Verdict::Taken { events: 5 }, 200),
        (Verdict::Ignored, 200),
        (Verdict::TooLarge, 413),
        (Verdict::Later { limited: true }, 429),
        (Verdict::Later { limited: false }, 503),
    ];
    for (verdict, code) in verdicts {
        let answer = sent("/2/httpapi", JSON, GOOD).answer(&Beacon, verdict);
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((&body["code"], answer.status.as_u16()), (&json!(code), code));
    }
    let old = sent("/", FORM, "client=k&e=[]&v=2");
    let answer = old.answer(&Beacon, Verdict::Taken { events: 1 });
    assert_eq!(&answer.body[..], b"success");
}

#[test]
fn the_identify_apis_tell_of_people_and_groups() {
    let form = |identification: &Value| {
        let text = identification.to_string();
        let text: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
        format!("api_key=k&identification={text}")
    };
    let person = json!([{ "user_id": "u1", "user_properties": { "plan": "pro" } }]);
    let people = sent("/identify", FORM, form(&person));
    let messages = people.decode(&Beacon).unwrap();
    let [message] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!((&message["type"], &message["userId"]), (&json!("identify"), &json!("u1")));
    assert_eq!(message["traits"]["plan"], "pro");
    assert_eq!(people.answer(&Beacon, Verdict::Taken { events: 1 }).body, "success");
    let group = json!({ "group_type": "company", "group_value": "acme",
        "group_properties": { "tier": "gold" } });
    let messages = sent("/groupidentify", FORM, form(&group)).decode(&Beacon).unwrap();
    let [message] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!((&message["type"], &message["groupId"]), (&json!("group"), &json!("acme")));
    assert_eq!(message["traits"]["tier"], "gold");
}

#[test]
fn other_paths_are_not_amplitudes() {
    for path in ["/1/httpapi", "/2/httpapi/x", "/configs", "/identify/x", "/v1"] {
        assert_eq!(Face::endpoint(&Beacon, path), None, "{path}");
    }
    assert_eq!(Face::endpoint(&Beacon, ""), Some(Methods::Post));
    assert_eq!(Face::endpoint(&Beacon, "/config/k"), Some(Methods::Get));
}
