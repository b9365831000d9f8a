//! Plausible's script. It sends to the origin it came from.

use crate::vendors::script::{File, IdPlace, Script};

/// The files, and the addresses inside them.
pub(super) static SCRIPT: Script = Script {
    files: &[
        File { path: "/js/script.js", origin: "https://plausible.io", ..File::PLAIN },
        File { path: "/js/script.*.js", origin: "https://plausible.io", ..File::PLAIN },
        File {
            path: "/js/pa-*",
            origin: "https://plausible.io",
            id: Some(IdPlace::Segment(2, "pa-")),
            ..File::PLAIN
        },
    ],
    rewrites: &[],
    bases: &[],
};
