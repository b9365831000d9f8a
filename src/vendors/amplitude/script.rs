//! Amplitude's libraries, and the loader made for each key.

use crate::vendors::script::{File, Rewrite, Script};

/// The files, and the addresses inside them.
pub(super) static SCRIPT: Script = Script {
    files: &[
        File { path: "/libs/**", origin: "https://cdn.amplitude.com", ..File::PLAIN },
        File { path: "/script/*", origin: "https://cdn.amplitude.com", ..File::PLAIN },
    ],
    rewrites: &[
        Rewrite { host: "cdn.amplitude.com", under: "", to: "" },
        Rewrite { host: "api2.amplitude.com", under: "", to: "" },
        Rewrite { host: "sr-client-cfg.amplitude.com", under: "", to: "" },
    ],
};
