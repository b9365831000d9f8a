//! Whole requests over a real journal, without sockets.

use std::num::NonZeroU32;
use std::time::Duration;

use base64::Engine as _;
use http::StatusCode;
use http::request::Builder;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use tagway_core::bots;
use tagway_core::clock::ManualClock;
use tagway_core::event::Event;
use tagway_settings::SecretString;
use tagway_storage::journal::{self, AppendDurability, JournalReadLimits, SiteId, SqliteJournal};
use tagway_storage::store::{CommitSyncMode, SqliteStore};
use tagway_vendors::VENDORS;

/// The limits of the embedded default, but for smaller bodies.
pub(super) fn limits() -> GatewayLimits {
    let number = |n| NonZeroU32::new(n).unwrap();
    GatewayLimits {
        body_bytes: 256 * 1024,
        inflated_bytes: 1024 * 1024,
        inflating_bytes: 20 * 1024 * 1024,
        arriving_bytes: 8 * 1024 * 1024,
        inflating_client_bytes: 10 * 1024 * 1024,
        made_bytes: 256 * 1024,
        decoders: 2,
        body_time: Duration::from_secs(10),
        event_bytes: 32 * 1024,
        field_bytes: 1024,
        batch_events: 10,
        least_event_bytes: 1,
        json_depth: 64,
        rates: RateLimitSettings {
            client_per_second: Some(number(1)),
            client_burst: number(100),
            site_per_second: None,
            site_burst: number(1),
            unproven_per_second: 20,
            network_clients: None,
            client_volumes: VolumeLimits::default(),
            site_volumes: VolumeLimits::default(),
            client_entries: 1000,
        },
    }
}

pub(super) struct TestGateway {
    pub(super) gateway: Gateway,
    journal: Arc<SqliteJournal>,
    pub(super) site: SiteId,
    _folder: TempDir,
}

pub(super) const NOON: &str = "2026-11-23T12:00:00Z";

pub(super) async fn start_gateway() -> TestGateway {
    start_with_limits(limits()).await
}

/// Starts a gateway whose mounts are changed by `change`.
pub(super) async fn start_with_mounts(change: impl Fn(&mut VendorMount)) -> TestGateway {
    gateway_of(limits(), change, |_| {}).await
}

/// Starts a gateway whose site is changed by `change`.
pub(super) async fn start_with_site(change: impl FnOnce(&mut GatewaySiteSettings)) -> TestGateway {
    gateway_of(limits(), |_| {}, change).await
}

pub(super) async fn start_with_limits(limits: GatewayLimits) -> TestGateway {
    gateway_of(limits, |_| {}, |_| {}).await
}

