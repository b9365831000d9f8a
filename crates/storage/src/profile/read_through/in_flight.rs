//! Reads of a source that are in flight, by key, and their waiters.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, SetOnce};

use super::epochs::ChangeEpochs;
use super::{ReadOutcome, ReadThroughError};

/// The reads in flight.
pub(super) struct InFlightReads<K, V, E>(Mutex<ReadsByKey<K, V, E>>);

type ReadsByKey<K, V, E> = HashMap<K, Arc<InFlightRead<K, V, E>>>;

/// A read in flight.
pub(super) struct InFlightRead<K, V, E> {
    pub(super) keys: Vec<K>,
    /// The latest change that was published before the read began.
    pub(super) epoch: u64,
    pub(super) outcome: SetOnce<ReadOutcome<K, V, E>>,
}

/// A waiter for one key of a read.
pub(super) struct ReadWaiter<K, V, E> {
    pub(super) key: K,
    pub(super) read: Arc<InFlightRead<K, V, E>>,
    /// True if this waiter's lookup began the read.
    pub(super) is_own: bool,
}

/// A read to be made. If it is dropped instead, its waiters get an error.
pub(super) struct PendingRead<K: Eq + Hash, V, E> {
    in_flight_reads: Arc<InFlightReads<K, V, E>>,
    pub(super) read: Arc<InFlightRead<K, V, E>>,
    _permit: OwnedSemaphorePermit,
}

impl<K: Clone + Eq + Hash, V, E> InFlightReads<K, V, E> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::default()))
    }

    /// Adds a waiter for each key of a read that began after the key's last change. Returns the other keys.
    pub(super) fn join(
        &self,
        mut keys: Vec<K>,
        epochs: &ChangeEpochs,
        waiters: &mut Vec<ReadWaiter<K, V, E>>,
    ) -> Vec<K> {
        let reads = self.0.lock();
        keys.retain(|key| {
            let read = reads.get(key).filter(|read| !epochs.has_changed(key, read.epoch));
            let waiter =
                read.map(|read| ReadWaiter { key: key.clone(), read: read.clone(), is_own: false });
            let is_left = waiter.is_none();
            waiters.extend(waiter);
            is_left
        });
        keys
    }

    /// Begins a read, which other lookups join from now on.
    pub(super) fn start(
        self: &Arc<Self>,
        keys: Vec<K>,
        epoch: u64,
        permit: OwnedSemaphorePermit,
    ) -> PendingRead<K, V, E> {
        let read = Arc::new(InFlightRead { keys, epoch, outcome: SetOnce::new() });
        self.0.lock().extend(read.keys.iter().map(|key| (key.clone(), read.clone())));
        PendingRead { in_flight_reads: self.clone(), read, _permit: permit }
    }
}

impl<K: Clone + Eq + Hash, V, E> PendingRead<K, V, E> {
    /// Returns a waiter for each key, for the lookup that began the read.
    pub(super) fn waiters(&self) -> Vec<ReadWaiter<K, V, E>> {
        let read = &self.read;
        let waiter = |key: &K| ReadWaiter { key: key.clone(), read: read.clone(), is_own: true };
        read.keys.iter().map(waiter).collect()
    }
}

/// Removes a read that has ended, so that no lookup joins it.
impl<K: Eq + Hash, V, E> Drop for PendingRead<K, V, E> {
    fn drop(&mut self) {
        let mut reads = self.in_flight_reads.0.lock();
        for key in &self.read.keys {
            if reads.get(key).is_some_and(|read| Arc::ptr_eq(read, &self.read)) {
                reads.remove(key);
            }
        }
        let ended = ReadOutcome { values: HashMap::new(), error: Some(ReadThroughError::Ended) };
        // Without effect if there is a result.
        self.read.outcome.set(ended).ok();
    }
}
