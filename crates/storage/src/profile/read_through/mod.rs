//! A read-through cache: the values of a slow source by key, in bounded memory.
//!
//! - **Freshness.** A value is fresh for `ttl`, a negative one (the source has no value) for `negative_ttl`. A lookup
//!   that uses a value older than `refresh_after` has it read again in the background, if a read is free.
//! - **Stale values.** If a read fails, or has not ended at the lookup's deadline, values younger than `max_age` are
//!   used, negative ones never; the source is not asked for them again for `retry`. Without a [`StalePolicy`] a lookup
//!   ends with the first error.
//! - **Single flight.** Lookups that miss the same key at the same time wait for one read, in batches as large as the
//!   source takes, a bounded number at once. A read is a task of its own and continues after its waiters gave up:
//!   otherwise a source that always takes longer than they wait would never fill the cache.
//! - **Waiters.** A lookup waits for the keys that are not fresh, until its deadline. It gets every value that it has by
//!   then, and the last error if there was one. A key in neither has no value.
//! - **Coherence.** A value is cached, and shared with lookups that began later, only if no change of its key was
//!   published ([`ReadThrough::begin_change`]) since before its read began. So no lookup returns a value older than the
//!   changes published before it began.
//!
//! Eviction by weight and by idle time are `moka`'s. Freshness is kept here, since values stay usable after it, and
//! `moka`'s own loading by key reads no batches and ends with its waiters. The timeout of a read is the source's.

