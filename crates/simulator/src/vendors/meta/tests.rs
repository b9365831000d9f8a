//! The simulated pixel's own rules, and the destination against it: every event that is sent is valid.

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, Uri};
use proptest::prelude::*;

use super::super::SimulatorKind;
use super::super::direct::DirectDestination;
use super::*;
use tagway_vendors::test_support;

fn any_object() -> impl Strategy<Value = Value> {
    const KNOWN: &str = "products product_id name price quantity order_id total revenue \
        currency query value url page referrer category list_id action_source content_type \
        content_ids contents num_items delivery_category fbc fbp traits email phone birthday \
        firstName address country state gender device os version type app dataProcessingOptions";
    test_support::any_object(
        KNOWN,
        prop_oneof![
            "[a-z]{1,5}@[a-z]{1,5}\\.com".prop_map(Value::from),
            "https?://[a-z]{1,9}\\.com/(\\?fbclid=[a-zA-Z.]{0,9})?".prop_map(Value::from),
            "fb\\.[0-9]\\.[0-9]{1,13}\\.[a-zA-Z.]{0,9}".prop_map(Value::from),
            proptest::sample::select(ACTION_SOURCES.as_slice()).prop_map(Value::from),
            Just(json!("12.50")),
            Just(json!("product")),
            Just(json!("Android")),
            Just(json!(["LDU"])),
        ],
    )
}

/// Generates the properties that decide on money, with valid and invalid values.
fn any_money() -> impl Strategy<Value = Value> {
    let keys = &["value", "revenue", "total", "price", "currency", "quantity", "order_id"][..];
    let values = vec![
        json!(-1),
        json!("-0.5"),
        json!(0),
        json!(12.5),
        json!("12.50"),
        json!(1e300),
        json!("eur"),
        json!("EURO"),
        json!(null),
        json!({}),
    ];
    let pairs = (proptest::sample::select(keys), proptest::sample::select(values));
    proptest::collection::vec(pairs, 0..7).prop_map(|pairs| {
        Value::Object(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    })
}

proptest! {
    #[test]
    fn mapped_events_pass_metas_own_checks(
        kind in proptest::sample::select(&["track", "track", "track", "page", "screen"][..]),
        name in prop_oneof![
            proptest::sample::select(&["Order Completed", "Product Viewed", "Product Added",
                "Products Searched", "Product List Viewed", "Checkout Started", "Signed Up",
                "Cart Viewed"][..]).prop_map(str::to_owned),
            ".{0,60}",
        ],
        properties in any_object(),
        money in any_money(),
        context in any_object(),
        ip in any::<std::net::IpAddr>(),
        agent in proptest::option::weighted(0.9, ".{0,40}"),
        user in ".{0,70}",
    ) {
        let pixel = DirectDestination::new(
            "meta",
            "currency = \"EUR\"\ndefault_country_code = \"41\"\ntest_event_code = \"TEST\\\"1\"",
            SimulatorKind::Meta,
        );
        let mut properties = properties;
        properties.as_object_mut().unwrap().extend(test_support::object(money));
        let event = test_support::event(json!({
            "type": kind, "event": name, "name": name, "userId": user, "properties": properties,
            "context": context, "facts": { "ip": ip, "userAgent": agent },
        }));
        let outcome = pixel.deliver(event).now_or_never().unwrap();
        prop_assert_eq!(pixel.tally().objections, Vec::<String>::new());
        let is_admitted = !outcome.starts_with("dead") && !outcome.starts_with("skipped");
        prop_assert!(!is_admitted || outcome == "delivered", "{outcome}");
    }
}

fn request(
    graph: &mut MetaSimulator,
    path: &str,
    token: &str,
    body: &Value,
    now: &str,
) -> SimulatorOutcome {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, "application/json".parse().unwrap());
    headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    let (target, body): (Uri, Bytes) = (path.parse().unwrap(), body.to_string().into());
    let now = now.parse().unwrap();
    let method = &Method::POST;
    graph.handle_request(&SimulatorRequest {
        method,
        target: &target,
        headers: &headers,
        body: &body,
        now,
        checks_credentials: true,
    })
}

fn body(name: &str, id: &str) -> Value {
    let time: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
    json!({ "data": [{ "event_name": name, "event_id": id, "event_time": time.as_second(),
        "action_source": "other", "user_data": { "fbp": "fb.1.1.1" } }] })
}

const PATH: &str = "/v25.0/123/events";
const NOON: &str = "2026-11-23T12:00:00Z";

#[test]
fn event_is_counted_once_in_two_days() {
    let graph = &mut MetaSimulator::default();
    let mut count = |name: &str, id: &str, now: &str| {
        let reading = request(graph, PATH, "t", &body(name, id), now);
        assert_eq!(reading.reply.status(), StatusCode::OK, "{:?}", reading.objections);
        reading.accepted.len()
    };
    assert_eq!(count("A", "1", NOON), 1);
    assert_eq!(count("A", "1", NOON), 0);
    assert_eq!(count("B", "1", NOON), 1, "another event");
    assert_eq!(count("A", "2", NOON), 1);
    assert_eq!(count("A", "1", "2026-11-25T12:00:00Z"), 0);
    assert_eq!(count("A", "1", "2026-11-25T12:00:01Z"), 1);
}

#[test]
fn rejections_have_the_graph_format() {
    let graph = &mut MetaSimulator::default();
    let good = body("A", "1");
    let mut bad = body("A", "2");
    bad["data"].as_array_mut().unwrap().extend(good["data"].as_array().cloned().unwrap());
    bad["data"][0]["user_data"] = json!({ "em": "jo@x.example" });
    let late = "2026-11-30T12:00:01Z";
    for (path, token, body, now, status, code, subcode) in [
        (PATH, "t", &bad, NOON, 400, 100, 0),
        (PATH, "t", &good, late, 400, 100, 2_804_003),
        (PATH, "", &good, NOON, 401, 190, 0),
        ("/v25.0/x/events", "t", &good, NOON, 400, 100, 33),
        ("/v25.0/123/other", "t", &good, NOON, 400, 2500, 0),
        ("/123/events", "t", &good, NOON, 400, 2500, 0),
    ] {
        let reading = request(graph, path, token, body, now);
        let answer: Value = serde_json::from_slice(reading.reply.body()).unwrap();
        let found = (&answer["error"]["code"], &answer["error"]["error_subcode"]);
        assert_eq!(reading.reply.status().as_u16(), status, "{path} {answer}");
        assert_eq!(found, (&json!(code), &json!(subcode)), "{path}");
        assert!(reading.accepted.is_empty() && !reading.objections.is_empty());
    }
}
