//! Vendors' libraries for servers and apps, below the vendors' mounts.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::json;

use super::tests::{
    TestGateway, basic, gateway_of, limits, page, start_gateway, start_with_mounts, to,
};
use super::{BeaconForwarding, BeaconMode, ErasureError, PersonErasure};
use tagway_core::bots::BotPolicy;

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

/// Records the people whom it is asked to forget, or fails.
#[derive(Default)]
struct RecordedErasure {
    people: Mutex<Vec<String>>,
    fails: bool,
}

#[async_trait]
impl PersonErasure for RecordedErasure {
    async fn forget(&self, site: &str, ids: &[String]) -> Result<(), ErasureError> {
        assert_eq!(site, "shop");
        if self.fails {
            return Err(ErasureError("no disk".into()));
        }
        self.people.lock().unwrap().extend_from_slice(ids);
        Ok(())
    }
}

/// Starts a gateway that forgets people at a server's request, if `forgets`, and records them.
async fn start_with_erasure(forgets: bool, fails: bool) -> (TestGateway, Arc<RecordedErasure>) {
    let mut gateway = start_with_mounts(|mount| mount.forgets_people = forgets).await;
    let erasure = Arc::new(RecordedErasure { fails, ..RecordedErasure::default() });
    gateway.gateway = gateway.gateway.with_erasure(erasure.clone());
    (gateway, erasure)
}

fn erasure_of(key: &str, id: &str) -> serde_json::Value {
    json!({ "$token": key, "$distinct_id": id, "$delete": "" })
}

#[tokio::test]
async fn server_has_people_erased_where_the_site_allows_it() {
    let (gateway, erasure) = start_with_erasure(true, false).await;
    let set = json!({ "$token": TOKEN, "$distinct_id": "u3", "$set": { "plan": "pro" } });
    let body = json!([erasure_of(TOKEN, "u1"), set, erasure_of(TOKEN, "$device:d2")]);
    let answer = gateway.request(to("POST", "/mixpanel/engage?verbose=1"), body.to_string()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["status"], 1);
    assert_eq!(*erasure.people.lock().unwrap(), ["u1", "d2"]);
    let users: Vec<_> = gateway.events().await.into_iter().map(|event| event.user_id).collect();
    assert_eq!(users, [Some("u3".to_owned())], "no person is made by an erasure");
    let body = json!([erasure_of("k", "u4")]).to_string();
    let request = to("POST", "/mixpanel/engage").header("authorization", basic(TOKEN));
    assert_eq!(gateway.request(request, body).await.status, 200);
    assert_eq!(erasure.people.lock().unwrap().last().unwrap(), "u4");
    let mixed = json!([erasure_of(TOKEN, "u5"), { "$token": TOKEN, "$delete": "" }]).to_string();
    assert_eq!(gateway.request(to("POST", "/mixpanel/engage"), mixed).await.status, 200);
    assert_eq!(erasure.people.lock().unwrap().last().unwrap(), "u5");
    assert!(gateway.counts("tagway_events_dropped_total{site=\"shop\",reason=\"erasure\"} 1"));
}

#[tokio::test]
async fn erasure_is_refused_to_others_and_where_the_site_does_not_allow_it() {
    let group = json!({ "$token": TOKEN, "$group_key": "company", "$group_id": "acme",
        "$delete": "" });
    let engage = "/mixpanel/engage";
    let cases = [
        ("the public key", true, to("POST", engage), erasure_of("shop-web", "u1")),
        ("a vendor's key", true, to("POST", engage), erasure_of("k", "u1")),
        ("a page", true, page(engage), erasure_of(TOKEN, "u1")),
        ("a server without leave", false, to("POST", engage), erasure_of(TOKEN, "u1")),
        ("a person without an id", true, to("POST", engage), erasure_of(TOKEN, "")),
        ("a group", true, to("POST", "/mixpanel/groups"), group),
    ];
    for (sender, forgets, request, body) in cases {
        let (gateway, erasure) = start_with_erasure(forgets, false).await;
        let answer = gateway.request(request, json!([body]).to_string()).await;
        // A library in a page could only try again.
        assert_eq!(answer.status, if sender == "a page" { 200 } else { 400 }, "{sender}");
        assert!(erasure.people.lock().unwrap().is_empty(), "{sender}");
        assert!(gateway.events().await.is_empty(), "{sender}: no person is made by it");
        let line = "tagway_events_dropped_total{site=\"shop\",reason=\"erasure\"} 1";
        assert!(gateway.counts(line), "{sender}");
    }
}