/// Starts a gateway with these limits, changed mounts and a changed site.
pub(super) async fn gateway_of(
    limits: GatewayLimits,
    change: impl Fn(&mut VendorMount),
    change_site: impl FnOnce(&mut GatewaySiteSettings),
) -> TestGateway {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::new());
    let clock: SharedClock = Arc::new(ManualClock::new(NOON.parse().unwrap()));
    let store = SqliteStore::open(
        folder.path(),
        CommitSyncMode::Os,
        &[journal::MIGRATIONS],
        metrics.clone(),
    );
    let settings = journal::JournalSettings {
        durability: AppendDurability::Os,
        retain: Duration::from_secs(3600),
        max_bytes: 1 << 30,
        spare_bytes: 1 << 30,
        retain_dead: Duration::from_secs(3600),
        dedupe_window: Duration::from_secs(3600),
        dedupe_entries: 1000,
        poison_starts: 3,
        letter_chars: 4000,
        detail_chars: 200,
        queue_bytes: 1 << 20,
    };
    let new = SqliteJournal::open(store.unwrap().into(), settings, clock.clone(), metrics.clone());
    let journal = Arc::new(new.await.unwrap());
    let site = journal.site("shop").await.unwrap();
    let mut mounts: Vec<VendorMount> =
        VENDORS.iter().filter_map(|vendor| VendorMount::at_its_name(vendor)).collect();
    mounts.iter_mut().for_each(change);
    let mut setup = GatewaySiteSetup {
        id: site,
        name: "shop".into(),
        settings: GatewaySiteSettings {
            hosts: vec!["t.shop.example".to_owned()],
            origins: vec!["https://shop.example".to_owned()],
            privacy: Arc::default(),
            placeholder_ids: Arc::new(["gast".to_owned()]),
            bots: bots::BotSettings { policy: bots::BotPolicy::Flag, score: 50 },
            mounts,
            write_key: Some("shop-web".to_owned()),
            server_token: Some(SecretString::new("a-server-token-of-the-shop")),
            shims: tagway_pages::script::ShimSettings::new(),
            origin: None,
        },
        visitor: tagway_core::visitor::test_support::settings(),
        cookie_issuers: Vec::new(),
        sdk: tagway_pages::script::test_support::sdk(),
        integrations: Vec::new(),
        public: tagway_storage::profile::PublicProfilePaths::default(),
        origin: None,
    };
    change_site(&mut setup.settings);
    let snapshot = GatewaySnapshot::new(
        limits,
        0.0,
        tagway_core::geo::test_support::zurich(),
        vec![setup],
        &metrics,
    );
    let scripts = tagway_pages::script::proxy::ScriptProxySettings::small();
    let (time, counted) = (clock.clone(), metrics.clone());
    let scripts = proxy::ScriptProxy::new(scripts, folder.path(), false, time, counted).unwrap();
    let gateway =
        Gateway::new(journal.clone(), metrics, clock, LiveFeed::default(), scripts, snapshot);
    TestGateway { gateway, journal, site, _folder: folder }
}

pub(super) struct TestResponse {
    pub(super) status: StatusCode,
    pub(super) fields: http::HeaderMap,
    pub(super) body: Bytes,
}

impl TestResponse {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl TestGateway {
    pub(super) async fn request(&self, request: Builder, body: impl Into<Bytes>) -> TestResponse {
        let request = request.body(Full::new(body.into())).unwrap();
        let client = ClientFacts { client: "192.0.2.7".parse().unwrap(), secure: true };
        let response = self.gateway.handle(request, client).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        TestResponse { status: head.status, fields: head.headers, body }
    }

    pub(super) async fn events(&self) -> Vec<Event> {
        let head = self.journal.head(self.site).borrow().seq;
        let limit = JournalReadLimits { events: 1000, bytes: 1 << 20 };
        let records = self.journal.read(self.site, 0, head, limit).await.unwrap();
        records.iter().map(|record| serde_json::from_slice(&record.body).unwrap()).collect()
    }

    pub(super) fn counts(&self, line: &str) -> bool {
        self.gateway.metrics.render().lines().any(|found| found == line)
    }
}

pub(super) fn to(method: &str, path: &str) -> Builder {
    Request::builder().method(method).uri(path).header("host", "t.shop.example")
}

/// Returns a request from a page of the shop.
pub(super) fn page(path: &str) -> Builder {
    to("POST", path).header("origin", "https://shop.example").header("user-agent", "Firefox")
}

pub(super) fn track(id: &str) -> Value {
    json!({ "type": "track", "event": "Product Viewed", "messageId": id, "anonymousId": "a1" })
}

pub(super) fn basic(user: &str) -> String {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:"));
    format!("Basic {pair}")
}

#[tokio::test]
async fn page_event_is_durable_with_its_observations() {
    let gateway = start_gateway().await;
    let message = json!({
        "type": "track", "event": "Order Completed", "messageId": "m1", "userId": 42,
        "timestamp": "2026-11-23T13:00:00Z", "sentAt": "2026-11-23T13:00:05Z",
        "properties": { "total": 10.50, "big": 12345678901234567890_u64 },
        "context": { "page": { "url": "https://shop.example/?gclid=Abc" } },
    });
    let request =
        page("/e").header("cookie", "_ga=GA1.1.5.6; other=1").header("accept-language", "de");
    let answer = gateway.request(request, message.to_string()).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.fields["access-control-allow-origin"], "https://shop.example");
    assert_eq!(answer.fields.get_all("set-cookie").iter().count(), 2);
    let events = gateway.events().await;
    let [event] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(event.user_id.as_deref(), Some("42"));
    assert_eq!(
        event.timestamp.to_string(),
        "2026-11-23T11:59:55Z",
        "corrected for the client's clock"
    );
    assert_eq!(event.properties.as_ref().unwrap()["total"].to_string(), "10.5");
    let facts = &event.facts;
    assert_eq!(facts.visitor.as_ref().unwrap().id, *event.anonymous_id.as_ref().unwrap());
    assert_eq!(facts.session.unwrap().number, 1);
    assert_eq!(facts.click_ids["gclid"].value, "Abc");
    assert!(!facts.cookies.contains_key("other"));
    assert_eq!(facts.user_agent.as_deref(), Some("Firefox"));
    assert_eq!(facts.language.as_deref(), Some("de"));
    assert_eq!(facts.ip, Some("192.0.2.7".parse().unwrap()));
    assert!(gateway.counts("tagway_events_accepted_total{site=\"shop\",format=\"sdk\"} 1"));
    assert!(gateway.counts("tagway_requests_total{site=\"shop\",route=\"e\",code=\"204\"} 1"));
}

