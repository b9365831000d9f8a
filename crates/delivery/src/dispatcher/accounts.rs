//! The event accounts of all destinations as metrics, all of one moment.

use std::time::Duration;

use super::{DeliveryDispatcher, RunningDestination};
use crate::exchange::FailedAttempt;
use tagway_core::metrics::{DestinationLabels, LedgerLabels};
use tagway_storage::journal::{JournalError, ReaderAccount, ReaderId, ReaderLedger};

/// The longest wait for running settlements before the accounts are read anyway. A disk that hangs must
/// not block the metrics that would show it.
const QUIET_TIME: Duration = Duration::from_secs(1);

impl DeliveryDispatcher {
    /// Publishes the accounts and calls `show` before anything more is settled: the counts of settled events
    /// then agree with the accounts.
    ///
    /// # Errors
    ///
    /// Returns a [`JournalError`] if the journal's accounts cannot be read.
    pub async fn observe<T>(&self, show: impl FnOnce() -> T) -> Result<T, JournalError> {
        let shown = |accounts: Vec<(RunningDestination, ReaderAccount)>| {
            for (RunningDestination { site, destination, .. }, account) in accounts {
                self.publish(DestinationLabels { site, destination }, &account);
            }
            show()
        };
        self.look_at_accounts(shown).await
    }

    /// Reads the accounts of all destinations, and calls `look` before anything more is settled: the counts of settled
    /// events then agree with the accounts. Waits while workers are started and stopped, so that none is missing.
    ///
    /// # Errors
    ///
    /// Returns a [`JournalError`] if the journal's accounts cannot be read.
    pub async fn read_accounts<T>(
        &self,
        look: impl FnOnce(Vec<(RunningDestination, ReaderAccount)>) -> T,
    ) -> Result<T, JournalError> {
        let _turn = self.apply_lock.lock().await;
        self.look_at_accounts(look).await
    }

    async fn look_at_accounts<T>(
        &self,
        look: impl FnOnce(Vec<(RunningDestination, ReaderAccount)>) -> T,
    ) -> Result<T, JournalError> {
        let quiet = tokio::time::timeout(QUIET_TIME, self.settlement_lock.write()).await;
        let readers = self.running_destinations();
        let ids = readers.iter().map(|reader| reader.reader).collect();
        let accounts = self.shared.journal.accounts(ids).await?;
        let seen = look(readers.into_iter().zip(accounts).collect());
        drop(quiet);
        Ok(seen)
    }

    fn publish(&self, labels: DestinationLabels, account: &ReaderAccount) {
        let (metrics, now) = (&self.shared.metrics, self.shared.clock.now());
        let ReaderLedger { accepted, delivered, skipped, dead, pending, held } = account.ledger;
        let columns = [
            ("accepted", accepted),
            ("delivered", delivered),
            ("skipped", skipped),
            ("dead", dead),
            ("pending", pending),
            ("held", held),
        ];
        for (column, count) in columns {
            let DestinationLabels { site, destination } = labels.clone();
            let labels = LedgerLabels { site, destination, column };
            metrics.ledger_events.get_or_create(&labels).set(count);
        }
        let age = account.oldest_pending.map_or(0.0, |at| now.duration_since(at).as_secs_f64());
        metrics.pending_events.get_or_create(&labels).set(pending);
        metrics.held_events.get_or_create(&labels).set(held);
        metrics.pending_oldest_seconds.get_or_create(&labels).set(age.max(0.0));
    }

    /// Returns the last try of an event that has not ended at a destination, while it is in memory.
    pub fn failure(&self, reader: ReaderId, seq: u64) -> Option<FailedAttempt> {
        let running = self.running.lock();
        let found = running.values().find(|running| running.reader == reader)?;
        found.destination_client.failures.get(seq)
    }
}
