//! Hostile requests, and requests that a bug made hostile.

use std::io::Write as _;
use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::FutureExt as _;
use proptest::prelude::*;
use serde_json::json;

use super::budget::BudgetOwner;
use super::tests::{NOON, basic, limits, page, start_gateway, start_with_limits, to, track};
use super::*;
use tagway_vendors::beacon_format::spec::{BodyText, MessageBody};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[tokio::test]
async fn shared_members_of_a_batch_count_for_each_message() {
    let gateway = start_gateway().await;
    // Small for one message, large for ten.
    let batch = |padding: usize, messages: usize| {
        let messages: Vec<_> = (0..messages).map(|n| track(&n.to_string())).collect();
        json!({ "context": { "x": "y".repeat(padding) }, "batch": messages }).to_string()
    };
    assert_eq!(gateway.request(page("/e"), batch(20_000, 10)).await.status, 204);
    let answer = gateway.request(page("/e"), batch(32 * 1024, 2)).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["rejected"][1]["reason"], "too_large");
    let answer = gateway.request(page("/e"), gzip(batch(500_000, 10).as_bytes())).await;
    assert_eq!(answer.status, 413, "refused before anything is copied");
    assert_eq!(gateway.events().await.len(), 10);
}

#[tokio::test]
async fn list_without_an_end_is_not_read_to_its_end() {
    let gateway = start_gateway().await;
    let items = format!("[{}1", "1,".repeat(500_000));
    for body in [items.clone(), format!("{{\"batch\":{items}]}}")] {
        let answer = gateway.request(page("/e"), gzip(body.as_bytes())).await;
        assert_eq!(answer.status, 413, "{:?}", answer.json());
        assert_eq!(answer.json()["code"], "too_many_events");
    }
}

#[tokio::test]
async fn bodies_together_are_bounded() {
    let mut limits = limits();
    limits.body_time = Duration::from_millis(100);
    limits.inflating_client_bytes = limits.inflating_bytes;
    let gateway = start_with_limits(limits.clone()).await;
    let snapshot = gateway.gateway.snapshot.load_full();
    let other = BudgetOwner::client(gateway.site, [192, 0, 2, 99].into());
    let held = snapshot.budget.take(other, limits.inflating_bytes, &limits).await.unwrap();
    let large = || gzip(format!("{}{}", track("m1"), " ".repeat(100_000)).as_bytes());
    let answer = gateway.request(page("/e"), large()).await;
    assert_eq!((answer.status.as_u16(), answer.fields["retry-after"].as_bytes()), (503, &b"1"[..]));
    assert_eq!(answer.json()["code"], "overloaded");
    let long = format!("{}{}", track("m2"), " ".repeat(100_000));
    assert_eq!(gateway.request(page("/e"), format!("[{long}]")).await.status, 503);
    assert_eq!(
        gateway.request(page("/e"), track("m2").to_string()).await.status,
        204,
        "it is small"
    );
    let small = gzip(track("m4").to_string().as_bytes());
    assert_eq!(gateway.request(page("/e"), small).await.status, 204, "so is this, compressed");
    drop(held);
    assert_eq!(
        gateway.request(page("/e"), large()).await.status,
        204,
        "the refused body holds nothing"
    );
    snapshot.budget.take(other, limits.inflating_bytes, &limits).await.unwrap();
}

#[tokio::test]
async fn one_address_cannot_take_the_budget_of_others() {
    let gateway = start_gateway().await;
    let snapshot = gateway.gateway.snapshot.load_full();
    let GatewaySnapshot { limits, budget, .. } = &*snapshot;
    let flood = BudgetOwner::client(gateway.site, [192, 0, 2, 99].into());
    // As many requests as one client may have at once, and many that wait.
    let held = budget.take(flood, limits.inflated_bytes, limits).await.unwrap();
    let mut waiting: Vec<_> =
        (0..64).map(|_| Box::pin(budget.take(flood, limits.inflated_bytes, limits))).collect();
    for one in &mut waiting {
        assert!(one.now_or_never().is_none());
    }
    let large = |id: &str| gzip(format!("{}{}", track(id), " ".repeat(100_000)).as_bytes());
    assert_eq!(gateway.request(page("/e"), large("m1")).await.status, 204);
    let token = basic("a-server-token-of-the-shop");
    let server = to("POST", "/v1/track").header("authorization", token);
    assert_eq!(gateway.request(server, large("m2")).await.status, 200);
    drop((held, waiting));
    assert_eq!(gateway.events().await.len(), 2);
}

