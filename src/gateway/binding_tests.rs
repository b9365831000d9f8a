//! The visitors of a request's events: GET requests, other sites' pages, login proofs, message ids.

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::request::Builder;
use serde_json::{Value, json};
use sha2::Sha256;

use super::tests::{
    TestGateway, TestResponse, basic, page, start_gateway, start_with_mounts, to, track,
};
use super::{BeaconForwarding, BeaconMode};
use tagway_core::event::{Event, SenderRank};
use tagway_core::visitor::test_support::LOGIN_KEY;
use tagway_vendors::beacon_format;

const GA_COOKIE: &str = "_ga=GA1.1.1763984794.1795434662";

/// Returns the cookies of a returning browser, and its visitor's id.
async fn browser(gateway: &TestGateway) -> (String, String) {
    let landing = json!({ "type": "page", "messageId": "landing",
        "context": { "page": { "url": "https://shop.example/?gclid=Abc&utm_source=news" } } });
    let answer = gateway.request(page("/e"), landing.to_string()).await;
    let fields = answer.fields.get_all("set-cookie").iter();
    let pairs = fields.filter_map(|it| it.to_str().unwrap().split(';').next());
    let cookies: Vec<&str> = pairs.chain([GA_COOKIE]).collect();
    let visitor = last(gateway).await.facts.visitor.unwrap().id;
    (cookies.join("; "), visitor)
}

async fn last(gateway: &TestGateway) -> Event {
    gateway.events().await.pop().unwrap()
}

/// Returns the event that a request became.
async fn event_of(gateway: &TestGateway, request: Builder, body: impl Into<bytes::Bytes>) -> Event {
    let before = gateway.events().await.len();
    let answer = gateway.request(request, body).await;
    let events = gateway.events().await;
    assert_eq!(events.len(), before + 1, "{}", answer.status);
    events.into_iter().next_back().unwrap()
}

/// Returns the event of a request whose response sets no cookie.
async fn bare_event_of(
    gateway: &TestGateway,
    request: Builder,
    body: impl Into<bytes::Bytes>,
) -> Event {
    let answer = gateway.request(request, body).await;
    assert!(!answer.fields.contains_key("set-cookie"), "{:?}", answer.fields);
    last(gateway).await
}

fn is_known(event: &Event) -> bool {
    event.facts.visitor.is_some()
}

/// Returns true if the event has nothing of the browser's cookies.
fn is_without_cookie(event: &Event, visitor: &str) -> bool {
    let facts = &event.facts;
    let is_blank = facts.visitor.is_none()
        && facts.session.is_none()
        && facts.cookies.is_empty()
        && facts.click_ids.is_empty()
        && facts.campaign.is_none();
    is_blank && !serde_json::to_string(event).unwrap().contains(visitor)
}

fn data(message: &Value) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(message.to_string())
}

