//! Trusted proxies in front, and the clients that they name.

use super::*;

#[tokio::test]
async fn trusted_proxy_names_the_client_until_a_reload_removes_it() {
    let mut settings = settings();
    settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let edge = TestEdge::start(&settings).await;
    let forwarded = b"GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: https\r\n\r\n";
    assert!(edge.request(forwarded).await.contains("192.0.2.7 https"));
    settings.trusted_proxies.clear();
    edge.reload.reload(&settings).await.unwrap();
    assert!(edge.request(forwarded).await.contains("127.0.0.1 http "));
}

#[tokio::test]
async fn proxy_header_is_expected_from_trusted_proxies_only() {
    let mut settings = settings();
    settings.proxy_protocol = true;
    settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let edge = TestEdge::start(&settings).await;
    let with = [b"PROXY TCP4 192.0.2.7 127.0.0.1 5000 443\r\n", GET].concat();
    assert!(edge.request(&with).await.contains("192.0.2.7 http"));
    assert_eq!(edge.request(GET).await, "");
    settings.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    edge.reload.reload(&settings).await.unwrap();
    assert_eq!(edge.request(&with).await, "");
    assert!(edge.refused("proxy_protocol"));
}

fn behind_a_balancer() -> EdgeSettings {
    let mut settings = settings();
    settings.proxy_protocol = true;
    settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    settings
}

#[tokio::test]
async fn proxy_header_without_a_source_makes_no_sender_trusted() {
    let edge = TestEdge::start(&behind_a_balancer()).await;
    let forwarded = b"GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: https\r\n\r\n";
    let request = async |header: &[u8]| edge.request(&[header, forwarded].concat()).await;
    assert!(request(b"PROXY UNKNOWN\r\n").await.contains("127.0.0.1 http "));
    let proxy = request(b"PROXY TCP4 127.0.0.9 127.0.0.1 5000 443\r\n").await;
    assert!(proxy.contains("192.0.2.7 https "), "one proxy behind another: {proxy}");
    let client = request(b"PROXY TCP4 192.0.2.8 127.0.0.1 5000 443\r\n").await;
    assert!(client.contains("192.0.2.8 http "), "{client}");
}

#[tokio::test]
async fn connections_through_a_proxy_are_counted_per_client() {
    let mut settings = behind_a_balancer();
    settings.limits.connections_per_client = 1;
    let edge = TestEdge::start(&settings).await;
    let from = |host: u8| {
        [format!("PROXY TCP4 192.0.2.{host} 127.0.0.1 5000 443\r\n").as_bytes(), GET].concat()
    };
    let mut held = edge.connect().await;
    held.write_all(&from(7)).await.unwrap();
    assert!(read_answer(&mut held).await.contains("192.0.2.7"));
    assert_eq!(edge.request(&from(7)).await, "");
    assert!(edge.refused("connections_per_client"));
    assert!(edge.request(&from(8)).await.contains("192.0.2.8"));
    drop(held);
    let deadline = Instant::now() + LONG;
    while !edge.request(&from(7)).await.contains("192.0.2.7") {
        assert!(Instant::now() < deadline, "the place is not given back");
    }
}

#[tokio::test]
async fn a_drain_does_not_wait_for_proxy_headers() {
    let mut settings = behind_a_balancer();
    settings.limits.drain_time = SHORT;
    let mut edge = TestEdge::start(&settings).await;
    let mut silent = edge.connect().await;
    // Accepted after it, so that it is being served by now.
    assert_eq!(edge.request(GET).await, "");
    edge.drain.cancel();
    assert!(is_closed(&mut silent).await);
    timeout(LONG, edge.tasks.join_next()).await.unwrap().unwrap().unwrap();
    assert!(edge.refused("drain_time"));
}