#[tokio::test]
async fn beacons_of_too_many_events_are_refused_as_their_library_expects() {
    let gateway = start_gateway().await;
    let events = |event: &str| vec![event; 20_000].join(",");
    let amplitude = format!("{{\"events\":[{}]}}", events("{\"event_type\":\"x\"}"));
    let short = amplitude.replace(&events("{\"event_type\":\"x\"}"), &vec!["{}"; 1000].join(","));
    for body in [gzip(amplitude.as_bytes()), short.into_bytes()] {
        let answer = gateway.request(page("/amplitude/2/httpapi"), body).await;
        assert_eq!((answer.status.as_u16(), answer.json()["code"].as_u64()), (413, Some(413)));
    }
    let matomo = format!("{{\"requests\":[{}]}}", events("\"?idsite=1&rec=1\""));
    let answer = gateway.request(page("/matomo/matomo.php"), gzip(matomo.as_bytes())).await;
    assert_eq!(answer.status, 200, "it never tries again");
    assert!(
        gateway.counts("tagway_events_dropped_total{site=\"shop\",reason=\"too_many_events\"} 3")
    );
    assert_eq!(gateway.events().await.len(), 0);
}

#[tokio::test]
async fn event_of_too_many_members_is_refused_alone() {
    let gateway = start_gateway().await;
    let list = format!("[{}1]", "1,".repeat(100_000));
    let event = |value: &str| {
        format!(
            "{{\"event_type\":\"x\",\"device_id\":\"d\",\"event_properties\":{{\"p\":{value}}}}}"
        )
    };
    let body = format!("{{\"events\":[{},{},{}]}}", event("1"), event(&list), event("2"));
    let answer = gateway.request(page("/amplitude/2/httpapi"), body).await;
    assert_eq!(answer.json()["events_ingested"], 2);
    assert!(gateway.counts("tagway_events_dropped_total{site=\"shop\",reason=\"too_large\"} 1"));
    assert_eq!(gateway.events().await.len(), 2);
}

#[tokio::test]
async fn observations_count_for_each_event() {
    let mut limits = limits();
    limits.inflated_bytes = 40_000;
    let gateway = start_with_limits(limits).await;
    let cookies: Vec<String> = (0..10).map(|n| format!("_ga_{n}={}", "x".repeat(500))).collect();
    let batch = |n| json!((0..n).map(|n| track(&n.to_string())).collect::<Vec<_>>()).to_string();
    let request = || page("/e").header("cookie", cookies.join("; "));
    assert_eq!(gateway.request(request(), batch(10)).await.status, 413);
    assert_eq!(gateway.request(request(), batch(2)).await.status, 204);
}

#[tokio::test]
async fn refusal_of_everything_sets_no_cookie_and_no_ad_id() {
    let gateway = start_gateway().await;
    let message = |id: &str, preferences: serde_json::Value| {
        json!({
            "type": "page", "messageId": id,
            "context": {
                "page": { "url": "https://shop.example/?gclid=Abc" },
                "consent": { "categoryPreferences": preferences },
            },
        })
    };
    let known =
        gateway.request(page("/e"), message("m0", json!({ "analytics": true })).to_string()).await;
    let cookie = known.fields["set-cookie"].to_str().unwrap().split(';').next().unwrap();
    let no = json!({ "analytics": false, "advertising": false });
    for (id, preferences) in [("m1", no.clone()), ("m2", no), ("m3", json!({ "C0004": false }))] {
        let request = page("/e").header("cookie", cookie);
        let answer = gateway.request(request, message(id, preferences).to_string()).await;
        assert_eq!(answer.status, 204);
        assert!(!answer.fields.contains_key("set-cookie"));
    }
    let no_ads = json!({ "analytics": true, "advertising": false });
    let answer = gateway.request(page("/e"), message("m4", no_ads).to_string()).await;
    assert_eq!(answer.fields.get_all("set-cookie").iter().count(), 1, "the identity alone");
    let events = gateway.events().await;
    let (first, others) = events.split_first().unwrap();
    assert!(first.facts.click_ids.contains_key("gclid") && first.facts.visitor.is_some());
    assert!(others.iter().all(|event| event.facts.click_ids.is_empty()));
    for event in &others[..3] {
        assert!(event.facts.visitor.is_none() && event.facts.session.is_none());
        assert_ne!(event.anonymous_id, first.anonymous_id, "nobody is known again");
    }
}

#[tokio::test]
async fn pages_may_read_not_found() {
    let gateway = start_gateway().await;
    for (method, path, status) in [("POST", "/nothing", 404), ("PUT", "/e", 405)] {
        let request = to(method, path).header("origin", "https://shop.example");
        let answer = gateway.request(request, "").await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.fields["access-control-allow-origin"], "https://shop.example");
    }
}