#[tokio::test]
async fn get_that_names_another_is_an_event_without_the_cookie() {
    let gateway = start_gateway().await;
    let (cookies, visitor) = browser(&gateway).await;
    let identify = data(&json!({ "type": "identify", "userId": "attacker" }));
    let people = data(&json!({ "event": "E", "properties": { "token": "t",
        "distinct_id": "attacker", "$user_id": "attacker" } }));
    let snowplow = "/snowplow/i?e=pv&p=web&tv=js-4.10.1&eid=e1";
    for (path, user) in [
        ("/px.gif?type=identify&userId=attacker", Some("attacker")),
        ("/px.gif?event=x&userId=attacker", Some("attacker")),
        ("/px.gif?type=alias&userId=attacker&previousId=p", Some("attacker")),
        (&format!("/px.gif?data={identify}"), Some("attacker")),
        ("/px.gif?type=identify&traits.email=a@b.example", None),
        ("/px.gif?type=page&context.traits.email=a@b.example", None),
        ("/px.gif?type=page&context.traits.plan=gold", None),
        ("/px.gif?type=group&groupId=attackers", None),
        ("/px.gif?type=page&context.groupId=attackers", None),
        ("/px.gif?type=page&anonymousId=attackers-device", None),
        ("/px.gif?type=page&context.clientIds.mixpanel=attackers-device", None),
        ("/px.gif?type=page&context.clientIds.ga4=GA1.1.1.2", None),
        ("/px.gif?type=page&context.device.id=attackers-device", None),
        (
            "/ga4/g/collect?v=2&tid=G-1&cid=1763984794.1795434662&en=page_view&uid=attacker",
            Some("attacker"),
        ),
        ("/ga4/g/collect?v=2&tid=G-1&cid=1.2&en=page_view", None),
        ("/meta/tr?id=1&ev=PageView&ud[external_id]=attacker", None),
        ("/meta/tr?id=1&ev=PageView&ud[em]=a@b.example", None),
        ("/meta/tr?id=1&ev=PageView&fbp=fb.1.1.2", None),
        (
            "/matomo/matomo.php?idsite=1&rec=1&url=https%3A%2F%2Fshop.example%2F&uid=attacker",
            Some("attacker"),
        ),
        (
            "/matomo/matomo.php?idsite=1&rec=1&url=https%3A%2F%2Fshop.example%2F&_id=a275e1309ec7ea27",
            None,
        ),
        (&format!("/mixpanel/track/?data={people}"), None),
        (&format!("{snowplow}&uid=attacker"), Some("attacker")),
        (&format!("{snowplow}&duid=89a0906f"), None),
        (&format!("/segment/v1/pixel/identify?data={identify}"), Some("attacker")),
        ("/rudderstack/pixel/v1/page?userId=attacker", Some("attacker")),
    ] {
        let asked = to("GET", path).header("cookie", &cookies).header("user-agent", "Firefox");
        let before = gateway.events().await.len();
        let event = bare_event_of(&gateway, asked, "").await;
        assert_eq!(gateway.events().await.len(), before + 1, "{path}");
        assert!(is_without_cookie(&event, &visitor), "{path}: {event:?}");
        if user.is_some() {
            assert_eq!(event.user_id.as_deref(), user, "delivered as it was told: {path}");
        }
        assert_eq!(event.facts.rank(), SenderRank::Claimed, "{path}");
    }
    // A browser without a cookie gets none that would be the attacker's.
    let pixel = to("GET", "/px.gif?type=page&userId=attacker");
    let first = bare_event_of(&gateway, pixel, "").await;
    assert!(!is_known(&first));
}

#[tokio::test]
async fn get_that_names_no_one_else_is_the_visitors() {
    let gateway = start_gateway().await;
    let (cookies, visitor) = browser(&gateway).await;
    let own = format!("/px.gif?type=page&anonymousId={visitor}");
    let more =
        "_pk_id.1.2c3d=a275e1309ec7ea27.1795434661.; _sp_id.1fff=89a0906f.17.1; _fbp=fb.1.1.2";
    let cookies = format!("{cookies}; {more}");
    for path in [
        "/px.gif?type=page",
        "/px.gif?event=Email+Opened&properties.n=1",
        &own,
        "/ga4/g/collect?v=2&tid=G-1&cid=1763984794.1795434662&en=page_view",
        "/meta/tr?id=1&ev=PageView&fbp=fb.1.1.2",
        "/matomo/matomo.php?idsite=1&rec=1&url=https%3A%2F%2Fshop.example%2F&_id=a275e1309ec7ea27",
        "/snowplow/i?e=pv&p=web&tv=js-4.10.1&eid=e2&duid=89a0906f",
    ] {
        let asked = to("GET", path).header("cookie", &cookies).header("user-agent", "Firefox");
        let event = event_of(&gateway, asked, "").await;
        assert_eq!(event.facts.visitor.unwrap().id, visitor, "{path}");
        assert_eq!(event.facts.click_ids["gclid"].value, "Abc", "{path}");
    }
    let new = event_of(&gateway, to("GET", "/px.gif?type=page"), "").await;
    assert!(is_known(&new), "and a new browser is given a cookie");
}

#[tokio::test]
async fn request_of_another_site_is_an_event_without_the_cookie() {
    let gateway = start_gateway().await;
    let (cookies, visitor) = browser(&gateway).await;
    let message = json!({ "type": "page" }).to_string();
    let identify = json!({ "type": "identify", "userId": "attacker" }).to_string();
    let key = json!({ "type": "identify", "userId": "attacker", "writeKey": "shop-web" });
    let key = key.to_string();
    let hit = "/matomo/matomo.php?idsite=1&rec=1&url=https%3A%2F%2Fshop.example%2F";
    let foreign: [&[(&str, &str)]; 6] = [
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")],
        &[("sec-fetch-site", "cross-site"), ("origin", "https://shop.example")],
        &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")],
        &[("referer", "https://evil.example/shop.example")],
    ];
    for fields in foreign {
        for (method, path, body) in [
            ("GET", "/px.gif?type=page", ""),
            ("GET", hit, ""),
            ("POST", "/e", &message),
            ("POST", "/e", &identify),
            ("POST", "/v1/identify", &key),
            ("POST", hit, ""),
        ] {
            let asked = to(method, path).header("cookie", &cookies).header("user-agent", "Firefox");
            let asked =
                fields.iter().fold(asked, |asked, (name, value)| asked.header(*name, *value));
            let event = bare_event_of(&gateway, asked, body.to_owned()).await;
            assert!(is_without_cookie(&event, &visitor), "{fields:?} {path}: {event:?}");
        }
    }
}