#[tokio::test]
async fn erasure_that_fails_is_to_be_sent_again() {
    let (gateway, erasure) = start_with_erasure(true, true).await;
    let body = json!([erasure_of(TOKEN, "u1")]).to_string();
    let answer = gateway.request(to("POST", "/mixpanel/engage"), body).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.fields["retry-after"], "1");
    assert!(erasure.people.lock().unwrap().is_empty());
}

/// The body of one event whose property has this many characters, at each vendor.
fn long_bodies(chars: usize) -> [(&'static str, String); 5] {
    let long = "x".repeat(chars);
    let posthog = json!({ "api_key": "k", "batch": [{ "event": "x", "properties": {
        "distinct_id": "u1", "$lib": "posthog-node", "long": &long } }] });
    let track = json!({ "type": "track", "event": "x", "userId": "u1",
        "properties": { "long": &long } });
    let plausible = json!({ "name": "x", "url": "https://shop.example/",
        "domain": "shop.example", "props": { "long": &long } });
    let umami = json!({ "type": "event", "payload": { "website": "w", "name": "x",
        "data": { "long": &long } } });
    [
        ("/posthog/batch", posthog.to_string()),
        ("/rudderstack/v1/track", track.to_string()),
        ("/rudderstack/v1/batch", json!({ "batch": [track] }).to_string()),
        ("/plausible/api/event", plausible.to_string()),
        ("/umami/api/send", umami.to_string()),
    ]
}

#[tokio::test]
async fn program_learns_of_what_is_too_large() {
    let limits = limits();
    for (path, body) in long_bodies(limits.event_bytes + 1) {
        let gateway = start_gateway().await;
        let request = to("POST", path).header("user-agent", "library/1");
        let answer = gateway.request(request, body).await;
        assert!(answer.status.is_client_error(), "{path}: {}", answer.status);
        assert!(gateway.events().await.is_empty(), "{path}");
    }
    // As sent, and decompressed.
    for (path, body) in long_bodies(limits.inflated_bytes + 1) {
        let gateway = start_gateway().await;
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, body.as_bytes()).unwrap();
        let packed = packed.finish().unwrap();
        let request = || to("POST", path).header("user-agent", "library/1");
        let answer = gateway.request(request().header("content-encoding", "gzip"), packed).await;
        assert_eq!(answer.status, 413, "{path}");
        assert_eq!(gateway.request(request(), body).await.status, 413, "{path}");
    }
}

