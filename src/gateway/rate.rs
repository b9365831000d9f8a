//! How often clients may call: per site and client prefix, and per site. A server that shows its
//! token only in the body is one of a client's requests until the body is read, so some bodies are
//! read beyond the client's quota.
//!
//! Memory is bounded: prefixes that have regained their quota are forgotten each second, and beyond
//! `limits.client_entries` new prefixes share a fixed number of places.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::rejection::RateLimited;
use super::settings::Rates;
use crate::journal::SiteId;

/// The places that unknown prefixes share when all others are taken.
const SHARED_PLACES: u64 = 4096;

/// Requests of one client at once, and then per second, that may be a person's clicks and the beacons
/// they set off. Beyond, it is a burst.
const PERSON_BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(59);
const PERSON_PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(5);

/// Between two looks at how many prefixes are remembered: what memory may overshoot by.
const LOOK_EVERY: u32 = 1024;

/// A site and a client prefix, or one of the shared places.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Client {
    V4(SiteId, [u8; 4]),
    V6(SiteId, [u8; 8]),
    Shared(SiteId, u64),
}

/// The limits of all sites.
pub(super) struct RateLimits {
    rates: Rates,
    clients: Option<Limit<Client>>,
    /// What a person does; to exceed it refuses nothing.
    people: Limit<Client>,
    sites: Option<Limit<SiteId>>,
    unproven: Option<Limit<SiteId>>,
    clock: DefaultClock,
    is_full: AtomicBool,
    since_look: AtomicU32,
    places: RandomState,
}

struct Limit<K: std::hash::Hash + Eq + Clone> {
    limiter: DefaultKeyedRateLimiter<K>,
    policy: &'static str,
    burst: u32,
    window: Duration,
}

impl<K: std::hash::Hash + Eq + Clone> Limit<K> {
    fn new(policy: &'static str, per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let window = Duration::from_secs(1) * burst.get() / per_second.get();
        Self { limiter: RateLimiter::keyed(quota), policy, burst: burst.get(), window }
    }

    fn check(&self, key: &K, clock: &DefaultClock) -> Result<(), RateLimited> {
        self.limiter.check_key(key).map_err(|not_until| RateLimited {
            policy: self.policy,
            burst: self.burst,
            window: self.window,
            wait: not_until.wait_time_from(clock.now()),
        })
    }
}

impl RateLimits {
    pub(super) fn new(rates: &Rates) -> Self {
        let client = rates.client_per_second;
        let site = rates.site_per_second;
        let unproven = NonZeroU32::new(rates.unproven_per_second);
        Self {
            rates: rates.clone(),
            clients: client.map(|per_second| Limit::new("client", per_second, rates.client_burst)),
            people: Limit::new("person", PERSON_PER_SECOND, PERSON_BURST),
            sites: site.map(|per_second| Limit::new("site", per_second, rates.site_burst)),
            unproven: unproven.map(|per_second| Limit::new("unproven", per_second, per_second)),
            clock: DefaultClock::default(),
            is_full: AtomicBool::new(false),
            since_look: AtomicU32::new(0),
            places: RandomState::new(),
        }
    }

    /// The settings these limits were made from.
    pub(super) fn rates(&self) -> &Rates {
        &self.rates
    }

    /// Takes one request of a client's quota at a site.
    pub(super) fn check_client(&self, site: SiteId, client: IpAddr) -> Result<(), RateLimited> {
        let Some(limit) = &self.clients else { return Ok(()) };
        self.look_in_turn();
        limit.check(&self.key(site, client), &self.clock)
    }

    /// Counts one request of a client to a site, and says whether it has sent more lately than a
    /// person would.
    pub(super) fn is_burst(&self, site: SiteId, client: IpAddr) -> bool {
        self.look_in_turn();
        self.people.check(&self.key(site, client), &self.clock).is_err()
    }

    fn key(&self, site: SiteId, client: IpAddr) -> Client {
        let key = prefix(site, client);
        if self.is_full.load(Ordering::Relaxed) {
            return Client::Shared(site, self.places.hash_one(&key) % SHARED_PLACES);
        }
        key
    }

    /// Takes one request of the site's quota.
    pub(super) fn check_site(&self, site: SiteId) -> Result<(), RateLimited> {
        self.sites.as_ref().map_or(Ok(()), |limit| limit.check(&site, &self.clock))
    }

    /// Whether one more body of a client over its quota may be read, to see whether a server sent it.
    pub(super) fn may_prove(&self, site: SiteId) -> bool {
        let limit = self.unproven.as_ref();
        limit.is_some_and(|limit| limit.check(&site, &self.clock).is_ok())
    }