#[tokio::test]
async fn pages_of_the_site_keep_their_visitor() {
    let gateway = start_gateway().await;
    let (cookies, visitor) = browser(&gateway).await;
    let identify = json!({ "type": "identify", "userId": "u1" }).to_string();
    let own: [&[(&str, &str)]; 6] = [
        &[("sec-fetch-site", "same-site"), ("origin", "https://shop.example")],
        &[("sec-fetch-site", "same-origin"), ("origin", "https://t.shop.example")],
        &[("origin", "https://shop.example")],
        &[("referer", "https://shop.example/cart")],
        &[("referer", "https://www.shop.example/cart")],
        &[],
    ];
    for fields in own {
        let asked = to("POST", "/e").header("cookie", &cookies);
        let asked = fields.iter().fold(asked, |asked, (name, value)| asked.header(*name, *value));
        let event = event_of(&gateway, asked, identify.clone()).await;
        assert_eq!(event.facts.visitor.unwrap().id, visitor, "{fields:?}");
        assert_eq!(event.user_id.as_deref(), Some("u1"));
    }
}

#[tokio::test]
async fn another_site_can_neither_reset_a_visitor_nor_identify_one() {
    let gateway = start_gateway().await;
    let (cookies, _) = browser(&gateway).await;
    let reset = |fields: &[(&str, &str)]| {
        let asked = to("POST", "/reset").header("cookie", &cookies);
        fields.iter().fold(asked, |asked, (name, value)| asked.header(*name, *value))
    };
    let sets = |answer: &TestResponse| answer.fields.contains_key("set-cookie");
    for (name, value) in [("sec-fetch-site", "cross-site"), ("referer", "https://evil.example/")] {
        let answer = gateway.request(reset(&[(name, value)]), "").await;
        assert!(!sets(&answer), "{name}");
        assert_eq!(answer.status, 204);
    }
    for foreign in ["https://evil.example", "null", "https://users.shop.example"] {
        let answer = gateway.request(reset(&[("origin", foreign)]), "").await;
        assert_eq!((answer.status.as_u16(), sets(&answer)), (403, false), "{foreign}");
    }
    assert!(sets(&gateway.request(reset(&[("origin", "https://shop.example")]), "").await));
    for path in ["/tw.js", "/tw/preview.js?token=x"] {
        let asked = to("GET", path).header("cookie", &cookies);
        assert!(!sets(&gateway.request(asked, "").await), "{path}");
    }
}

/// Returns the proof of a user id, without expiry or until a second since 1970.
fn proof(user: &str, until: Option<u64>) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(LOGIN_KEY.as_bytes()).unwrap();
    mac.update(user.as_bytes());
    let time = until.map(|until| until.to_string());
    if let Some(time) = &time {
        mac.update(&[0]);
        mac.update(time.as_bytes());
    }
    let mac: String = hex::encode(mac.finalize().into_bytes());
    time.map_or(mac.clone(), |time| format!("v1.{time}.{mac}"))
}

/// 2026-11-23T12:00:00Z.
const NOW: u64 = 1_795_435_200;

#[tokio::test]
async fn login_proof_makes_only_its_own_message_proven_and_is_removed() {
    let gateway = start_gateway().await;
    let (good, late) = (proof("u1", Some(NOW + 1)), proof("u1", Some(NOW)));
    let (plain, anothers) = (proof("u1", None), proof("u2", None));
    let message = |more: Value| {
        let mut message = json!({ "type": "identify", "userId": "u1" });
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        message
    };
    let in_integrations = |vendor: &str, proof: &str| {
        message(json!({ "integrations": { vendor: { "user_hash": proof } } }))
    };
    for (sent, is_proven) in [
        (message(json!({ "proof": good })), true),
        (message(json!({ "proof": plain })), true),
        (message(json!({ "userHash": plain })), true),
        (message(json!({ "context": { "userHash": plain } })), true),
        (in_integrations("Tagway", &plain), true),
        (in_integrations("Intercom", &plain), true),
        (in_integrations("Intercom", &anothers), false),
        (message(json!({ "proof": late })), false),
        (message(json!({ "proof": anothers })), false),
        (message(json!({ "proof": "x" })), false),
        (message(json!({ "proof": 7 })), false),
        (message(json!({})), false),
        (json!({ "type": "track", "event": "x", "anonymousId": "u1", "proof": plain }), false),
    ] {
        let event = event_of(&gateway, page("/e"), sent.to_string()).await;
        assert_eq!(event.facts.proven, is_proven, "{sent}");
        let text = serde_json::to_string(&event).unwrap();
        for proof in [&good, &late, &plain, &anothers] {
            assert!(!text.contains(proof.as_str()), "{text}");
        }
    }
    let count = |result: &str, count: u32| {
        let line =
            format!("tagway_login_proofs_total{{site=\"shop\",result=\"{result}\"}} {count}");
        assert!(gateway.counts(&line), "{line}");
    };
    count("valid", 6);
    count("expired", 1);
    count("invalid", 4);
}

