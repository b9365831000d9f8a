//! Reads of the store that are in flight, so that lookups which miss the same key at the same time wait
//! for one read: destinations that follow the same journal all meet an event within a moment.
//!
//! A read does not end when its waiters give up: otherwise a read that always takes longer than they
//! wait would never fill the cache. A joined read must not show less than a new read would: only reads
//! that began after the latest change of their keys are joined.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::super::ProfileError;

/// The result of a read, shared by its waiters.
type SharedReadResult<K, V> = Result<Arc<BTreeMap<K, V>>, Arc<ProfileError>>;
type ReadResultReceiver<K, V> = watch::Receiver<Option<SharedReadResult<K, V>>>;

/// The reads in flight, by key.
pub(in super::super) struct InFlightReads<K, V>(Mutex<HashMap<K, InFlightRead<K, V>>>);

struct InFlightRead<K, V> {
    /// The latest change that was published before the read began.
    epoch: u64,
    receiver: ReadResultReceiver<K, V>,
}

/// A waiter for one key of a read.
pub(in super::super) struct ReadWaiter<K, V> {
    pub(in super::super) key: K,
    /// The latest change that was published before the read began.
    pub(in super::super) epoch: u64,
    /// True if this waiter's lookup began the read.
    pub(in super::super) is_own: bool,
    receiver: ReadResultReceiver<K, V>,
}

/// A read to be made. If it is dropped instead, its waiters get an error.
pub(in super::super) struct PendingRead<K: Eq + Hash, V> {
    in_flight_reads: Arc<InFlightReads<K, V>>,
    /// The keys to read.
    pub(in super::super) keys: Vec<K>,
    /// The latest change that was published before the read began.
    pub(in super::super) epoch: u64,
    result_sender: watch::Sender<Option<SharedReadResult<K, V>>>,
}

impl<K: Clone + Ord + Hash, V: Clone> InFlightReads<K, V> {
    pub(in super::super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(HashMap::new())))
    }

    /// Joins reads in flight that are still valid. Returns the waiters, and the keys that none of these reads covers.
    pub(in super::super) fn join(
        &self,
        wanted: Vec<K>,
        is_true: impl Fn(&K, u64) -> bool,
    ) -> (Vec<ReadWaiter<K, V>>, Vec<K>) {
        let (mut seats, mut left) = (Vec::with_capacity(wanted.len()), Vec::new());
        let flights = self.0.lock();
        for key in wanted {
            match flights.get(&key).filter(|flight| is_true(&key, flight.epoch)) {
                Some(InFlightRead { epoch, receiver: landing }) => {
                    let landing = landing.clone();
                    seats.push(ReadWaiter { key, epoch: *epoch, is_own: false, receiver: landing });
                }
                None => left.push(key),
            }
        }
        (seats, left)
    }

    /// Begins a read, which other lookups join from now on.
    pub(in super::super) fn start(
        self: &Arc<Self>,
        keys: Vec<K>,
        epoch: u64,
    ) -> (Vec<ReadWaiter<K, V>>, PendingRead<K, V>) {
        let (sender, landing) = watch::channel(None);
        let seat = |key: &K| ReadWaiter {
            key: key.clone(),
            epoch,
            is_own: true,
            receiver: landing.clone(),
        };
        let seats = keys.iter().map(seat).collect();
        let mut flights = self.0.lock();
        for key in &keys {
            flights.insert(key.clone(), InFlightRead { epoch, receiver: landing.clone() });
        }
        (seats, PendingRead { in_flight_reads: self.clone(), keys, epoch, result_sender: sender })
    }
}

impl<K: Ord + Clone, V: Clone> ReadWaiter<K, V> {
    /// Waits for the read and returns this key's value.
    pub(in super::super) async fn wait_for_value(&mut self) -> Result<V, ProfileError> {
        let landed = self.receiver.wait_for(Option::is_some).await;
        let landed = landed.map_err(|_gone| ProfileError::Ended)?.clone();
        let found = landed.ok_or(ProfileError::Ended)?.map_err(ProfileError::Shared)?;
        found.get(&self.key).cloned().ok_or(ProfileError::Ended)
    }
}

impl<K: Clone + Ord + Hash, V> PendingRead<K, V> {
    /// Sends the result to the waiters. `found` is in the order of the keys.
    pub(in super::super) fn complete_read(self, found: Result<Vec<V>, ProfileError>) {
        let landed = match found {
            Ok(found) => Ok(Arc::new(self.keys.iter().cloned().zip(found).collect())),
            Err(error) => Err(Arc::new(error)),
        };
        self.result_sender.send_replace(Some(landed));
    }
}

/// Removes a read that has ended, so that no lookup joins it.
impl<K: Eq + Hash, V> Drop for PendingRead<K, V> {
    fn drop(&mut self) {
        let mut flights = self.in_flight_reads.0.lock();
        let ours = self.result_sender.subscribe();
        for key in self.keys.drain(..) {
            if flights.get(&key).is_some_and(|flight| flight.receiver.same_channel(&ours)) {
                flights.remove(&key);
            }
        }
    }
}
