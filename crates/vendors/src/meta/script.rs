//! Meta's pixel library and the files that it fetches for each pixel when it runs.

use crate::script::{
    AddressRewrite, CustomerIdLocation, ParameterShape, ScriptFile, VendorScripts,
};

/// The files of the library and the addresses inside them.
pub(super) static SCRIPT: VendorScripts = VendorScripts {
    files: &[
        ScriptFile {
            path: "/*/fbevents.js",
            origin: "https://connect.facebook.net",
            entry: true,
            has_locale: true,
            ..ScriptFile::PLAIN
        },
        ScriptFile {
            path: "/signals/config/*",
            origin: "https://connect.facebook.net",
            id: Some(CustomerIdLocation::Segment(3, "")),
            query: &[
                ("v", ParameterShape::Version),
                ("r", ParameterShape::Word),
                ("domain", ParameterShape::Host),
            ],
            ..ScriptFile::PLAIN
        },
        ScriptFile {
            path: "/signals/plugins/*",
            origin: "https://connect.facebook.net",
            query: &[("v", ParameterShape::Version)],
            ..ScriptFile::PLAIN
        },
    ],
    rewrites: &[
        AddressRewrite { host: "connect.facebook.net", under: "", to: "" },
        AddressRewrite { host: "www.facebook.com", under: "/tr", to: "" },
    ],
    bases: &[],
};