#[tokio::test]
async fn login_proof_counts_in_every_format_with_a_place_for_it_and_never_in_a_get() {
    let gateway = start_gateway().await;
    let proof = proof("u1", None);
    let message = json!({ "type": "identify", "userId": "u1", "anonymousId": "a1",
        "integrations": { "Tagway": { "userHash": proof } } });
    let batch = json!({ "batch": [message], "writeKey": "shop-web" }).to_string();
    let message = message.to_string();
    for (path, body) in [
        ("/e", &message),
        ("/v1/identify", &message),
        ("/v1/batch", &batch),
        ("/segment/v1/i", &message),
        ("/segment/v1/batch", &batch),
        ("/rudderstack/v1/identify", &message),
    ] {
        let asked = page(path).header("authorization", basic("shop-web"));
        let event = event_of(&gateway, asked, body.clone()).await;
        assert!(event.facts.proven, "{path}");
        assert!(!serde_json::to_string(&event).unwrap().contains(&proof), "{path}");
    }
    let data = data(&serde_json::from_str(&message).unwrap());
    for path in [
        format!("/px.gif?data={data}"),
        format!("/px.gif?type=identify&userId=u1&proof={proof}"),
        format!("/segment/v1/pixel/identify?data={data}"),
    ] {
        let event = event_of(&gateway, to("GET", &path), "").await;
        assert!(!event.facts.proven, "{path}");
        assert!(!serde_json::to_string(&event).unwrap().contains(&proof), "{path}");
    }
    let line = "tagway_login_proofs_total{site=\"shop\",result=\"invalid\"} 3";
    assert!(gateway.counts(line));
}

#[tokio::test]
async fn proof_of_one_message_proves_no_other_of_its_batch() {
    let gateway = start_gateway().await;
    let proof = proof("u1", None);
    let batch = json!({ "batch": [
        { "type": "identify", "userId": "u1", "messageId": "a", "proof": proof },
        { "type": "identify", "userId": "u1", "messageId": "b" },
        { "type": "identify", "userId": "u2", "messageId": "c", "proof": proof },
        { "type": "alias", "userId": "u2", "previousId": "u1", "messageId": "d", "proof": proof },
    ] });
    gateway.request(page("/e"), batch.to_string()).await;
    let proven: Vec<bool> = gateway.events().await.iter().map(|it| it.facts.proven).collect();
    assert_eq!(proven, [true, false, false, false]);
}

#[tokio::test]
async fn server_needs_no_proof_and_its_messages_keep_none() {
    let gateway = start_gateway().await;
    let proof = proof("u1", None);
    let message = json!({ "type": "identify", "userId": "u1", "proof": proof,
        "integrations": { "Intercom": { "user_hash": proof } } });
    let asked = to("POST", "/v1/identify");
    let asked = asked.header("authorization", basic("a-server-token-of-the-shop"));
    let event = event_of(&gateway, asked, message.to_string()).await;
    assert_eq!(event.facts.rank(), SenderRank::Server);
    assert!(!event.facts.proven && !serde_json::to_string(&event).unwrap().contains(&proof));
    gateway.gateway.send("shop", message.to_string().as_bytes()).await.unwrap();
    assert!(!serde_json::to_string(&last(&gateway).await).unwrap().contains(&proof));
}

