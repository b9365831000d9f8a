//! Quotas of events and bytes, on every route that takes events.

use std::sync::Arc;

use serde_json::{Value, json};

use super::GatewaySnapshot;
use super::settings::{VolumeLimits, VolumeRate};
use super::tests::{basic, limits, page, start_gateway, start_with_limits, to, track};

const SERVER: &str = "Bearer a-server-token-of-the-shop";

fn volumes(events: u64, bytes: u64) -> VolumeLimits {
    VolumeLimits { events: VolumeRate::new(1, events), bytes: VolumeRate::new(1, bytes) }
}

fn five(name: &str) -> String {
    let event = |n| json!({ "type": "track", "event": name, "anonymousId": format!("a{n}") });
    json!({ "batch": (0..5).map(event).collect::<Vec<Value>>() }).to_string()
}

#[tokio::test(start_paused = true)]
async fn events_of_a_client_are_limited_on_every_route_and_servers_are_not() {
    let mut limits = limits();
    limits.rates.client_volumes = volumes(8, 1 << 20);
    let gateway = start_with_limits(limits).await;
    let written = || to("POST", "/v1/batch").header("authorization", basic("shop-web"));
    assert_eq!(gateway.request(page("/e"), five("one")).await.status, 204);
    assert_eq!(
        gateway.request(written(), five("two")).await.status,
        200,
        "admitted with three left"
    );
    let in_body = json!({ "writeKey": "shop-web", "batch": [track("m")] }).to_string();
    let refusals = [
        gateway.request(page("/e"), five("three")).await,
        gateway.request(written(), five("four")).await,
        gateway.request(to("POST", "/v1/batch"), in_body).await,
        gateway.request(to("GET", "/px.gif?type=track&event=x"), "").await,
        gateway
            .request(page("/amplitude/2/httpapi"), "{\"events\":[{\"event_type\":\"x\"}]}")
            .await,
    ];
    for answer in refusals {
        assert_eq!(answer.status, 429);
        assert_eq!(answer.fields["retry-after"], "3");
        assert_eq!(answer.fields["ratelimit-policy"], "\"client_events\";q=8;w=8");
    }
    let server = to("POST", "/v1/batch").header("authorization", SERVER);
    assert_eq!(gateway.request(server, five("server")).await.status, 200);
    let in_body = json!({ "writeKey": "a-server-token-of-the-shop", "batch": [track("s")] });
    assert_eq!(gateway.request(to("POST", "/v1/batch"), in_body.to_string()).await.status, 200);
    assert_eq!(gateway.events().await.len(), 16);
    let policy = "tagway_rate_limited_total{site=\"shop\",policy=\"client_events\"} 5";
    assert!(gateway.counts(policy));
    // Refused requests were not charged, so that the announced wait was right.
    tokio::time::advance(std::time::Duration::from_secs(3)).await;
    assert_eq!(gateway.request(page("/e"), track("later").to_string()).await.status, 204);
}

#[tokio::test(start_paused = true)]
async fn bytes_count_decompressed_and_also_those_of_bodies_that_are_refused() {
    use std::io::Write as _;
    let mut limits = limits();
    limits.rates.client_volumes = volumes(1000, 10_000);
    let gateway = start_with_limits(limits).await;
    let mut body = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    body.write_all(format!("[\"{}", "x".repeat(10_000)).as_bytes()).unwrap();
    let body = body.finish().unwrap();
    assert!(body.len() < 200);
    let zipped = page("/e").header("content-encoding", "gzip");
    assert_eq!(gateway.request(zipped, body).await.status, 400, "it is not JSON");
    let answer = gateway.request(page("/e"), track("m").to_string()).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.fields["ratelimit-policy"], "\"client_bytes\";q=10000;w=10000");
    assert!(gateway.counts("tagway_rate_limited_total{site=\"shop\",policy=\"client_bytes\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn site_has_quotas_that_its_servers_use_up_too() {
    let mut limits = limits();
    limits.rates.site_volumes = volumes(5, 1 << 20);
    let gateway = start_with_limits(limits).await;
    let server = || to("POST", "/v1/batch").header("authorization", SERVER);
    assert_eq!(gateway.request(server(), five("server")).await.status, 200);
    for answer in [
        gateway.request(server(), five("again")).await,
        gateway.request(page("/e"), five("p")).await,
    ] {
        assert_eq!(answer.status, 429);
        assert_eq!(answer.fields["ratelimit-policy"], "\"site_events\";q=5;w=5");
    }
}

#[tokio::test]
async fn used_up_quotas_survive_a_reload_of_other_settings() {
    let gateway = start_gateway().await;
    let metrics = gateway.gateway.metrics.clone();
    let spent = Arc::clone(&gateway.gateway.rates.load());
    gateway.gateway.reload(GatewaySnapshot::new(
        limits(),
        0.0,
        tagway_core::geo::GeoDatabase::default(),
        Vec::new(),
        &metrics,
    ));
    assert!(Arc::ptr_eq(&spent, &gateway.gateway.rates.load()));
    let mut other = limits();
    other.rates.client_entries = 2000;
    gateway.gateway.reload(GatewaySnapshot::new(
        other,
        0.0,
        tagway_core::geo::GeoDatabase::default(),
        Vec::new(),
        &metrics,
    ));
    assert!(!Arc::ptr_eq(&spent, &gateway.gateway.rates.load()));
    assert_eq!(
        gateway.request(page("/e"), track("m").to_string()).await.status,
        421,
        "the site is gone"
    );
}

#[tokio::test]
async fn client_over_its_quota_gets_the_time_to_retry() {
    let gateway = start_gateway().await;
    let mut taken = 0;
    // The quota grows by one a second meanwhile.
    let answer = loop {
        let answer = gateway.request(page("/e"), track(&taken.to_string()).to_string()).await;
        if answer.status != 204 {
            break answer;
        }
        taken += 1;
    };
    assert!(taken >= 100, "{taken}");
    assert_eq!(answer.status, 429);
    assert_eq!(answer.fields["retry-after"], "1");
    assert_eq!(answer.fields["ratelimit-policy"], "\"client\";q=100;w=100");
    assert_eq!(answer.fields["access-control-expose-headers"], "Retry-After");
    assert!(gateway.counts("tagway_rate_limited_total{site=\"shop\",policy=\"client\"} 1"));
    let server =
        to("POST", "/v1/track").header("authorization", "Bearer a-server-token-of-the-shop");
    assert_eq!(gateway.request(server, track("server").to_string()).await.status, 200);
}