mod epochs;
mod in_flight;
mod tasks;
#[cfg(test)]
mod tests;
mod weight;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use moka::Equivalent;
use moka::sync::Cache;
use parking_lot::{RwLock, RwLockWriteGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use self::epochs::ChangeEpochs;
use self::in_flight::{InFlightReads, PendingRead, ReadWaiter};
pub(super) use self::tasks::ReadTasks;
use self::weight::ENTRY_BYTES;
pub(super) use self::weight::member_bytes;

/// The source of a cache's values.
#[async_trait]
pub(super) trait ReadSource<K, V, E>: Send + Sync {
    /// Reads the values of these keys; those without a value are left out. Values of further keys that the read
    /// found are cached as well.
    async fn read(&self, keys: &[K]) -> Result<HashMap<K, V>, E>;

    /// Returns the bytes of memory that an entry costs, besides the cache's own.
    fn weight(&self, key: &K, value: &V) -> usize;

    /// Returns the most keys of one read.
    fn max_batch_keys(&self) -> usize {
        usize::MAX
    }

    /// Returns true if the value states that the source has none.
    fn is_negative(&self, _value: &V) -> bool {
        false
    }

    /// Returns the key to which the value refers. Its value is of the same read, and part of the answer.
    fn linked_key(&self, _value: &V) -> Option<K> {
        None
    }

    /// Counts keys of a lookup: each is a "hit" or a "miss", and a "refresh" besides if it is read in the background.
    fn count(&self, _result: &'static str, _keys: usize) {}
}

/// The limits of a cache and of its reads.
#[derive(Clone, Debug)]
pub(super) struct ReadThroughPolicy {
    /// The memory of the entries, in bytes.
    pub(super) capacity_bytes: u64,
    /// The time for which a value is fresh.
    pub(super) ttl: Duration,
    /// The time for which a negative value is fresh.
    pub(super) negative_ttl: Duration,
    /// The time after which an unused entry is removed.
    pub(super) idle: Option<Duration>,
    /// The age from which a value in use is read again in the background; `ttl` for never.
    pub(super) refresh_after: Duration,
    /// The use of values that are no longer fresh.
    pub(super) stale: Option<StalePolicy>,
    /// The most concurrent reads.
    pub(super) max_concurrent_reads: usize,
}

/// The use of values that are no longer fresh, while there is no newer one.
#[derive(Clone, Copy, Debug)]
pub(super) struct StalePolicy {
    /// The age up to which a value is used.
    pub(super) max_age: Duration,
    /// The time after a failed read for which a value is used before it is read again.
    pub(super) retry: Duration,
}

/// The reason why a lookup is not complete.
#[derive(Clone, Debug)]
pub(super) enum ReadThroughError<E> {
    /// The reads were cancelled: the gateway is being stopped.
    Ended,
    /// The lookup's deadline passed.
    Timeout,
    /// A read failed.
    Source(E),
}

/// The result of a read or of a lookup.
#[derive(Debug)]
pub(super) struct ReadOutcome<K, V, E> {
    /// The values that were found.
    pub(super) values: HashMap<K, V>,
    /// The reason why others are missing, if they are not known to have no value.
    pub(super) error: Option<ReadThroughError<E>>,
}

/// A cached value, and the times until which it is used.
#[derive(Clone)]
struct CacheEntry<V> {
    value: V,
    /// The time from which it is read again in the background.
    refresh_at: Instant,
    fresh_until: Instant,
    /// The time until which it is used if there is no newer one; never before `fresh_until`.
    stale_until: Instant,
}

/// A cache in front of a source.
pub(super) struct ReadThrough<K, V, E> {
    source: Arc<dyn ReadSource<K, V, E>>,
    policy: ReadThroughPolicy,
    entries: Cache<K, CacheEntry<V>>,
    epochs: RwLock<ChangeEpochs>,
    in_flight_reads: Arc<InFlightReads<K, V, E>>,
    permits: Arc<Semaphore>,
    tasks: ReadTasks,
}

/// A change of the source's values, published as a whole: nothing is cached or shared until it is dropped.
pub(super) struct CacheChange<'c, K, V, E> {
    cache: &'c ReadThrough<K, V, E>,
    epochs: RwLockWriteGuard<'c, ChangeEpochs>,
}

impl<K, V, E> ReadThrough<K, V, E>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    /// Creates an empty cache, whose reads are among these tasks.
    pub(super) fn new(
        source: Arc<dyn ReadSource<K, V, E>>,
        policy: ReadThroughPolicy,
        tasks: ReadTasks,
    ) -> Arc<Self> {
        let stale = policy.stale.map_or(Duration::ZERO, |stale| stale.max_age);
        let weighing = source.clone();
        let weight = move |key: &K, entry: &CacheEntry<V>| {
            let bytes = ENTRY_BYTES + weighing.weight(key, &entry.value);
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let entries = Cache::builder()
            .max_capacity(policy.capacity_bytes)
            .time_to_live(policy.ttl.max(policy.negative_ttl).max(stale))
            .weigher(weight);
        let entries = match policy.idle {
            Some(idle) => entries.time_to_idle(idle),
            None => entries,
        };
        Arc::new(Self {
            source,
            entries: entries.build(),
            epochs: RwLock::default(),
            in_flight_reads: InFlightReads::new(),
            permits: Arc::new(Semaphore::new(policy.max_concurrent_reads)),
            policy,
            tasks,
        })
    }

    /// Returns the key's value, if it is cached and fresh.
    pub(super) fn peek<Q: Equivalent<K> + Hash + ?Sized>(&self, key: &Q) -> Option<V> {
        let entry = self.entries.get(key)?;
        (Instant::now() < entry.fresh_until).then_some(entry.value)
    }

    /// Looks up these keys, each given once: reads those that are not fresh, and waits for them until the deadline.
    pub(super) async fn look_up(
        self: &Arc<Self>,
        keys: impl IntoIterator<Item = K>,
        deadline: Instant,
    ) -> ReadOutcome<K, V, E> {
        let (now, mut hits) = (Instant::now(), HashMap::new());
        let (mut missing, mut due) = (Vec::new(), Vec::new());
        for key in keys {
            match self.entries.get(&key).filter(|entry| now < entry.fresh_until) {
                Some(entry) => {
                    if now >= entry.refresh_at {
                        due.push(key.clone());
                    }
                    hits.insert(key, entry.value);
                }
                None => missing.push(key),
            }
        }
        self.source.count("hit", hits.len());
        self.source.count("miss", missing.len());
        self.refresh(due);
        let mut outcome = self.read(missing, deadline).await;
        outcome.values.extend(hits);
        outcome
    }

    /// Reads these keys, each given once, though they may be cached, and waits for them until the deadline.
    pub(super) async fn read(
        self: &Arc<Self>,
        keys: Vec<K>,
        deadline: Instant,
    ) -> ReadOutcome<K, V, E> {
        let mut outcome = ReadOutcome { values: HashMap::new(), error: None };
        let mut left = keys.clone();
        let wait = async {
            while !left.is_empty() {
                left = self.wait_for_reads(std::mem::take(&mut left), &mut outcome).await;
                if !left.is_empty() {
                    // The outdated read may not be removed yet: its task and the deadline get a turn.
                    tokio::task::yield_now().await;
                }
            }
        };
        if timeout_at(deadline, wait).await.is_err() {
            outcome.error = Some(ReadThroughError::Timeout);
        }
        if self.policy.stale.is_some() {
            let now = Instant::now();
            for key in keys {
                if !outcome.values.contains_key(&key)
                    && let Some(entry) = self.entries.get(&key)
                    && now < entry.stale_until
                {
                    outcome.values.insert(key, entry.value);
                }
            }
        }
        outcome
    }

    /// Waits for reads of these keys. Returns the keys that have to be read again: their values refer to others, which
    /// changed after the read began and before this lookup joined it.
    async fn wait_for_reads(
        self: &Arc<Self>,
        keys: Vec<K>,
        outcome: &mut ReadOutcome<K, V, E>,
    ) -> Vec<K> {
        let Some(waiters) = self.join_or_start(keys).await else {
            outcome.error = Some(ReadThroughError::Ended);
            return Vec::new();
        };
        let mut outdated = Vec::new();
        for ReadWaiter { key, read, is_own } in waiters {
            let result = read.outcome.wait().await;
            let Some(value) = result.values.get(&key) else {
                if let Some(error) = &result.error {
                    outcome.error = Some(error.clone());
                    if self.policy.stale.is_none() {
                        return Vec::new();
                    }
                }
                continue;
            };
            if let Some(linked) = self.source.linked_key(value) {
                if !is_own && self.epochs.read().has_changed(&linked, read.epoch) {
                    outdated.push(key);
                    continue;
                }
                if let Some(value) = result.values.get(&linked) {
                    outcome.values.insert(linked, value.clone());
                }
            }
            outcome.values.insert(key, value.clone());
        }
        outdated
    }

    /// Joins the reads of these keys that are in flight, and starts reads of the others as soon as they are free.
    /// Returns `None` if the tasks are stopped.
    async fn join_or_start(self: &Arc<Self>, keys: Vec<K>) -> Option<Vec<ReadWaiter<K, V, E>>> {
        let mut waiters = Vec::with_capacity(keys.len());
        let left = self.in_flight_reads.join(keys, &self.epochs.read(), &mut waiters);
        for batch in left.chunks(self.source.max_batch_keys()) {
            let permit = self.permits.clone().acquire_owned();
            let permit = self.tasks.run_until_stopped(permit).await?.ok()?;
            // Others may have begun while this lookup waited.
            let batch = batch.to_vec();
            let left = self.in_flight_reads.join(batch, &self.epochs.read(), &mut waiters);
            if !left.is_empty() {
                waiters.extend(self.start(left, permit));
            }
        }
        Some(waiters)
    }

    /// Reads values in use before they expire, as far as reads are free.
    fn refresh(self: &Arc<Self>, due: Vec<K>) {
        let left = self.in_flight_reads.join(due, &self.epochs.read(), &mut Vec::new());
        for batch in left.chunks(self.source.max_batch_keys()) {
            let Ok(permit) = self.permits.clone().try_acquire_owned() else { return };
            self.source.count("refresh", batch.len());
            self.start(batch.to_vec(), permit);
        }
    }

    /// Starts a read, which other lookups join from now on.
    fn start(
        self: &Arc<Self>,
        keys: Vec<K>,
        permit: OwnedSemaphorePermit,
    ) -> Vec<ReadWaiter<K, V, E>> {
        let epoch = self.epochs.read().now();
        let pending = self.in_flight_reads.start(keys, epoch, permit);
        let waiters = pending.waiters();
        self.tasks.spawn(self.clone().complete(pending));
        waiters
    }

    /// Reads from the source, and caches the values that did not change since.
    async fn complete(self: Arc<Self>, pending: PendingRead<K, V, E>) {
        let read = &pending.read;
        let outcome = match self.source.read(&read.keys).await {
            Ok(values) => {
                let epochs = self.epochs.read();
                for (key, value) in &values {
                    if !epochs.has_changed(key, read.epoch) {
                        self.entries.insert(key.clone(), self.new_entry(value.clone()));
                    }
                }
                ReadOutcome { values, error: None }
            }
            Err(error) => ReadOutcome {
                values: self.extend_stale(&read.keys, read.epoch),
                error: Some(ReadThroughError::Source(error)),
            },
        };
        read.outcome.set(outcome).ok();
    }

    fn new_entry(&self, value: V) -> CacheEntry<V> {
        let (now, policy) = (Instant::now(), &self.policy);
        let (ttl, refresh_after, stale) = match self.source.is_negative(&value) {
            true => (policy.negative_ttl, policy.negative_ttl, None),
            false => (policy.ttl, policy.refresh_after, policy.stale),
        };
        CacheEntry {
            value,
            refresh_at: now + refresh_after,
            fresh_until: now + ttl,
            stale_until: now + stale.map_or(ttl, |stale| stale.max_age.max(ttl)),
        }
    }

    /// Returns the values of these keys that are used after a failed read, and keeps them until the next one.
    fn extend_stale(&self, keys: &[K], epoch: u64) -> HashMap<K, V> {
        let Some(stale) = self.policy.stale else { return HashMap::new() };
        let (epochs, now) = (self.epochs.read(), Instant::now());
        let retry_at = now + stale.retry;
        let extend = |key: &K| {
            let mut entry = self.entries.get(key).filter(|entry| now < entry.stale_until)?;
            entry.refresh_at = retry_at;
            entry.fresh_until = entry.fresh_until.max(retry_at.min(entry.stale_until));
            let value = entry.value.clone();
            self.entries.insert(key.clone(), entry);
            Some((key.clone(), value))
        };
        let current = keys.iter().filter(|key| !epochs.has_changed(*key, epoch));
        current.filter_map(extend).collect()
    }

    /// Begins a change of the source's values, which is published when it is dropped.
    pub(super) fn begin_change(&self) -> CacheChange<'_, K, V, E> {
        let mut epochs = self.epochs.write();
        epochs.begin();
        CacheChange { cache: self, epochs }
    }
}

impl<K, V, E> CacheChange<'_, K, V, E>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    /// Removes a value that changed.
    pub(super) fn invalidate<Q: Equivalent<K> + Hash + ?Sized>(&mut self, key: &Q) {
        self.epochs.change(key);
        self.cache.entries.invalidate(key);
    }

    /// Removes all values.
    pub(super) fn invalidate_all(&mut self) {
        self.epochs.change_all();
        self.cache.entries.invalidate_all();
    }

    /// Replaces a value that changed by the value that `next` makes of it, if it is cached and there is one.
    pub(super) fn update(&mut self, key: K, next: impl FnOnce(V) -> Option<V>) {
        self.epochs.change(&key);
        if let Some(value) = self.cache.peek(&key).and_then(next) {
            let entry = self.cache.new_entry(value);
            self.cache.entries.insert(key, entry);
        }
    }
}
