//! The entries of the cache of vendors' scripts.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::source::FetchedScript;

/// A cache entry of one script of a vendor.
pub(super) struct CachedScript {
    pub(super) vendor: &'static str,
    pub(super) content: CachedScriptContent,
    /// The time of the next revalidation, in milliseconds since 1970.
    pub(super) revalidate_at: i64,
    /// True if the last fetch from the vendor failed.
    pub(super) is_stale: bool,
    /// True while a revalidation is under way.
    pub(super) is_revalidating: AtomicBool,
}

/// The known state of a script at its vendor.
pub(super) enum CachedScriptContent {
    Script(Arc<FetchedScript>),
    /// The vendor has no such script.
    Absent,
    /// The fetch failed.
    Failed,
}

impl CachedScript {
    pub(super) fn new(vendor: &'static str, stored: CachedScriptContent, ask_at: i64) -> Self {
        Self {
            vendor,
            content: stored,
            revalidate_at: ask_at,
            is_stale: false,
            is_revalidating: AtomicBool::new(false),
        }
    }
}
