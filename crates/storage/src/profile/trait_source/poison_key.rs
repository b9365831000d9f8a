//! Detection of poison keys: whether a source as a whole fails, or only for one person. An API that
//! fails over one broken record fails each time; events of that person must not wait permanently, nor
//! all events behind them.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use parking_lot::Mutex;

use super::TraitClient;

/// Failed requests for one person after which another person is requested as a test.
const TRIES: u32 = 3;

/// The most people whose failures are remembered.
const PEOPLE: u64 = 1000;

/// The failed requests by person.
pub(super) struct PoisonKeyDetector {
    tries: Cache<Arc<str>, u32>,
    /// The last person that the source answered about.
    last_answered_key: Mutex<Option<Arc<str>>>,
}

impl PoisonKeyDetector {
    /// Creates a detector. Failures add up if no answer came between them, and at most `within` lies between two.
    pub(super) fn new(within: Duration) -> Self {
        let tries = Cache::builder().max_capacity(PEOPLE).time_to_live(within).build();
        Self { tries, last_answered_key: Mutex::default() }
    }

    /// Records that the source answered about these people.
    pub(super) fn record_reply(&self, keys: &[Arc<str>]) {
        keys.iter().for_each(|key| self.tries.invalidate(key));
        if let Some(key) = keys.first() {
            *self.last_answered_key.lock() = Some(key.clone());
        }
    }

    /// Records that the source failed for this key. Returns true if the failure is the key's alone: it
    /// failed several times, and a test request for another person succeeds.
    pub(super) async fn is_poison_key(
        &self,
        key: &Arc<str>,
        source: &dyn TraitClient,
        timeout: Duration,
    ) -> bool {
        let tries = self.tries.get(key).unwrap_or(0) + 1;
        self.tries.insert(key.clone(), tries);
        let other = self.last_answered_key.lock().clone();
        let Some(other) = other.filter(|other| tries >= TRIES && other != key) else {
            return false;
        };
        matches!(tokio::time::timeout(timeout, source.fetch(&[other])).await, Ok(Ok(_)))
    }
}
