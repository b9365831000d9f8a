//! Tests beyond the fixtures under `tests/fixtures/vendors/meta/beacon`: round trips of all rules, and
//! hostile requests.

use http::{Method, StatusCode};
use proptest::prelude::*;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::*;
use crate::beacon_format::is_blank;
use crate::beacon_format::test_support::{TestBeaconRequest, broken, broken_query};
use crate::meta::settings::MetaSettings;
use crate::meta::{map, rules};
use crate::test_support;
use tagway_core::event::DroppedFields;

const DIGEST: &str = "80305c9bb1bb2480e03894350e0a8a366dcbdeb302e69e0817aa0743abd77054";

fn got(query: &str) -> TestBeaconRequest {
    TestBeaconRequest::new(Method::GET, &format!("/tr/?{query}"), "")
}

fn only(query: &str) -> Value {
    let mut messages = got(query).decode(&MetaBeacon).unwrap();
    assert_eq!(messages.len(), 1);
    Value::Object(messages.remove(0))
}

/// Returns the event that the destination sends to Meta for an event from Meta's library.
fn meta_event_of(query: &str) -> Value {
    let mut message = only(query);
    message["facts"] = json!({ "ip": "203.0.113.9", "userAgent": "Mozilla/5.0" });
    message["receivedAt"] = test_support::NOW.into();
    let text = "pixel_id = \"1\"\naccess_token = \"hush\"";
    let settings = test_support::settings(text, |section| MetaSettings::read(section, None));
    let hit =
        map::map(&test_support::event(message), &settings, &mut DroppedFields::default()).unwrap();
    serde_json::from_str(&hit.json).unwrap()
}

#[test]
fn destination_sends_what_the_pixel_sent() {
    let standard = [
        "PageView",
        "ViewContent",
        "Search",
        "AddToCart",
        "AddToWishlist",
        "InitiateCheckout",
        "AddPaymentInfo",
        "Purchase",
        "Lead",
        "CompleteRegistration",
        "Contact",
        "CustomizeProduct",
        "Donate",
        "FindLocation",
        "Schedule",
        "StartTrial",
        "SubmitApplication",
        "Subscribe",
    ];
    let custom = ["Order Completed", "Product Clicked", "My Event", "lead", "purchase"];
    let contents = r#"[{"id":"p1","quantity":2,"item_price":9.5},{"id":"p2","quantity":1}]"#;
    for name in standard.into_iter().chain(custom) {
        for contents in ["", r#"[{"id":"p1","quantity":2,"item_price":9.5}]"#, contents] {
            let data = format!("cd[value]=25.5&cd[currency]=USD&cd[contents]={contents}");
            let query = format!("id=1&ev={name}&ts=1795435199500&eid=e.1&{data}");
            let query = query.replace(' ', "%20");
            let event = meta_event_of(&format!(
                "{query}&dl=https%3A%2F%2Fx.example%2Fa&rl=https://y.example"
            ));
            assert_eq!(event["event_name"], name, "{query}");
            assert_eq!(
                (&event["event_id"], &event["event_time"]),
                (&json!("e.1"), &json!(1_795_435_199))
            );
            assert_eq!(event["event_source_url"], "https://x.example/a");
            assert_eq!(event["referrer_url"], "https://y.example");
            assert_eq!(event["action_source"], "website");
            if name == "PageView" {
                continue;
            }
            let stated = &event["custom_data"];
            assert_eq!(
                (&stated["value"], &stated["currency"]),
                (&json!(25.5), &json!("USD")),
                "{query}"
            );
            if !contents.is_empty() {
                let contents: Value = serde_json::from_str(contents).unwrap();
                assert_eq!(stated["contents"], contents, "{query}");
                assert_eq!(stated["content_type"], "product");
            }
        }
    }
}

