//! The settings of TLS on the admin listener.

use tagway_edge::{CertificateFiles, EdgeSettings};
use tagway_settings::{Setting, SettingsSection};

/// The described settings of `[admin]` for TLS.
pub const ADMIN_TLS_SETTINGS: &[Setting] = &[
    Setting::boolean("tls").default("false").doc(
        "true: the listener speaks only TLS, with HTTP/2 and HTTP/1.1, and uses the certificates of [tls]",
    ),
    Setting::path("certificate").example("ops.pem").doc(
        "the listener speaks only TLS and uses this certificate, with its chain, in place of those of \
             [tls]; needs key",
    ),
    Setting::path("key").example("ops.key").doc("the key of the certificate"),
];

/// The encryption of the admin listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AdminTls {
    /// Plain HTTP.
    #[default]
    Off,
    /// TLS with the certificates of `[tls]`.
    Shared,
    /// TLS with a certificate of its own.
    Own(CertificateFiles),
}

impl AdminTls {
    /// Reads the keys of `[admin]`.
    pub(super) fn read(admin: &mut SettingsSection<'_>) -> Self {
        admin.describe(ADMIN_TLS_SETTINGS);
        let is_shared = admin.boolean("tls");
        match (admin.opt_path("certificate"), admin.opt_path("key")) {
            (Some(cert), Some(key)) => {
                let files = CertificateFiles { cert, key };
                files.check(admin, ("certificate", "key"));
                Self::Own(files)
            }
            (Some(_), None) => {
                admin.error("certificate", "needs key, the file of its key");
                Self::Off
            }
            (None, Some(_)) => {
                admin.error("key", "needs certificate, the file of its certificate");
                Self::Off
            }
            (None, None) if is_shared => Self::Shared,
            (None, None) => Self::Off,
        }
    }

    /// Returns true if the listener speaks TLS.
    pub fn is_on(&self) -> bool {
        *self != Self::Off
    }

    /// The certificates of the listener; none if it speaks plain HTTP.
    pub fn certificates<'a>(&'a self, edge: &'a EdgeSettings) -> &'a [CertificateFiles] {
        match self {
            Self::Off => &[],
            Self::Shared => &edge.certificates,
            Self::Own(files) => std::slice::from_ref(files),
        }
    }
}