#[tokio::test]
async fn every_form_of_body_is_read() {
    let gateway = start_gateway().await;
    let bodies = [
        track("m1").to_string(),
        json!([track("m2"), track("m3")]).to_string(),
        json!({ "batch": [track("m4")], "sentAt": NOON }).to_string(),
    ];
    for body in bodies {
        for content_type in ["text/plain;charset=UTF-8", "application/json"] {
            let answer = gateway
                .request(page("/e").header("content-type", content_type), body.clone())
                .await;
            assert_eq!(answer.status, 204, "{body}");
        }
    }
    assert_eq!(gateway.events().await.len(), 4, "a second time is a duplicate");
    assert!(gateway.counts("tagway_events_duplicate_total{site=\"shop\"} 4"));
}

#[tokio::test]
async fn bad_message_is_named_and_does_not_cost_the_good_ones() {
    let gateway = start_gateway().await;
    let batch = json!({ "batch": [
        track("good"),
        { "type": "track", "messageId": "nameless", "anonymousId": "a" },
        { "type": "dance", "anonymousId": "a" },
        { "type": "track", "event": { "a": 1 }, "anonymousId": "a" },
        { "type": "track", "event": [] , "anonymousId": "a" },
        { "type": "track", "event": "x".repeat(2000), "anonymousId": "a" },
        { "type": "track", "event": "x", "anonymousId": "a", "properties": { "a": "x".repeat(40_000) } },
        { "type": "group", "anonymousId": "a" },
        "text",
    ], "writeKey": "shop-web" });
    let answer = gateway.request(to("POST", "/v1/batch"), batch.to_string()).await;
    assert_eq!(answer.status, 200);
    let reasons: Vec<(u64, String)> = answer.json()["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["index"].as_u64().unwrap(), item["reason"].as_str().unwrap().to_owned()))
        .collect();
    let expected = [
        (1, "missing_event"),
        (2, "unknown_type"),
        (3, "missing_event"),
        (4, "missing_event"),
        (5, "field_too_long"),
        (6, "too_large"),
        (7, "missing_group_id"),
        (8, "malformed"),
    ];
    assert_eq!(reasons, expected.map(|(index, reason)| (index, reason.to_owned())));
    assert_eq!(answer.json()["rejected"][0]["messageId"], "nameless");
    assert_eq!(gateway.events().await.len(), 1);
    assert!(
        gateway.counts("tagway_events_dropped_total{site=\"shop\",reason=\"missing_event\"} 3")
    );
    let answer = gateway.request(page("/e"), json!({ "type": "track" }).to_string()).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["rejected"][0]["reason"], "missing_event");
}

