//! Rate limits of clients: requests, events and bytes, per site and client prefix, and per site. A server that
//! sends its token only in the body counts as a client until the body is read, so some bodies are read beyond the
//! client's quota.
//!
//! The holder of a /48 of IPv6 has 65,536 of the prefixes that count as a client: all of them together have the
//! quotas of a few clients.
//!
//! Memory is bounded: prefixes whose quota has recovered are evicted each second, and beyond
//! `CLIENT_ENTRIES` (`settings.rs`) new prefixes share a fixed number of slots.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::rejection::RateLimitExceeded;
use super::settings::RateLimitSettings;
use super::volume::{QuotaPolicyNames, RequestVolume, VolumeLimiter};
use tagway_storage::journal::SiteId;

/// The slots that unknown prefixes share when all others are taken.
const SHARED_PLACES: u64 = 4096;

/// The burst of requests, and then the rate per second, that may be a person's clicks and the beacons they cause.
/// More is a burst.
const PERSON_BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(59);
const PERSON_PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(5);

/// The requests between two counts of the remembered prefixes: memory may overshoot by this many.
const ENTRY_COUNT_INTERVAL: u32 = 1024;

/// A site and a client prefix, or one of the shared slots.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum RateLimitKey {
    V4(SiteId, [u8; 4]),
    V6(SiteId, [u8; 8]),
    /// A /48 of IPv6 at a site.
    Network(SiteId, [u8; 6]),
    Shared(SiteId, u64),
}

/// The limits of all sites.
pub(super) struct RateLimits {
    rates: RateLimitSettings,
    clients: Option<KeyedRateLimit<RateLimitKey>>,
    networks: Option<KeyedRateLimit<RateLimitKey>>,
    client_volumes: Option<VolumeLimiter<RateLimitKey>>,
    network_volumes: Option<VolumeLimiter<RateLimitKey>>,
    site_volumes: Option<VolumeLimiter<SiteId>>,
    /// The rate of a person's requests; exceeding it refuses nothing.
    person_bursts: KeyedRateLimit<RateLimitKey>,
    sites: Option<KeyedRateLimit<SiteId>>,
    unverified_sites: Option<KeyedRateLimit<SiteId>>,
    clock: DefaultClock,
    is_full: AtomicBool,
    since_look: AtomicU32,
    places: RandomState,
}

struct KeyedRateLimit<K: std::hash::Hash + Eq + Clone> {
    limiter: DefaultKeyedRateLimiter<K>,
    policy: &'static str,
    burst: u32,
    window: Duration,
}

impl<K: std::hash::Hash + Eq + Clone> KeyedRateLimit<K> {
    fn new(policy: &'static str, per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let window = Duration::from_secs(1) * burst.get() / per_second.get();
        Self { limiter: RateLimiter::keyed(quota), policy, burst: burst.get(), window }
    }

    fn check(&self, key: &K, clock: &DefaultClock) -> Result<(), RateLimitExceeded> {
        self.limiter.check_key(key).map_err(|not_until| RateLimitExceeded {
            policy: self.policy,
            burst: self.burst,
            window: self.window,
            wait: not_until.wait_time_from(clock.now()),
        })
    }
}

impl RateLimits {
    pub(super) fn new(rates: &RateLimitSettings) -> Self {
        let client = rates.client_per_second;
        let site = rates.site_per_second;
        let unproven = NonZeroU32::new(rates.unproven_per_second);
        let times = rates.network_clients;
        let network = times.zip(client).map(|(times, per_second)| {
            let times = |rate: NonZeroU32| rate.saturating_mul(times);
            KeyedRateLimit::new("network", times(per_second), times(rates.client_burst))
        });
        let policies = |events, bytes| QuotaPolicyNames { events, bytes };
        Self {
            rates: rates.clone(),
            networks: network,
            client_volumes: VolumeLimiter::new(
                policies("client_events", "client_bytes"),
                rates.client_volumes,
                1,
            ),
            network_volumes: times.and_then(|times| {
                let names = policies("network_events", "network_bytes");
                VolumeLimiter::new(names, rates.client_volumes, u64::from(times.get()))
            }),
            site_volumes: VolumeLimiter::new(
                policies("site_events", "site_bytes"),
                rates.site_volumes,
                1,
            ),
            clients: client
                .map(|per_second| KeyedRateLimit::new("client", per_second, rates.client_burst)),
            person_bursts: KeyedRateLimit::new("person", PERSON_PER_SECOND, PERSON_BURST),
            sites: site.map(|per_second| KeyedRateLimit::new("site", per_second, rates.site_burst)),
            unverified_sites: unproven
                .map(|per_second| KeyedRateLimit::new("unproven", per_second, per_second)),
            clock: DefaultClock::default(),
            is_full: AtomicBool::new(false),
            since_look: AtomicU32::new(0),
            places: RandomState::new(),
        }
    }

