//! Snowplow's tracker, from the public package.

use crate::script::{ScriptFile, VendorScripts};

/// The files of the tracker and the addresses inside them.
pub(super) static SCRIPT: VendorScripts = VendorScripts {
    files: &[ScriptFile {
        path: "/npm/@snowplow/**",
        origin: "https://cdn.jsdelivr.net",
        shared: true,
        ..ScriptFile::PLAIN
    }],
    rewrites: &[],
    bases: &[],
};
