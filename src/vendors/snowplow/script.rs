//! Snowplow's tracker, as the public package.

use crate::vendors::script::{File, Script};

/// The files, and the addresses inside them.
pub(super) static SCRIPT: Script = Script {
    files: &[File {
        path: "/npm/@snowplow/**",
        origin: "https://cdn.jsdelivr.net",
        shared: true,
        ..File::PLAIN
    }],
    rewrites: &[],
    bases: &[],
};