    /// Returns the settings these limits were made from.
    pub(super) fn rates(&self) -> &RateLimitSettings {
        &self.rates
    }

    /// Charges one request to a client's quota at a site.
    pub(super) fn check_client(
        &self,
        site: SiteId,
        client: IpAddr,
    ) -> Result<(), RateLimitExceeded> {
        let Some(limit) = &self.clients else { return Ok(()) };
        self.count_entries_periodically();
        limit.check(&self.key(prefix(site, client)), &self.clock)?;
        match self.networks.as_ref().zip(network(site, client)) {
            Some((limit, network)) => limit.check(&self.key(network), &self.clock),
            None => Ok(()),
        }
    }

    /// Charges events and bytes to the site's quotas and, if there is one, the client's. Nothing is charged if one
    /// of them is used up already.
    pub(super) fn charge_volume(
        &self,
        site: SiteId,
        client: Option<IpAddr>,
        volume: RequestVolume,
    ) -> Result<(), RateLimitExceeded> {
        let keyed = |limit: &'_ Option<VolumeLimiter<RateLimitKey>>, key: Option<RateLimitKey>| {
            limit.is_some().then_some(key).flatten().map(|key| self.key(key))
        };
        let of_client = keyed(&self.client_volumes, client.map(|it| prefix(site, it)));
        let of_network = keyed(&self.network_volumes, client.and_then(|it| network(site, it)));
        let clients = self.client_volumes.iter().zip(of_client);
        let networks = self.network_volumes.iter().zip(of_network);
        let limits = || clients.clone().chain(networks.clone());
        if client.is_some() {
            self.count_entries_periodically();
        }
        for (limit, key) in limits() {
            limit.check(&key)?;
        }
        if let Some(limit) = &self.site_volumes {
            limit.check(&site)?;
            limit.charge(site, volume);
        }
        for (limit, key) in limits() {
            limit.charge(key, volume);
        }
        Ok(())
    }

    /// Counts one request of a client to a site, and returns true if it has sent more lately than a person would.
    pub(super) fn is_burst(&self, site: SiteId, client: IpAddr) -> bool {
        self.count_entries_periodically();
        self.person_bursts.check(&self.key(prefix(site, client)), &self.clock).is_err()
    }

    fn key(&self, key: RateLimitKey) -> RateLimitKey {
        let (RateLimitKey::V4(site, _)
        | RateLimitKey::V6(site, _)
        | RateLimitKey::Network(site, _)
        | RateLimitKey::Shared(site, _)) = key;
        if self.is_full.load(Ordering::Relaxed) {
            return RateLimitKey::Shared(site, self.places.hash_one(&key) % SHARED_PLACES);
        }
        key
    }

    /// Returns the limits that remember clients.
    fn limits(&self) -> impl Iterator<Item = &KeyedRateLimit<RateLimitKey>> {
        self.clients.iter().chain(&self.networks).chain([&self.person_bursts])
    }

    fn volumes(&self) -> impl Iterator<Item = &VolumeLimiter<RateLimitKey>> {
        self.client_volumes.iter().chain(&self.network_volumes)
    }

    /// Charges one request to the site's quota.
    pub(super) fn check_site(&self, site: SiteId) -> Result<(), RateLimitExceeded> {
        self.sites.as_ref().map_or(Ok(()), |limit| limit.check(&site, &self.clock))
    }

    /// Returns true if one more body of a client over its quota may be read, to see if a server sent it.
    pub(super) fn may_read_unverified(&self, site: SiteId) -> bool {
        let limit = self.unverified_sites.as_ref();
        limit.is_some_and(|limit| limit.check(&site, &self.clock).is_ok())
    }

    /// Evicts clients whose quota has recovered. To be called each second.
    pub(super) fn evict_recovered(&self) {
        for limit in self.limits() {
            limit.limiter.retain_recent();
            limit.limiter.shrink_to_fit();
        }
        for limit in self.volumes() {
            limit.forget();
        }
        self.count_entries();
    }

    fn count_entries_periodically(&self) {
        if self.since_look.fetch_add(1, Ordering::Relaxed) % ENTRY_COUNT_INTERVAL
            == ENTRY_COUNT_INTERVAL - 1
        {
            self.count_entries();
        }
    }

    fn count_entries(&self) {
        let held = self.limits().map(|limit| limit.limiter.len());
        let held = held.chain(self.volumes().map(VolumeLimiter::len));
        let is_full = held.max().unwrap_or_default() >= self.rates.client_entries;
        self.is_full.store(is_full, Ordering::Relaxed);
    }
}