#[test]
fn shim_and_library_give_the_same_message() {
    let data = json!({
        "value": "25.5", "currency": "USD", "content_type": "product", "content_name": "n",
        "content_category": "c", "search_string": "007", "num_items": 2, "own": "true", "none": "",
    });
    let items = json!([{ "id": "p1", "quantity": 2, "item_price": 9.5 }, { "id": "p2" }]);
    for name in ["ViewContent", "Search", "AddToCart", "Purchase", "Lead", "Own", "Donate"] {
        for contents in [json!([]), json!([items[0]]), items.clone()] {
            let mut data = data.clone();
            data["contents"] = contents.clone();
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.extend_pairs([("id", "1"), ("ev", name), ("eid", "e.1"), ("dpo", "LDU")]);
            query.extend_pairs([("dpoco", "1"), ("dpost", "1000"), ("ud[em]", "a@b.co")]);
            query.extend_pairs([("ud[ct]", "basel"), ("ud[ph]", DIGEST), ("ud[external_id]", "7")]);
            for (key, value) in data.as_object().unwrap() {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                query.append_pair(&format!("cd[{key}]"), &text);
            }
            let by_library = only(&query.finish());
            let mut by_shim = json!({
                "type": "track", "event": name, "shim": "meta", "properties": data, "context": {
                    "traits": { "em": "a@b.co", "ct": "basel", "ph": DIGEST, "external_id": 7 },
                    "dataProcessingOptions": [["LDU"], 1, 1000],
                    "consent": { "categoryPreferences": { "advertising": true } },
                    "source": { "event_id": "e.1", "pixel_id": "1" },
                },
            });
            to_canonical(by_shim.as_object_mut().unwrap());
            assert_eq!(by_shim["event"], by_library["event"]);
            let without_empty = |value: &Value| {
                let members = value.as_object().unwrap().iter().filter(|(_, it)| !is_blank(it));
                members
                    .map(|(key, it)| (key.clone(), it.clone()))
                    .collect::<tagway_core::event::JsonObject>()
            };
            assert_eq!(
                without_empty(&by_shim["properties"]),
                without_empty(&by_library["properties"]),
                "{name} {contents}"
            );
            for member in ["traits", "clientIds", "dataProcessingOptions"] {
                assert_eq!(by_shim["context"][member], by_library["context"][member], "{member}");
            }
            assert_eq!(
                by_shim["context"]["consent"],
                json!({ "categoryPreferences": { "advertising": true }, "meta_ldu": true })
            );
            assert_eq!(
                by_shim["context"]["source"],
                json!({ "event_id": "e.1", "pixel_id": "1", "client": "meta", "event": name })
            );
        }
    }
}

#[test]
fn canonical_finds_the_rule_of_metas_name() {
    for (name, several, expected) in [
        ("ViewContent", false, Some("PRODUCT_VIEWED")),
        ("ViewContent", true, Some("PRODUCT_LIST_VIEWED")),
        ("AddToCart", true, Some("PRODUCT_ADDED")),
        ("Purchase", true, Some("ORDER_COMPLETED")),
        ("CompleteRegistration", false, Some("SIGNED_UP")),
        ("Lead", false, Some("LEAD")),
        ("Donate", false, None),
        ("purchase", false, None),
    ] {
        assert_eq!(rules::canonical(name, several).map(|rule| rule.canonical), expected, "{name}");
    }
}

#[test]
fn metas_own_fields_round_trip() {
    let retold = |data: &str| {
        meta_event_of(&format!("id=1&dl=https://x.example/&ts=1795435200000&{data}"))["custom_data"]
            .clone()
    };
    let viewed = "ev=ViewContent&cd[content_name]=Mug&cd[content_category]=A%2CB&cd[value]=9.50\
        &cd[currency]=EUR&cd[content_ids]=[%22p1%22]&cd[content_type]=product_group";
    assert_eq!(
        retold(viewed),
        json!({ "value": 9.5, "currency": "EUR", "content_name": "Mug", "content_category": "A,B",
            "content_type": "product_group", "content_ids": ["p1"],
            "contents": [{ "id": "p1", "quantity": 1 }] })
    );
    let searched = "ev=Search&cd[search_string]=007&cd[content_category]=A";
    assert_eq!(retold(searched), json!({ "search_string": "007", "content_category": "A" }));
    let bought = "ev=Purchase&cd[value]=10&cd[currency]=usd&cd[order_id]=0012&cd[num_items]=7\
        &cd[contents]=[{%22id%22:7,%22quantity%22:%222%22,%22item_price%22:%225.0%22,\
        %22delivery_category%22:%22in_store%22}]";
    assert_eq!(
        retold(bought),
        json!({ "value": 10, "currency": "USD", "order_id": "0012", "content_type": "product",
            "content_ids": ["7"], "num_items": 7, "contents": [{ "id": "7", "quantity": 2,
                "item_price": 5.0, "delivery_category": "in_store" }] })
    );
    let started = "ev=StartTrial&cd[predicted_ltv]=99.0&cd[status]=true&cd[plan]=12";
    assert_eq!(retold(started), json!({ "predicted_ltv": 99.0, "status": true, "plan": 12 }));
}

#[test]
fn digests_are_neither_hashed_again_nor_made_traits() {
    let query = format!(
        "id=1&ev=Contact&dl=https://x.example/&ts=1795435200000&ud[em]={}&ud[fn]=Jos%C3%A9\
         &ud[ct]=Bern&ud[external_id]=user-42&udff[ph]={DIGEST}&udff[em]=found&ud[zz]=x&ud[]=y",
        DIGEST.to_uppercase(),
    );
    let message = only(&query);
    let context = &message["context"];
    assert_eq!(
        context["traits"],
        json!({ "email": "found", "firstName": "José", "address": { "city": "Bern" } })
    );
    assert_eq!(context["clientIds"]["meta"]["external_id"], "user-42");
    let user_data = &meta_event_of(&query)["user_data"];
    assert_eq!((&user_data["em"], &user_data["ph"]), (&json!([DIGEST]), &json!([DIGEST])));
    assert_eq!(user_data["ct"][0].as_str(), crate::digest::sha256("bern").as_deref());
    let id = crate::digest::sha256("user-42").unwrap();
    assert!(user_data["external_id"].as_array().unwrap().contains(&id.into()), "{user_data}");
}

