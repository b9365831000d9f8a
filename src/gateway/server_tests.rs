//! Vendors' libraries for servers and apps, below the vendors' mounts.

use serde_json::json;

use super::tests::{basic, page, start_gateway, start_with_mounts, to};
use super::{BeaconForwarding, BeaconMode};

const TOKEN: &str = "a-server-token-of-the-shop";
const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

#[tokio::test]
async fn server_token_counts_in_the_head_and_in_place_of_the_vendors_key() {
    let event = |key: &str| {
        json!({ "api_key": key, "events": [
            { "event_type": "x", "user_id": "u1", "ip": "203.0.113.9", "insert_id": key },
        ] })
    };
    let amplitude = "/amplitude/2/httpapi";
    let hit = format!(
        "?idsite=1&rec=1&uid=u1&url=https://shop.example/&cip=203.0.113.9&token_auth={TOKEN}"
    );
    let umami = json!({ "type": "event", "payload": {
        "website": "w", "id": "u1", "name": "x", "ip": "203.0.113.9", "userAgent": "Phone" } });
    let posthog = json!({ "api_key": TOKEN, "batch": [
        { "event": "x", "properties": { "distinct_id": "u1", "$lib": "posthog-node", "$ip": "203.0.113.9" } }] });
    let mixpanel = json!([{ "event": "x", "properties": {
        "distinct_id": "u1", "$user_id": "u1", "token": TOKEN, "ip": "203.0.113.9" } }]);
    let snowplow = json!({ "data": [{ "e": "pv", "uid": "u1", "ip": "203.0.113.9" }] });
    let bearer = format!("Bearer {TOKEN}");
    let cases = [
        (amplitude, None, event(TOKEN).to_string()),
        (amplitude, Some(bearer.clone()), event("k").to_string()),
        (&format!("/matomo/matomo.php{hit}"), None, String::new()),
        ("/umami/api/send", Some(bearer.clone()), umami.to_string()),
        ("/posthog/batch", None, posthog.to_string()),
        ("/mixpanel/import", Some(basic(TOKEN)), mixpanel.to_string()),
        ("/mixpanel/track", None, mixpanel.to_string()),
        ("/snowplow/com.snowplowanalytics.snowplow/tp2", Some(bearer), snowplow.to_string()),
        ("/jitsu/api/s/s2s/track", None, json!({ "event": "x", "userId": "u1" }).to_string()),
    ];
    for (path, authorization, body) in cases {
        let gateway = start_gateway().await;
        let request = to("POST", path).header("user-agent", "library/1");
        let request = match authorization {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        };
        let request = match path.starts_with("/jitsu") {
            true => request.header("x-write-key", TOKEN),
            false => request,
        };
        let answer = gateway.request(request, body).await;
        assert!(answer.status.is_success(), "{path}: {} {:?}", answer.status, answer.body);
        let events = gateway.events().await;
        let [event] = events.as_slice() else { panic!("{path}: {events:?}") };
        assert!(event.facts.from_server, "{path}");
        assert_eq!(event.user_id.as_deref(), Some("u1"), "{path}");
        let is_passed = !path.starts_with("/jitsu");
        let address = is_passed.then(|| "203.0.113.9".parse().unwrap());
        assert_eq!(event.facts.ip, address, "{path}");
    }
}

#[tokio::test]
async fn server_token_is_accepted_as_either_part_of_a_key_of_two_parts() {
    for (key, is_servers) in [
        (format!("key:{TOKEN}"), true),
        (format!("{TOKEN}:secret"), true),
        (format!("key:secret:{TOKEN}"), false),
        ("key:secret".to_owned(), false),
        ("shop-web:shop-web".to_owned(), false),
    ] {
        let gateway = start_gateway().await;
        let request = to("POST", "/jitsu/api/s/s2s/track").header("x-write-key", &key);
        let body = json!({ "event": "x", "userId": "u1" }).to_string();
        assert_eq!(gateway.request(request, body).await.status, 200, "{key}");
        assert_eq!(gateway.events().await[0].facts.from_server, is_servers, "{key}");
    }
}

