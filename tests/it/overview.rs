//! The operators' view of destinations, sites, settings and people, over real journals and simulated vendors.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tagway_core::clock::{Clock as _, SystemClock};
use tagway_simulator::vendors::{SimulatorKind, VendorSimulator};

use crate::harness::{
    Gateway, NO_RATES, SITE, admin_read, eventually, track, vendor, webhook_site,
};

/// The operators' routes that show settings.
const SETTINGS_ROUTES: [&str; 5] = [
    "/api/v1/settings/effective",
    "/api/v1/warnings",
    "/api/v1/destinations",
    "/api/v1/sites/shop/overview",
    "/api/v1/sites/shop/profiles",
];

/// The settings of a site that sends to Meta with consent.
fn meta_site(meta: &str) -> String {
    format!(
        r#"
{NO_RATES}
{SITE}
[[sites.destinations]]
name = "meta"
vendor = "meta"
endpoint = "{meta}"
consent = ["marketing"]
[sites.destinations.settings]
pixel_id = "123"
access_token = "EAAhush0123456789"
"#
    )
}

/// An order of one of ten people: the first six have an address, the last six a browser of Meta's. The first refuses
/// marketing, the last has not chosen, and the others agree.
fn order(n: usize) -> Value {
    let mut context = json!({
        "page": { "url": "https://shop.example/thanks" },
        "userAgent": "Mozilla/5.0",
    });
    if n < 6 {
        context["traits"] = json!({ "email": format!("p{n}@mail.example") });
    }
    if n >= 4 {
        context["clientIds"] = json!({ "fbp": format!("fb.1.1596403881668.111644647{n}") });
    }
    if n < 9 {
        context["consent"] = json!({ "categoryPreferences": { "marketing": n > 0 } });
    }
    let mut order = track(&format!("m{n}"), "Order Completed");
    order["userId"] = format!("u{n}").into();
    order["context"] = context;
    order
}

fn has_received(vendor: &VendorSimulator, text: &str) -> bool {
    let seen = vendor.tally().seen;
    seen.iter().any(|request| String::from_utf8_lossy(&request.body).contains(text))
}