#[test]
fn metas_cookies_and_processing_options_round_trip() {
    let query = "id=1&ev=Contact&dl=https://x.example/&ts=1795435200000\
        &fbp=fb.1.1795434762840.123456789&fbc=fb.1.1795434762840.AbC.AQ&dpo=LDU&dpoco=1&dpost=1000";
    let event = meta_event_of(query);
    assert_eq!(event["user_data"]["fbp"], "fb.1.1795434762840.123456789");
    assert_eq!(event["user_data"]["fbc"], "fb.1.1795434762840.AbC.AQ");
    assert_eq!(event["data_processing_options"], json!(["LDU"]));
    assert_eq!(event["data_processing_options_country"], 1);
    assert_eq!(event["data_processing_options_state"], 1000);
    let unlimited = meta_event_of("id=1&ev=Contact&dl=https://x.example/&ts=1795435200000&dpo=");
    assert_eq!(unlimited["data_processing_options"], json!([]));
}

#[test]
fn message_id_uses_the_sites_id_else_the_times() {
    let id = |query: &str| only(&format!("id=1&ev=E&{query}")).get("messageId").cloned();
    assert_eq!(id("eid=e1&ts=1&it=2"), Some("e1.E".into()));
    let made = id("ts=1&it=2&ec=0").unwrap();
    assert_eq!(Some(&made), id("ec=0&it=2&ts=1&cd[a]=1").as_ref());
    for other in ["ts=1&it=2&ec=1", "ts=1&it=3&ec=0", "ts=2&it=2&ec=0", "eid=null&ts=1&it=2&ec=2"] {
        assert_ne!(Some(&made), id(other).as_ref(), "{other}");
    }
    assert_eq!((id("ts=1&ec=0"), id("noscript=1")), (None, None));
    assert_ne!(id(&format!("eid={}&ts=1&it=2", "x".repeat(2000))).unwrap(), "x".repeat(2000));
}

