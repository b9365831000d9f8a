//! The scripts of Amplitude's libraries, and of the loader made for each key.

use crate::script::{AddressRewrite, CustomerIdLocation, ScriptFile, VendorScripts};

const HOST: ScriptFile = ScriptFile { origin: "https://cdn.amplitude.com", ..ScriptFile::PLAIN };

/// The files, and the addresses inside them.
pub(super) static SCRIPT: VendorScripts = VendorScripts {
    files: &[
        ScriptFile { path: "/libs/amplitude-*", entry: true, ..HOST },
        ScriptFile { path: "/libs/analytics-browser-*", entry: true, ..HOST },
        ScriptFile { path: "/libs/**", ..HOST },
        ScriptFile {
            path: "/script/*",
            id: Some(CustomerIdLocation::Segment(2, "")),
            entry: true,
            ..HOST
        },
    ],
    rewrites: &[
        AddressRewrite { host: "cdn.amplitude.com", under: "", to: "" },
        AddressRewrite { host: "api2.amplitude.com", under: "", to: "" },
        AddressRewrite { host: "sr-client-cfg.amplitude.com", under: "", to: "" },
    ],
    bases: &[],
};
