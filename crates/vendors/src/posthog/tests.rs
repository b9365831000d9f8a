//! Arbitrary input decodes without a panic, and its messages stay within a multiple of the bytes sent.

use http::Method;
use proptest::prelude::*;
use serde_json::json;

use super::beacon::PostHogBeacon;
use super::event;
use crate::beacon_format::test_support::{TestBeaconRequest, broken};

/// The paths that the beacons are sent to.
const PATHS: &[&str] = &["/e/", "/batch/", "/engage/"];

/// Beacons as the library sends them.
const GOOD: &[&str] = &[
    r#"{"api_key":"t","batch":[{"uuid":"u","event":"$identify","properties":{"distinct_id":"d","$device_id":"x","$current_url":"https://s.example/","$groups":{"company":"a"},"utm_source":"s","gclid":"g"},"$set":{"email":"a@b.co"},"offset":5}],"sent_at":"2026-11-23T11:52:13.896Z"}"#,
    r#"data=eyJldmVudCI6ImEiLCJwcm9wZXJ0aWVzIjp7ImRpc3RpbmN0X2lkIjoiZCJ9fQ%3D%3D"#,
    r#"[{"event":"$groupidentify","properties":{"$group_type":"c","$group_key":"k","$group_set":{"a":1}}},{"event":"$create_alias","properties":{"distinct_id":"d","alias":"e"}}]"#,
];

/// Message bytes allowed per byte sent: even the short events of a list each get a context.
const TIMES: usize = 40;

fn read(path: &str, query: &str, body: &[u8]) {
    TestBeaconRequest::new(Method::POST, &format!("{path}?{query}"), body)
        .check(&PostHogBeacon, TIMES);
}

#[test]
fn engage_entry_is_a_user_only_if_marked() {
    let ids = |own: &str| {
        let body = format!(r#"{{"$distinct_id":"d","$set":{{"plan":"gold"}}{own}}}"#);
        let mut messages =
            TestBeaconRequest::new(Method::POST, "/engage/", body).decode(&PostHogBeacon).unwrap();
        let message = messages.pop().unwrap();
        assert_eq!((&message["type"], messages.len()), (&"identify".into(), 0));
        let id = |name: &str| message.get(name).map(|id| id.as_str().unwrap().to_owned());
        (id("userId"), id("anonymousId"))
    };
    let some = |id: &str| Some(id.to_owned());
    assert_eq!(ids(""), (None, some("d")));
    assert_eq!(ids(r#","$is_identified":false"#), (None, some("d")));
    assert_eq!(ids(r#","$device_id":"$device:x""#), (None, some("x")));
    assert_eq!(ids(r#","$is_identified":true,"$device_id":"x""#), (some("d"), some("x")));
    assert_eq!(ids(r#","properties":{"$user_id":"u"}"#), (some("u"), None));
}

#[test]
fn retell_maps_shim_messages_like_the_library() {
    let mut message = json!({ "type": "track", "event": "$exception", "shim": "posthog", "properties": {
        "own": 1, "$set": { "plan": "pro" }, "$set_once": { "plan": "x", "first": 1 },
        "$groups": { "team": "t", "company": "acme" }, "$current_url": "https://s.example/" },
        "context": { "page": { "url": "https://shop.example/" } } });
    event::to_canonical(message.as_object_mut().unwrap());
    assert_eq!(
        (&message["event"], &message["properties"]),
        (&"Exception Raised".into(), &json!({ "own": 1 }))
    );
    let context = &message["context"];
    assert_eq!(context["page"]["url"], "https://shop.example/");
    assert_eq!(
        (&context["groupId"], &context["traits"]),
        (&"acme".into(), &json!({ "plan": "pro", "first": 1 }))
    );
    assert_eq!(context["source"], json!({ "client": "posthog", "event": "$exception" }));
    let mut page = json!({ "type": "page", "name": "$pageview", "properties": { "own": 1 } });
    event::to_canonical(page.as_object_mut().unwrap());
    assert_eq!((page.get("name"), &page["properties"]), (None, &json!({ "own": 1 })));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(
        path in prop::sample::select(PATHS),
        query in ".*",
        body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        read(path, &query, &body);
    }

    #[test]
    fn good_beacons_that_were_broken_are_read_without_harm(
        path in prop::sample::select(PATHS),
        body in prop::sample::select(GOOD).prop_flat_map(broken),
    ) {
        read(path, "", &body);
        read(path, &String::from_utf8_lossy(&body), b"");
    }
}
