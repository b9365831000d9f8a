//! The address guard of all outgoing requests: it admits only addresses of the public internet.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use reqwest::dns::{self, Addrs, Resolve, Resolving};
use tower_service::Service;
use url::{Host, Url};

/// A function that returns true if an address may be connected to.
pub type AddressGuard = fn(IpAddr) -> bool;

/// The addresses of a name.
type ResolvedAddresses = std::vec::IntoIter<SocketAddr>;

/// An error of a lookup. Not `io::Error`, whose `source` hides the error that it was made from.
type ResolveError = Box<dyn Error + Send + Sync>;

/// The guard's error when no address of a name is admitted.
#[derive(Debug, thiserror::Error)]
#[error("every address of the name is private or reserved")]
pub struct PrivateAddressError;

/// Resolves names, leaving out the addresses that the guard refuses. The connection is made to the very addresses
/// that were checked, so that a second lookup cannot differ.
#[derive(Clone, Copy, Debug)]
pub struct EgressResolver(AddressGuard);

impl EgressResolver {
    /// Creates a resolver; `allow_private` admits private addresses too.
    pub fn new(allow_private: bool) -> Self {
        Self(if allow_private { |_| true } else { is_public })
    }

    /// Creates a resolver with this guard.
    pub const fn with_guard(guard: AddressGuard) -> Self {
        Self(guard)
    }

    /// Returns the admitted addresses of a host.
    ///
    /// # Errors
    ///
    /// Fails if the name does not resolve, or if the guard refuses all of its addresses.
    pub async fn resolve_host(
        self,
        host: &str,
    ) -> Result<Vec<IpAddr>, Box<dyn Error + Send + Sync>> {
        Ok(self.lookup(host.to_owned()).await?.map(|address| address.ip()).collect())
    }

    async fn lookup(self, name: String) -> Result<ResolvedAddresses, ResolveError> {
        let found = tokio::net::lookup_host((name, 0)).await?;
        let allowed: Vec<SocketAddr> = found.filter(|address| (self.0)(address.ip())).collect();
        if allowed.is_empty() {
            return Err(PrivateAddressError.into());
        }
        Ok(allowed.into_iter())
    }
}

impl Resolve for EgressResolver {
    fn resolve(&self, name: dns::Name) -> Resolving {
        let lookup = self.lookup(name.as_str().to_owned());
        Box::pin(async {
            let addresses: Addrs = Box::new(lookup.await?);
            Ok(addresses)
        })
    }
}

impl Service<Name> for EgressResolver {
    type Response = ResolvedAddresses;
    type Error = ResolveError;
    type Future = BoxFuture<'static, Result<ResolvedAddresses, ResolveError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ResolveError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(self.lookup(name.as_str().to_owned()))
    }
}

/// Returns true unless the URL's host is a private address. Such literals never reach the resolver.
pub fn literal_is_public(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => is_public(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => is_public(IpAddr::V6(ip)),
        Some(Host::Domain(_)) => true,
        None => false,
    }
}

/// Returns true if an address belongs to the public internet (the registries of RFC 6890 and its updates).
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
        // Only 2000::/3 is allocated.
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
}
