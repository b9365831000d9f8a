//! Jitsu's library. It sends to the origin it came from.

use crate::vendors::script::{File, Script};

/// The files, and the addresses inside them.
pub(super) static SCRIPT: Script = Script {
    files: &[File { path: "/p.js", origin: "https://data.jitsu.com", ..File::PLAIN }],
    rewrites: &[],
    bases: &[],
};
