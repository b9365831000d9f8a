//! Google's tag. It builds most of its addresses from bare host names and compares them, which must not
//! be rewritten: a page that wants its hits here says `server_container_url` as well.

use crate::vendors::script::{File, Rewrite, Script};

/// The files, and the addresses inside them.
pub(super) static SCRIPT: Script = Script {
    files: &[
        File {
            path: "/gtag/js",
            origin: "https://www.googletagmanager.com",
            query: &["id", "l", "cx", "gtm"],
            entry: true,
            // Google Ads and Floodlight.
            foreign: &[("id", "AW-"), ("id", "DC-")],
            ..File::PLAIN
        },
        File {
            path: "/gtag/destination",
            origin: "https://www.googletagmanager.com",
            query: &["id", "l", "cx", "gtm"],
            ..File::PLAIN
        },
        File {
            path: "/gtm.js",
            origin: "https://www.googletagmanager.com",
            query: &["id", "l"],
            ..File::PLAIN
        },
    ],
    rewrites: &[
        Rewrite { host: "www.googletagmanager.com", under: "/gtag", to: "" },
        Rewrite { host: "www.googletagmanager.com", under: "/gtm.js", to: "" },
        Rewrite { host: "www.google-analytics.com", under: "", to: "" },
    ],
    bases: &[],
};