#[tokio::test]
async fn refused_requests_and_preflights_have_a_quota_too() {
    let requests = [
        (to("GET", "/nothing"), 404),
        (to("GET", "/e"), 405),
        (to("POST", "/e").header("origin", "https://evil.example"), 403),
        (to("OPTIONS", "/e").header("access-control-request-method", "POST"), 204),
    ];
    for (request, status) in requests {
        let gateway = start_gateway().await;
        let head = request.body(()).unwrap().into_parts().0;
        let mut statuses = Vec::new();
        for _ in 0..101 {
            let mut request = to(head.method.as_str(), head.uri.path());
            for (name, value) in &head.headers {
                request.headers_mut().unwrap().insert(name.clone(), value.clone());
            }
            statuses.push(gateway.request(request, "").await.status.as_u16());
        }
        assert_eq!(statuses[..100], [status; 100]);
        assert_eq!(statuses[100], 429, "after {status}");
        assert_eq!(gateway.request(page("/e"), track("m").to_string()).await.status, 429);
    }
}

#[tokio::test]
async fn server_with_its_token_in_the_body_is_not_limited_as_a_client() {
    let mut limits = limits();
    limits.rates.client_burst = NonZeroU32::MIN;
    let gateway = start_with_limits(limits).await;
    let keyed = |id: &str, key: &str| {
        let mut message = track(id);
        message["writeKey"] = json!(key);
        message.to_string()
    };
    let request = async |id: &str, key: &str| {
        gateway.request(to("POST", "/v1/track"), keyed(id, key)).await.status.as_u16()
    };
    assert_eq!(request("m1", "shop-web").await, 200);
    assert_eq!(request("m2", "shop-web").await, 429);
    assert_eq!(request("m3", "wrong").await, 429);
    for n in 0..10 {
        assert_eq!(request(&format!("server {n}"), "a-server-token-of-the-shop").await, 200);
    }
    // Bodies that prove nothing are not read without limit.
    let mut last = 0;
    for _ in 0..30 {
        last = request("m4", "a-server-token-of-the-shop").await;
    }
    assert_eq!(last, 429);
    assert_eq!(gateway.events().await.len(), 1 + 10 + 1);
}

#[tokio::test]
async fn responses_of_the_edge_are_counted_and_readable() {
    let gateway = start_gateway().await;
    let client = ClientFacts { client: "192.0.2.7".parse().unwrap(), secure: true };
    let answer = gateway.gateway.respond_overloaded(&page("/e").body(()).unwrap(), client);
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://shop.example");
    assert!(gateway.counts("tagway_requests_total{site=\"shop\",route=\"e\",code=\"503\"} 1"));
    let lost = "tagway_events_dropped_total{site=\"shop\",reason=\"overloaded\"} 1";
    assert!(gateway.counts(lost));
    let mut moved = Response::new(tagway_core::answer::ResponseBody::default());
    *moved.status_mut() = http::StatusCode::PERMANENT_REDIRECT;
    gateway.gateway.record_edge_response(&to("GET", "/nothing").body(()).unwrap(), client, moved);
    assert!(gateway.counts("tagway_requests_total{site=\"shop\",route=\"none\",code=\"308\"} 1"));
    assert!(gateway.counts(lost));
}

#[tokio::test]
async fn several_hosts_are_refused() {
    let gateway = start_gateway().await;
    let request = page("/e").header("host", "t.shop.example");
    assert_eq!(gateway.request(request, track("m").to_string()).await.status, 400);
}

#[tokio::test]
async fn no_timestamp_panics() {
    let gateway = start_gateway().await;
    for (n, time) in [i64::MIN, i64::MAX, 0, -1].into_iter().enumerate() {
        let mut message = track(&n.to_string());
        message["timestamp"] = json!(time.to_string());
        message["sentAt"] = json!(time);
        assert_eq!(gateway.request(page("/e"), message.to_string()).await.status, 204, "{time}");
    }
}