#[tokio::test]
async fn server_has_neither_a_clients_limit_nor_a_bots_name() {
    let mut limits = limits();
    limits.rates.client_burst = 1.try_into().unwrap();
    // A token in the body proves nothing before the body is read.
    limits.rates.unproven_per_second = 800;
    let gateway = gateway_of(limits, |_| {}, |site| site.bots.policy = BotPolicy::Drop).await;
    for number in 0..800 {
        let in_head = number % 2 == 0;
        let body = json!([{ "event": "x", "properties": { "distinct_id": "u1", "$user_id": "u1",
            "token": if in_head { "k" } else { TOKEN }, "$insert_id": format!("e{number}") } }]);
        let request = to("POST", "/mixpanel/track").header("user-agent", "Googlebot/2.1");
        let request = match in_head {
            true => request.header("authorization", basic(TOKEN)),
            false => request,
        };
        let answer = gateway.request(request, body.to_string()).await;
        assert_eq!(answer.status, 200, "{number}");
    }
    assert_eq!(gateway.events().await.len(), 800);
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

#[tokio::test]
async fn visitors_whom_a_server_names_by_address_and_browser_stay_apart() {
    let matomo = |address: &str, agent: &str| {
        let hit = format!(
            "/matomo/matomo.php?idsite=1&rec=1&url=https://shop.example/&cip={address}&ua={agent}\
             &token_auth={TOKEN}"
        );
        (to("GET", &hit), String::new())
    };
    let umami = |address: &str, agent: &str| {
        let payload = json!({ "website": "w", "name": "x", "ip": address, "userAgent": agent });
        let body = json!({ "type": "event", "payload": payload });
        let request =
            to("POST", "/umami/api/send").header("authorization", format!("Bearer {TOKEN}"));
        (request, body.to_string())
    };
    let snowplow = |address: &str, agent: &str| {
        let body = json!({ "data": [{ "e": "pv", "ip": address, "ua": agent }] });
        let request = to("POST", "/snowplow/com.snowplowanalytics.snowplow/tp2")
            .header("authorization", format!("Bearer {TOKEN}"));
        (request, body.to_string())
    };
    let said = [("203.0.113.9", "Phone/1"), ("203.0.113.10", "Tablet/2")];
    let cases = [
        (
            "matomo",
            said.map(|(address, agent)| matomo(address, agent)),
            matomo(said[1].0, said[1].1),
        ),
        ("umami", said.map(|(address, agent)| umami(address, agent)), umami(said[1].0, said[1].1)),
        (
            "snowplow",
            said.map(|(address, agent)| snowplow(address, agent)),
            snowplow(said[1].0, said[1].1),
        ),
    ];
    for (vendor, hits, again) in cases {
        let gateway = start_gateway().await;
        for (request, body) in hits {
            let request = request.header("user-agent", "library/1");
            assert_eq!(gateway.request(request, body).await.status, 200, "{vendor}");
        }
        let (request, body) = again;
        gateway.request(request, body).await;
        let mut events = gateway.events().await;
        let last = events.pop().unwrap();
        let is_daily = vendor == "umami";
        assert_eq!(last.anonymous_id == events[1].anonymous_id, is_daily, "{vendor}");
        let facts: Vec<_> = events
            .iter()
            .map(|event| {
                (event.facts.ip.unwrap().to_string(), event.facts.user_agent.clone().unwrap())
            })
            .collect();
        let told = said.map(|(address, agent)| (address.to_owned(), agent.to_owned()));
        assert_eq!(facts, told, "{vendor}");
        assert_ne!(events[0].anonymous_id, events[1].anonymous_id, "{vendor}");
    }
}

#[tokio::test]
async fn servers_own_address_and_browser_name_none_of_its_visitors() {
    let plausible =
        json!({ "name": "x", "url": "https://shop.example/", "domain": "shop.example" });
    let umami = json!({ "type": "event", "payload": { "website": "w", "name": "x" } });
    for (path, body) in [("/plausible/api/event", plausible), ("/umami/api/send", umami)] {
        let gateway = start_gateway().await;
        for authorization in
            [Some(format!("Bearer {TOKEN}")), Some(format!("Bearer {TOKEN}")), None]
        {
            let request = to("POST", path).header("user-agent", "library/1");
            let request = match authorization {
                Some(authorization) => request.header("authorization", authorization),
                None => request,
            };
            assert!(gateway.request(request, body.to_string()).await.status.is_success(), "{path}");
        }
        let events = gateway.events().await;
        let ids: std::collections::HashSet<_> =
            events.iter().filter_map(|event| event.anonymous_id.as_deref()).collect();
        assert_eq!((events.len(), ids.len()), (3, 3), "{path}");
    }
}
