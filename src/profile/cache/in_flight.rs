//! Reads of the store that are under way, so that whoever misses the same at the same time waits for one
//! read: destinations that follow the same journal all meet an event within a moment.
//!
//! A read does not end with those who wait for it: else what always takes longer than they wait would
//! never be known. Who joins a read must not see less than a read of its own would show: only reads that
//! began after the latest change of what they are asked for are joined.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::super::ProfileError;

/// What a read found, or why it failed.
type SharedReadResult<K, V> = Result<Arc<BTreeMap<K, V>>, Arc<ProfileError>>;
type ReadResultReceiver<K, V> = watch::Receiver<Option<SharedReadResult<K, V>>>;

/// Reads under way.
pub(in super::super) struct InFlightReads<K, V>(Mutex<HashMap<K, InFlightRead<K, V>>>);

struct InFlightRead<K, V> {
    /// The latest change that was published before it began.
    epoch: u64,
    landing: ReadResultReceiver<K, V>,
}

/// A wait for what is read of one key.
pub(in super::super) struct ReadWaiter<K, V> {
    pub(in super::super) key: K,
    /// The latest change that was published before the read began.
    pub(in super::super) epoch: u64,
    /// Whether the read began with the wait.
    pub(in super::super) is_own: bool,
    landing: ReadResultReceiver<K, V>,
}

/// A read, to be made. If it is dropped instead, those who wait for it learn so.
pub(in super::super) struct PendingRead<K: Eq + Hash, V> {
    flights: Arc<InFlightReads<K, V>>,
    /// What is to be read.
    pub(in super::super) keys: Vec<K>,
    /// The latest change that was published before.
    pub(in super::super) epoch: u64,
    landing: watch::Sender<Option<SharedReadResult<K, V>>>,
}

impl<K: Clone + Ord + Hash, V: Clone> InFlightReads<K, V> {
    pub(in super::super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(HashMap::new())))
    }

    /// Takes a seat in what is being read already, and is still true. Returns what is not, besides.
    pub(in super::super) fn join(
        &self,
        wanted: Vec<K>,
        is_true: impl Fn(&K, u64) -> bool,
    ) -> (Vec<ReadWaiter<K, V>>, Vec<K>) {
        let (mut seats, mut left) = (Vec::with_capacity(wanted.len()), Vec::new());
        let flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for key in wanted {
            match flights.get(&key).filter(|flight| is_true(&key, flight.epoch)) {
                Some(InFlightRead { epoch, landing }) => {
                    let landing = landing.clone();
                    seats.push(ReadWaiter { key, epoch: *epoch, is_own: false, landing });
                }
                None => left.push(key),
            }
        }
        (seats, left)
    }

    /// Begins a read, which others join from now on.
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
            landing: landing.clone(),
        };
        let seats = keys.iter().map(seat).collect();
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &keys {
            flights.insert(key.clone(), InFlightRead { epoch, landing: landing.clone() });
        }
        (seats, PendingRead { flights: self.clone(), keys, epoch, landing: sender })
    }
}

impl<K: Ord + Clone, V: Clone> ReadWaiter<K, V> {
    /// What was read.
    pub(in super::super) async fn wait_for_value(&mut self) -> Result<V, ProfileError> {
        let landed = self.landing.wait_for(Option::is_some).await;
        let landed = landed.map_err(|_gone| ProfileError::Ended)?.clone();
        let found = landed.ok_or(ProfileError::Ended)?.map_err(ProfileError::Shared)?;
        found.get(&self.key).cloned().ok_or(ProfileError::Ended)
    }
}

impl<K: Clone + Ord + Hash, V> PendingRead<K, V> {
    /// Tells those who wait. `found` is in the order of the keys.
    pub(in super::super) fn complete_read(self, found: Result<Vec<V>, ProfileError>) {
        let landed = match found {
            Ok(found) => Ok(Arc::new(self.keys.iter().cloned().zip(found).collect())),
            Err(error) => Err(Arc::new(error)),
        };
        self.landing.send_replace(Some(landed));
    }
}

/// Nobody joins a read that has ended.
impl<K: Eq + Hash, V> Drop for PendingRead<K, V> {
    fn drop(&mut self) {
        let mut flights = self.flights.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = self.landing.subscribe();
        for key in self.keys.drain(..) {
            if flights.get(&key).is_some_and(|flight| flight.landing.same_channel(&ours)) {
                flights.remove(&key);
            }
        }
    }
}
