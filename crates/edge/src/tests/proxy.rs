//! Trusted proxies in front, and the clients that they name.

use super::*;

#[tokio::test]
async fn a_trusted_proxy_names_the_client_and_a_reload_ends_the_trust() {
    let mut settings = settings();
    settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let house = TestEdge::start(&settings).await;
    let forwarded = b"GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: https\r\n\r\n";
    assert!(house.ask(forwarded).await.contains("192.0.2.7 https"));
    settings.trusted_proxies.clear();
    house.reload.reload(&settings).await.unwrap();
    assert!(house.ask(forwarded).await.contains("127.0.0.1 http "));
}

#[tokio::test]
async fn proxy_header_is_expected_from_trusted_proxies_only() {
    let mut settings = settings();
    settings.proxy_protocol = true;
    settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let house = TestEdge::start(&settings).await;
    let with = [b"PROXY TCP4 192.0.2.7 127.0.0.1 5000 443\r\n", GET].concat();
    assert!(house.ask(&with).await.contains("192.0.2.7 http"));
    assert_eq!(house.ask(GET).await, "");
    settings.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    house.reload.reload(&settings).await.unwrap();
    assert_eq!(house.ask(&with).await, "");
    assert!(house.refused("proxy_protocol"));
}

fn behind_a_balancer() -> EdgeSettings {
    let mut settings = settings();
    settings.proxy_protocol = true;
    settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    settings
}

#[tokio::test]
async fn proxy_header_without_a_source_lends_no_trust_to_the_request() {
    let house = TestEdge::start(&behind_a_balancer()).await;
    let forwarded = b"GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: https\r\n\r\n";
    let ask = async |header: &[u8]| house.ask(&[header, forwarded].concat()).await;
    assert!(ask(b"PROXY UNKNOWN\r\n").await.contains("127.0.0.1 http "));
    let proxy = ask(b"PROXY TCP4 127.0.0.9 127.0.0.1 5000 443\r\n").await;
    assert!(proxy.contains("192.0.2.7 https "), "one proxy behind another: {proxy}");
    let client = ask(b"PROXY TCP4 192.0.2.8 127.0.0.1 5000 443\r\n").await;
    assert!(client.contains("192.0.2.8 http "), "{client}");
}

#[tokio::test]
async fn connections_through_a_proxy_are_counted_per_client() {
    let mut settings = behind_a_balancer();
    settings.limits.connections_per_client = 1;
    let house = TestEdge::start(&settings).await;
    let from = |host: u8| {
        [format!("PROXY TCP4 192.0.2.{host} 127.0.0.1 5000 443\r\n").as_bytes(), GET].concat()
    };
    let mut held = house.connect().await;
    held.write_all(&from(7)).await.unwrap();
    assert!(read_answer(&mut held).await.contains("192.0.2.7"));
    assert_eq!(house.ask(&from(7)).await, "");
    assert!(house.refused("connections_per_client"));
    assert!(house.ask(&from(8)).await.contains("192.0.2.8"));
    drop(held);
    let deadline = Instant::now() + LONG;
    while !house.ask(&from(7)).await.contains("192.0.2.7") {
        assert!(Instant::now() < deadline, "the place is not given back");
    }
}

#[tokio::test]
async fn a_drain_does_not_wait_for_proxy_headers() {
    let mut settings = behind_a_balancer();
    settings.limits.drain_time = SHORT;
    let mut house = TestEdge::start(&settings).await;
    let mut silent = house.connect().await;
    // Accepted after it, so that it is being served by now.
    assert_eq!(house.ask(GET).await, "");
    house.drain.cancel();
    assert!(is_closed(&mut silent).await);
    timeout(LONG, house.tasks.join_next()).await.unwrap().unwrap().unwrap();
    assert!(house.refused("drain_time"));
}
