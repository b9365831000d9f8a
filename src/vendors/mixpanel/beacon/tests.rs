//! Whatever is sent, nothing breaks, and what comes of it is no more than a few times as much.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::vendors::trial;

const FORM: &str = "application/x-www-form-urlencoded";

/// A batch with what events, people and groups say.
const GOOD: &[u8] = br#"[{"event":"$mp_web_page_view","properties":{"token":"t","time":1795434250.8,
"distinct_id":"$device:d1","$device_id":"d1","$insert_id":"i1","$current_url":"https://a.example/p?a=1",
"$referrer":"https://b.example/","current_page_title":"P","utm_source":"google","gclid":"g1","$os":"Linux",
"mp_lib":"web","$lib_version":"2.83.0","company":["acme"],"plan":"pro"}},
{"event":"$identify","properties":{"distinct_id":"u1","$user_id":"u1","$anon_distinct_id":"$device:d1"}},
{"event":"$create_alias","properties":{"distinct_id":"u1","alias":"u2"}},
{"event":"$merge","properties":{"$distinct_ids":["u1","$device:d1"]}},
{"$token":"t","$distinct_id":"u1","$set":{"$email":"a@b.co"},"$set_once":{"a":null},"$unset":["b"],"$add":{"c":1}},
{"$token":"t","$group_key":"company","$group_id":"acme","$set":{"$name":"Acme"},"$time":1795434250}]"#;

/// The messages of a request, after checking that they are few enough bytes.
fn read(target: &str, content_type: &'static str, body: &[u8]) -> Result<Vec<Object>, Malformed> {
    let method = if body.is_empty() { "GET" } else { "POST" };
    let (messages, answers) = trial::beacon(&Beacon, (method, target), content_type, body);
    assert_eq!(answers.len(), 5);
    if let Ok(messages) = &messages {
        let bytes = serde_json::to_vec(messages).unwrap().len();
        assert!(bytes <= 16 * (body.len() + target.len()) + 1024, "{bytes} of {}", body.len());
    }
    messages
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
    trial::any_object(keys, leaf)
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_no_harm(body: Vec<u8>, query in ".{0,80}", slash: bool) {
        for path in ["/track", "/engage", "/groups", "/record", "/flags", "/settings", "/decide"] {
            let path = format!("{path}{}?{query}", if slash { "/" } else { "" });
            drop(read(&path, FORM, &body));
            drop(read(&path, "multipart/form-data; boundary=XX", &body));
        }
    }

    #[test]
    fn broken_requests_do_no_harm(body in trial::broken(GOOD)) {
        for path in ["/track", "/engage", "/groups"] {
            let packed = STANDARD.encode(&body);
            drop(read(path, "text/plain", &body));
            drop(read(path, FORM, format!("data={packed}").as_bytes()));
            drop(read(&format!("{path}?data={packed}&_=1795434250817&img=1"), FORM, b""));
        }
    }

    #[test]
    fn any_record_is_read_or_refused(records in prop::collection::vec(any_record(), 0..4)) {
        let body = Value::from(records).to_string();
        for path in ["/track", "/engage/", "/groups"] {
            drop(read(path, "application/json", body.as_bytes()));
        }
    }
}

#[test]
fn the_shortest_records_are_not_blown_up() {
    let body = json!(vec![json!({ "event": "a" }); 2000]).to_string();
    assert_eq!(read("/track?_=1795434250817", "text/plain", body.as_bytes()).unwrap().len(), 2000);
    let body = json!(vec![json!({ "$set": { "a": 1 } }); 2000]).to_string();
    assert_eq!(read("/engage", "text/plain", body.as_bytes()).unwrap().len(), 2000);
}

#[test]
fn other_paths_are_not_mixpanels() {
    for path in ["/", "", "/tracker", "/track/x", "/import", "/flagships"] {
        assert_eq!(Face::endpoint(&Beacon, path), None, "{path}");
    }
    assert_eq!(Face::endpoint(&Beacon, "/record/"), Some(Methods::Post));
    assert_eq!(Face::endpoint(&Beacon, "/flags/f1/first-time-events"), Some(Methods::Both));
}

#[test]
fn a_batch_that_is_too_large_is_refused_so_that_the_library_halves_it() {
    let (_, answers) = trial::beacon(&Beacon, ("POST", "/track/?verbose=1"), FORM, b"");
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    assert_eq!(statuses, [200, 200, 413, 429, 503]);
}
