//! Umami's script. It sends to the origin that served it.

use crate::script::{ScriptFile, VendorScripts};

/// The files of the script and the addresses inside them.
pub(super) static SCRIPT: VendorScripts = VendorScripts {
    files: &[ScriptFile {
        path: "/script.js",
        origin: "https://cloud.umami.is",
        ..ScriptFile::PLAIN
    }],
    rewrites: &[],
    bases: &[],
};
