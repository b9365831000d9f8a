//! The browser's side: the scripts that the gateway serves to a site's pages.
//!
//! `/tw.js` is composed for each site from built files (`static/sdk/dist`): the core, and the parts and
//! vendors' shims that the site configures ([`SdkSettings`]), by [`compose`]. It is served as a
//! [`ServedScript`]: compressed and named once per load of the configuration, never per request. It
//! contains public settings only, never a secret.
//!
//! Additions of other modules, the vendors' libraries that run in the page and the site's own functions,
//! come as [`SdkExtras`], with companion scripts (`/tw/NAME.HASH.js`).
//!
//! Vendors' own scripts ([`proxy`]), or their replacements ([`SiteSdkScripts::shim`]), are served from
//! the site's host as well.

pub mod coding;
pub mod compose;
mod encoding;
mod file;
pub mod literal;
pub mod proxy;
mod settings;

pub use file::{BrowserCaching, ServedScript};
pub use settings::{AutomaticEvent, SDK_SETTINGS, SdkSettings, ShimSettings};

use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};
use tokio::sync::Mutex;

use tagway_vendors::VENDORS;

/// The scripts that a site's pages can load.
#[derive(Debug)]
pub struct SiteSdkScripts {
    /// The script at `/tw.js`.
    pub file: ServedScript,
    /// The browser caching of the file under that name.
    pub caching: BrowserCaching,
    settings: SdkSettings,
    extras: SdkExtras,
    shims: Vec<ComposedShim>,
}

/// Additions of other modules to a site's script.
#[derive(Debug, Default)]
pub struct SdkExtras {
    /// Settings for the page: only public ones.
    pub settings: Map<String, Value>,
    /// Code that follows the core and its parts: complete statements.
    pub script: String,
    /// Scripts that are served next to it.
    pub companions: Vec<CompanionScript>,
    /// The script for browsers that have a preview token.
    pub drafts: Option<ServedScript>,
}

/// A script next to `/tw.js`, under its own name.
#[derive(Debug)]
pub struct CompanionScript {
    /// The part of its path before the hash.
    pub name: String,
    /// The script's content.
    pub file: ServedScript,
    /// True if it is served only under its exact hash.
    pub is_draft: bool,
}

impl CompanionScript {
    /// The path of the script, with its hash.
    pub fn path(&self) -> String {
        format!("{FOLDER}{}.{}.js", self.name, self.file.hash())
    }
}

/// The folder of companion scripts.
const FOLDER: &str = "/tw/";

/// The replacement of one vendor's script, made at the first request.
#[derive(Debug, Default)]
struct ComposedShim {
    vendor: &'static str,
    file: Arc<OnceLock<ServedScript>>,
    /// One request waits on a thread; the others wait here.
    turn: Mutex<()>,
}

impl SiteSdkScripts {
    /// Composes and compresses the site's script: tens of milliseconds of work.
    pub fn new(settings: &SdkSettings, extras: SdkExtras) -> Self {
        let file = ServedScript::new(compose::site(settings, &extras));
        let shims = VENDORS.iter().filter(|vendor| vendor.shim.is_some());
        let shims =
            shims.map(|it| ComposedShim { vendor: it.name, ..ComposedShim::default() }).collect();
        Self { file, caching: settings.caching, settings: settings.clone(), extras, shims }
    }

    /// The core and the vendor's shim, which pages load in place of the vendor's script. Composed once, at
    /// the first request: few sites use many vendors.
    pub async fn shim(&self, vendor: &str) -> Option<&ServedScript> {
        let shim = self.shims.iter().find(|shim| shim.vendor == vendor)?;
        if shim.file.get().is_none() {
            let _turn = shim.turn.lock().await;
            let mut settings = self.settings.clone();
            // A page that loads the vendor's script reports its views by the vendor's calls.
            settings.auto.retain(|part| *part != AutomaticEvent::Page);
            let vendor = tagway_vendors::find(shim.vendor);
            let text = vendor.and_then(|it| compose::with_shim(&settings, &self.extras, it));
            let file = shim.file.clone();
            // Continues if the first client leaves: the next client waits for the same work.
            let make = move || {
                file.get_or_init(|| ServedScript::new(text.unwrap_or_default()));
            };
            tokio::task::spawn_blocking(make).await.ok()?;
        }
        shim.file.get()
    }

    /// The host and port that events are sent to, if not the host that the script came from.
    pub fn events_at(&self) -> Option<String> {
        let endpoint = self.settings.endpoint.as_ref()?;
        let host = endpoint.host_str()?;
        Some(endpoint.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
    }

    /// Returns true if the path is the script's: under its stable name or with a hash.
    pub fn is_at(path: &str) -> bool {
        path == "/tw.js" || hash_of(path).is_some()
    }

    /// Returns true if the path is that of a companion script.
    pub fn is_beside(path: &str) -> bool {
        name_and_hash(path).is_some()
    }

    /// The script of a path, and its caching. The hash of other content, as in a page that is older than the
    /// configuration, returns the current script with a short cache time; a draft is not returned then.
    pub fn file_at(&self, path: &str) -> Option<(&ServedScript, BrowserCaching)> {
        let (hash, file, is_draft) = match name_and_hash(path) {
            None => (hash_of(path), &self.file, false),
            Some((name, hash)) => {
                let beside = self.extras.companions.iter().find(|beside| beside.name == name)?;
                (Some(hash), &beside.file, beside.is_draft)
            }
        };
        match hash {
            Some(hash) if hash == file.hash() => Some((file, BrowserCaching::Immutable)),
            _ => (!is_draft).then_some((file, self.caching)),
        }
    }

    /// The script for browsers that have a preview token; none if there are no drafts.
    pub fn drafts(&self) -> Option<&ServedScript> {
        self.extras.drafts.as_ref()
    }
}

/// The hash in `/tw.HASH.js`.
fn hash_of(path: &str) -> Option<&str> {
    path.strip_prefix("/tw.")?.strip_suffix(".js").filter(|hash| is_hash(hash))
}

/// The name and the hash in `/tw/NAME.HASH.js`.
fn name_and_hash(path: &str) -> Option<(&str, &str)> {
    let (name, hash) = path.strip_prefix(FOLDER)?.strip_suffix(".js")?.rsplit_once('.')?;
    (is_hash(hash) && !name.contains('/')).then_some((name, hash))
}

fn is_hash(text: &str) -> bool {
    text.len() == file::HASH_CHARS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(any(test, feature = "testing"))]
pub mod test_support;
#[cfg(test)]
mod tests;
