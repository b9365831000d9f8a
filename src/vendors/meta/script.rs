//! Meta's pixel, and what it fetches for each pixel when it runs.

use crate::vendors::script::{File, IdPlace, Rewrite, Script, Shape};

/// The files, and the addresses inside them.
pub(super) static SCRIPT: Script = Script {
    files: &[
        File {
            path: "/*/fbevents.js",
            origin: "https://connect.facebook.net",
            entry: true,
            has_locale: true,
            ..File::PLAIN
        },
        File {
            path: "/signals/config/*",
            origin: "https://connect.facebook.net",
            id: Some(IdPlace::Segment(3, "")),
            query: &[("v", Shape::Version), ("r", Shape::Word), ("domain", Shape::Host)],
            ..File::PLAIN
        },
        File {
            path: "/signals/plugins/*",
            origin: "https://connect.facebook.net",
            query: &[("v", Shape::Version)],
            ..File::PLAIN
        },
    ],
    rewrites: &[
        Rewrite { host: "connect.facebook.net", under: "", to: "" },
        Rewrite { host: "www.facebook.com", under: "/tr", to: "" },
    ],
    bases: &[],
};
