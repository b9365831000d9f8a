//! PostHog's library and the parts it loads.

use crate::vendors::script::{File, IdPlace, Rewrite, Script};

const HOST: File = File { origin: "https://us-assets.i.posthog.com", ..File::PLAIN };

/// The files, and the addresses inside them.
pub(super) static SCRIPT: Script = Script {
    files: &[
        File { path: "/static/array*.js", entry: true, ..HOST },
        File { path: "/static/**", ..HOST },
        File { path: "/array/*/array.js", id: Some(IdPlace::Segment(2, "")), entry: true, ..HOST },
    ],
    rewrites: &[
        Rewrite { host: "us-assets.i.posthog.com", under: "", to: "" },
        Rewrite { host: "eu-assets.i.posthog.com", under: "", to: "" },
    ],
    bases: &[
        Rewrite { host: "us.i.posthog.com", under: "", to: "" },
        Rewrite { host: "eu.i.posthog.com", under: "", to: "" },
        Rewrite { host: "app.posthog.com", under: "", to: "" },
    ],
};
