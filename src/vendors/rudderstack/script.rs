//! RudderStack's library and its plugins.

use crate::vendors::script::{File, Rewrite, Script};

/// The files, and the addresses inside them.
pub(super) static SCRIPT: Script = Script {
    files: &[
        File { path: "/v3/**", origin: "https://cdn.rudderlabs.com", ..File::PLAIN },
        File { path: "/3.*/**", origin: "https://cdn.rudderlabs.com", ..File::PLAIN },
    ],
    rewrites: &[Rewrite { host: "cdn.rudderlabs.com", under: "", to: "" }],
    bases: &[],
};
