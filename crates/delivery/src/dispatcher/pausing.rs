//! Pausing destinations: by `paused = true` in the configuration, or by an operator. Either is enough, and
//! each lifts only its own pause.
//!
//! A paused destination has its reader in the journal and no worker: its events wait there, pending, and
//! count in its account. An operator's pause is stored in the journal, with its author, reason and end, so it
//! outlives restarts and reloads.

use std::sync::Arc;

use jiff::Timestamp;

use super::{DeliveryDispatcher, DestinationKey, WorkerApplyError, WorkerSetup};
use crate::activity::DestinationActivity;
use crate::status::DestinationStatus;
use tagway_storage::journal::{JournalError, ReaderId, ReaderPause};

/// The reason why a destination could not be paused or resumed.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// The gateway delivers to no such destination.
    #[error("the configuration has no such destination")]
    Unknown,
    /// The pause would end at once.
    #[error("until must be in the future")]
    Past,
    /// The configuration pauses it.
    #[error("the configuration pauses the destination: remove `paused = true` from its settings")]
    Configured,
    /// The journal could not store the pause.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The destination's worker could not be started.
    #[error(transparent)]
    Apply(#[from] WorkerApplyError),
}

impl DeliveryDispatcher {
    /// Pauses a destination, or changes the operator's pause. Running calls may end. Durable when it returns.
    ///
    /// # Errors
    ///
    /// Returns a [`PauseError`] if the destination is unknown, or the pause would end at once.
    pub async fn pause(
        &self,
        site: &str,
        destination: &str,
        pause: ReaderPause,
    ) -> Result<DestinationStatus, PauseError> {
        if pause.is_over(self.shared.clock.now()) {
            return Err(PauseError::Past);
        }
        let _turn = self.apply_lock.lock().await;
        let (key, setup) = self.setup_of(site, destination)?;
        self.set_pause(key, setup, Some(pause)).await
    }

    /// Lifts the operator's pause of a destination. Durable when it returns.
    ///
    /// # Errors
    ///
    /// Returns a [`PauseError`] if the destination is unknown, paused by the configuration, or cannot be started.
    pub async fn resume(
        &self,
        site: &str,
        destination: &str,
    ) -> Result<DestinationStatus, PauseError> {
        let _turn = self.apply_lock.lock().await;
        let (key, setup) = self.setup_of(site, destination)?;
        let is_configured = setup.settings.paused;
        let status = self.set_pause(key, setup, None).await?;
        if is_configured { Err(PauseError::Configured) } else { Ok(status) }
    }

    /// Lifts the operators' pauses that have ended by this time. Returns their number.
    ///
    /// # Errors
    ///
    /// Returns a [`PauseError`] if one of the destinations cannot be resumed; a later call tries it again.
    pub async fn resume_due(&self, now: Timestamp) -> Result<usize, PauseError> {
        let is_due = |pause: &Option<ReaderPause>| pause.as_ref().is_some_and(|it| it.is_over(now));
        if !self.running.lock().values().any(|it| is_due(&it.pause)) {
            return Ok(0);
        }
        let _turn = self.apply_lock.lock().await;
        let due: Vec<(DestinationKey, WorkerSetup)> = {
            let running = self.running.lock();
            let due = running.iter().filter(|(_, it)| is_due(&it.pause));
            due.map(|(key, it)| (key.clone(), it.setup.clone())).collect()
        };
        let (mut count, mut failure) = (0, None);
        for (key, setup) in due {
            // One that cannot be resumed holds up no other.
            match self.set_pause(key, setup, None).await {
                Ok(_) => count += 1,
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(count), Err)
    }

    /// Returns true if the gateway delivers to the destination, paused or not.
    pub fn is_configured(&self, site: &str, destination: &str) -> bool {
        self.running.lock().keys().any(|key| key.is(site, destination))
    }

    fn setup_of(
        &self,
        site: &str,
        destination: &str,
    ) -> Result<(DestinationKey, WorkerSetup), PauseError> {
        let running = self.running.lock();
        let found = running.iter().find(|(key, _)| key.is(site, destination));
        found.map(|(key, it)| (key.clone(), it.setup.clone())).ok_or(PauseError::Unknown)
    }

    /// Stores the operator's pause, or its end, and starts the destination again. The caller has locked
    /// `apply_lock`.
    async fn set_pause(
        &self,
        key: DestinationKey,
        setup: WorkerSetup,
        pause: Option<ReaderPause>,
    ) -> Result<DestinationStatus, PauseError> {
        let (site, name) = (setup.site.clone(), setup.settings.name.clone());
        let reader = self.shared.journal.reader(site.id, &name).await?;
        self.shared.journal.set_pause(reader, pause).await?;
        let activity = self.stop_in_place(&key).await;
        let running = self.start(setup, activity).await?;
        let status = *running.status.borrow();
        self.running.lock().insert(key, running);
        tracing::info!(site = %site.name, destination = %name, status = status.name(), "the operator's pause \
            of the destination begins or ends");
        Ok(status)
    }

    /// Stops the worker of a destination, which stays in all lists meanwhile: its running calls may end. Returns its
    /// activity.
    async fn stop_in_place(&self, key: &DestinationKey) -> Option<Arc<DestinationActivity>> {
        let (stop, ended, activity) = {
            let running = self.running.lock();
            let worker = running.get(key)?;
            let activity = worker.destination_client.activity.clone();
            (worker.stop.clone(), worker.ended.clone(), activity)
        };
        stop.cancel();
        ended.cancelled().await;
        Some(activity)
    }

    /// Returns the operator's pause of a reader; one that ended while the process did not run is lifted.
    pub(super) async fn unexpired_pause(
        &self,
        reader: ReaderId,
    ) -> Result<Option<ReaderPause>, JournalError> {
        let journal = &self.shared.journal;
        let pause = journal.pause(reader).await?;
        if !pause.as_ref().is_some_and(|it| it.is_over(self.shared.clock.now())) {
            return Ok(pause);
        }
        journal.set_pause(reader, None).await?;
        Ok(None)
    }
}
