//! Matomo's tracker, at the host of the customer's own Matomo.

use crate::vendors::script::{File, Script};

/// The files, and the addresses inside them.
pub(super) static SCRIPT: Script = Script {
    files: &[
        File { path: "/matomo.js", origin: "", ..File::PLAIN },
        File { path: "/piwik.js", origin: "", ..File::PLAIN },
    ],
    rewrites: &[],
    bases: &[],
};
