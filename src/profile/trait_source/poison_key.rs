//! Whose fault it is that a source does not answer: its own, or the one person's it was asked for. An API
//! that fails over one broken record fails each time; events of that person must not wait for ever, nor
//! all behind them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;

use super::TraitClient;

/// How often one person is asked for in vain before somebody else is asked for as well.
const TRIES: u32 = 3;

/// People who are remembered as asked for in vain.
const PEOPLE: u64 = 1000;

/// Who was asked for in vain.
pub(super) struct PoisonKeyDetector {
    tries: Cache<Arc<str>, u32>,
    /// The last one that the source said anything of.
    answered: Mutex<Option<Arc<str>>>,
}

impl PoisonKeyDetector {
    /// Tries count together if none was answered, and no more than `within` lies between two.
    pub(super) fn new(within: Duration) -> Self {
        let tries = Cache::builder().max_capacity(PEOPLE).time_to_live(within).build();
        Self { tries, answered: Mutex::default() }
    }

    /// The source said something of these.
    pub(super) fn answered(&self, keys: &[Arc<str>]) {
        keys.iter().for_each(|key| self.tries.invalidate(key));
        if let Some(key) = keys.first() {
            *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.clone());
        }
    }

    /// The source failed over this one. Whether that is theirs alone: it did so several times, and says
    /// something of another, who is asked for to see.
    pub(super) async fn is_poison_key(
        &self,
        key: &Arc<str>,
        source: &dyn TraitClient,
        timeout: Duration,
    ) -> bool {
        let tries = self.tries.get(key).unwrap_or(0) + 1;
        self.tries.insert(key.clone(), tries);
        let other = self.answered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(other) = other.filter(|other| tries >= TRIES && other != key) else {
            return false;
        };
        matches!(tokio::time::timeout(timeout, source.fetch(&[other])).await, Ok(Ok(_)))
    }
}