#[tokio::test]
async fn segment_api_requires_a_key_and_hides_errors_from_browsers() {
    let gateway = start_gateway().await;
    let body = |id: &str| track(id).to_string();
    for path in ["/v1/track", "/v1/t"] {
        let answer = gateway
            .request(to("POST", path).header("authorization", basic("shop-web")), body(path))
            .await;
        assert_eq!(
            (answer.status, answer.body.as_ref()),
            (StatusCode::OK, &br#"{"success":true}"#[..])
        );
    }
    let mut keyed = track("in the body");
    keyed["writeKey"] = json!("shop-web");
    assert_eq!(gateway.request(to("POST", "/v1/track"), keyed.to_string()).await.status, 200);
    for authorization in [basic("wrong"), "Basic ***".to_owned(), "Digest x".to_owned()] {
        let request = to("POST", "/v1/track").header("authorization", &authorization);
        let answer = gateway.request(request, body("m")).await;
        assert_eq!(answer.status, 401, "{authorization}");
        assert!(answer.fields.contains_key("www-authenticate"));
    }
    assert_eq!(gateway.request(to("POST", "/v1/track"), body("m")).await.status, 401);
    let answer =
        gateway.request(page("/v1/t").header("authorization", basic("wrong")), body("m")).await;
    assert_eq!(
        (answer.status, answer.body.as_ref()),
        (StatusCode::OK, &br#"{"success":true}"#[..])
    );
    assert_eq!(gateway.events().await.len(), 3);
    assert!(
        gateway.counts("tagway_events_dropped_total{site=\"shop\",reason=\"bad_write_key\"} 5")
    );
}

#[tokio::test]
async fn server_sends_for_its_visitors_and_gets_no_cookies() {
    let gateway = start_gateway().await;
    let mut message = track("m1");
    message["context"] = json!({ "ip": "203.0.113.9", "userAgent": "Phone" });
    let token = "Bearer a-server-token-of-the-shop";
    let answer = gateway
        .request(to("POST", "/v1/track").header("authorization", token), message.to_string())
        .await;
    assert_eq!(answer.status, 200);
    assert!(!answer.fields.contains_key("set-cookie"));
    let facts = &gateway.events().await[0].facts;
    assert!(facts.from_server);
    assert_eq!(facts.ip, Some("203.0.113.9".parse().unwrap()));
    assert_eq!(facts.user_agent.as_deref(), Some("Phone"));
    let nobody = json!({ "event": "x" }).to_string();
    let answer =
        gateway.request(to("POST", "/v1/track").header("authorization", token), nobody).await;
    assert_eq!(answer.json()["rejected"][0]["reason"], "missing_user_id");
    message["messageId"] = json!("m2");
    let answer = gateway
        .request(
            to("POST", "/v1/track").header("authorization", basic("shop-web")),
            message.to_string(),
        )
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        gateway.events().await[1].facts.ip,
        Some("192.0.2.7".parse().unwrap()),
        "a write key proves nothing"
    );
}

#[tokio::test]
async fn shared_members_of_a_batch_are_defaults_for_each_message() {
    let gateway = start_gateway().await;
    let mut own = track("m1");
    own["context"] = json!({ "library": { "name": "mine" } });
    let batch = json!({
        "batch": [own, track("m2")],
        "context": { "library": { "name": "all" }, "locale": "de" },
        "integrations": { "All": true },
    });
    assert_eq!(gateway.request(page("/e"), batch.to_string()).await.status, 204);
    let events = gateway.events().await;
    let context = |n: usize| serde_json::to_value(&events[n].context).unwrap();
    assert_eq!(context(0), json!({ "library": { "name": "mine" }, "locale": "de" }));
    assert_eq!(context(1), json!({ "library": { "name": "all" }, "locale": "de" }));
    assert_eq!(events[1].integrations.as_ref().unwrap()["All"], true);
}

#[tokio::test]
async fn pixel_responds_with_an_image_whether_accepted_or_not() {
    let gateway = start_gateway().await;
    let good = "/px.gif?type=track&event=Email%20Opened&properties.price=9.5&messageId=m1";
    for path in [good, "/px.gif", "/px.gif?data=%", "/px.gif?type=dance"] {
        let answer = gateway.request(to("GET", path), "").await;
        assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 42), "{path}");
        assert_eq!(answer.fields["content-type"], "image/gif");
        assert_eq!(answer.fields["cache-control"], "no-store");
    }
    let events = gateway.events().await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].properties.as_ref().unwrap()["price"], 9.5);
    assert!(events[0].anonymous_id.is_some(), "the visitor of the cookie that the image sets");
}

