//! RudderStack's library and its plugins.

use crate::script::{AddressRewrite, ScriptFile, VendorScripts};

/// The files of the library and the addresses inside them.
pub(super) static SCRIPT: VendorScripts = VendorScripts {
    files: &[
        ScriptFile { path: "/v3/**", origin: "https://cdn.rudderlabs.com", ..ScriptFile::PLAIN },
        ScriptFile { path: "/3.*/**", origin: "https://cdn.rudderlabs.com", ..ScriptFile::PLAIN },
    ],
    rewrites: &[AddressRewrite { host: "cdn.rudderlabs.com", under: "", to: "" }],
    bases: &[],
};
