//! Destinations as operators see them: settings, pause, latest activity and match quality.

use std::sync::Arc;

use super::{DeliveryDispatcher, DestinationKey, RunningDestination, RunningWorker};
use crate::activity::ActivitySnapshot;
use crate::match_quality::{MatchQuality, MatchQualityError, MatchQualitySource};
use crate::settings::DestinationSettings;
use tagway_storage::journal::ReaderPause;

/// One destination as operators see it.
#[derive(Clone)]
pub struct DestinationInspection {
    /// Its names, reader and state.
    pub running: RunningDestination,
    /// Its settings, as its worker was started with.
    pub settings: Arc<DestinationSettings>,
    /// The operator's pause, if there is one.
    pub pause: Option<ReaderPause>,
    /// Its latest activity.
    pub activity: ActivitySnapshot,
}

impl DeliveryDispatcher {
    /// Lists the destinations that the gateway delivers to, paused or not.
    pub fn inspect_destinations(&self) -> Vec<DestinationInspection> {
        let now = self.shared.clock.now();
        let running = self.running.lock();
        let inspected = running.iter().map(|(key, it)| DestinationInspection {
            running: summary(key, it),
            settings: it.setup.settings.clone(),
            pause: it.pause.clone(),
            activity: it.destination_client.activity.snapshot(now),
        });
        inspected.collect()
    }

    /// Measures the match quality of a destination, or returns a recent measurement; `None` if the gateway does
    /// not deliver to it.
    ///
    /// # Errors
    ///
    /// Returns a [`MatchQualityError`] if the journal or the profiles cannot be read.
    pub async fn match_quality(
        &self,
        site: &str,
        destination: &str,
    ) -> Result<Option<Arc<MatchQuality>>, MatchQualityError> {
        let found = {
            let running = self.running.lock();
            let found = running.iter().find(|(key, _)| key.is(site, destination));
            found.map(|(_, it)| (it.setup.site.clone(), it.setup.settings.clone()))
        };
        let Some((site, settings)) = found else { return Ok(None) };
        let source = MatchQualitySource {
            site: site.id,
            projected: *site.projected.borrow(),
            settings,
            journal: self.shared.journal.clone(),
            profiles: self.shared.profiles.clone(),
            now: self.shared.clock.now(),
        };
        let measured = self.match_quality.get_or_measure(source, &self.shared.runtime);
        measured.await.map(Some)
    }
}

/// Returns the names, reader and state of a running destination.
pub(super) fn summary(key: &DestinationKey, running: &RunningWorker) -> RunningDestination {
    RunningDestination {
        site: key.site.clone(),
        destination: key.destination.clone(),
        reader: running.reader,
        vendor: running.setup.settings.vendor,
        status: *running.status.borrow(),
    }
}
