//! Arbitrary input decodes without a panic, and its messages stay within a multiple of the bytes sent.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::beacon_format::test_support::{TestBeaconRequest, broken};
use crate::test_support;

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// A batch with the members of events, people and groups.
const GOOD: &str = r#"[{"event":"$mp_web_page_view","properties":{"token":"t","time":1795434250.8,
"distinct_id":"$device:d1","$device_id":"d1","$insert_id":"i1","$current_url":"https://a.example/p?a=1",
"$referrer":"https://b.example/","current_page_title":"P","utm_source":"google","gclid":"g1","$os":"Linux",
"mp_lib":"web","$lib_version":"2.83.0","company":["acme"],"plan":"pro"}},
{"event":"$identify","properties":{"distinct_id":"u1","$user_id":"u1","$anon_distinct_id":"$device:d1"}},
{"event":"$create_alias","properties":{"distinct_id":"u1","alias":"u2"}},
{"event":"$merge","properties":{"$distinct_ids":["u1","$device:d1"]}},
{"$token":"t","$distinct_id":"u1","$set":{"$email":"a@b.co"},"$set_once":{"a":null},"$unset":["b"],"$add":{"c":1}},
{"$token":"t","$group_key":"company","$group_id":"acme","$set":{"$name":"Acme"},"$time":1795434250}]"#;

/// Message bytes allowed per byte sent.
const TIMES: usize = 16;

fn sent(target: &str, content_type: &str, body: impl Into<Vec<u8>>) -> TestBeaconRequest {
    let body = body.into();
    let method = if body.is_empty() { Method::GET } else { Method::POST };
    TestBeaconRequest::new(method, target, body).with("content-type", content_type)
}

fn any_record() -> BoxedStrategy<Value> {
    let keys = "event properties $token $distinct_id $device_id $user_id distinct_id $insert_id time \
        $current_url $referrer utm_source utm_ gclid $os mp_lib $lib_version alias $distinct_ids \
        $identified_id $anon_id $anon_distinct_id $set $set_once $unset $add $time $ip $ignore_time \
        $group_key $group_id";
    let leaf = prop_oneof![
        Just(json!("$identify")),
        Just(json!("$create_alias")),
        Just(json!("$merge")),
        Just(json!("$device:d1")),
        Just(json!("$mp_web_page_view")),
        Just(json!(["u1", "$device:d1"])),
        Just(json!("https://a.example/\u{fc}?\u{fc}")),
        any::<f64>().prop_map(Value::from),
    ];
    test_support::any_object(keys, leaf)
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(body: Vec<u8>, query in ".{0,80}", slash: bool) {
        for path in ["/track", "/engage", "/groups", "/record", "/flags", "/settings", "/decide"] {
            let path = format!("{path}{}?{query}", if slash { "/" } else { "" });
            sent(&path, FORM, body.clone()).check(&MixpanelBeacon, TIMES);
            sent(&path, "multipart/form-data; boundary=XX", body.clone()).check(&MixpanelBeacon, TIMES);
        }
    }

    #[test]
    fn broken_requests_never_panic(body in broken(GOOD)) {
        for path in ["/track", "/engage", "/groups"] {
            let packed = STANDARD.encode(&body);
            sent(path, "text/plain", body.clone()).check(&MixpanelBeacon, TIMES);
            sent(path, FORM, format!("data={packed}")).check(&MixpanelBeacon, TIMES);
            sent(&format!("{path}?data={packed}&_=1795434250817&img=1"), FORM, "").check(&MixpanelBeacon, TIMES);
        }
    }

    #[test]
    fn any_record_is_read_or_refused(records in prop::collection::vec(any_record(), 0..4)) {
        let body = Value::from(records).to_string();
        for path in ["/track", "/engage/", "/groups"] {
            sent(path, "application/json", body.clone()).check(&MixpanelBeacon, TIMES);
        }
    }
}

#[test]
fn shortest_records_stay_within_bounds() {
    let body = json!(vec![json!({ "event": "a" }); 2000]).to_string();
    let events = sent("/track?_=1795434250817", "text/plain", body);
    events.check(&MixpanelBeacon, TIMES);
    assert_eq!(events.decode(&MixpanelBeacon).unwrap().len(), 2000);
    let body = json!(vec![json!({ "$set": { "a": 1 } }); 2000]).to_string();
    let people = sent("/engage", "text/plain", body);
    people.check(&MixpanelBeacon, TIMES);
    assert_eq!(people.decode(&MixpanelBeacon).unwrap().len(), 2000);
}

