//! Malformed messages, and their events.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::tests::{NOON, TestGateway, page, start_gateway, start_with_site, to, track};
use super::{BeaconForwarding, BeaconMode};
use tagway_core::bots;
use tagway_core::privacy::PrivacyPolicy;
use tagway_vendors::beacon_format;

const TOKEN: &str = "Bearer a-server-token-of-the-shop";

const SCHEMA: &str = "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0";

async fn batch(
    gateway: &TestGateway,
    body: impl Into<Vec<u8>>,
) -> (StatusCode, Vec<(u64, String)>) {
    let request = to("POST", "/v1/batch").header("authorization", TOKEN);
    let answer = gateway.request(request, body.into()).await;
    let rejected = answer.json()["rejected"].as_array().cloned().unwrap_or_default();
    let of =
        |it: &Value| (it["index"].as_u64().unwrap(), it["reason"].as_str().unwrap().to_owned());
    (answer.status, rejected.iter().map(of).collect())
}

#[tokio::test]
async fn bad_message_rejects_no_other_of_its_batch() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let bad = |value: &[u8]| {
        [br#"{"type":"track","event":"x","anonymousId":"a","properties":{"a":"#, value, b"}}"]
            .concat()
    };
    let cases = [
        (bad(deep(70).as_bytes()), "too_deep"),
        (bad(b"\"Z\xfcrich\""), "not_utf8"),
        (bad(b"\"\xed\xa0\xbd\xed\xb8\x80\""), "not_utf8"),
        (bad(b"nan"), "malformed"),
        (bad(b"\"a\tb\""), "malformed"),
        (bad(b"1e999"), "malformed"),
        (b"[\"track\"]".to_vec(), "malformed"),
    ];
    for (bad, reason) in cases {
        let shown = String::from_utf8_lossy(&bad).into_owned();
        let good = |id: &str| track(id).to_string().into_bytes();
        let list = [&good("m1")[..], &bad, &good("m2")].join(&b","[..]);
        for body in [
            [b"{\"sentAt\":null,\"batch\":[", &list[..], b"],\"context\":{\"ip\":\"192.0.2.1\"}}"]
                .concat(),
            [b"[", &list[..], b"]"].concat(),
        ] {
            let gateway = start_gateway().await;
            let (status, rejected) = batch(&gateway, body).await;
            assert_eq!(status, 200, "{shown}");
            assert_eq!(rejected, [(1, reason.to_owned())], "{shown}");
            assert_eq!(gateway.events().await.len(), 2, "{shown}");
        }
    }
    let gateway = start_gateway().await;
    let shared = format!("{{\"batch\":[{}],\"context\":{{\"a\":{}}}}}", track("m"), deep(70));
    assert_eq!(batch(&gateway, shared).await.0, 400, "it is said of all");
    assert_eq!(
        batch(&gateway, b"{\"batch\":[{\"a\":\"\xff\"}".to_vec()).await.0,
        400,
        "it has no end"
    );
}

#[tokio::test]
async fn non_finite_number_becomes_null_and_the_event_is_accepted() {
    let list = r#"[{"type":"track","event":"x","anonymousId":"a","properties":{"a":NaN,"b":[-Infinity,1]}}]"#;
    for path in ["/v1/batch", "/rudderstack/v1/batch"] {
        let gateway = start_gateway().await;
        let request = to("POST", path).header("authorization", TOKEN);
        let answer = gateway.request(request, format!("{{\"batch\":{list}}}")).await;
        assert_eq!(answer.status, 200, "{path}");
        let events = gateway.events().await;
        let properties = serde_json::to_value(&events[0].properties).unwrap();
        assert_eq!(properties, json!({ "a": null, "b": [null, 1] }), "{path}");
    }
    let gateway = start_gateway().await;
    let event = r#"[{"event":"x","properties":{"distinct_id":"u1","a":NaN}}]"#;
    let form: String = url::form_urlencoded::byte_serialize(event.as_bytes()).collect();
    let answer = gateway.request(to("POST", "/mixpanel/track"), format!("data={form}")).await;
    let event = json!({ "e": "ue", "uid": "u1", "ue_pr": format!("{{\"schema\":\"{SCHEMA}\",\"data\":
        {{\"schema\":\"iglu:com.shop/seen/jsonschema/1-0-0\",\"data\":{{\"a\":NaN}}}}}}") });
    let body = json!({ "data": [event] }).to_string();
    let snowplow = "/snowplow/com.snowplowanalytics.snowplow/tp2";
    assert_eq!(gateway.request(to("POST", snowplow), body).await.status, 200);
    assert_eq!((answer.status, gateway.events().await.len()), (StatusCode::OK, 2));
}

#[tokio::test]
async fn member_of_the_wrong_type_is_left_out_alone() {
    let gateway = start_gateway().await;
    let message = |id: usize, members: Value| {
        let mut message =
            json!({ "type": "page", "messageId": id.to_string(), "anonymousId": "a" });
        message.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        message
    };
    let all = [
        json!({ "properties": [], "context": [], "integrations": [], "traits": [] }),
        json!({ "properties": "x", "context": 7, "integrations": true }),
        json!({ "name": true, "category": 7 }),
        json!({ "name": ["a"], "category": { "a": 1 } }),
        json!({ "userId": false, "groupId": [], "timestamp": false }),
        json!({ "context": { "page": [], "traits": [], "ip": ["192.0.2.1"], "consent": [] } }),
    ];
    let messages: Vec<Value> =
        all.into_iter().enumerate().map(|(id, it)| message(id, it)).collect();
    let (status, rejected) = batch(&gateway, json!({ "batch": messages }).to_string()).await;
    assert_eq!((status, rejected), (StatusCode::OK, vec![]));
    let events = gateway.events().await;
    let [empty, wrong, scalars, lists, ids, _] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((&empty.properties, &wrong.properties, &wrong.context), (&None, &None, &None));
    assert_eq!((scalars.name.as_deref(), scalars.category.as_deref()), (Some("true"), Some("7")));
    assert_eq!((&lists.name, &lists.category), (&None, &None));
    assert_eq!((&ids.user_id, &ids.group_id), (&None, &None));
    assert!(gateway.counts("tagway_values_unread_total{site=\"shop\",reason=\"wrong_type\"} 3"));
    assert!(
        gateway.counts("tagway_values_unread_total{site=\"shop\",reason=\"unreadable_time\"} 1")
    );
}

#[tokio::test]
async fn times_ids_and_addresses_are_read_as_they_are_written() {
    let gateway = start_gateway().await;
    let body = r#"{"batch":[{"type":"track","event":"x","userId":89440000000000012345,
        "timestamp":1795424400.25,"properties":{"card":-89440000000000012346,"n":1.50},
        "context":{"ip":"203.0.113.9:51234, 10.0.0.7"}},
        {"type":"track","event":"x","userId":"(null)","anonymousId":" GAST ","timestamp":"soon"},
        {"type":"track","event":"x","userId":"{{user_id}}","anonymousId":"d2",
        "timestamp":"2026-11-23 09:00:00 UTC"}]}"#;
    let (status, rejected) = batch(&gateway, body).await;
    assert_eq!((status, rejected), (StatusCode::OK, vec![(1, "missing_user_id".to_owned())]));
    let events = gateway.events().await;
    let [first, third] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(first.user_id.as_deref(), Some("89440000000000012345"));
    let properties = first.properties.as_ref().unwrap();
    assert_eq!(
        *properties,
        json!({ "card": "-89440000000000012346", "n": 1.5 }).as_object().unwrap().clone()
    );
    assert_eq!(first.timestamp.to_string(), "2026-11-23T09:00:00.25Z");
    assert_eq!(first.facts.ip, Some("203.0.113.9".parse().unwrap()));
    assert_eq!((third.user_id.as_deref(), third.anonymous_id.as_deref()), (None, Some("d2")));
    assert_eq!(third.timestamp.to_string(), "2026-11-23T09:00:00Z");
    assert!(third.timestamp < NOON.parse().unwrap());
}

