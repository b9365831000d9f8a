//! PostHog's library and the parts it loads.

use crate::script::{AddressRewrite, CustomerIdLocation, ScriptFile, VendorScripts};

const HOST: ScriptFile =
    ScriptFile { origin: "https://us-assets.i.posthog.com", ..ScriptFile::PLAIN };

/// The files of the library and the addresses inside them.
pub(super) static SCRIPT: VendorScripts = VendorScripts {
    files: &[
        ScriptFile { path: "/static/array*.js", entry: true, ..HOST },
        ScriptFile { path: "/static/**", ..HOST },
        ScriptFile {
            path: "/array/*/array.js",
            id: Some(CustomerIdLocation::Segment(2, "")),
            entry: true,
            ..HOST
        },
    ],
    rewrites: &[
        AddressRewrite { host: "us-assets.i.posthog.com", under: "", to: "" },
        AddressRewrite { host: "eu-assets.i.posthog.com", under: "", to: "" },
    ],
    bases: &[
        AddressRewrite { host: "us.i.posthog.com", under: "", to: "" },
        AddressRewrite { host: "eu.i.posthog.com", under: "", to: "" },
        AddressRewrite { host: "app.posthog.com", under: "", to: "" },
    ],
};
