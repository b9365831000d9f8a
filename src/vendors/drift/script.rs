//! Drift's messenger.

use crate::vendors::script::{File, IdPlace, Rewrite, Script};

/// The files, and the addresses inside them.
pub(super) static SCRIPT: Script = Script {
    files: &[
        File {
            path: "/include/*/*",
            origin: "https://js.driftt.com",
            id: Some(IdPlace::Segment(3, "")),
            entry: true,
            ..File::PLAIN
        },
        File { path: "/core/**", origin: "https://js.driftt.com", ..File::PLAIN },
    ],
    rewrites: &[Rewrite { host: "js.driftt.com", under: "", to: "" }],
    bases: &[],
};