#[tokio::test]
async fn unparsable_messages_are_repaired_or_refused_alone() {
    let gateway = start_gateway().await;
    let message = |id: &str, own: &str| {
        let (head, own) = ("\"type\":\"track\",\"event\":\"x\",\"anonymousId\":\"a\"", own);
        format!("{{{head},\"messageId\":\"{id}\",{own}}}")
    };
    let bodies = [
        message("m1", r#""properties":{"cut \ud83d":"\ude00\ud83d\ude00"}"#),
        message("m2", r#""name":"\ud83d","traits":{"big":1e5}"#),
        message("m3", r#""properties":{"a":[{"huge":1e999}]}"#),
        message("m4", r#""context":{"a":{"\u0024serde_json::private::RawValue":"{"}}"#),
        message("m5", r#""name":1e999"#),
    ];
    let answer = gateway.request(page("/e"), format!("[{}]", bodies.join(","))).await;
    assert_eq!(answer.status, 200);
    let rejected = answer.json()["rejected"].as_array().unwrap().clone();
    assert!(rejected.iter().all(|item| item["reason"] == "malformed"), "{rejected:?}");
    let indices: Vec<_> = rejected.iter().map(|item| item["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, [2, 3, 4]);
    let events = gateway.events().await;
    let properties = events[0].properties.as_ref().unwrap();
    assert_eq!(properties["cut \u{fffd}"], "\u{fffd}\u{1f600}");
    assert_eq!(events[1].name.as_deref(), Some("\u{fffd}"));
    let shared = format!("{{\"context\":{{\"a\":1e999}},\"batch\":[{}]}}", track("m6"));
    assert_eq!(gateway.request(page("/e"), shared).await.status, 400);
}

/// JSON as clients, careless and hostile ones, may write it.
fn json_text() -> impl Strategy<Value = String> {
    let escape = prop_oneof![
        "\\\\u[dD][89abcdef][0-9a-f]{2}",
        "\\\\u[0-9a-f]{4}",
        Just("$serde_json::private::RawValue".to_owned()),
        Just("\\u0024serde_json::private::RawValue".to_owned()),
        "[ -!#-\\[\\]-~é]{0,8}",
    ];
    let string = proptest::collection::vec(escape, 0..3).prop_map(|parts| parts.concat());
    let string = string.prop_map(|text| format!("\"{text}\""));
    let leaf = prop_oneof![
        string.clone(),
        "-?[1-9][0-9]{0,20}(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?",
        "[1-9][0-9]{295,312}",
        Just("null".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let entry =
            (string.clone(), inner.clone()).prop_map(|(key, value)| format!("{key}:{value}"));
        prop_oneof![
            proptest::collection::vec(inner, 0..4)
                .prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec(entry, 0..4).prop_map(|all| format!("{{{}}}", all.join(","))),
        ]
    })
}

proptest! {
    #[test]
    fn every_accepted_message_can_be_read(
        value in json_text(), shared in json_text(), name in json_text(), time in any::<i64>(),
        place in 0_usize..4, shim in prop::sample::select(vec!["", "ga4", "meta", "posthog"]),
    ) {
        let limits = limits();
        let terms = decode::DecodeContext { limits: &limits, kind: None, placeholder_ids: &[], anonymizes_ip: false, received_at: NOON.parse().unwrap() };
        let place = ["properties", "traits", "context", "integrations"][place];
        let text = format!(
            "{{\"context\":{{\"all\":{shared}}},\"batch\":[{{\"type\":\"page\",\"name\":{name},\
             \"shim\":\"{shim}\",\
             \"anonymousId\":\"a\",\"timestamp\":{time},\"{place}\":{{\"own\":{value}}}}}]}}"
        );
        let Ok(judged) = decode::read(text.as_bytes(), &terms) else { return Ok(()) };
        for draft in judged.drafts {
            let record = serde_json::to_vec(&draft.event).unwrap();
            let read = serde_json::from_slice::<tagway_core::event::Event>(&record);
            prop_assert!(read.is_ok(), "{text}: {read:?}");
            let tree = serde_json::from_slice::<serde_json::Value>(&record);
            prop_assert!(tree.is_ok(), "{text}: {tree:?}");
        }
    }

    #[test]
    fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let limits = limits();
        let terms = decode::DecodeContext { limits: &limits, kind: None, placeholder_ids: &[], anonymizes_ip: false, received_at: NOON.parse().unwrap() };
        let Ok(text) = BodyText::scan(&body, limits.json_depth) else { return Ok(()) };
        if let Ok(opened) = MessageBody::open(&text, &limits.body_limits()) {
            let judged = decode::read(&body, &terms).unwrap();
            prop_assert_eq!(judged.drafts.len() + judged.rejected.len(), opened.len());
        }
    }

    #[test]
    fn every_message_keeps_the_limits(
        kind in "[a-z]{0,8}", name in ".{0,20}", id in ".{0,2000}", time in ".{0,30}",
    ) {
        let limits = limits();
        let received_at = NOON.parse().unwrap();
        let terms = decode::DecodeContext { limits: &limits, kind: None, placeholder_ids: &[], anonymizes_ip: false, received_at };
        let message = json!({
            "type": kind, "event": name, "messageId": id, "anonymousId": id, "timestamp": time,
            "sentAt": time, "userId": name,
        });
        let text = message.to_string();
        for draft in decode::read(text.as_bytes(), &terms).unwrap().drafts {
            prop_assert!(draft.event.timestamp <= received_at);
            prop_assert!(!draft.event.message_id.is_empty());
            prop_assert!(draft.event.message_id.len() <= limits.field_bytes);
        }
    }

    #[test]
    fn no_query_panics(query in ".{0,300}") {
        let limits = limits();
        let terms = decode::DecodeContext { limits: &limits, kind: None, placeholder_ids: &[], anonymizes_ip: false, received_at: NOON.parse().unwrap() };
        drop(decode::read_query(&query, &terms, &limits.body_limits()));
    }
}
