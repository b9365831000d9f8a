//! Tests of the collector's endpoints as a whole.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::beacon_format::test_support::{TestBeaconRequest, broken, broken_query};

const TP2: &str = "/com.snowplowanalytics.snowplow/tp2";

const ECOMMERCE: &str = "iglu:com.snowplowanalytics.snowplow.ecommerce";

fn described(schema: &str, data: Value) -> Value {
    json!({ "schema": schema, "data": data })
}

/// A payload of a self-describing event with entities.
fn event(schema: &str, data: Value, entities: Value) -> Value {
    let event = described(
        "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0",
        described(schema, data),
    );
    let entities =
        described("iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0", entities);
    json!({ "e": "ue", "ue_pr": event.to_string(), "co": entities.to_string() })
}

fn posted(payloads: Value) -> TestBeaconRequest {
    let schema = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4";
    TestBeaconRequest::new(Method::POST, TP2, described(schema, payloads).to_string())
}

fn only(payload: Value) -> Value {
    let mut messages = posted(json!([payload])).decode(&SnowplowBeacon).unwrap();
    assert_eq!(messages.len(), 1);
    Value::Object(messages.remove(0))
}

#[test]
fn endpoint_accepts_collector_paths_and_sites_own() {
    for (path, methods) in [
        (TP2, AllowedMethods::Both),
        ("/com.acme/track", AllowedMethods::Both),
        ("/i", AllowedMethods::Get),
        ("/ice.png", AllowedMethods::Get),
        ("/health", AllowedMethods::Get),
        ("/com.snowplowanalytics.iglu/v1", AllowedMethods::Both),
    ] {
        assert_eq!(SnowplowBeacon.endpoint(path), Some(methods), "{path}");
    }
    for unknown in ["/", "", "/x", "/r/tp2", "/a/b/c", "/a//b", "//b", "/a%20b/c"] {
        assert_eq!(SnowplowBeacon.endpoint(unknown), None, "{unknown}");
    }
}

#[test]
fn every_action_of_the_plugin_has_a_canonical_name() {
    let schema = format!("{ECOMMERCE}/snowplow_ecommerce_action/jsonschema/1-0-2");
    for (action, expected) in [
        ("product_view", "Product Viewed"),
        ("list_view", "Product List Viewed"),
        ("list_click", "Product Clicked"),
        ("add_to_cart", "Product Added"),
        ("remove_from_cart", "Product Removed"),
        ("promo_view", "Promotion Viewed"),
        ("promo_click", "Promotion Clicked"),
        ("checkout_step", "Checkout Step Completed"),
        ("transaction", "Order Completed"),
        ("refund", "Order Refunded"),
        ("trns_error", "trns_error"),
    ] {
        let message = only(event(&schema, json!({ "type": action }), json!([])));
        assert_eq!(message["event"], expected);
    }
    let step = described(
        &format!("{ECOMMERCE}/checkout_step/jsonschema/1-0-0"),
        json!({ "step": 1, "coupon_code": "C" }),
    );
    let message = only(event(&schema, json!({ "type": "checkout_step" }), json!([step])));
    assert_eq!(message["event"], "Checkout Started");
    assert_eq!(message["properties"], json!({ "step": 1, "coupon": "C" }));
}

#[test]
fn every_action_of_the_plugin_named_after_googles_has_a_canonical_name() {
    const GOOGLE: &str = "iglu:com.google.analytics.enhanced-ecommerce";
    let entity =
        |name: &str, data: Value| described(&format!("{GOOGLE}/{name}/jsonschema/1-0-0"), data);
    let schema = format!("{GOOGLE}/action/jsonschema/1-0-0");
    let of = |action: &str, entities: Value| {
        let message = only(event(&schema, json!({ "action": action }), entities));
        (message["event"].as_str().unwrap().to_owned(), message["properties"].clone())
    };
    for (action, expected) in [
        ("detail", "Product Viewed"),
        ("click", "Product Clicked"),
        ("add", "Product Added"),
        ("remove", "Product Removed"),
        ("checkout", "Checkout Step Completed"),
        ("purchase", "Order Completed"),
        ("refund", "Order Refunded"),
        ("promo_click", "Promotion Clicked"),
        ("view", "Product List Viewed"),
        ("checkout_option", "checkout_option"),
    ] {
        assert_eq!(of(action, json!([])).0, expected);
    }
    let promotion = entity("promoFieldObject", json!({ "id": "p1" }));
    let seen = of("view", json!([promotion]));
    assert_eq!(seen, ("Promotion Viewed".to_owned(), json!({ "promotion_id": "p1" })));
    let step = entity("actionFieldObject", json!({ "step": "1" }));
    assert_eq!(of("checkout", json!([step])).0, "Checkout Started");
    let product = entity("productFieldObject", json!({ "id": "a", "price": "5" }));
    let order = entity("actionFieldObject", json!({ "id": "o1", "revenue": "5" }));
    let added = of("add", json!([product]));
    assert_eq!(added.1, json!({ "product_id": "a", "price": 5 }));
    assert_eq!(
        of("purchase", json!([product, order])).1,
        json!({ "order_id": "o1", "revenue": 5, "total": 5, "value": 5,
                "products": [{ "product_id": "a", "price": 5 }] })
    );
}

