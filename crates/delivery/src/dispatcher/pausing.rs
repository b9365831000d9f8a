//! Pausing destinations: by `paused = true` in the configuration, or by an operator. Either is enough, and
//! each lifts only its own pause.
//!
//! A paused destination has its reader in the journal and no worker: its events wait there, pending, and
//! count in its account. An operator's pause is stored in the journal, so it outlives restarts and
//! reloads.

use super::{DeliveryDispatcher, WorkerApplyError};
use crate::status::DestinationStatus;
use tagway_storage::journal::JournalError;

/// The reason why a destination could not be paused or resumed.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// The gateway delivers to no such destination.
    #[error("the configuration has no such destination")]
    Unknown,
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
    /// Pauses a destination, or lifts the operator's pause. Running calls may end. Durable when it
    /// returns.
    ///
    /// # Errors
    ///
    /// Returns a [`PauseError`] if the destination is unknown, paused by the configuration, or cannot be started.
    pub async fn set_paused(
        &self,
        site: &str,
        destination: &str,
        is_paused: bool,
    ) -> Result<DestinationStatus, PauseError> {
        let _turn = self.apply_lock.lock().await;
        let found = {
            let running = self.running.lock();
            let found = running.iter().find(|(key, _)| key.is(site, destination));
            found.map(|(key, it)| (key.clone(), it.setup.clone()))
        };
        let (key, setup) = found.ok_or(PauseError::Unknown)?;
        let (site, settings) = (setup.site.clone(), setup.settings.clone());
        let reader = self.shared.journal.reader(site.id, &settings.name).await?;
        self.shared.journal.set_paused(reader, is_paused).await?;
        if settings.paused && !is_paused {
            return Err(PauseError::Configured);
        }
        self.stop_all_but(|other, _| *other != key).await;
        let running = self.start(setup).await?;
        let status = *running.status.borrow();
        self.running.lock().insert(key, running);
        tracing::info!(site = %site.name, destination, status = status.name(), "an operator paused or \
            resumed the destination");
        Ok(status)
    }

    /// Returns true if the gateway delivers to the destination, paused or not.
    pub fn is_configured(&self, site: &str, destination: &str) -> bool {
        self.running.lock().keys().any(|key| key.is(site, destination))
    }
}