#[tokio::test]
async fn messages_of_a_server_without_ids_get_an_id_each() {
    let group = json!([{ "$token": TOKEN, "$group_key": "company", "$group_id": "acme",
        "$set": { "tier": "gold" } }]);
    let hits = json!({ "token_auth": TOKEN, "requests": [
        "?idsite=1&rec=1&url=https://shop.example/", "?idsite=1&rec=1&url=https://shop.example/" ] });
    for (path, body, count) in [("/mixpanel/groups", group, 1), ("/matomo/matomo.php", hits, 2)] {
        let gateway = start_gateway().await;
        let request = to("POST", path).header("user-agent", "library/1");
        assert_eq!(gateway.request(request, body.to_string()).await.status, 200, "{path}");
        let events = gateway.events().await;
        let ids: std::collections::HashSet<_> =
            events.iter().filter_map(|event| event.anonymous_id.as_deref()).collect();
        assert_eq!((events.len(), ids.len()), (count, count), "{path}");
        assert!(events.iter().all(|event| event.facts.ephemeral_id), "{path}");
    }
}

#[tokio::test]
async fn snowplow_server_tracker_gets_422_for_a_body_that_is_too_large() {
    let gateway = start_gateway().await;
    let path = "/snowplow/com.snowplowanalytics.snowplow/tp2";
    let body = "x".repeat(9 << 20);
    let program = to("POST", path).header("user-agent", "snowplow-py/1");
    assert_eq!(gateway.request(program, body.clone()).await.status, 422);
    assert_eq!(gateway.request(page(path), body).await.status, 200);
}

#[tokio::test]
async fn public_key_does_not_make_a_server() {
    let gateway = start_gateway().await;
    let body = json!({ "api_key": "shop-web", "events": [
        { "event_type": "x", "user_id": "u1", "ip": "203.0.113.9" }] });
    gateway.request(to("POST", "/amplitude/2/httpapi"), body.to_string()).await;
    let facts = &gateway.events().await[0].facts;
    assert!(!facts.from_server);
    assert_eq!(facts.ip, Some("192.0.2.7".parse().unwrap()), "that of the connection");
}

#[tokio::test]
async fn cookie_jar_of_a_program_does_not_merge_two_users() {
    let gateway = start_gateway().await;
    let hit = "/matomo/matomo.php?idsite=1&rec=1&url=https://shop.example/";
    let program = to("POST", hit).header("user-agent", "python-requests/2.32");
    assert!(!gateway.request(program, "").await.fields.contains_key("set-cookie"));
    let browser = to("POST", hit).header("user-agent", BROWSER);
    assert!(gateway.request(browser, "").await.fields.contains_key("set-cookie"));
    assert!(gateway.request(page(hit), "").await.fields.contains_key("set-cookie"));
}

#[tokio::test]
async fn event_ids_are_scoped_by_name_and_person_where_the_vendor_does_so() {
    let gateway = start_gateway().await;
    let event = |name: &str, user: &str| {
        json!([{ "event": name, "properties": {
            "distinct_id": user, "$user_id": user, "$insert_id": "order-77", "token": TOKEN } }])
        .to_string()
    };
    for (name, user) in
        [("Order Paid", "u1"), ("Order Shipped", "u1"), ("Order Paid", "u2"), ("Order Paid", "u1")]
    {
        gateway.request(to("POST", "/mixpanel/track"), event(name, user)).await;
    }
    assert_eq!(gateway.events().await.len(), 3, "the last is the first again");
}

#[tokio::test]
async fn program_gets_the_reason_for_a_rejection() {
    let gateway = start_gateway().await;
    for path in
        ["/plausible/api/event", "/posthog/batch", "/rudderstack/v1/batch", "/umami/api/send"]
    {
        let answer = gateway.request(to("POST", path), "{").await;
        assert_eq!(answer.status, 400, "{path}");
        let answered = answer.json();
        assert!(
            answered["message"].is_string() && answered["error"].is_string(),
            "{path}: {answered}"
        );
        let of_page = gateway.request(page(path), "{").await;
        assert!(of_page.status.is_success(), "{path}: {}", of_page.status);
    }
}

