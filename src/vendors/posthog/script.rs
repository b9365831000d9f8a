//! PostHog's library and the parts it loads.

use crate::vendors::script::{File, Rewrite, Script};

/// The files, and the addresses inside them.
pub(super) static SCRIPT: Script = Script {
    files: &[
        File { path: "/static/**", origin: "https://us-assets.i.posthog.com", ..File::PLAIN },
        File {
            path: "/array/*/array.js",
            origin: "https://us-assets.i.posthog.com",
            ..File::PLAIN
        },
    ],
    rewrites: &[Rewrite { host: "us-assets.i.posthog.com", under: "", to: "" }],
};
