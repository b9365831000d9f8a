//! Umami's script. It sends to the origin it came from.

use crate::vendors::script::{File, Script};

/// The files, and the addresses inside them.
pub(super) static SCRIPT: Script = Script {
    files: &[File { path: "/script.js", origin: "https://cloud.umami.is", ..File::PLAIN }],
    rewrites: &[],
    bases: &[],
};