#[tokio::test]
async fn forwarded_beacon_keeps_no_proof() {
    let gateway = start_with_mounts(|mount| {
        let upstream = "https://api.segment.io".parse().unwrap();
        mount.beacons = BeaconMode::Both(BeaconForwarding { upstream, consent: Vec::new() });
    });
    let gateway = gateway.await;
    let (proof, other) = (proof("u1", None), "f".repeat(64));
    let message = json!({ "type": "identify", "userId": "u1", "anonymousId": "a1",
        "traits": { "plan": "gold" },
        "integrations": { "Tagway": { "userHash": proof }, "Intercom": { "user_hash": other } } });
    gateway.request(page("/segment/v1/i"), message.to_string()).await;
    let raw = last(&gateway).await.facts.beacon.unwrap();
    let body = String::from_utf8(beacon_format::base64(&raw.body).unwrap()).unwrap();
    assert!(!body.contains(&proof) && body.contains("gold"), "{body}");
    assert!(body.contains(&other), "Intercom's own goes to whom it is for");
    let before = gateway.events().await.len();
    // A proof in a form that the gateway does not find keeps the beacon from being passed on.
    let pixel = format!("/segment/v1/pixel/identify?data={}", data(&message));
    gateway.request(to("GET", &pixel), "").await;
    let events = gateway.events().await;
    assert_eq!(events.len(), before + 1);
    assert!(events.last().unwrap().facts.beacon.is_none());
}

/// Returns a message of this id with this anonymous id, or none.
fn order(id: &str, anonymous_id: Option<&str>) -> String {
    let mut message = track(id);
    match anonymous_id {
        Some(anonymous_id) => message["anonymousId"] = anonymous_id.into(),
        None => drop(message.as_object_mut().unwrap().remove("anonymousId")),
    }
    message.to_string()
}

#[tokio::test]
async fn message_id_used_by_a_stranger_is_new_to_servers_browsers_and_other_strangers() {
    let gateway = start_gateway().await;
    let (cookies, _) = browser(&gateway).await;
    let count = async || gateway.events().await.len();
    let hit = "/mixpanel/track?verbose=1";
    let mixpanel = json!([{ "event": "E", "properties": {
        "token": "t", "distinct_id": "x", "$insert_id": "order-1", "time": NOW } }]);
    gateway.request(page("/e"), order("order-1", None)).await;
    gateway.request(page("/e"), order("order-1", Some("stranger"))).await;
    gateway
        .request(
            page("/v1/track").header("authorization", basic("shop-web")),
            order("order-1", Some("second")),
        )
        .await;
    gateway.request(page(hit), mixpanel.to_string()).await;
    assert_eq!(count().await, 5, "each is a sender of its own");
    let server = || {
        let asked = to("POST", "/v1/track");
        asked.header("authorization", basic("a-server-token-of-the-shop"))
    };
    let browser = || page("/e").header("cookie", &cookies);
    gateway.request(browser(), order("order-1", None)).await;
    assert_eq!(count().await, 6, "a browser with its cookie");
    gateway.request(server(), order("order-1", Some("a1"))).await;
    assert_eq!(count().await, 7, "a server");
    gateway.gateway.send("shop", order("order-1", Some("a1")).as_bytes()).await.unwrap();
    gateway.request(server(), order("order-1", Some("a2"))).await;
    gateway.request(browser(), order("order-1", None)).await;
    gateway.request(browser(), order("order-1", Some("other"))).await;
    gateway.request(page("/e"), order("order-1", Some("third"))).await;
    assert_eq!(count().await, 7, "and again it is the server's");
}

#[tokio::test]
async fn retry_is_one_event_with_and_without_the_first_responses_cookie() {
    let gateway = start_gateway().await;
    let count = async || gateway.events().await.len();
    for (id, anonymous_id) in [("m1", None), ("m2", Some("a1"))] {
        let before = count().await;
        let first = gateway.request(page("/e"), order(id, anonymous_id)).await;
        let cookie = first.fields["set-cookie"].to_str().unwrap().split(';').next().unwrap();
        // The response was lost, cookie and all.
        gateway.request(page("/e"), order(id, anonymous_id)).await;
        // The browser read its head only.
        gateway.request(page("/e").header("cookie", cookie), order(id, anonymous_id)).await;
        assert_eq!(count().await, before + 1, "{id}");
    }
}

#[tokio::test]
async fn tags_of_one_page_record_an_order_once() {
    let gateway = start_gateway().await;
    let (cookies, _) = browser(&gateway).await;
    let before = gateway.events().await.len();
    for (path, anonymous_id) in [("/e", None), ("/segment/v1/t", Some("ajs")), ("/e", None)] {
        let asked = page(path).header("cookie", &cookies);
        gateway.request(asked, order("order-7", anonymous_id)).await;
    }
    assert_eq!(gateway.events().await.len(), before + 1);
}