#[tokio::test]
async fn beacon_cannot_request_an_erasure() {
    let gateway = start_gateway().await;
    let delete = json!([{ "$token": TOKEN, "$distinct_id": "u1", "$delete": "" }]).to_string();
    let answer = gateway.request(to("POST", "/mixpanel/engage"), delete).await;
    assert_eq!(answer.status, 400);
    assert!(gateway.events().await.is_empty(), "no person is made by it");
}

#[tokio::test]
async fn key_in_the_head_is_forwarded_unless_it_is_the_sites_own() {
    for (key, goes_along) in [("vendors-key", true), (TOKEN, false)] {
        let gateway = start_with_mounts(|mount| {
            let upstream = "https://vendor.example".parse().unwrap();
            mount.beacons = BeaconMode::Both(BeaconForwarding { upstream, consent: Vec::new() });
        });
        let gateway = gateway.await;
        let body = json!({ "type": "track", "event": "x", "userId": "u1" }).to_string();
        let request = to("POST", "/rudderstack/v1/track").header("authorization", basic(key));
        assert_eq!(gateway.request(request, body).await.status, 200);
        let events = gateway.events().await;
        let kept = &events.last().unwrap().facts.beacon.as_ref().unwrap().key;
        let expected = goes_along.then(|| ("authorization".to_owned(), basic(key)));
        assert_eq!(*kept, expected);
    }
}

#[tokio::test]
async fn server_token_is_forwarded_to_no_vendor() {
    let gateway = start_with_mounts(|mount| {
        let upstream = "https://vendor.example".parse().unwrap();
        mount.beacons = BeaconMode::Both(BeaconForwarding { upstream, consent: Vec::new() });
    });
    let gateway = gateway.await;
    let hit = format!("/matomo/matomo.php?idsite=1&rec=1&uid=u1&token_auth={TOKEN}");
    assert!(gateway.request(to("GET", &hit), "").await.status.is_success());
    let events = json!({ "api_key": TOKEN, "events": [{ "event_type": "x", "user_id": "u1" }] });
    gateway.request(to("POST", "/amplitude/2/httpapi"), events.to_string()).await;
    let events = gateway.events().await;
    let beacons: Vec<_> = events.iter().filter_map(|it| it.facts.beacon.as_ref()).collect();
    assert_eq!(beacons.len(), 2);
    for beacon in beacons {
        let body = tagway_vendors::beacon_format::base64(&beacon.body).unwrap();
        let sent = format!("{} {}", beacon.target, String::from_utf8(body).unwrap());
        assert!(!sent.contains(TOKEN) && sent.contains("u1"), "{sent}");
    }
}

#[tokio::test]
async fn event_of_a_server_library_has_no_facts_of_the_server() {
    let gateway = start_gateway().await;
    let event = json!({ "api_key": "phc_1", "batch": [
        { "event": "Order Completed", "properties": {
            "distinct_id": "u1", "$lib": "posthog-python", "$lib_version": "6.0", "$is_server": true,
            "$os": "Linux", "$os_version": "6.1", "$python_runtime": "CPython",
            "$python_version": "3.13", "$geoip_disable": true, "total": 9 } },
        { "event": "$set_once", "$set_once": { "first": 1 }, "properties": {
            "distinct_id": "u1", "$lib": "posthog-python", "$is_server": true } },
        { "event": "Seen", "properties": {
            "distinct_id": "made-up", "$lib": "posthog-python", "$process_person_profile": false } },
    ] });
    gateway.request(to("POST", "/posthog/batch"), event.to_string()).await;
    let events = gateway.events().await;
    let [order, once, seen] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(order.user_id.as_deref(), Some("u1"));
    assert_eq!(order.facts.ip, None, "the server's address is no visitor's");
    assert_eq!(serde_json::to_value(&order.properties).unwrap(), json!({ "total": 9 }));
    let context = serde_json::to_value(&order.context).unwrap();
    assert_eq!(context.get("os"), None);
    assert_eq!(context["library"], json!({ "name": "posthog-python", "version": "6.0" }));
    assert_eq!(once.kind, tagway_core::event::EventKind::Identify);
    let context = serde_json::to_value(&once.context).unwrap();
    assert_eq!(context["source"]["operations"], json!({ "$set_once": { "first": 1 } }));
    assert_eq!((seen.user_id.as_deref(), seen.anonymous_id.as_deref()), (None, Some("made-up")));
}
