//! The scripts of Google's tag. It builds most of its addresses from bare host names and compares them, so
//! these must not be rewritten: a page that wants its hits here sets `server_container_url` as well.

use crate::script::{
    AddressRewrite, CustomerIdLocation, ParameterShape, ScriptFile, VendorScripts,
};

/// The parameters of a script of a product or a container; `l` names its data layer, `cx` and `gtm` are
/// Google's.
const BY_ID: Option<CustomerIdLocation> = Some(CustomerIdLocation::Query("id"));
const QUERY: &[(&str, ParameterShape)] = &[
    ("id", ParameterShape::Id),
    ("l", ParameterShape::Name),
    ("cx", ParameterShape::Word),
    ("gtm", ParameterShape::Mark),
];

/// The files, and the addresses inside them.
pub(super) static SCRIPT: VendorScripts = VendorScripts {
    files: &[
        ScriptFile {
            path: "/gtag/js",
            origin: "https://www.googletagmanager.com",
            id: BY_ID,
            query: QUERY,
            entry: true,
            // Google Ads and Floodlight.
            foreign: &[("id", "AW-"), ("id", "DC-")],
            ..ScriptFile::PLAIN
        },
        ScriptFile {
            path: "/gtag/destination",
            origin: "https://www.googletagmanager.com",
            id: BY_ID,
            query: QUERY,
            ..ScriptFile::PLAIN
        },
        ScriptFile {
            path: "/gtm.js",
            origin: "https://www.googletagmanager.com",
            id: BY_ID,
            query: &[("id", ParameterShape::Id), ("l", ParameterShape::Name)],
            ..ScriptFile::PLAIN
        },
    ],
    rewrites: &[
        AddressRewrite { host: "www.googletagmanager.com", under: "/gtag", to: "" },
        AddressRewrite { host: "www.googletagmanager.com", under: "/gtm.js", to: "" },
        AddressRewrite { host: "www.google-analytics.com", under: "", to: "" },
    ],
    bases: &[],
};
