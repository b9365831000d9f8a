//! Matomo's tracker, from the host of the customer's own Matomo.

use crate::script::{ScriptFile, VendorScripts};

/// The files of the tracker and the addresses inside them.
pub(super) static SCRIPT: VendorScripts = VendorScripts {
    files: &[
        ScriptFile { path: "/matomo.js", origin: "", ..ScriptFile::PLAIN },
        ScriptFile { path: "/piwik.js", origin: "", ..ScriptFile::PLAIN },
    ],
    rewrites: &[],
    bases: &[],
};
