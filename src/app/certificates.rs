//! The certificates of a running gateway: reloaded when their files change, with warnings before they
//! expire.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use crate::config::TagwaySettings;
use tagway_core::metrics::{CertificateLabels, Metrics, SharedName};
use tagway_edge::{CertificateExpiry, CertificateFiles, EdgeError, TlsTerminator};

/// The time between two warnings about a certificate that expires soon: people read logs once a day.
const WARN_EVERY: SignedDuration = SignedDuration::from_hours(24);

/// The certificates in use.
pub(super) struct CertificateReloader {
    reload: tagway_edge::EdgeReloadHandle,
    /// The certificates of the admin listener, if it speaks TLS.
    admin: Option<TlsTerminator>,
    state: Mutex<CertificateState>,
}

struct CertificateState {
    /// The settings in use.
    settings: tagway_edge::EdgeSettings,
    /// The files of the admin listener's certificates.
    admin_files: Vec<CertificateFiles>,
    /// The time of the last warning about each certificate, by its name.
    warned: BTreeMap<SharedName, Timestamp>,
}

impl CertificateReloader {
    /// Creates the reloader of the edge and of the admin listener.
    pub(super) fn new(
        reload: tagway_edge::EdgeReloadHandle,
        admin: Option<TlsTerminator>,
        settings: &TagwaySettings,
    ) -> Self {
        let state = CertificateState {
            settings: settings.edge.clone(),
            admin_files: settings.admin.tls.certificates(&settings.edge).to_vec(),
            warned: BTreeMap::new(),
        };
        Self { reload, admin, state: Mutex::new(state) }
    }

    fn with<T>(&self, change: impl FnOnce(&mut CertificateState) -> T) -> T {
        // Every change under the lock is complete before anything can panic.
        change(&mut self.state.lock())
    }

    /// Applies new settings of the edge and of the admin listener's certificates. On an error the old ones stay.
    pub(super) async fn apply(&self, settings: &TagwaySettings) -> Result<(), EdgeError> {
        let admin_files = settings.admin.tls.certificates(&settings.edge).to_vec();
        self.load(&settings.edge, &admin_files).await?;
        self.with(|state| {
            state.settings = settings.edge.clone();
            state.admin_files = admin_files;
        });
        Ok(())
    }

    /// Reads the certificates of both. On an error neither changes.
    async fn load(
        &self,
        edge: &tagway_edge::EdgeSettings,
        admin_files: &[CertificateFiles],
    ) -> Result<(), EdgeError> {
        // A listener without new certificates keeps its old ones: without any it could serve no client.
        let admin = self.admin.as_ref().filter(|_| !admin_files.is_empty());
        let next = match admin {
            Some(admin) => Some((admin, TlsTerminator::load(admin_files).await?)),
            None => None,
        };
        self.reload.reload(edge).await?;
        if let Some((admin, next)) = next {
            admin.replace_with(&next);
        }
        Ok(())
    }

    /// Reads the files again. A warning is logged for those that cannot be used, and the previous
    /// certificates stay.
    pub(super) async fn read_again(&self) {
        let (edge, admin_files) =
            self.with(|state| (state.settings.clone(), state.admin_files.clone()));
        match self.load(&edge, &admin_files).await {
            Ok(()) => tracing::info!("a certificate was replaced"),
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::warn!(
                    error = format!("{error:#}"),
                    "a replaced certificate cannot be used; the previous certificates stay in use"
                );
            }
        }
    }

    /// The files of the certificates.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.with(|state| {
            let files = state.settings.certificates.iter().chain(&state.admin_files);
            let paths = files.flat_map(|files| [files.cert.clone(), files.key.clone()]);
            // The admin listener may share those of the edge.
            paths.collect::<BTreeSet<_>>().into_iter().collect()
        })
    }

    /// The certificates in use by their first host names, with their earliest times of expiry.
    pub(super) fn expiries(&self) -> BTreeMap<SharedName, Timestamp> {
        let mut earliest: BTreeMap<SharedName, Timestamp> = BTreeMap::new();
        let of_admin = self.admin.iter().flat_map(TlsTerminator::expiries);
        for CertificateExpiry { name, expires_at } in
            self.reload.expiries().into_iter().chain(of_admin)
        {
            let known = earliest.entry(name).or_insert(expires_at);
            *known = expires_at.min(*known);
        }
        earliest
    }

    /// Publishes the expiry times of the certificates, and warns once a day about those that expire soon.
    pub(super) fn watch_expiry(&self, metrics: &Metrics, now: Timestamp) {
        let earliest = self.expiries();
        metrics.certificate_expires.clear();
        let lead = self.with(|state| state.settings.expiry_warning);
        for (name, expires_at) in earliest {
            let labels = CertificateLabels { name: name.clone() };
            metrics.certificate_expires.get_or_create(&labels).set(expires_at.as_second());
            let is_to_be_said = CertificateExpiry { name: name.clone(), expires_at }
                .is_near(now, lead)
                && self.with(|state| {
                    let last = state.warned.get(&name).copied();
                    let is_due = last.is_none_or(|at| now.duration_since(at) >= WARN_EVERY);
                    if is_due {
                        state.warned.insert(name.clone(), now);
                    }
                    is_due
                });
            if is_to_be_said {
                let what = if expires_at <= now {
                    "a certificate has expired: clients refuse it; replace its files"
                } else {
                    "a certificate expires soon; replace its files"
                };
                tracing::warn!(name = %name, expires_at = %expires_at, "{what}");
            }
        }
    }
}
