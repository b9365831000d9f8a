//! Settings and scripts of a site for tests.

use std::sync::Arc;
use std::time::Duration;

use super::{AutomaticEvent, BrowserCaching, SdkExtras, SdkSettings, ShimSettings, SiteSdkScripts};

/// The default caching of the script.
pub const SHORT: BrowserCaching =
    BrowserCaching::For { max_age: Duration::from_secs(300), stale: Duration::from_secs(86_400) };

/// Returns the settings of a site without shims.
pub fn plain() -> SdkSettings {
    SdkSettings {
        auto: vec![AutomaticEvent::Page],
        restored: true,
        alias: false,
        shims: Vec::new(),
        shim_settings: ShimSettings::new(),
        endpoint: None,
        wait_for_consent: false,
        caching: SHORT,
    }
}

/// The scripts of a site with the default settings.
pub fn sdk() -> Arc<SiteSdkScripts> {
    Arc::new(SiteSdkScripts::new(&plain(), SdkExtras::default()))
}
