//! Segment's library and the integrations it loads.

use crate::script::{AddressRewrite, CustomerIdLocation, ScriptFile, VendorScripts};

/// The files of the library and the addresses inside them.
pub(super) static SCRIPT: VendorScripts = VendorScripts {
    files: &[
        ScriptFile {
            path: "/analytics.js/v1/*/analytics.min.js",
            origin: "https://cdn.segment.com",
            id: Some(CustomerIdLocation::Segment(3, "")),
            entry: true,
            ..ScriptFile::PLAIN
        },
        ScriptFile {
            path: "/analytics-next/bundles/**",
            origin: "https://cdn.segment.com",
            immutable: true,
            ..ScriptFile::PLAIN
        },
        ScriptFile {
            path: "/next-integrations/**",
            origin: "https://cdn.segment.com",
            ..ScriptFile::PLAIN
        },
    ],
    rewrites: &[
        AddressRewrite { host: "cdn.segment.com", under: "", to: "" },
        AddressRewrite { host: "cdn.segment.io", under: "", to: "" },
    ],
    bases: &[],
};