/// Returns /32 of IPv4; /64 of IPv6, which is what one household has.
fn prefix(site: SiteId, client: IpAddr) -> RateLimitKey {
    match client.to_canonical() {
        IpAddr::V4(address) => RateLimitKey::V4(site, address.octets()),
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h, ..] = address.octets();
            RateLimitKey::V6(site, [a, b, c, d, e, f, g, h])
        }
    }
}

/// Returns /48 of IPv6, which is what a provider gives an organisation or a rented server.
fn network(site: SiteId, client: IpAddr) -> Option<RateLimitKey> {
    match client.to_canonical() {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, ..] = address.octets();
            Some(RateLimitKey::Network(site, [a, b, c, d, e, f]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::settings::{VolumeLimits, VolumeRate};

    const SITE: SiteId = SiteId(1);

    fn rates(per_second: u32, burst: u32, site: u32) -> RateLimitSettings {
        RateLimitSettings {
            client_per_second: NonZeroU32::new(per_second),
            client_burst: NonZeroU32::new(burst).unwrap(),
            site_per_second: NonZeroU32::new(site),
            site_burst: NonZeroU32::new(3).unwrap(),
            unproven_per_second: 0,
            network_clients: NonZeroU32::new(4),
            client_volumes: VolumeLimits::default(),
            site_volumes: VolumeLimits::default(),
            client_entries: 1000,
        }
    }

    fn limits(per_second: u32, burst: u32, site: u32) -> RateLimits {
        RateLimits::new(&rates(per_second, burst, site))
    }

    /// Returns quotas of 100 events of a client and 1,000 of the site, in 10 and 100 seconds.
    fn volume_limits() -> RateLimits {
        let volumes = |burst| VolumeLimits {
            events: VolumeRate::new(10, burst),
            bytes: VolumeRate::new(1, 1 << 20),
        };
        let (client_volumes, site_volumes) = (volumes(100), volumes(1000));
        RateLimits::new(&RateLimitSettings { client_volumes, site_volumes, ..rates(0, 1, 0) })
    }

    const BATCH: RequestVolume = RequestVolume { events: 100, bytes: 1000 };

    #[tokio::test(start_paused = true)]
    async fn client_events_are_counted_whatever_the_number_of_requests() {
        let limits = volume_limits();
        let client = Some("192.0.2.1".parse().unwrap());
        limits.charge_volume(SITE, client, BATCH).unwrap();
        let limited = limits.charge_volume(SITE, client, BATCH).unwrap_err();
        assert_eq!((limited.policy, limited.burst), ("client_events", 100));
        assert_eq!(
            limits.charge_volume(SITE, client, RequestVolume::default()).unwrap_err(),
            limited
        );
        limits.charge_volume(SITE, Some("192.0.2.2".parse().unwrap()), BATCH).unwrap();
        limits.charge_volume(SiteId(2), client, BATCH).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn servers_are_limited_by_the_sites_quota_alone() {
        let limits = volume_limits();
        for _ in 0..10 {
            limits.charge_volume(SITE, None, BATCH).unwrap();
        }
        assert_eq!(limits.charge_volume(SITE, None, BATCH).unwrap_err().policy, "site_events");
        let refused = limits.charge_volume(SITE, Some("192.0.2.1".parse().unwrap()), BATCH);
        assert_eq!(refused.unwrap_err().policy, "site_events");
        tokio::time::advance(Duration::from_secs(20)).await;
        // A refused batch has not been charged to the client either.
        limits.charge_volume(SITE, Some("192.0.2.1".parse().unwrap()), BATCH).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn networks_of_one_provider_share_some_clients_quotas() {
        let address = |n: u32| format!("2001:db8:7:{n:x}::1").parse::<IpAddr>().unwrap();
        let limits = volume_limits();
        let passed =
            (0..100).filter(|n| limits.charge_volume(SITE, Some(address(*n)), BATCH).is_ok());
        assert_eq!(passed.count(), 4);
        let other = "2001:db8:8::1".parse().unwrap();
        limits.charge_volume(SITE, Some(other), BATCH).unwrap();
        let limits = self::limits(1, 10, 0);
        let passed = (0..100).filter(|n| limits.check_client(SITE, address(*n)).is_ok());
        assert_eq!(passed.count(), 40);
        limits.check_client(SITE, other).unwrap();
    }

    #[test]
    fn client_is_limited_after_its_burst_and_others_are_not() {
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
    fn burst_is_more_than_a_person_sends() {
        let limits = limits(0, 1, 0);
        let client = "192.0.2.1".parse().unwrap();
        let bursts = (0..80).filter(|_| limits.is_burst(SITE, client)).count();
        assert_eq!(bursts, 20);
        limits.evict_recovered();
        assert!(limits.is_burst(SITE, client), "not forgotten while it goes on");
    }

    #[test]
    fn ipv6_network_shares_a_quota() {
        let limits = limits(1, 1, 0);
        assert!(limits.check_client(SITE, "2001:db8::1".parse().unwrap()).is_ok());
        assert!(limits.check_client(SITE, "2001:db8::2".parse().unwrap()).is_err());
        assert!(limits.check_client(SITE, "2001:db8:0:1::1".parse().unwrap()).is_ok());
        assert!(limits.check_client(SITE, "::ffff:192.0.2.1".parse().unwrap()).is_ok());
        assert!(limits.check_client(SITE, "192.0.2.1".parse().unwrap()).is_err());
    }

    #[test]
    fn flood_of_prefixes_takes_bounded_memory() {
        let client_volumes =
            VolumeLimits { events: VolumeRate::new(1, 1), bytes: VolumeRate::new(1, 1) };
        let limits = RateLimits::new(&RateLimitSettings { client_volumes, ..rates(1, 1, 0) });
        for n in 0..200_000_u128 {
            let address = IpAddr::V6((n << 80).into());
            limits.check_client(SITE, address).ok();
            limits.charge_volume(SITE, Some(address), BATCH).ok();
            limits.is_burst(SITE, address);
        }
        let held = limits.limits().map(|limit| limit.limiter.len());
        for held in held.chain(limits.volumes().map(VolumeLimiter::len)) {
            let held = u64::try_from(held).unwrap();
            assert!(held <= 1000 + u64::from(ENTRY_COUNT_INTERVAL) + SHARED_PLACES, "{held}");
        }
    }

    #[test]
    fn site_has_a_quota_of_its_own() {
        let limits = limits(0, 1, 1);
        for _ in 0..3 {
            assert!(limits.check_site(SITE).is_ok());
        }
        assert_eq!(limits.check_site(SITE).unwrap_err().policy, "site");
        assert!(limits.check_client(SITE, "192.0.2.1".parse().unwrap()).is_ok(), "0 is no limit");
    }
}
