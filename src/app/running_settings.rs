//! The settings in use, as the admin listener shows them.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::config::{ConfigSource, TagwaySettings};
use tagway_core::metrics::SharedName;
use tagway_storage::journal::SiteId;

/// The settings in use, and the numbers of their sites. Clones share them.
#[derive(Clone)]
pub(super) struct RunningSettings {
    /// The source that they were loaded from.
    pub(super) origin: ConfigSource,
    used: Arc<RwLock<UsedSettings>>,
}

struct UsedSettings {
    settings: Arc<TagwaySettings>,
    sites: BTreeMap<SharedName, SiteId>,
}

impl RunningSettings {
    /// Creates them with those of the start.
    pub(super) fn new(origin: ConfigSource, settings: &TagwaySettings) -> Self {
        let used =
            UsedSettings { settings: Arc::new(settings.clone()), sites: BTreeMap::default() };
        Self { origin, used: Arc::new(RwLock::new(used)) }
    }

    /// Replaces them after a start or a reload.
    pub(super) fn replace(&self, settings: &TagwaySettings, sites: BTreeMap<SharedName, SiteId>) {
        *self.used.write() = UsedSettings { settings: Arc::new(settings.clone()), sites };
    }

    /// Returns the settings in use.
    pub(super) fn current(&self) -> Arc<TagwaySettings> {
        self.used.read().settings.clone()
    }

    /// Returns a site's number in the journal.
    pub(super) fn site_id(&self, site: &str) -> Option<SiteId> {
        self.used.read().sites.get(site).copied()
    }
}