#[tokio::test]
async fn opened_mail_counts_and_has_no_browser() {
    let drop = bots::BotSettings { policy: bots::BotPolicy::Drop, score: 50 };
    let gateway = start_with_site(|site| site.bots = drop).await;
    let agents = [
        "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
        "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
        "Mozilla/5.0",
        "",
    ];
    for (number, agent) in agents.into_iter().enumerate() {
        let request = to("GET", &format!("/px.gif?event=Email+Opened&userId=u{number}"));
        let answer = gateway.request(request.header("user-agent", agent), "").await;
        assert_eq!(answer.status, 200);
    }
    let crawler =
        to("GET", "/px.gif?event=Email+Opened&userId=u9").header("user-agent", "GPTBot/1.2");
    assert_eq!(gateway.request(crawler, "").await.status, 200);
    let events = gateway.events().await;
    assert_eq!(events.len(), agents.len());
    for event in events {
        assert_eq!((event.facts.ip, event.facts.user_agent, event.facts.place), (None, None, None));
    }
}

#[tokio::test]
async fn no_full_address_is_stored_from_any_source() {
    let policy = PrivacyPolicy::changing(true, &[]);
    let gateway = start_with_site(|site| {
        site.privacy = Arc::new(policy);
        for mount in &mut site.mounts {
            let upstream = "https://vendor.example".parse().unwrap();
            mount.beacons = BeaconMode::Both(BeaconForwarding { upstream, consent: Vec::new() });
        }
    })
    .await;
    let event = json!({
        "type": "track", "event": "x", "messageId": "m1", "userId": "u", "traits": { "ip": "203.0.113.77" },
        "context": { "ip": "203.0.113.77, 10.0.0.1", "device": { "client_ip": "2001:db8:1:2::9" } },
        "properties": { "ip_address": "203.0.113.77", "zip": "203.0.113.77" },
    });
    assert_eq!(batch(&gateway, json!([event]).to_string()).await.0, 200);
    gateway.gateway.send("shop", event.to_string().replace("m1", "m2").as_bytes()).await.unwrap();
    let hit = "v=2&tid=G-1&cid=1.2&en=E&_uip=203.0.113.77&_s=1";
    let answer = gateway.request(page(&format!("/ga4/g/collect?{hit}")), "").await;
    assert!(answer.status.is_success());
    let events = gateway.events().await;
    assert!(events.len() >= 4, "{events:?}");
    for event in &events[..2] {
        assert_eq!(event.facts.ip, Some("203.0.113.0".parse().unwrap()));
        let context = event.context.as_ref().unwrap();
        assert_eq!(context["ip"], "203.0.113.0");
        assert_eq!(context["device"]["client_ip"], "2001:db8:1::");
        assert_eq!(event.properties.as_ref().unwrap()["ip_address"], "203.0.113.0");
    }
    for event in &events[2..] {
        let text = serde_json::to_string(event).unwrap();
        assert!(!text.contains("203.0.113.77"), "{text}");
        let Some(beacon) = &event.facts.beacon else { continue };
        assert!(
            !String::from_utf8_lossy(&beacon_format::base64(&beacon.body).unwrap())
                .contains("203.0.113.77")
        );
    }
}
