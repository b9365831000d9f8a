//! The one way out: a pooled HTTP client that reaches no private address, follows no redirect, and
//! reads no more of a reply than it was told to.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::settings::Section;
use crate::vendors::{CallError, Reply};

/// `[egress]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressSettings {
    /// Whether destinations may be at loopback, private or link-local addresses.
    pub allow_private: bool,
    /// The most bytes of a reply that are read.
    pub reply_bytes: usize,
    /// How long a connection may take to be made, TLS included.
    pub connect_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_time: Duration,
    /// Unused connections kept for one host.
    pub idle_per_host: usize,
}

impl EgressSettings {
    /// Reads `[egress]`.
    pub fn read(section: &mut Section<'_>) -> Self {
        Self {
            allow_private: section.boolean("allow_private"),
            reply_bytes: section.byte_count("reply_bytes"),
            connect_timeout: section.duration("connect_timeout"),
            idle_time: section.duration("idle_time"),
            idle_per_host: section.integer("idle_per_host", 0..=10_000),
        }
    }
}

/// The egress client of one gateway.
#[derive(Clone, Debug)]
pub struct Egress {
    client: reqwest::Client,
    allow_private: bool,
    reply_bytes: usize,
}

impl Egress {
    /// Builds the client. An error means that TLS cannot be set up on this machine.
    pub fn new(settings: &EgressSettings) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("tagway/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(settings.connect_timeout)
            .pool_idle_timeout(settings.idle_time)
            .pool_max_idle_per_host(settings.idle_per_host)
            .tcp_nodelay(true)
            .dns_resolver(std::sync::Arc::new(Resolver { allow_private: settings.allow_private }))
            .build()?;
        let (allow_private, reply_bytes) = (settings.allow_private, settings.reply_bytes);
        Ok(Self { client, allow_private, reply_bytes })
    }

    /// Sends a request and reads the reply, all within `timeout`.
    pub async fn send(
        &self,
        request: http::Request<Bytes>,
        timeout: Duration,
    ) -> Result<Reply, CallError> {
        let request = reqwest::Request::try_from(request).map_err(call_error)?;
        if !self.allow_private && !literal_is_public(request.url()) {
            return Err(CallError::Forbidden);
        }
        match tokio::time::timeout(timeout, self.exchange(request)).await {
            Ok(result) => result,
            Err(_) => Err(CallError::Timeout(timeout)),
        }
    }

    async fn exchange(&self, request: reqwest::Request) -> Result<Reply, CallError> {
        let mut response = self.client.execute(request).await.map_err(call_error)?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(call_error)? {
            let room = self.reply_bytes.saturating_sub(body.len());
            body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            if chunk.len() > room {
                // The status was the answer. The connection is closed, not drained.
                break;
            }
        }
        Ok(Reply { status, headers, body: body.freeze() })
    }
}

/// What the guard says instead of an address.
#[derive(Debug, thiserror::Error)]
#[error("every address of the name is private or reserved")]
struct Guarded;

fn call_error(error: reqwest::Error) -> CallError {
    let mut source: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(cause) = source {
        if cause.is::<Guarded>() {
            return CallError::Forbidden;
        }
        source = cause.source();
    }
    // Without the URL, which may hold a secret (GA4's does).
    if error.is_connect() || error.is_builder() {
        CallError::Unreachable(Box::new(error.without_url()))
    } else {
        CallError::Cut(Box::new(error.without_url()))
    }
}

/// Resolves names, leaving out the addresses that destinations must not be at. The connection is
/// made to the very addresses that were checked, so that a second answer cannot differ.
struct Resolver {
    allow_private: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> =
                found.filter(|address| allow_private || is_public(address.ip())).collect();
            if allowed.is_empty() {
                return Err(Guarded.into());
            }
            let addresses: Addrs = Box::new(allowed.into_iter());
            Ok(addresses)
        })
    }
}

/// Addresses in the URL itself never reach the resolver.
fn literal_is_public(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => is_public(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => is_public(IpAddr::V6(ip)),
        Some(Host::Domain(_)) => true,
        None => false,
    }
}

/// Whether an address belongs to the public internet (the registries of RFC 6890 and its updates).
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        || ip.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b)))
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    if let Some(ip) = ip.to_ipv4_mapped() {
        return is_public_v4(ip);
    }
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let embedded = |high: u16, low: u16| {
        let [w, x] = high.to_be_bytes();
        let [y, z] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(w, x, y, z))
    };
    match (a, b) {
        // NAT64 and 6to4 lead to the IPv4 address inside.
        (0x64, 0xff9b) => [c, d, e, f] == [0; 4] && embedded(g, h),
        (0x2002, high) => embedded(high, c),
        // Teredo, benchmarking, ORCHID, and documentation.
        (0x2001, b) if b < 0x200 || b == 0xdb8 => false,
        (0x3fff, b) if b < 0x1000 => false,
        // Only 2000::/3 is given out.
        _ => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_and_reserved_addresses_are_not_public() {
        for ip in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "ff02::1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "::127.0.0.1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.32.0.1",
            "8.8.8.8",
            "192.0.1.1",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::",
        ] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    fn egress(allow_private: bool) -> Egress {
        Egress::new(&EgressSettings {
            allow_private,
            reply_bytes: 1000,
            connect_timeout: Duration::from_secs(1),
            idle_time: Duration::from_secs(1),
            idle_per_host: 1,
        })
        .unwrap()
    }

    async fn get(egress: &Egress, url: &str) -> Result<Reply, CallError> {
        let request = http::Request::get(url).body(Bytes::new()).unwrap();
        egress.send(request, Duration::from_secs(5)).await
    }

    #[tokio::test]
    async fn the_guard_holds_for_names_and_for_literals() {
        let guarded = egress(false);
        for url in
            ["http://127.0.0.1:1/", "http://[::1]:1/", "http://localhost:1/", "http://0x7f.1:1/"]
        {
            let result = get(&guarded, url).await;
            assert!(matches!(result, Err(CallError::Forbidden)), "{url}: {result:?}");
        }
        let result = get(&egress(true), "http://127.0.0.1:1/?secret=s3cret").await;
        let Err(CallError::Unreachable(error)) = result else { panic!("{result:?}") };
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    }
}
