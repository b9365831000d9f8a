//! Plausible's script. It sends to the origin that served it.

use crate::script::{CustomerIdLocation, ScriptFile, VendorScripts};

/// The files of the script and the addresses inside them.
pub(super) static SCRIPT: VendorScripts = VendorScripts {
    files: &[
        ScriptFile { path: "/js/script.js", origin: "https://plausible.io", ..ScriptFile::PLAIN },
        ScriptFile { path: "/js/script.*.js", origin: "https://plausible.io", ..ScriptFile::PLAIN },
        ScriptFile {
            path: "/js/pa-*",
            origin: "https://plausible.io",
            id: Some(CustomerIdLocation::Segment(2, "pa-")),
            ..ScriptFile::PLAIN
        },
    ],
    rewrites: &[],
    bases: &[],
};
