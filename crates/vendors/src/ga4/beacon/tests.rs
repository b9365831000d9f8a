//! From gtag's request to the parameters sent by the Measurement Protocol, and arbitrary requests.

use http::Method;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::beacon_format::test_support::{TestBeaconRequest, broken, broken_query};
use crate::ga4::rules::RULES;
use crate::ga4::tests::mapped;
use crate::test_support::event;

const QUERY: &str = "v=2&tid=G-V4WZGN7VET&_p=126682165&cid=1763984794.1795434662&ul=en-us&_s=3&uid=user-42\
                     &sid=1795434661&sct=1&seg=0&dl=https%3A%2F%2Fwww.shop.example%2F&dt=Product%20page";

const BODY: &str = "en=sign_up&_ee=1&ep.method=email&_et=1527\r\n\
    en=view_item&_ee=1&pr1=idSKU_1~nmA~~tilde~pr10.01~qt3~caApparel~k0color~v0red&epn.value=30.03&cu=USD\r\n\
    en=custom_ev&_ee=1&epn.num=5&ep.str=x&ep.flag=true&ep.obj=%5Bobject%20Object%5D&up.tier=gold";

fn decode(query: &str, body: &str) -> Vec<Value> {
    let sent = TestBeaconRequest::new(Method::POST, &format!("/g/collect?{query}"), body);
    sent.decode(&Ga4Beacon).unwrap().into_iter().map(Value::Object).collect()
}

#[test]
fn purchase_returns_in_googles_original_form() {
    let query = format!(
        "{QUERY}&en=purchase&pr1=idSKU_1~nmN~pr20~qt2&ep.transaction_id=T1&epn.value=40&epn.tax=2\
         &epn.shipping=3&ep.coupon=C&cu=USD"
    );
    let messages = decode(&query, "");
    assert_eq!(messages[0]["event"], "Order Completed");
    assert_eq!(messages[0]["properties"]["order_id"], "T1");
    let (name, params) = mapped(&event(messages[0].clone()));
    assert_eq!(name, "purchase");
    assert_eq!(
        params,
        json!({
            "session_id": 1_795_434_661_u64, "session_number": 1, "engagement_time_msec": 1,
            "page_location": "https://www.shop.example/", "page_title": "Product page",
            "transaction_id": "T1", "coupon": "C", "shipping": 3, "tax": 2,
            "currency": "USD", "value": 40,
            "items": [{ "item_id": "SKU_1", "item_name": "N", "price": 20, "quantity": 2 }],
        })
    );
}

#[test]
fn every_standard_event_keeps_its_name() {
    for rule in RULES {
        let query = format!(
            "{QUERY}&en={}&pr1=idA~nmB~pr1~qt1&ep.transaction_id=T&epn.value=1&cu=EUR&ep.search_term=x\
             &ep.shipping_tier=fast",
            rule.name
        );
        let messages = decode(&query, "");
        assert_eq!(mapped(&event(messages[0].clone())).0, rule.name);
    }
}

#[test]
fn shim_and_library_yield_the_same_event() {
    let sent_by_shim = |name: &str, properties: Value| {
        let mut message =
            json!({ "type": "track", "event": name, "shim": "ga4", "properties": properties });
        to_canonical(message.as_object_mut().unwrap());
        message
    };
    let item = json!({ "item_id": "A", "item_name": "B", "price": 2.5, "quantity": 2, "index": 1,
        "item_brand": "C", "item_category": "D", "item_variant": "E", "item_list_name": "F", "size": "L" });
    for rule in RULES {
        let name = rule.name;
        let query = format!(
            "{QUERY}&en={name}&pr1=idA~nmB~pr2.5~qt2~lp1~brC~caD~vaE~lnF~k0size~v0L\
             &ep.transaction_id=T&epn.value=5&cu=EUR&ep.search_term=x&ep.shipping_tier=fast\
             &ep.item_list_id=l&ep.promotion_name=p&epn.tax=1&up.plan=pro&ep.user_data.email_address=a%40b.co"
        );
        let by_library = decode(&query, "").pop().unwrap();
        let by_shim = sent_by_shim(
            name,
            json!({
                "transaction_id": "T", "value": "5", "currency": "EUR", "search_term": "x",
                "shipping_tier": "fast", "item_list_id": "l", "promotion_name": "p", "tax": "1", "items": [item],
                "user_properties": { "plan": "pro" }, "user_data": { "email": "a@b.co" },
                "send_to": "G-1", "event_callback": null, "event_timeout": 9, "user_id": "u", "debug_mode": true,
            }),
        );
        assert_eq!(by_shim["event"], by_library["event"]);
        assert_eq!(by_shim["properties"], by_library["properties"], "{name}");
        assert_eq!(by_shim["context"]["traits"], by_library["context"]["traits"], "{name}");
        assert_eq!(by_shim["context"]["source"], json!({ "client": "gtag", "event": name }));
    }
    let mut page = json!({ "type": "page", "name": "page_view", "properties": {
        "page_location": "https://s.example/", "page_title": "T", "page_type": "x", "plan": "a" } });
    to_canonical(page.as_object_mut().unwrap());
    assert_eq!(
        page["properties"],
        json!({ "url": "https://s.example/", "title": "T", "plan": "a" })
    );
    assert_eq!(
        (page.get("name"), &page["context"]["source"]["event"]),
        (None, &json!("page_view"))
    );
}

