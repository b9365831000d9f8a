//! The parts of a destination's worker that stay the same from one worker to the next.

use std::sync::Arc;

use super::destination_client::DestinationClient;
use super::settings::DestinationSettings;
use tagway_storage::journal::{Journal, ReaderGuard, ReaderId, SiteId};
use tagway_storage::profile::ProfileService;

/// The settings and services of one destination's workers.
pub(super) struct WorkerContext {
    pub(super) site: SiteId,
    pub(super) reader: ReaderId,
    pub(super) settings: Arc<DestinationSettings>,
    pub(super) client: Arc<DestinationClient>,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) profiles: Arc<ProfileService>,
    /// The careful mode after an abort.
    pub(super) reader_guard: Arc<ReaderGuard>,
}

/// Returns a record's number in the guard's type.
pub(super) fn guarded_item(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}
