//! The scripts of Intercom's messenger.

use crate::script::{AddressRewrite, CustomerIdLocation, ScriptFile, VendorScripts};

/// The files, and the addresses inside them.
pub(super) static SCRIPT: VendorScripts = VendorScripts {
    files: &[
        ScriptFile {
            path: "/widget/*",
            origin: "https://widget.intercom.io",
            id: Some(CustomerIdLocation::Segment(2, "")),
            entry: true,
            ..ScriptFile::PLAIN
        },
        ScriptFile {
            path: "/js/**",
            origin: "https://js.intercomcdn.com",
            strip: "/js",
            ..ScriptFile::PLAIN
        },
    ],
    rewrites: &[
        AddressRewrite { host: "widget.intercom.io", under: "/widget", to: "" },
        AddressRewrite { host: "js.intercomcdn.com", under: "", to: "/js" },
    ],
    bases: &[],
};