#[test]
fn shim_drops_settings_and_keeps_all_user_data() {
    let mut message = json!({ "type": "track", "event": "quote", "properties": {
        "developer_id.dOGY3NW": true, "linker": { "domains": ["a.example"] }, "ads_data_redaction": true,
        "url_passthrough": false, "allow_google_signals": false, "anonymize_ip": true, "forceSSL": true,
        "custom_map": { "dimension1": "x" }, "cookie_domain": "auto", "linker_id": "own",
        "user_data": {
            "email": ["a@b.co", "c@d.co"], "phone_number": "+12065550100",
            "address": [{ "first_name": "Ann", "last_name": "Lee", "street": "1 Rd", "city": "X",
                "region": "CA", "postal_code": "1", "country": "US" }],
        } } });
    to_canonical(message.as_object_mut().unwrap());
    assert_eq!(message["properties"], json!({ "linker_id": "own" }));
    let person = json!({ "email": "a@b.co", "phone": "+12065550100", "firstName": "Ann", "lastName": "Lee",
        "address": { "street": "1 Rd", "city": "X", "state": "CA", "postalCode": "1", "country": "US" } });
    assert_eq!(message["context"]["traits"], person);
}

#[test]
fn batch_shares_its_query_and_each_line_is_an_event() {
    let messages = decode(QUERY, BODY);
    let names: Vec<&str> =
        messages.iter().map(|it| it["event"].as_str().unwrap_or("identify")).collect();
    assert_eq!(names, ["Signed Up", "Product Viewed", "identify", "custom_ev"]);
    assert_eq!(messages[2]["traits"], json!({ "tier": "gold" }));
    assert_eq!(messages[1]["properties"]["currency"], "USD");
    assert!(messages[0]["properties"].get("currency").is_none(), "another line's");
    assert_eq!(messages[3]["properties"], json!({ "num": 5, "str": "x", "flag": true }));
    let ids: std::collections::BTreeSet<String> =
        messages.iter().map(|it| it["messageId"].to_string()).collect();
    assert_eq!(ids.len(), 4, "each its own");
    assert_eq!(decode(QUERY, BODY), messages, "and the same ones if it comes again");
}

#[test]
fn stream_reply_is_sent_only_on_request() {
    use crate::beacon::BeaconOutcome;
    let ask = |query: &str| {
        let sent = TestBeaconRequest::new(Method::POST, &format!("/g/collect?{query}"), "");
        sent.answer(&Ga4Beacon, BeaconOutcome::Ignored).status.as_u16()
    };
    assert_eq!((ask("v=2&richsstsse"), ask("v=2"), ask("v=2&richsstsse&x")), (200, 204, 204));
}

#[test]
fn long_query_is_refused_for_many_events() {
    let events = |query: &str, lines: usize| {
        let body = "en=a\n".repeat(lines);
        let sent = TestBeaconRequest::new(Method::POST, &format!("/g/collect?{query}"), body);
        sent.decode(&Ga4Beacon).map(|messages| messages.len())
    };
    let long = format!("{QUERY}&ep.a={}", "x".repeat(15_000));
    assert_eq!(events(&long, 1), Ok(1));
    assert!(events(&long, 20).is_err());
    let likely = format!("{QUERY}&ep.a={}", "x".repeat(2_500));
    assert_eq!(events(&likely, 20), Ok(20));
    assert_eq!(events(QUERY, 100), Ok(25));
}

proptest! {
    #[test]
    fn any_request_is_read_within_bounds(
        query in broken_query(QUERY),
        body in prop_oneof![broken(BODY), proptest::collection::vec(any::<u8>(), 0..500)],
    ) {
        let whole = format!("/g/collect?{QUERY}");
        TestBeaconRequest::new(Method::POST, &format!("/g/collect?{query}"), body.clone()).check(&Ga4Beacon, 60);
        // Each line repeats the parameters of the query.
        let lines = String::from_utf8_lossy(&body).lines().count().max(1) * 2;
        TestBeaconRequest::new(Method::POST, &whole, body).check(&Ga4Beacon, 12 * lines);
    }
}
