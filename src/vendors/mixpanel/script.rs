//! Mixpanel's library.

use crate::vendors::script::{File, Rewrite, Script};

/// The files, and the addresses inside them.
pub(super) static SCRIPT: Script = Script {
    files: &[
        File {
            path: "/libs/mixpanel-2*",
            origin: "https://cdn.mxpnl.com",
            entry: true,
            ..File::PLAIN
        },
        File { path: "/libs/**", origin: "https://cdn.mxpnl.com", ..File::PLAIN },
    ],
    rewrites: &[
        Rewrite { host: "cdn.mxpnl.com", under: "/libs", to: "" },
        Rewrite { host: "api-js.mixpanel.com", under: "", to: "" },
    ],
    bases: &[],
};
