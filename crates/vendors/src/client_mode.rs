//! Client mode: the settings of a destination for the page, where the vendor's own library runs.

use serde::Serialize;
use serde_json::{Map, Value};

/// The settings of one destination for the page, as its script reads them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClientModeSettings {
    /// The vendor's library: a whole URL, or a path of the site's host.
    pub src: String,
    /// The event in the page that loads it: `idle`, `interaction` or `now`.
    pub load: &'static str,
    /// The address that it sends to, if the gateway forwards its beacons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// True if the gateway delivers to the vendor as well. Calls that a shim took in the vendor's own format
    /// are then left to the gateway: in the spec's format, under which this vendor counts them once.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub both: bool,
    /// The names by which an event's `integrations` switch it.
    pub names: Vec<String>,
    /// The patterns of event names that it receives.
    pub events: Vec<String>,
    /// The consent categories that the visitor must have granted.
    pub consent: Vec<String>,
    /// The treatment of visitors whose choice is unknown.
    pub unknown: &'static str,
    /// The vendor's public settings.
    pub settings: Map<String, Value>,
    /// The path of the library below the vendor's mount, which the site chooses.
    #[serde(skip)]
    pub below_mount: Option<String>,
}

impl ClientModeSettings {
    /// Returns true if its library is served from the vendor's mount.
    pub const fn needs_mount(&self) -> bool {
        self.below_mount.is_some()
    }

    /// Returns the settings for a site where the vendor is mounted here, with its beacons forwarded or not.
    #[must_use]
    pub fn mounted(mut self, mount: &str, passes_on: bool) -> Self {
        if let Some(below) = &self.below_mount {
            self.src = format!("{mount}{below}");
        }
        self.api = passes_on.then(|| mount.to_owned());
        self
    }
}