#[tokio::test]
async fn paths_methods_hosts_and_origins_are_checked() {
    let gateway = start_gateway().await;
    let cases = [
        (to("GET", "/"), 404),
        (to("GET", "/e"), 405),
        (to("HEAD", "/px.gif"), 405),
        (to("POST", "/px.gif"), 405),
        (to("POST", "/e").header("origin", "https://evil.example"), 403),
        (Request::builder().method("POST").uri("/e").header("host", "other.example"), 421),
        (Request::builder().method("POST").uri("/e"), 400),
    ];
    for (request, status) in cases {
        let shown = format!("{request:?}");
        let answer = gateway.request(request, track("m").to_string()).await;
        assert_eq!(answer.status, status, "{shown}");
        assert_eq!(answer.fields["content-type"], "application/problem+json");
        assert!(!answer.fields.contains_key("access-control-allow-origin"));
    }
    let answer = gateway.request(to("GET", "/e"), "").await;
    assert_eq!(answer.fields["allow"], "POST, OPTIONS");
    let capital = Request::builder().method("POST").uri("/e").header("host", "T.SHOP.example:443");
    assert_eq!(gateway.request(capital, track("m").to_string()).await.status, 204);
    assert_eq!(gateway.events().await.len(), 1);
}

#[tokio::test]
async fn preflight_is_answered_on_every_path_that_pages_use() {
    let gateway = start_gateway().await;
    for path in ["/e", "/v1/t", "/v1/batch", "/px.gif", "/nothing"] {
        let request = to("OPTIONS", path)
            .header("origin", "https://shop.example")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization");
        let answer = gateway.request(request, "").await;
        assert_eq!(answer.status, 204);
        assert_eq!(answer.fields["access-control-allow-headers"], "authorization");
        assert_eq!(answer.fields["access-control-allow-credentials"], "true");
    }
}

#[tokio::test]
async fn events_that_the_journal_refuses_are_not_acknowledged() {
    let gateway = start_gateway().await;
    gateway.journal.close().await;
    for request in [page("/e"), to("POST", "/v1/track").header("authorization", basic("shop-web"))]
    {
        let answer = gateway.request(request, track("m").to_string()).await;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.fields["retry-after"], "1");
        assert!(!answer.fields.contains_key("set-cookie"));
    }
    assert_eq!(gateway.request(to("GET", "/px.gif?type=track&event=x"), "").await.status, 503);
}

#[tokio::test]
async fn bodies_that_are_no_events_are_refused() {
    let gateway = start_gateway().await;
    let deep = format!("{{\"properties\":{}{}}}", "[".repeat(70), "]".repeat(70));
    let many = json!(vec![track("m"); 11]).to_string();
    let cases = [
        ("", 400),
        ("12", 400),
        ("{", 400),
        ("[]", 400),
        ("{\"batch\":{}}", 400),
        (&deep, 400),
        (&many, 413),
        ("\u{0}", 400),
        ("{\"type\":\"page\",\"type\":\"x\"}", 400),
    ];
    for (body, status) in cases {
        let answer = gateway.request(page("/e"), body.to_owned()).await;
        assert_eq!(answer.status, status, "{body}");
    }
    let answer = gateway.request(page("/e"), b"{\"event\":\"\xff\"}".to_vec()).await;
    assert_eq!(answer.status, 400);
    assert!(gateway.events().await.is_empty());
}

#[tokio::test]
async fn operators_event_is_accepted_as_a_servers() {
    let gateway = start_gateway().await;
    let sent = gateway.gateway.send("shop", track("m1").to_string().as_bytes()).await.unwrap();
    assert_eq!(
        (sent.appended, sent.message_id.as_str()),
        (journal::AppendOutcome::New { seq: 1 }, "m1")
    );
    assert!(gateway.events().await[0].facts.from_server);
    let unknown = gateway.gateway.send("other", b"{}").await;
    assert!(matches!(unknown, Err(OperatorSendError::UnknownSite)));
    let invalid = gateway.gateway.send("shop", b"{\"type\":\"track\"}").await;
    assert!(matches!(invalid, Err(OperatorSendError::Invalid("missing_event"))));
}
