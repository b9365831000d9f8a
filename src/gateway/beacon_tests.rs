//! Vendors' own beacons, and callers that are bots.

use super::tests::{page, start_gateway, start_with_mounts, to, track};
use super::{BeaconForwarding, BeaconMode};
use tagway_vendors::beacon_format;

#[tokio::test]
async fn vendor_library_gets_its_vendors_response() {
    let gateway = start_gateway().await;
    let post = |body: &str| gateway.request(page("/plausible/api/event"), body.to_owned());
    let taken =
        post(r#"{"n":"Signup","u":"https://shop.example/p?gclid=Cj0","d":"shop.example"}"#).await;
    assert_eq!((taken.status.as_u16(), &taken.body[..]), (202, &b"ok"[..]));
    assert_eq!(taken.fields["access-control-allow-origin"], "https://shop.example");
    assert_eq!(taken.fields["cache-control"], "no-store");
    assert!(!taken.fields.contains_key("set-cookie"), "its library knows nobody again");
    let nonsense = post("{").await;
    assert_eq!(nonsense.status, 202, "it can neither try again nor tell anybody");
    assert!(gateway.counts("tagway_events_dropped_total{site=\"shop\",reason=\"malformed\"} 1"));
    let events = gateway.events().await;
    let [event] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(
        (event.event.as_deref(), event.facts.format.as_str()),
        (Some("Signup"), "plausible")
    );
    assert_eq!(event.facts.click_ids["gclid"].value, "Cj0", "from the page's URL");
    let once = event.anonymous_id.clone();
    post(r#"{"n":"pageview","u":"https://shop.example/"}"#).await;
    assert_eq!(gateway.events().await[1].anonymous_id, once, "the same visitor on the same day");
    assert!(gateway.counts("tagway_events_accepted_total{site=\"shop\",format=\"plausible\"} 2"));
    assert_eq!(gateway.request(to("GET", "/plausible/api/event"), "").await.status, 405);
    assert_eq!(gateway.request(page("/plausible/api/other"), "").await.status, 404);
}

#[tokio::test]
async fn bots_are_flagged_and_prefetches_are_not_counted() {
    let gateway = start_gateway().await;
    let bot = to("POST", "/e")
        .header("origin", "https://shop.example")
        .header("user-agent", "GPTBot/1.2");
    assert_eq!(gateway.request(bot, track("m1").to_string()).await.status, 204);
    let prefetch = page("/e").header("sec-purpose", "prefetch;prerender");
    assert_eq!(gateway.request(prefetch, track("m2").to_string()).await.status, 204);
    let person = page("/e").header("accept-language", "de").header("sec-gpc", "1");
    gateway.request(person, track("m3").to_string()).await;
    let events = gateway.events().await;
    let [bot, person] = events.as_slice() else { panic!("{events:?}") };
    let suspicion = bot.facts.suspicion.as_ref().unwrap();
    assert_eq!(
        (suspicion.score, suspicion.reasons.as_slice()),
        (100, &["ai_crawler".to_owned()][..])
    );
    assert_eq!(person.facts.suspicion, None);
    let place = person.facts.place.as_ref().unwrap();
    assert_eq!(place.country.as_deref(), Some("CH"), "as the database of the test says");
    assert!(person.facts.gpc && !person.facts.dnt);
    assert!(gateway.counts("tagway_events_dropped_total{site=\"shop\",reason=\"prefetch\"} 1"));
}

#[tokio::test]
async fn forwarded_beacon_is_stored_as_it_was_sent() {
    let body = r#"{"n":"Signup","u":"https://shop.example/"}"#;
    for (converts, expected) in [(true, ["Signup", "Beacon"].as_slice()), (false, &["Beacon"])] {
        let gateway = start_with_mounts(|mount| {
            let upstream = "https://plausible.io".parse().unwrap();
            let forwarding = BeaconForwarding { upstream, consent: Vec::new() };
            mount.beacons = if converts {
                BeaconMode::Both(forwarding)
            } else {
                BeaconMode::Forward(forwarding)
            };
        });
        let gateway = gateway.await;
        let answer = gateway.request(page("/plausible/api/event?x=1"), body.to_owned()).await;
        assert_eq!(answer.status, 202);
        let events = gateway.events().await;
        let names: Vec<&str> = events.iter().filter_map(|event| event.event.as_deref()).collect();
        assert_eq!(names, expected);
        let raw = events.last().unwrap();
        let beacon = raw.facts.beacon.as_ref().unwrap();
        assert_eq!(beacon.target, "/api/event?x=1");
        assert_eq!(beacon_format::base64(&beacon.body).unwrap(), body.as_bytes());
        if converts {
            assert_eq!(events[0].facts.forwarded_to.as_deref(), Some("plausible"));
            assert_eq!(events[0].anonymous_id, raw.anonymous_id, "in the order they were sent");
        }
    }
}

#[tokio::test]
async fn reset_gives_the_browser_a_new_identity() {
    let gateway = start_gateway().await;
    let cookie = |answer: &super::tests::TestResponse| {
        let set = answer.fields["set-cookie"].to_str().unwrap();
        set.split(';').next().unwrap().to_owned()
    };
    let nameless = |id: &str| format!(r#"{{"type":"track","event":"x","messageId":"{id}"}}"#);
    let first = cookie(&gateway.request(page("/e"), nameless("m1")).await);
    let known = gateway.request(page("/e").header("cookie", &first), nameless("m2")).await;
    assert!(!known.fields.contains_key("set-cookie"));
    let reset = gateway.request(page("/reset").header("cookie", &first), "").await;
    assert_eq!(reset.status, 204);
    let second = cookie(&reset);
    assert_ne!(first, second);
    gateway.request(page("/e").header("cookie", &second), nameless("m3")).await;
    let nobodys = gateway.request(page("/reset"), "").await;
    assert!(!nobodys.fields.contains_key("set-cookie"), "there is nothing to reset");
    let refusing = page("/reset").header("cookie", &second).header("sec-gpc", "1");
    assert_eq!(gateway.request(refusing, "").await.status, 204);
    let forgets = |answer: &super::tests::TestResponse| {
        let all = answer.fields.get_all("set-cookie").iter();
        all.filter(|it| it.to_str().unwrap().starts_with("_tw_c=;")).count()
    };
    assert_eq!(forgets(&reset), 1, "and nothing is left of what led the last one here");
    let ids: Vec<Option<String>> =
        gateway.events().await.into_iter().map(|event| event.anonymous_id).collect();
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[1], ids[2]);
}

#[tokio::test]
async fn client_with_an_id_and_no_cookies_is_not_a_new_visitor_each_time() {
    let gateway = start_gateway().await;
    let with_id = r#"{"type":"track","event":"x","anonymousId":"a1","messageId":"m1"}"#;
    let first = gateway.request(page("/e"), with_id).await;
    let cookie = first.fields["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    gateway.request(page("/e").header("cookie", cookie), with_id.replace("m1", "m2")).await;
    let events = gateway.events().await;
    assert_eq!(events[0].facts.visitor, None, "made at this request, and perhaps at each");
    assert!(events[1].facts.visitor.is_some(), "a browser that keeps it is known by it");
}

#[tokio::test]
async fn beacon_is_forwarded_with_the_consent_that_all_its_messages_share() {
    let gateway = start_with_mounts(|mount| {
        let upstream = "https://vendor.example".parse().unwrap();
        let consent = vec!["analytics".to_owned()];
        mount.beacons = BeaconMode::Both(BeaconForwarding { upstream, consent });
    })
    .await;
    let message = |id: &str, consent: &str| {
        format!(
            r#"{{"type":"track","event":"x","messageId":"{id}","anonymousId":"a",
            "context":{{"consent":{{"categoryPreferences":{consent}}}}}}}"#
        )
    };
    for (id, second, expected) in [
        ("a", r#"{"analytics":false}"#, Some(false)),
        ("b", r#"{"analytics":true}"#, Some(true)),
        ("c", "{}", None),
    ] {
        let yes = message(&format!("{id}1"), r#"{"analytics":true}"#);
        let body = format!(r#"{{"batch":[{yes},{}]}}"#, message(&format!("{id}2"), second));
        assert_eq!(gateway.request(page("/rudderstack/v1/batch"), body).await.status, 200);
        let raw = gateway.events().await.pop().unwrap();
        assert!(raw.facts.beacon.is_some());
        let answer = raw.context.as_ref().and_then(tagway_core::privacy::ConsentRecord::read);
        assert_eq!(answer.and_then(|it| it.answer("analytics")), expected, "{second}");
    }
}
