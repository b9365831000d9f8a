//! The syncs as operators see them.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::Serialize;

use super::state::SyncState;
use tagway_core::metrics::{Metrics, SegmentSyncLabels, SharedName};

/// The key of one sync of one site's segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentSyncKey {
    pub(super) site: SharedName,
    pub(super) segment: SharedName,
    pub(super) destination: SharedName,
    pub(super) kind: &'static str,
}

/// The state of a sync. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
pub struct SyncOverview {
    /// The site's name.
    #[schema(value_type = String)]
    pub site: SharedName,
    /// The segment's name.
    #[schema(value_type = String)]
    pub segment: SharedName,
    /// The destination's name.
    #[schema(value_type = String)]
    pub destination: SharedName,
    /// The kind of the sync: `list` or `events`.
    pub kind: &'static str,
    /// The purpose of the sync.
    pub stand: SyncState,
    /// The vendor's own name of the list.
    pub list: Option<String>,
    /// The number of people whom the destination has.
    pub size: u64,
    /// The number of people added in the last sync run.
    pub added: u64,
    /// The number of people removed in the last sync run.
    pub removed: u64,
    /// The number of members left out in the last sync run, by reason.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub left_out: BTreeMap<&'static str, u64>,
    /// The number of failed removals in the last sync run, by reason.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub not_removed: BTreeMap<&'static str, u64>,
    /// The number of people whom it failed to remove, and who are tried again at each recheck.
    pub stuck: u64,
    /// The last run of the segment that the destination has received completely.
    pub synced_ms: Option<i64>,
    /// The reason why it stands still.
    pub problem: Option<String>,
}

/// The states of all syncs, for operators and metrics.
#[derive(Default)]
pub(super) struct SyncOverviews(Mutex<BTreeMap<SegmentSyncKey, SyncOverview>>);

impl SyncOverviews {
    /// Returns the states of all syncs.
    pub(super) fn list(&self) -> Vec<SyncOverview> {
        self.0.lock().values().cloned().collect()
    }

    /// Returns the state of a sync, if it has one.
    pub(super) fn state(&self, key: &SegmentSyncKey) -> Option<SyncState> {
        self.0.lock().get(key).map(|overview| overview.stand)
    }

    /// Changes the state of a sync that has one.
    pub(super) fn set_state(&self, key: &SegmentSyncKey, state: SyncState) {
        if let Some(overview) = self.0.lock().get_mut(key) {
            overview.stand = state;
        }
    }

    /// Changes the overview of a sync; makes it if it is new.
    pub(super) fn update(&self, key: &SegmentSyncKey, change: impl FnOnce(&mut SyncOverview)) {
        let mut overviews = self.0.lock();
        change(overviews.entry(key.clone()).or_insert_with(|| SyncOverview {
            site: key.site.clone(),
            segment: key.segment.clone(),
            destination: key.destination.clone(),
            kind: key.kind,
            ..SyncOverview::default()
        }));
    }

    /// Removes a sync, with its series unless another kind of it exists.
    pub(super) fn remove(&self, key: &SegmentSyncKey, metrics: &Metrics) {
        let labels = key.labels();
        let mut overviews = self.0.lock();
        overviews.remove(key);
        if overviews.keys().any(|other| other.labels() == labels) {
            return;
        }
        drop(overviews);
        metrics.segment_synced_members.remove(&labels);
        metrics.segment_abandoned_members.remove(&labels);
        metrics.segment_synced_timestamp_seconds.remove(&labels);
    }
}

impl SegmentSyncKey {
    pub(super) fn labels(&self) -> SegmentSyncLabels {
        SegmentSyncLabels {
            site: self.site.clone(),
            segment: self.segment.clone(),
            destination: self.destination.clone(),
        }
    }
}
