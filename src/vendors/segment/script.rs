//! Segment's library and the integrations it loads.

use crate::vendors::script::{File, IdPlace, Rewrite, Script};

/// The files, and the addresses inside them.
pub(super) static SCRIPT: Script = Script {
    files: &[
        File {
            path: "/analytics.js/v1/*/analytics.min.js",
            origin: "https://cdn.segment.com",
            id: Some(IdPlace::Segment(3, "")),
            entry: true,
            ..File::PLAIN
        },
        File {
            path: "/analytics-next/bundles/**",
            origin: "https://cdn.segment.com",
            immutable: true,
            ..File::PLAIN
        },
        File { path: "/next-integrations/**", origin: "https://cdn.segment.com", ..File::PLAIN },
    ],
    rewrites: &[
        Rewrite { host: "cdn.segment.com", under: "", to: "" },
        Rewrite { host: "cdn.segment.io", under: "", to: "" },
    ],
    bases: &[],
};