fn share(quality: &Value, key: &str) -> f64 {
    let keys = quality["keys"].as_array().unwrap();
    let found = keys.iter().find(|it| it["key"] == key).unwrap_or_else(|| panic!("{quality}"));
    found["share"].as_f64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn match_quality_is_measured_on_the_events_that_the_vendor_gets() {
    let meta = vendor(SimulatorKind::Meta).await;
    let gateway = Gateway::start(&meta_site(&format!("http://{}", meta.address()))).await;
    let path = "/api/v1/destinations/shop/meta/match-quality";
    let none = gateway.read(path);
    assert_eq!((&none["sampled"], &none["score"]), (&json!(0), &Value::Null));
    let events: Vec<Value> = (0..10).map(order).collect();
    gateway.accept(&events).await;
    let rows = gateway.settled(10).await;
    assert_eq!((rows[0].delivered, rows[0].skipped), (9, 1), "{rows:?}");
    // A measurement is kept for ten minutes, unless the settings change.
    assert_eq!(gateway.read(path)["sampled"], 0);
    let site = meta_site(&format!("http://{}", meta.address()));
    let gateway = gateway.restart(&site).await;
    let quality = gateway.read(path);
    assert_eq!(quality["sampled"], 9, "{quality}");
    assert_eq!(share(&quality, "email"), 0.5556);
    assert_eq!(share(&quality, "fbp"), 0.6667);
    assert_eq!((share(&quality, "external_id"), share(&quality, "phone")), (1.0, 0.0));
    assert_eq!(quality["consent"], json!({ "granted": 8, "denied": 1, "unknown": 1 }));
    assert_eq!(quality["dedupe"]["share"], 1.0);
    let raise = |key: &str| {
        let keys = quality["keys"].as_array().unwrap();
        keys.iter().find(|it| it["key"] == key).unwrap()["raise"].clone()
    };
    let email = raise("email").as_str().unwrap().to_owned();
    assert!(email.starts_with("Send `email`") && email.contains("44 % of orders"), "{email}");
    assert_eq!(raise("external_id"), Value::Null);
    // Exactly what the vendor received.
    let bodies: Vec<Value> =
        meta.tally().seen.iter().filter_map(|it| serde_json::from_slice(&it.body).ok()).collect();
    let sent = bodies.iter().flat_map(|body| body["data"].as_array().cloned().unwrap_or_default());
    let sent: Vec<Value> = sent.map(|event| event["user_data"].clone()).collect();
    let with = |key: &str| sent.iter().filter(|data| !data[key].is_null()).count();
    assert_eq!((sent.len(), with("em"), with("fbp"), with("external_id")), (9, 5, 6, 9));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_event_reaches_one_destination_and_no_profile() {
    let (one, two) = (vendor(SimulatorKind::Webhook).await, vendor(SimulatorKind::Webhook).await);
    let first = webhook_site(
        one.address(),
        "identity_wait = \"10m\"\nconsent = [\"marketing\"]\nunknown_consent = \"deny\"",
    );
    let second = webhook_site(two.address(), "events = [\"Order *\"]").replace(SITE, "");
    let second = second.replace("name = \"webhook\"", "name = \"other\"");
    let gateway = Gateway::start(&format!("{NO_RATES}{first}{second}")).await;
    let ask = |destination: &str, event: Value| {
        let body = json!({ "site": "shop", "destination": destination, "event": event });
        gateway.act("/api/v1/destinations/test", &body)
    };
    let sent = ask("webhook", Value::Null);
    assert_eq!(sent.status, 200, "{sent:?}");
    let rows = gateway.settled(1).await;
    let ends: Vec<(&str, u64, u64)> =
        rows.iter().map(|row| (row.destination.as_str(), row.delivered, row.skipped)).collect();
    assert_eq!(ends, [("other", 0, 1), ("webhook", 1, 0)]);
    assert!(has_received(&one, "Tagway Test"));
    assert_eq!(two.tally().requests, 0);
    let event = gateway.read(&format!("/api/v1/events/shop/{}", sent.json()["seq"]));
    let of = |name: &str| {
        let destinations = event["destinations"].as_array().unwrap();
        destinations.iter().find(|it| it["destination"] == name).unwrap().clone()
    };
    assert_eq!(of("other")["reason"], "test_of_another");
    assert_eq!(gateway.read("/api/v1/sites/shop/profiles")["rows"], json!([]));
    // An event that the destination does not select, an unknown destination, and a paused one.
    let refused = ask("other", Value::Null);
    assert_eq!((refused.status, &refused.json()["field"]), (409, &json!("event")));
    assert_eq!(ask("other", track("t1", "Order Completed")).status, 200);
    gateway.settled(2).await;
    assert!(has_received(&two, "Order Completed"));
    assert_eq!(ask("none", Value::Null).status, 404);
    let pause = json!({ "site": "shop", "destination": "other" });
    assert_eq!(gateway.act("/api/v1/destinations/pause", &pause).status, 200);
    assert_eq!(ask("other", Value::Null).status, 409);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pause_with_an_end_survives_a_restart_and_ends() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let site = format!("{NO_RATES}{}", webhook_site(webhook.address(), ""));
    let gateway = Gateway::start(&site).await;
    let path = "/api/v1/destinations/shop/webhook";
    let pause = |until: jiff::Timestamp| {
        json!({
            "site": "shop", "destination": "webhook", "why": "the shop is moving", "until": until,
        })
    };
    let now = SystemClock.now();
    let long = pause(now + jiff::SignedDuration::from_hours(1));
    assert_eq!(gateway.act("/api/v1/destinations/pause", &long).status, 200);
    let gateway = gateway.restart(&site).await;
    let shown = gateway.read(path);
    assert_eq!(
        (&shown["state"], &shown["paused"]["why"]),
        (&json!("paused"), &json!("the shop is moving"))
    );
    assert_eq!(shown["paused"]["until"], long["until"]);
    gateway.accept(&[track("m1", "Order Completed")]).await;
    eventually(|| {
        let shown = gateway.read(path);
        let is_waiting = shown["ledger"]["pending"] == 1 && !shown["oldest_expires_at"].is_null();
        if is_waiting { Ok(()) } else { Err(shown.to_string()) }
    })
    .await;
    // The next pause ends within a second.
    let short = pause(SystemClock.now() + jiff::SignedDuration::from_millis(300));
    assert_eq!(gateway.act("/api/v1/destinations/pause", &short).status, 200);
    let rows = gateway.settled(1).await;
    assert_eq!((rows[0].delivered, rows[0].state.as_str()), (1, "running"));
    let shown = gateway.read(path);
    assert_eq!((&shown["paused"], &shown["credentials"]), (&Value::Null, &json!("ok")));
    assert_eq!(shown["latency"]["count"], 1);
    let home = gateway.read("/api/v1/sites/shop/overview");
    assert_eq!((&home["balanced"], &home["delivered"]), (&json!(true), &json!(1)), "{home}");
    assert_eq!((&home["events"], &home["events_per_minute"]), (&json!(1), &json!(0.2)));
    assert!(home["snippet"].as_str().unwrap().contains("/tw.js"));
}

/// The answers of the operators' routes that show settings.
pub(crate) fn settings_outputs(
    admin: SocketAddr,
    token: &str,
    vendors: &[&str],
) -> Vec<(String, String)> {
    let mut outputs = Vec::new();
    let of_destinations = vendors.iter().map(|it| format!("/api/v1/destinations/shop/{it}"));
    for path in SETTINGS_ROUTES.map(str::to_owned).into_iter().chain(of_destinations) {
        let shown = admin_read(admin, token, &path);
        assert_eq!(shown.status, 200, "{path}: {shown:?}");
        if path.ends_with("effective") {
            assert_secrets_are_set(&shown.json(), vendors.len());
        }
        outputs.push((path, shown.body));
    }
    outputs
}

/// Checks that each destination has a secret setting that is shown as set, and that no secret is shown.
fn assert_secrets_are_set(effective: &Value, destinations: usize) {
    let rows = effective["rows"].as_array().unwrap();
    for index in 0..destinations {
        let below = format!("sites[0].destinations[{index}].settings.");
        let is_set = |row: &&Value| {
            row["path"].as_str().unwrap().starts_with(&below)
                && row["secret"] == true
                && row["value"] == "set"
        };
        assert!(rows.iter().any(|row| is_set(&row)), "{below}");
    }
    for row in rows.iter().filter(|row| row["secret"] == true) {
        assert!(row["value"] == "set" || row["value"] == "not set", "{row}");
    }
}
