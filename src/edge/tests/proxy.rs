//! Proxies in front: who they say the client is.

use super::*;

#[tokio::test]
async fn a_trusted_proxy_names_the_client_and_a_reload_ends_the_trust() {
    let mut settings = settings();
    settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let house = House::start(&settings).await;
    let forwarded = b"GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: https\r\n\r\n";
    assert!(house.ask(forwarded).await.contains("192.0.2.7 https"));
    settings.trusted_proxies.clear();
    house.reload.reload(&settings).await.unwrap();
    assert!(house.ask(forwarded).await.contains("127.0.0.1 http "));
}

#[tokio::test]
async fn a_proxy_header_is_wanted_from_trusted_proxies_only() {
    let mut settings = settings();
    settings.proxy_protocol = true;
    settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let house = House::start(&settings).await;
    let with = [b"PROXY TCP4 192.0.2.7 127.0.0.1 5000 443\r\n", GET].concat();
    assert!(house.ask(&with).await.contains("192.0.2.7 http"));
    assert_eq!(house.ask(GET).await, "");
    settings.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    house.reload.reload(&settings).await.unwrap();
    assert_eq!(house.ask(&with).await, "");
    assert!(house.refused("proxy_protocol"));
}
