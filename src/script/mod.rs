//! The browser's side: the scripts that the gateway serves to a site's pages.
//!
//! `/tw.js` is put together for each site from built files (`static/sdk/dist`): the core, the parts
//! and the vendors' shims that the site chose ([`SdkSettings`]), by [`compose`]. What is served is a
//! [`ServedScript`]: compressed and named once per load of the configuration, never per request. It holds
//! public settings only; no secret comes near it.
//!
//! What other parts bring into it, the vendors' libraries that run in the page and the site's own
//! functions, comes as [`SdkExtras`], with scripts beside it (`/tw/NAME.HASH.js`).
//!
//! Vendors' own scripts come from the site's host as well ([`proxy`]), or what stands in for them
//! ([`SiteSdkScripts::shim`]).

pub mod coding;
pub mod compose;
mod encoding;
mod file;
pub mod literal;
pub mod proxy;
mod settings;

pub use file::{BrowserCaching, ServedScript};
pub use settings::{AutomaticEvent, SdkSettings, ShimSettings};

use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};
use tokio::sync::Mutex;

use crate::vendors::{self, VENDORS};

/// What a site's pages can load.
#[derive(Debug)]
pub struct SiteSdkScripts {
    /// `/tw.js`.
    pub file: ServedScript,
    /// How long it is kept under that name.
    pub caching: BrowserCaching,
    settings: SdkSettings,
    extras: SdkExtras,
    shims: Vec<ComposedShim>,
}

/// What other parts bring into a site's script.
#[derive(Debug, Default)]
pub struct SdkExtras {
    /// What the page is told: nothing that is not for everybody.
    pub settings: Map<String, Value>,
    /// What comes after the core and its parts: complete statements.
    pub script: String,
    /// Scripts beside it.
    pub companions: Vec<CompanionScript>,
    /// What browsers get that have a token for the drafts.
    pub drafts: Option<ServedScript>,
}

/// A script beside `/tw.js`, under a name of its own.
#[derive(Debug)]
pub struct CompanionScript {
    /// What stands before the hash in its path.
    pub name: String,
    /// Itself.
    pub file: ServedScript,
    /// Whether only who knows its hash gets it.
    pub is_draft: bool,
}

impl CompanionScript {
    /// Where it is.
    pub fn path(&self) -> String {
        format!("{FOLDER}{}.{}.js", self.name, self.file.hash())
    }
}

/// The folder of what is beside the script.
const FOLDER: &str = "/tw/";

/// What stands in for one vendor's script, once somebody asked for it.
#[derive(Debug, Default)]
struct ComposedShim {
    vendor: &'static str,
    file: Arc<OnceLock<ServedScript>>,
    /// One waits on a thread; the others here.
    turn: Mutex<()>,
}

impl SiteSdkScripts {
    /// Puts the site's script together and compresses it: tens of milliseconds of work.
    pub fn new(settings: &SdkSettings, extras: SdkExtras) -> Self {
        let file = ServedScript::new(compose::site(settings, &extras));
        let shims = VENDORS.iter().filter(|vendor| vendor.shim.is_some());
        let shims =
            shims.map(|it| ComposedShim { vendor: it.name, ..ComposedShim::default() }).collect();
        Self { file, caching: settings.caching, settings: settings.clone(), extras, shims }
    }

    /// The core and the vendor's shim, which pages load in place of the vendor's script. It is made
    /// once, for the first who asks: few sites use many vendors.
    pub async fn shim(&self, vendor: &str) -> Option<&ServedScript> {
        let shim = self.shims.iter().find(|shim| shim.vendor == vendor)?;
        if shim.file.get().is_none() {
            let _turn = shim.turn.lock().await;
            let mut settings = self.settings.clone();
            // A page that loads the vendor's script reports its views by the vendor's calls.
            settings.auto.retain(|part| *part != AutomaticEvent::Page);
            let vendor = vendors::find(shim.vendor);
            let text = vendor.and_then(|it| compose::with_shim(&settings, &self.extras, it));
            let file = shim.file.clone();
            // Goes on if the first client leaves: the next one waits for the same.
            let make = move || {
                file.get_or_init(|| ServedScript::new(text.unwrap_or_default()));
            };
            tokio::task::spawn_blocking(make).await.ok()?;
        }
        shim.file.get()
    }

    /// The host and port that it sends to, if not to the host that it came from.
    pub fn events_at(&self) -> Option<String> {
        let endpoint = self.settings.endpoint.as_ref()?;
        let host = endpoint.host_str()?;
        Some(endpoint.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
    }

    /// Whether the path is the script's: under its lasting name or with a hash.
    pub fn is_at(path: &str) -> bool {
        path == "/tw.js" || hash_of(path).is_some()
    }

    /// Whether the path is that of a script beside it.
    pub fn is_beside(path: &str) -> bool {
        name_and_hash(path).is_some()
    }

    /// The script of a path, and how it is kept. A hash of other content, such as a page names that
    /// is older than the configuration, gets today's script for a short time; but no draft.
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

    /// What browsers get that have a token for the drafts; none if there are no drafts.
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

#[cfg(test)]
pub(crate) mod tests;