#[test]
fn endpoint_rejects_other_paths() {
    for path in ["/", "", "/tracker", "/track/x", "/imports", "/flagships"] {
        assert_eq!(Face::endpoint(&MixpanelBeacon, path), None, "{path}");
    }
    assert_eq!(Face::endpoint(&MixpanelBeacon, "/record/"), Some(AllowedMethods::Post));
    assert_eq!(Face::endpoint(&MixpanelBeacon, "/import"), Some(AllowedMethods::Both));
    assert_eq!(
        Face::endpoint(&MixpanelBeacon, "/flags/f1/first-time-events"),
        Some(AllowedMethods::Both)
    );
}

#[test]
fn import_reply_has_the_form_that_the_library_reads() {
    let event = r#"[{"event":"x","properties":{"time":1795434250}}]"#;
    let data = "data=W3siZXZlbnQiOiJ4IiwicHJvcGVydGllcyI6eyJ0aW1lIjoxNzk1NDM0MjUwfX1d";
    let imported = r#"{"code":200,"num_records_imported":1,"status":"OK"}"#;
    let verbose = r#"{"error":null,"status":1}"#;
    for (query, content_type, body, expected) in [
        ("", JSON, event.to_owned(), imported),
        ("?verbose=1", JSON, event.to_owned(), imported),
        ("", FORM, format!("{data}&verbose=1"), verbose),
        ("?verbose=0", FORM, data.to_owned(), "1"),
    ] {
        let sent = sent(&format!("/import{query}"), content_type, body);
        assert_eq!(sent.decode(&MixpanelBeacon).unwrap().len(), 1);
        let answer = sent.answer(&MixpanelBeacon, BeaconOutcome::Taken { events: 1 });
        assert_eq!(answer.body, expected, "{query} {content_type}");
    }
    let get = TestBeaconRequest::new(Method::GET, &format!("/import?{data}&verbose=0"), "");
    assert_eq!(get.decode(&MixpanelBeacon).unwrap().len(), 1);
    assert_eq!(get.answer(&MixpanelBeacon, BeaconOutcome::Taken { events: 1 }).body, "1");
}

#[test]
fn flags_and_flag_definitions_are_empty() {
    for (path, expected) in
        [("/flags?token=k", r#"{"flags":{}}"#), ("/flags/definitions?token=k", r#"{"flags":[]}"#)]
    {
        let sent = TestBeaconRequest::new(Method::GET, path, "");
        assert!(sent.decode(&MixpanelBeacon).unwrap().is_empty());
        assert_eq!(sent.answer(&MixpanelBeacon, BeaconOutcome::Taken { events: 0 }).body, expected);
    }
}

#[test]
fn verbose_replies_are_json_for_every_outcome() {
    let form = "data=W10&verbose=1";
    let sent = sent("/track", FORM, form);
    for (verdict, status) in [
        (BeaconOutcome::Taken { events: 1 }, 1),
        (BeaconOutcome::TooLarge, 0),
        (BeaconOutcome::RetryLater { limited: true }, 0),
        (BeaconOutcome::RetryLater { limited: false }, 0),
    ] {
        let answer = sent.answer(&MixpanelBeacon, verdict);
        let reply: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(reply["status"], status, "{verdict:?}");
        assert!(reply.get("error").is_some(), "{verdict:?}");
    }
}

#[test]
fn servers_import_lines_and_lists() {
    let event = r#"{"event":"x","properties":{"distinct_id":"u1"}}"#;
    for body in [format!("{event}\n\n{event}\n"), format!("[{event},{event}]")] {
        let sent = sent("/import?strict=1", "application/x-ndjson", body);
        assert_eq!(sent.decode(&MixpanelBeacon).unwrap().len(), 2);
        let answer = sent.answer(&MixpanelBeacon, BeaconOutcome::Taken { events: 2 });
        assert_eq!(&answer.body[..], br#"{"code":200,"num_records_imported":2,"status":"OK"}"#);
    }
}

#[test]
fn oversized_batch_gets_413_so_that_the_library_halves_it() {
    let sent = sent("/track/?verbose=1", FORM, "data=W10");
    for (verdict, status) in [
        (BeaconOutcome::Taken { events: 0 }, 200),
        (BeaconOutcome::Ignored, 200),
        (BeaconOutcome::TooLarge, 413),
        (BeaconOutcome::RetryLater { limited: true }, 429),
        (BeaconOutcome::RetryLater { limited: false }, 503),
    ] {
        assert_eq!(sent.answer(&MixpanelBeacon, verdict).status, status, "{verdict:?}");
    }
}