    /// Forgets clients that have regained their quota. To be called each second.
    pub(super) fn forget(&self) {
        for limit in self.clients.iter().chain([&self.people]) {
            limit.limiter.retain_recent();
            limit.limiter.shrink_to_fit();
        }
        self.look();
    }

    fn look_in_turn(&self) {
        if self.since_look.fetch_add(1, Ordering::Relaxed) % LOOK_EVERY == LOOK_EVERY - 1 {
            self.look();
        }
    }

    fn look(&self) {
        let held = self.clients.iter().chain([&self.people]).map(|limit| limit.limiter.len());
        let is_full = held.max().unwrap_or_default() >= self.rates.client_entries;
        self.is_full.store(is_full, Ordering::Relaxed);
    }
}

/// /32 of IPv4; /64 of IPv6, which is what one household holds.
fn prefix(site: SiteId, client: IpAddr) -> Client {
    match client.to_canonical() {
        IpAddr::V4(address) => Client::V4(site, address.octets()),
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h, ..] = address.octets();
            Client::V6(site, [a, b, c, d, e, f, g, h])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: SiteId = SiteId(1);

    fn limits(per_second: u32, burst: u32, site: u32) -> RateLimits {
        RateLimits::new(&Rates {
            client_per_second: NonZeroU32::new(per_second),
            client_burst: NonZeroU32::new(burst).unwrap(),
            site_per_second: NonZeroU32::new(site),
            site_burst: NonZeroU32::new(3).unwrap(),
            unproven_per_second: 0,
            client_entries: 1000,
        })
    }

    #[test]
    fn a_client_is_stopped_after_its_burst_and_others_are_not() {
        let limits = limits(1, 2, 0);
        let client = "192.0.2.1".parse().unwrap();
        assert!(limits.check_client(SITE, client).is_ok());
        assert!(limits.check_client(SITE, client).is_ok());
        let limited = limits.check_client(SITE, client).unwrap_err();
        assert_eq!((limited.policy, limited.burst), ("client", 2));
        assert_eq!(limited.window, Duration::from_secs(2));
        assert!(limited.wait <= Duration::from_secs(1) && !limited.wait.is_zero());
        assert!(limits.check_client(SITE, "192.0.2.2".parse().unwrap()).is_ok());
        assert!(limits.check_client(SiteId(2), client).is_ok(), "another site is another quota");
    }

    #[test]
    fn a_burst_is_more_than_a_person_sends() {
        let limits = limits(0, 1, 0);
        let client = "192.0.2.1".parse().unwrap();
        let bursts = (0..80).filter(|_| limits.is_burst(SITE, client)).count();
        assert_eq!(bursts, 20);
        limits.forget();
        assert!(limits.is_burst(SITE, client), "not forgotten while it goes on");
    }

    #[test]
    fn one_household_of_ipv6_shares_a_quota() {
        let limits = limits(1, 1, 0);
        assert!(limits.check_client(SITE, "2001:db8::1".parse().unwrap()).is_ok());
        assert!(limits.check_client(SITE, "2001:db8::2".parse().unwrap()).is_err());
        assert!(limits.check_client(SITE, "2001:db8:0:1::1".parse().unwrap()).is_ok());
        assert!(limits.check_client(SITE, "::ffff:192.0.2.1".parse().unwrap()).is_ok());
        assert!(limits.check_client(SITE, "192.0.2.1".parse().unwrap()).is_err());
    }

    #[test]
    fn a_flood_of_prefixes_takes_bounded_memory() {
        let limits = limits(1, 1, 0);
        for n in 0..200_000_u32 {
            limits.check_client(SITE, IpAddr::V4(n.into())).ok();
            limits.is_burst(SITE, IpAddr::V4(n.into()));
        }
        for limit in [limits.clients.as_ref().unwrap(), &limits.people] {
            let held = u64::try_from(limit.limiter.len()).unwrap();
            assert!(held <= 1000 + u64::from(LOOK_EVERY) + SHARED_PLACES, "{held}");
        }
    }

    #[test]
    fn a_site_has_a_quota_of_its_own() {
        let limits = limits(0, 1, 1);
        for _ in 0..3 {
            assert!(limits.check_site(SITE).is_ok());
        }
        assert_eq!(limits.check_site(SITE).unwrap_err().policy, "site");
        assert!(limits.check_client(SITE, "192.0.2.1".parse().unwrap()).is_ok(), "0 is no limit");
    }
}