#[test]
fn one_product_is_the_event_and_several_are_listed() {
    let schema = format!("{ECOMMERCE}/snowplow_ecommerce_action/jsonschema/1-0-2");
    let product = |id: &str| {
        described(
            &format!("{ECOMMERCE}/product/jsonschema/1-0-0"),
            json!({ "id": id, "price": 5, "size": null }),
        )
    };
    let one = only(event(&schema, json!({ "type": "add_to_cart" }), json!([product("a")])));
    assert_eq!(one["properties"], json!({ "product_id": "a", "price": 5 }));
    let two = json!([product("a"), product("b")]);
    let two = only(event(&schema, json!({ "type": "add_to_cart" }), two));
    let listed = json!([{ "product_id": "a", "price": 5 }, { "product_id": "b", "price": 5 }]);
    assert_eq!(two["properties"], json!({ "products": listed }));
    // An event of another kind keeps entities that it does not use.
    let other = only(event("iglu:com.acme/x/jsonschema/1-0-0", json!({}), json!([product("a")])));
    assert_eq!(other["context"]["entities"], json!([product("a")]));
}

#[test]
fn user_entity_gives_a_user_id_unless_it_is_a_guest() {
    let schema = format!("{ECOMMERCE}/user/jsonschema/1-0-0");
    let of = |user: Value| {
        let entities = json!([described(&schema, user)]);
        only(event("iglu:com.acme/x/jsonschema/1-0-0", json!({}), entities))
    };
    let known = of(json!({ "id": "u1", "is_guest": false, "email": "a@b.co" }));
    assert_eq!(known["userId"], "u1");
    assert_eq!(known["context"]["traits"], json!({ "email": "a@b.co" }));
    assert_eq!(of(json!({ "id": "u1", "is_guest": true })).get("userId"), None);
}

#[test]
fn sp_anonymous_drops_all_ids() {
    let user = described(&format!("{ECOMMERCE}/user/jsonschema/1-0-0"), json!({ "id": "secret" }));
    let google =
        described("iglu:com.google.ga4/cookies/jsonschema/1-0-0", json!({ "_ga": "secret" }));
    let session = described(
        "iglu:com.snowplowanalytics.snowplow/client_session/jsonschema/1-0-2",
        json!({ "userId": "secret" }),
    );
    let schema = "iglu:com.acme/x/jsonschema/1-0-0";
    let mut payload = event(schema, json!({}), json!([user, google, session]));
    for id in ["uid", "duid", "nuid", "tnuid"] {
        payload[id] = "secret".into();
    }
    let messages =
        posted(json!([payload])).with("sp-anonymous", "*").decode(&SnowplowBeacon).unwrap();
    let text = serde_json::to_string(&messages).unwrap();
    assert!(!text.contains("secret"), "{text}");
    assert_eq!(messages[0]["anonymousId"], "daily1");
}

#[test]
fn app_context_is_set_for_apps_only() {
    let app = |platform: &str| {
        let message = only(json!({ "e": "pv", "aid": "shop", "p": platform }));
        message["context"].get("app").cloned()
    };
    assert_eq!((app("web"), app("mob")), (None, Some(json!({ "name": "shop" }))));
}

#[test]
fn true_timestamp_is_sent_without_sent_at() {
    let times = |payload: Value| {
        let message = only(payload);
        (message.get("timestamp").cloned(), message.get("sentAt").cloned())
    };
    let (noon, later) = ("2026-11-23T12:00:00Z", "2026-11-23T12:00:01Z");
    let device = json!({ "e": "pv", "dtm": "1795435200000", "stm": "1795435201000" });
    assert_eq!(times(device), (Some(noon.into()), Some(later.into())));
    let known = json!({ "e": "pv", "dtm": "1", "ttm": "1795435200000", "stm": "1795435201000" });
    assert_eq!(times(known), (Some(noon.into()), None));
    assert_eq!(times(json!({ "e": "pv", "dtm": "" })), (None, None));
    for nonsense in ["-99999999999999999", "1e400", "x"] {
        // The gateway counts times that it cannot read.
        let found = times(json!({ "e": "pv", "dtm": nonsense, "stm": nonsense }));
        assert_eq!(found, (Some(nonsense.into()), None));
    }
}

