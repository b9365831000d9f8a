//! Quotas of events and bytes.
//!
//! A quota that is not used up admits a request of any size, and the whole size is charged to it. The excess over
//! the remaining quota must recover before the next request is admitted. So a batch larger than the burst is not
//! refused for ever, and at most one is admitted beyond the quota. A refused request is not charged.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::rejection::RateLimitExceeded;
use super::settings::{VolumeLimits, VolumeRate};

/// The shards of the table, each with its own lock.
const SHARDS: usize = 16;

/// The names of a quota of events and one of bytes, as clients and metrics see them.
#[derive(Clone, Copy, Debug)]
pub(super) struct QuotaPolicyNames {
    pub(super) events: &'static str,
    pub(super) bytes: &'static str,
}

/// The events and bytes of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RequestVolume {
    pub(super) events: u64,
    pub(super) bytes: u64,
}

/// The time at which a quota will be full again, in nanoseconds from the limit's creation.
#[derive(Clone, Copy, Debug, Default)]
struct QuotaRecovery {
    events: u64,
    bytes: u64,
}

/// The quotas of all keys.
pub(super) struct VolumeLimiter<K> {
    events: Option<VolumeQuota>,
    bytes: Option<VolumeQuota>,
    shards: [Mutex<HashMap<K, QuotaRecovery>>; SHARDS],
    places: RandomState,
    began: Instant,
}

struct VolumeQuota {
    policy: &'static str,
    per_second: u64,
    burst: u64,
}

impl VolumeQuota {
    fn new(policy: &'static str, rate: VolumeRate, times: u64) -> Self {
        let (per_second, burst) = (rate.per_second.get(), rate.burst.get());
        Self {
            policy,
            per_second: per_second.saturating_mul(times),
            burst: burst.saturating_mul(times),
        }
    }

    /// Returns the nanoseconds in which this amount recovers.
    fn time(&self, amount: u64) -> u64 {
        let time = u128::from(amount) * 1_000_000_000 / u128::from(self.per_second.max(1));
        u64::try_from(time).unwrap_or(u64::MAX)
    }

    fn check(&self, regained: u64, now: u64) -> Result<(), RateLimitExceeded> {
        let window = self.time(self.burst);
        let missing = regained.saturating_sub(now);
        if missing < window {
            return Ok(());
        }
        Err(RateLimitExceeded {
            policy: self.policy,
            burst: u32::try_from(self.burst).unwrap_or(u32::MAX),
            window: Duration::from_nanos(window),
            wait: Duration::from_nanos(missing - window + self.time(1).max(1)),
        })
    }

    fn charge(&self, regained: &mut u64, amount: u64, now: u64) {
        *regained = (*regained).max(now).saturating_add(self.time(amount));
    }
}

impl<K: Hash + Eq> VolumeLimiter<K> {
    /// Creates a limit of `times` these quotas. `None` if there are none.
    pub(super) fn new(
        policies: QuotaPolicyNames,
        volumes: VolumeLimits,
        times: u64,
    ) -> Option<Self> {
        if volumes == VolumeLimits::default() {
            return None;
        }
        Some(Self {
            events: volumes.events.map(|rate| VolumeQuota::new(policies.events, rate, times)),
            bytes: volumes.bytes.map(|rate| VolumeQuota::new(policies.bytes, rate, times)),
            shards: Default::default(),
            places: RandomState::new(),
            began: Instant::now(),
        })
    }

    /// Refuses a key whose quota is used up.
    pub(super) fn check(&self, key: &K) -> Result<(), RateLimitExceeded> {
        let regained = self.shard(key).get(key).copied().unwrap_or_default();
        let now = self.now();
        if let Some(quota) = &self.events {
            quota.check(regained.events, now)?;
        }
        self.bytes.as_ref().map_or(Ok(()), |quota| quota.check(regained.bytes, now))
    }

    /// Charges a volume to the key's quotas.
    pub(super) fn charge(&self, key: K, volume: RequestVolume) {
        if volume == RequestVolume::default() {
            return;
        }
        let now = self.now();
        let mut shard = self.shard(&key);
        let regained = shard.entry(key).or_default();
        if let Some(quota) = &self.events {
            quota.charge(&mut regained.events, volume.events, now);
        }
        if let Some(quota) = &self.bytes {
            quota.charge(&mut regained.bytes, volume.bytes, now);
        }
    }

    /// Evicts keys whose quotas are full.
    pub(super) fn forget(&self) {
        let now = self.now();
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.retain(|_, regained| regained.events > now || regained.bytes > now);
            if shard.capacity() > 4 * shard.len() {
                shard.shrink_to_fit();
            }
        }
    }

    /// Returns the number of remembered keys.
    pub(super) fn len(&self) -> usize {
        let length = |shard: &Mutex<HashMap<K, QuotaRecovery>>| shard.lock().len();
        self.shards.iter().map(length).sum()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, HashMap<K, QuotaRecovery>> {
        let [first, others @ ..] = &self.shards;
        let place = self.places.hash_one(key) % SHARDS as u64;
        let place = usize::try_from(place).unwrap_or_default();
        let shard = place.checked_sub(1).and_then(|place| others.get(place)).unwrap_or(first);
        shard.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICIES: QuotaPolicyNames = QuotaPolicyNames { events: "events", bytes: "bytes" };

    fn limit(events: (u64, u64), bytes: (u64, u64)) -> VolumeLimiter<u8> {
        let volumes = VolumeLimits {
            events: VolumeRate::new(events.0, events.1),
            bytes: VolumeRate::new(bytes.0, bytes.1),
        };
        VolumeLimiter::new(POLICIES, volumes, 1).unwrap()
    }

    fn events(events: u64) -> RequestVolume {
        RequestVolume { events, bytes: 0 }
    }

    #[tokio::test(start_paused = true)]
    async fn batch_larger_than_the_burst_passes_once_and_is_paid_for_afterwards() {
        let limit = limit((10, 100), (0, 1));
        limit.check(&1).unwrap();
        limit.charge(1, events(250));
        let limited = limit.check(&1).unwrap_err();
        assert_eq!((limited.policy, limited.burst), ("events", 100));
        assert_eq!(limited.window, Duration::from_secs(10));
        assert_eq!(limited.wait, Duration::from_millis(15_100));
        limit.check(&2).unwrap();
        // A refused retry is not charged.
        tokio::time::advance(Duration::from_secs(15)).await;
        limit.check(&1).unwrap_err();
        tokio::time::advance(limit.check(&1).unwrap_err().wait).await;
        limit.check(&1).unwrap();
        limit.charge(1, events(250));
        limit.check(&1).unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_have_a_quota_of_their_own() {
        let limit = limit((1000, 1000), (1 << 20, 4 << 20));
        for _ in 0..4 {
            limit.check(&1).unwrap();
            limit.charge(1, RequestVolume { events: 1, bytes: 1 << 20 });
        }
        assert_eq!(limit.check(&1).unwrap_err().policy, "bytes");
        tokio::time::advance(Duration::from_secs(1)).await;
        limit.check(&1).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_evicted_once_their_quotas_are_full() {
        let limit = limit((10, 100), (0, 1));
        limit.charge(1, events(10));
        limit.charge(2, events(20));
        limit.charge(3, RequestVolume::default());
        assert_eq!(limit.len(), 2);
        tokio::time::advance(Duration::from_millis(1500)).await;
        limit.forget();
        assert_eq!(limit.len(), 1);
    }
}