#[test]
fn events_sharing_an_id_get_own_message_ids_and_keep_it_for_meta() {
    let query =
        |event: &str| format!("id=1&dl=https://x.example/&ts=1795435200000&eid=E1&ev={event}");
    let long = "x".repeat(999);
    let mut ids = Vec::new();
    for event in ["PageView", "ViewContent", &long] {
        ids.push(only(&query(event))["messageId"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids[..2], ["E1.PageView", "E1.ViewContent"]);
    assert_eq!(ids[2].len(), 64, "a digest of what is too long");
    for event in ["PageView", "ViewContent"] {
        assert_eq!(meta_event_of(&query(event))["event_id"], "E1");
    }
}

#[test]
fn time_is_used_if_within_five_minutes() {
    let time = |ts: &str| only(&format!("id=1&ev=E&ts={ts}")).get("timestamp").cloned();
    assert_eq!(time("1795435199500"), Some("2026-11-23T11:59:59.5Z".into()));
    assert_eq!(time("1795435260000"), Some("2026-11-23T12:01:00Z".into()));
    for unlikely in ["1795430000000", "1795440000000", "-1", "99999999999999999999", "x", ""] {
        assert_eq!(time(unlikely), None, "{unlikely}");
    }
}

#[test]
fn numbers_are_parsed_and_ids_stay_texts() {
    let properties = only(
        "id=1&ev=E&cd[value]=25.50&cd[a]=1&cd[b]=001&cd[c]=1.50&cd[d]=%7B%22b%22%3A2%7D&cd[e]={x\
         &cd[f]=true&cd[order_id]=12&cd[g]=-0.5&cd[h]=-&cd[i]=1e999&cd[content_ids]=77&cd[x][y]=1",
    );
    assert_eq!(
        properties["properties"],
        json!({ "value": 25.5, "a": 1, "b": "001", "c": "1.50", "d": { "b": 2 }, "e": "{x",
            "f": true, "order_id": "12", "g": -0.5, "h": "-", "i": "1e999",
            "products": [{ "product_id": "77" }] })
    );
}

#[test]
fn products_come_from_contents_else_content_ids() {
    let products = |data: &str| {
        let properties = only(&format!("id=1&ev=InitiateCheckout&{data}"))["properties"].clone();
        let left = properties.get("contents").or(properties.get("content_ids")).is_some();
        (properties.get("products").cloned(), left)
    };
    let one = |id: &str| (Some(json!([{ "product_id": id }])), false);
    assert_eq!(products("cd[contents]=[{\"id\":\"a\"}]&cd[content_ids]=[\"b\"]"), one("a"));
    assert_eq!(products("cd[contents]={\"id\":\"a\"}"), one("a"));
    assert_eq!(products("cd[contents]=[\"a\"]"), one("a"));
    assert_eq!(products("cd[contents]=[{\"quantity\":1}]&cd[content_ids]=[\"b\"]").0, one("b").0);
    assert_eq!(products("cd[content_ids]=b"), one("b"));
    assert_eq!(products("cd[content_ids]=[null,7,\"\"]"), one("7"));
    assert_eq!(products("cd[contents]=x&cd[content_ids]=[]"), (None, true));
}

#[test]
fn batch_keeps_the_others_of_a_bad_event() {
    let events = |query: &str| {
        let messages = got(query).decode(&MetaBeacon)?;
        Ok::<_, BeaconDecodeError>(
            messages.iter().map(|message| message["type"].clone()).collect::<Vec<_>>(),
        )
    };
    let batch =
        "batch=1&events[0]=id%3D1%26ev%3DPageView&events[1]=ev%3Dx&events[2]=%3Fid%3D1%26ev%3DLead";
    assert_eq!(events(batch), Ok(vec!["page".into(), "track".into()]));
    assert_eq!(events("batch=1&events[0]=id%3D1%26ev%3DMicrodata"), Ok(vec![]));
    for bad in ["batch=1", "batch=1&events[0]=x", "batch=1&id=1&ev=E"] {
        assert!(events(bad).is_err(), "{bad}");
    }
}

#[test]
fn malformed_event_is_refused_and_still_answered() {
    for bad in ["", "id=1", "ev=E", "id=&ev=E", "id=x1&ev=E", "id=1&ev=", "id=1&ev=%20"] {
        assert!(got(bad).decode(&MetaBeacon).is_err(), "{bad}");
    }
    let answer = got("").answer(&MetaBeacon, BeaconOutcome::Ignored);
    assert_eq!((answer.status, answer.content_type), (StatusCode::OK, Some("image/gif")));
    assert_eq!(MetaBeacon.endpoint("/tr"), Some(AllowedMethods::Both));
    assert_eq!(MetaBeacon.endpoint("/tr//"), None);
    let attribution = TestBeaconRequest::new(Method::GET, &format!("{ATTRIBUTION}/?id=1&ev=E"), "");
    assert_eq!(attribution.decode(&MetaBeacon), Ok(Vec::new()));
}

/// Returns one event with all its fields.
fn good() -> String {
    format!(
        "id=123&ev=Purchase&dl=https%3A%2F%2Fx.example%2Fp%3Fa%3D1&rl=&if=false&ts=1795435200000\
         &cd[value]=25.5&cd[currency]=USD&cd[content_ids]=%5B%22p1%22%2C%22p2%22%5D&cd[order_id]=o\
         &cd[contents]=%5B%7B%22id%22%3A%22p1%22%2C%22quantity%22%3A2%7D%5D&sw=1280&sh=720\
         &ud[em]={DIGEST}&ud[fn]=jo&fbp=fb.1.1.2&v=2.9.111&ec=1&it=1795435200000&dpo=LDU&dpoco=0"
    )
}

proptest! {
    #[test]
    fn hostile_requests_decode_within_bounds(
        query in prop_oneof![
            Just(String::new()),
            broken_query(&good()),
            broken_query("batch=1&events[0]=id%3D1%26ev%3DPageView%26cd[a]%3D1&events[1]=id%3D1%26ev%3DE"),
        ],
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            broken(&good()),
            broken("--X\r\nContent-Disposition: form-data; name=\"ev\"\r\n\r\nE\r\n--X\r\n\
                Content-Disposition: form-data; name=\"id\"\r\n\r\n1\r\n--X--\r\n"),
        ],
        is_multipart in any::<bool>(),
    ) {
        let content_type = if is_multipart { "multipart/form-data; boundary=X" } else { "text/plain" };
        let target = format!("/tr/?{query}");
        TestBeaconRequest::new(Method::POST, &target, body).with("content-type", content_type).check(&MetaBeacon, 20);
        got(&query).check(&MetaBeacon, 20);
    }

    #[test]
    fn many_small_events_stay_small(count in 0..400_usize, event in "[a-z]{1,9}") {
        let each = |n: usize| format!("&events[{n}]=id%3D1%26ev%3D{event}%26cd[a]%3D%5B1,2,3%5D");
        let events: String = (0..count).map(each).collect();
        got(&format!("batch=1{events}")).check(&MetaBeacon, 20);
    }
}
