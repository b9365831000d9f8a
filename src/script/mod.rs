//! The browser's side: the scripts that the gateway serves to a site's pages.
//!
//! `/tw.js` is put together for each site from built files (`static/sdk/dist`): the core, the parts
//! and the vendors' shims that the site chose ([`Settings`]), by [`compose`]. What is served is a
//! [`File`]: compressed and named once per load of the configuration, never per request. It holds
//! public settings only; no secret comes near it.
//!
//! Vendors' own scripts come from the site's host as well ([`proxy`]), or what stands in for them
//! ([`Sdk::shim`]).

pub mod compose;
mod file;
pub mod proxy;
mod settings;

pub use file::{Caching, File};
pub use settings::{Part, Settings, ShimSettings};

use std::sync::{Arc, OnceLock};

use tokio::sync::Mutex;

use crate::vendors::{self, VENDORS};

/// What a site's pages can load.
#[derive(Debug)]
pub struct Sdk {
    /// `/tw.js`.
    pub file: File,
    /// How long it is kept under that name.
    pub caching: Caching,
    settings: Settings,
    shims: Vec<Shim>,
}

/// What stands in for one vendor's script, once somebody asked for it.
#[derive(Debug, Default)]
struct Shim {
    vendor: &'static str,
    file: Arc<OnceLock<File>>,
    /// One waits on a thread; the others here.
    turn: Mutex<()>,
}

impl Sdk {
    /// Puts the site's script together and compresses it: tens of milliseconds of work.
    pub fn new(settings: &Settings) -> Self {
        let file = File::new(compose::site(settings));
        let mut own = settings.clone();
        // A page that loads the vendor's script reports its views by the vendor's calls.
        own.auto.retain(|part| *part != Part::Page);
        let shims = VENDORS.iter().filter(|vendor| vendor.shim.is_some());
        let shims = shims.map(|it| Shim { vendor: it.name, ..Shim::default() }).collect();
        Self { file, caching: settings.caching, settings: own, shims }
    }

    /// The core and the vendor's shim, which pages load in place of the vendor's script. It is made
    /// once, for the first who asks: few sites use many vendors.
    pub async fn shim(&self, vendor: &str) -> Option<&File> {
        let shim = self.shims.iter().find(|shim| shim.vendor == vendor)?;
        if shim.file.get().is_none() {
            let _turn = shim.turn.lock().await;
            let (file, settings, vendor) = (shim.file.clone(), self.settings.clone(), shim.vendor);
            // Goes on if the first client leaves: the next one waits for the same.
            let make = move || {
                let vendor = vendors::find(vendor);
                let text = vendor.and_then(|it| compose::with_shim(&settings, it));
                file.get_or_init(|| File::new(text.unwrap_or_default()));
            };
            tokio::task::spawn_blocking(make).await.ok()?;
        }
        shim.file.get()
    }

    /// Whether the path is the script's: under its lasting name or with a hash.
    pub fn is_at(path: &str) -> bool {
        path == "/tw.js" || hash_of(path).is_some()
    }

    /// How the script is kept under this path. A hash of other content, such as a page names that
    /// is older than the configuration, gets today's script for a short time.
    pub fn caching_at(&self, path: &str) -> Caching {
        match hash_of(path) {
            Some(hash) if hash == self.file.hash() => Caching::Immutable,
            _ => self.caching,
        }
    }
}

/// The hash in `/tw.HASH.js`.
fn hash_of(path: &str) -> Option<&str> {
    let hash = path.strip_prefix("/tw.")?.strip_suffix(".js")?;
    let is_hash = hash.len() == file::HASH_CHARS && hash.bytes().all(|b| b.is_ascii_hexdigit());
    is_hash.then_some(hash)
}

#[cfg(test)]
pub(crate) mod tests;