#[test]
fn items_join_the_order_that_they_came_with() {
    let messages = posted(json!([
        { "e": "ti", "ti_id": "o1", "ti_sk": "s1", "ti_pr": "5", "ti_qu": "2" },
        { "e": "tr", "tr_id": "o1", "tr_tt": "12.5" },
        { "e": "ti", "ti_id": "o2", "ti_sk": "s2" },
    ]))
    .decode(&SnowplowBeacon)
    .unwrap();
    let events: Vec<&Value> = messages.iter().map(|message| &message["event"]).collect();
    assert_eq!(events, ["Order Completed", "transaction_item"]);
    assert_eq!(
        messages[0]["properties"],
        json!({
            "order_id": "o1", "revenue": 12.5, "total": 12.5, "value": 12.5,
            "products": [{ "sku": "s1", "price": 5, "quantity": 2 }],
        })
    );
    assert_eq!(messages[1]["properties"], json!({ "order_id": "o2", "sku": "s2" }));
}

#[test]
fn libraries_have_names_and_versions() {
    for (written, name, version) in [
        ("js-4.10.1", "snowplow-js", Some("4.10.1")),
        ("node-js-3.0.0-beta.1", "snowplow-node-js", Some("3.0.0-beta.1")),
        ("pixel", "snowplow-pixel", None),
    ] {
        let message = only(json!({ "e": "pv", "tv": written }));
        let library = &message["context"]["library"];
        assert_eq!(library["name"], name);
        assert_eq!(library.get("version").and_then(Value::as_str), version);
    }
}

/// One event of each kind.
fn good() -> String {
    let session = described(
        "iglu:com.snowplowanalytics.snowplow/client_session/jsonschema/1-0-2",
        json!({ "userId": "u", "sessionId": "s" }),
    );
    let schema = format!("{ECOMMERCE}/snowplow_ecommerce_action/jsonschema/1-0-2");
    let order = described(
        &format!("{ECOMMERCE}/transaction/jsonschema/1-0-0"),
        json!({ "transaction_id": "o", "revenue": 5 }),
    );
    let data = json!([
        { "e": "pv", "url": "https://shop.example/p?a=b", "page": "P", "dtm": "1795434644917" },
        { "e": "tr", "tr_id": "o", "tr_tt": "5" },
        { "e": "ti", "ti_id": "o", "ti_sk": "s" },
        { "e": "se", "se_ca": "c", "se_ac": "a", "res": "1x2", "vid": "1" },
        event(&schema, json!({ "type": "transaction" }), json!([session, order])),
    ]);
    json!({ "schema": "iglu:a/payload_data/jsonschema/1-0-4", "data": data }).to_string()
}

#[test]
fn a_good_request_is_read_whole() {
    let messages =
        TestBeaconRequest::new(Method::POST, TP2, good()).decode(&SnowplowBeacon).unwrap();
    assert_eq!(messages.len(), 4);
    assert_eq!(messages[3]["context"]["sessionId"], "s");
    assert_eq!(messages[3]["anonymousId"], "u");
}

proptest! {
    #[test]
    fn any_body_is_read_without_harm(
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            broken(&good()),
        ],
        path in prop_oneof![Just(TP2), Just("/com.snowplowanalytics.iglu/v1")],
    ) {
        TestBeaconRequest::new(Method::POST, path, body).check(&SnowplowBeacon, 12);
    }

    #[test]
    fn any_query_is_read_without_harm(
        query in prop_oneof![
            "[!-~]{0,200}",
            broken_query("e=se&se_ca=c&se_ac=a&url=https%3A%2F%2Fx%2F%3Fa&res=1x2&dtm=1&vid=1"),
            broken_query("e=pv&url=https%3A%2F%2Fshop.example%2F&duid=d&refr=r&page=p"),
            broken_query("schema=iglu:a/b/j/1-0-0&x=y"),
        ],
        path in prop_oneof![Just("/i"), Just("/com.snowplowanalytics.iglu/v1")],
    ) {
        TestBeaconRequest::new(Method::GET, &format!("{path}?{query}"), "").check(&SnowplowBeacon, 12);
    }

    #[test]
    fn any_encoded_event_is_read_without_harm(json in broken(&good())) {
        let encoded = URL_SAFE_NO_PAD.encode(json);
        let target = format!("/i?e=ue&ue_px={encoded}&cx={encoded}");
        TestBeaconRequest::new(Method::GET, &target, "").check(&SnowplowBeacon, 12);
    }
}
