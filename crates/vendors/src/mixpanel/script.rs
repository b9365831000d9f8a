//! Mixpanel's browser library.

use crate::script::{AddressRewrite, ScriptFile, VendorScripts};

/// The files of the library and the addresses inside them.
pub(super) static SCRIPT: VendorScripts = VendorScripts {
    files: &[
        ScriptFile {
            path: "/libs/mixpanel-2*",
            origin: "https://cdn.mxpnl.com",
            entry: true,
            ..ScriptFile::PLAIN
        },
        ScriptFile { path: "/libs/**", origin: "https://cdn.mxpnl.com", ..ScriptFile::PLAIN },
    ],
    rewrites: &[
        AddressRewrite { host: "cdn.mxpnl.com", under: "/libs", to: "" },
        AddressRewrite { host: "api-js.mixpanel.com", under: "", to: "" },
    ],
    bases: &[],
};
