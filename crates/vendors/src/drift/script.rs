//! The scripts of Drift's messenger.

use crate::script::{AddressRewrite, CustomerIdLocation, ScriptFile, VendorScripts};

/// The files, and the addresses inside them.
pub(super) static SCRIPT: VendorScripts = VendorScripts {
    files: &[
        ScriptFile {
            path: "/include/*/*",
            origin: "https://js.driftt.com",
            id: Some(CustomerIdLocation::Segment(3, "")),
            entry: true,
            ..ScriptFile::PLAIN
        },
        ScriptFile { path: "/core/**", origin: "https://js.driftt.com", ..ScriptFile::PLAIN },
    ],
    rewrites: &[AddressRewrite { host: "js.driftt.com", under: "", to: "" }],
    bases: &[],
};
