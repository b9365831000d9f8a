//! The browser's side: the scripts that the gateway serves to a site's pages.
//!
//! `/tw.js` is put together for each site from built files (`static/sdk/dist`): the core, the parts
//! and the vendors' shims that the site chose ([`Settings`]), by [`compose`]. What is served is a
//! [`File`]: compressed and named once per load of the configuration, never per request. It holds
//! public settings only; no secret comes near it.

pub mod compose;
mod file;
mod settings;

pub use file::{Caching, File};
pub use settings::{Part, Settings};

/// What a site's pages can load.
#[derive(Debug)]
pub struct Sdk {
    /// `/tw.js`.
    pub file: File,
    /// How long it is kept under that name.
    pub caching: Caching,
}

impl Sdk {
    /// Puts the site's script together and compresses it: tens of milliseconds of work.
    pub fn new(settings: &Settings) -> Self {
        let file = File::new(compose::site(settings));
        Self { file, caching: settings.caching }
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
