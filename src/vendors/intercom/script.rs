//! Intercom's messenger.

use crate::vendors::script::{File, IdPlace, Rewrite, Script};

/// The files, and the addresses inside them.
pub(super) static SCRIPT: Script = Script {
    files: &[
        File {
            path: "/widget/*",
            origin: "https://widget.intercom.io",
            id: Some(IdPlace::Segment(2, "")),
            entry: true,
            ..File::PLAIN
        },
        File { path: "/js/**", origin: "https://js.intercomcdn.com", strip: "/js", ..File::PLAIN },
    ],
    rewrites: &[
        Rewrite { host: "widget.intercom.io", under: "/widget", to: "" },
        Rewrite { host: "js.intercomcdn.com", under: "", to: "/js" },
    ],
    bases: &[],
};
