//! Jitsu's library. It sends to the origin that served it.

use crate::script::{ScriptFile, VendorScripts};

/// The files of the library and the addresses inside them.
pub(super) static SCRIPT: VendorScripts = VendorScripts {
    files: &[ScriptFile { path: "/p.js", origin: "https://data.jitsu.com", ..ScriptFile::PLAIN }],
    rewrites: &[],
    bases: &[],
};
