//! Amplitude's libraries, and the loader made for each key.

use crate::vendors::script::{File, IdPlace, Rewrite, Script};

const HOST: File = File { origin: "https://cdn.amplitude.com", ..File::PLAIN };

/// The files, and the addresses inside them.
pub(super) static SCRIPT: Script = Script {
    files: &[
        File { path: "/libs/amplitude-*", entry: true, ..HOST },
        File { path: "/libs/analytics-browser-*", entry: true, ..HOST },
        File { path: "/libs/**", ..HOST },
        File { path: "/script/*", id: Some(IdPlace::Segment(2, "")), entry: true, ..HOST },
    ],
    rewrites: &[
        Rewrite { host: "cdn.amplitude.com", under: "", to: "" },
        Rewrite { host: "api2.amplitude.com", under: "", to: "" },
        Rewrite { host: "sr-client-cfg.amplitude.com", under: "", to: "" },
    ],
    bases: &[],
};
