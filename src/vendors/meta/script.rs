//! Meta's pixel, and what it fetches for each pixel when it runs.

use crate::vendors::script::{File, Rewrite, Script};

/// The files, and the addresses inside them.
pub(super) static SCRIPT: Script = Script {
    files: &[
        File {
            path: "/*/fbevents.js",
            origin: "https://connect.facebook.net",
            entry: true,
            ..File::PLAIN
        },
        File {
            path: "/signals/config/*",
            origin: "https://connect.facebook.net",
            query: &["v", "r", "domain"],
            ..File::PLAIN
        },
        File {
            path: "/signals/plugins/*",
            origin: "https://connect.facebook.net",
            query: &["v"],
            ..File::PLAIN
        },
    ],
    rewrites: &[
        Rewrite { host: "connect.facebook.net", under: "", to: "" },
        Rewrite { host: "www.facebook.com", under: "/tr", to: "" },
    ],
    bases: &[],
};
