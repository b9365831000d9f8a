//! Google's tag. It builds most of its addresses from bare host names and compares them, which must not
//! be rewritten: a page that wants its hits here says `server_container_url` as well.

use crate::vendors::script::{File, IdPlace, Rewrite, Script, Shape};

/// The script is a product's or a container's; `l` names its data layer, `cx` and `gtm` are Google's.
const BY_ID: Option<IdPlace> = Some(IdPlace::Query("id"));
const QUERY: &[(&str, Shape)] =
    &[("id", Shape::Id), ("l", Shape::Name), ("cx", Shape::Word), ("gtm", Shape::Mark)];

/// The files, and the addresses inside them.
pub(super) static SCRIPT: Script = Script {
    files: &[
        File {
            path: "/gtag/js",
            origin: "https://www.googletagmanager.com",
            id: BY_ID,
            query: QUERY,
            entry: true,
            // Google Ads and Floodlight.
            foreign: &[("id", "AW-"), ("id", "DC-")],
            ..File::PLAIN
        },
        File {
            path: "/gtag/destination",
            origin: "https://www.googletagmanager.com",
            id: BY_ID,
            query: QUERY,
            ..File::PLAIN
        },
        File {
            path: "/gtm.js",
            origin: "https://www.googletagmanager.com",
            id: BY_ID,
            query: &[("id", Shape::Id), ("l", Shape::Name)],
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
