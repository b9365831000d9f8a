//! Scripts that a site pins to one version. Visitors get that version, whatever the vendor serves; a
//! newer one, at most one per script, waits on disk until an operator approves it.
//!
//! Both are in a separate folder that no disk limit clears. A damaged file does not count as a script
//! without an approved version: the version that the vendor serves waits then.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use super::disk;
use super::source::{FetchedScript, ScriptHash, hash, hex, read_hash};
use tagway_core::metrics::SharedName;

/// The version to which a script is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinnedVersion {
    /// The first that the gateway fetched, until another is approved.
    First,
    /// The one with this SHA-256.
    Version([u8; 32]),
}

impl PinnedVersion {
    /// Parses `first`, or a hash as `sha256-` and base64.
    pub fn read(text: &str) -> Option<Self> {
        if text == "first" { Some(Self::First) } else { read_hash(text).map(Self::Version) }
    }
}

/// A script that a site pins to one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptPinSettings {
    pub(super) site: SharedName,
    pub(super) vendor: &'static str,
    /// Path and query below the mount.
    pub(super) script: String,
    /// The URL at the vendor.
    pub(super) url: String,
    pub(super) version: PinnedVersion,
}

/// The reason that a command on a pinned script fails.
#[derive(Debug, thiserror::Error)]
pub enum ScriptPinError {
    /// No site pins it.
    #[error("no such script is pinned")]
    Unknown,
    /// No newer version waits.
    #[error("no version of this script waits for approval")]
    NothingPending,
    /// Another version waits.
    #[error("another version waits now: check it with `tagway scripts diff` first")]
    Changed,
    /// The site's settings name the version.
    #[error("the configuration pins the version of this script: change the pin there")]
    Configured,
    /// The file cannot be read or written.
    #[error("the script cannot be read or stored")]
    Disk(#[from] io::Error),
    /// The work ended early, or another command of its kind is under way.
    #[error("busy: try again")]
    Busy,
}

/// All pinned scripts: by site, then by URL.
#[derive(Default)]
pub(super) struct PinnedScripts(HashMap<SharedName, HashMap<String, Arc<PinnedScript>>>);

/// A pinned script. Functions that change it block on the disk.
pub(super) struct PinnedScript {
    pub(super) settings: ScriptPinSettings,
    /// True while a fetch of an uncached version is under way.
    pub(super) asking: AtomicBool,
    approved: ArcSwapOption<FetchedScript>,
    pending: ArcSwapOption<PendingVersion>,
    /// True if the first fetched version is approved without an operator.
    trusts_first: bool,
    folder: PathBuf,
    changing: Mutex<()>,
}

/// A version that waits for approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PendingVersion {
    pub(super) hash: ScriptHash,
    pub(super) bytes: usize,
    /// The time of its first fetch, in milliseconds since 1970.
    pub(super) since: i64,
}

/// The status of a version that the vendor serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VersionStatus {
    Known,
    /// Approved because it is the first, or the configured one.
    Approved,
    /// It waits for approval from now on.
    Pending,
}

impl PinnedScripts {
    /// Opens these scripts with their files on disk. Scripts with unchanged settings are taken from `before`.
    pub(super) fn new(wanted: Vec<ScriptPinSettings>, before: &Self, folder: &Path) -> Self {
        let mut pins: HashMap<SharedName, HashMap<String, Arc<PinnedScript>>> = HashMap::new();
        for settings in wanted {
            let known = before.get(&settings.site, &settings.url);
            let known = known.filter(|pin| pin.settings == settings).cloned();
            let pin =
                known.unwrap_or_else(|| Arc::new(PinnedScript::open(settings.clone(), folder)));
            pins.entry(settings.site).or_default().insert(settings.url, pin);
        }
        Self(pins)
    }

    pub(super) fn get(&self, site: &str, url: &str) -> Option<&Arc<PinnedScript>> {
        self.0.get(site)?.get(url)
    }

    /// The pinned scripts of all sites with this URL.
    pub(super) fn of(&self, url: &str) -> impl Iterator<Item = &Arc<PinnedScript>> {
        self.0.values().filter_map(move |pins| pins.get(url))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<PinnedScript>> {
        self.0.values().flat_map(HashMap::values)
    }

    /// The script with this site, vendor and path, as operators name it.
    pub(super) fn named(
        &self,
        site: &str,
        vendor: &str,
        script: &str,
    ) -> Result<&Arc<PinnedScript>, ScriptPinError> {
        let mut own = self.0.get(site).into_iter().flat_map(HashMap::values);
        own.find(|pin| pin.settings.vendor == vendor && pin.settings.script == script)
            .ok_or(ScriptPinError::Unknown)
    }
}

impl PinnedScript {
    fn open(settings: ScriptPinSettings, folder: &Path) -> Self {
        let mut pin = Self {
            settings,
            asking: AtomicBool::new(false),
            approved: ArcSwapOption::empty(),
            pending: ArcSwapOption::empty(),
            trusts_first: false,
            folder: folder.to_owned(),
            changing: Mutex::new(()),
        };
        let log = |pin: &Self, error: &io::Error| {
            let ScriptPinSettings { site, vendor, script, .. } = &pin.settings;
            tracing::error!(%site, vendor, script, %error, "the stored copy of a pinned script is damaged");
        };
        match pin.read("approved") {
            Ok(source) if pin.is_wanted(&source.hash) => pin.approved.store(Some(source.into())),
            Ok(_another) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => pin.trusts_first = true,
            Err(error) => log(&pin, &error),
        }
        let Ok(source) = pin.read("pending") else { return pin };
        let is_named = pin.settings.version == PinnedVersion::Version(source.hash);
        let is_approved = pin.approved().is_some_and(|it| it.hash == source.hash);
        if is_named && !is_approved {
            // The configuration approves the version that waited.
            if let Err(error) = pin.write("approved", &source) {
                log(&pin, &error);
            }
            pin.approved.store(Some(source.into()));
            pin.drop_pending();
        } else if is_approved {
            // A crash came between the two steps of an approval.
            pin.drop_pending();
        } else {
            pin.pending.store(Some(Arc::new(PendingVersion::of(&source))));
        }
        pin
    }

    /// The version that visitors get.
    pub(super) fn approved(&self) -> Option<Arc<FetchedScript>> {
        self.approved.load_full()
    }

    /// The version that waits for approval.
    pub(super) fn pending(&self) -> Option<PendingVersion> {
        self.pending.load().as_deref().copied()
    }

    /// Returns true if [`PinnedScript::record_version`] has anything to record about this version.
    pub(super) fn is_unrecorded(&self, hash: &ScriptHash) -> bool {
        let is_approved = self.approved.load().as_ref().is_some_and(|it| it.hash == *hash);
        match self.pending() {
            Some(pending) => pending.hash != *hash,
            None => !is_approved,
        }
    }

    /// Records that the vendor serves this version, and approves it if the settings do.
    pub(super) fn record_version(
        &self,
        source: &FetchedScript,
        now: i64,
    ) -> io::Result<VersionStatus> {
        let _changing = self.lock();
        if !self.is_unrecorded(&source.hash) {
            return Ok(VersionStatus::Known);
        }
        let approved = self.approved();
        if approved.as_ref().is_some_and(|it| it.hash == source.hash) {
            // The vendor withdrew the newer version.
            self.drop_pending();
            return Ok(VersionStatus::Known);
        }
        let mut source = source.clone();
        source.facts.checked_at = now;
        let approves = match self.settings.version {
            PinnedVersion::First => approved.is_none() && self.trusts_first,
            PinnedVersion::Version(hash) => hash == source.hash,
        };
        if !approves {
            self.write("pending", &source)?;
            self.pending.store(Some(Arc::new(PendingVersion::of(&source))));
            return Ok(VersionStatus::Pending);
        }
        let written = self.write("approved", &source);
        // Visitors get the approved version even if it could not be written.
        self.approved.store(Some(source.into()));
        self.drop_pending();
        written.map(|()| VersionStatus::Approved)
    }

    /// Approves the version that waits: visitors get it from now on.
    pub(super) fn approve(&self, hash: &ScriptHash, now: i64) -> Result<(), ScriptPinError> {
        let _changing = self.lock();
        if self.settings.version != PinnedVersion::First {
            return Err(ScriptPinError::Configured);
        }
        let pending = self.pending().ok_or(ScriptPinError::NothingPending)?;
        if pending.hash != *hash {
            return Err(ScriptPinError::Changed);
        }
        let mut source = self.read_pending(&pending)?;
        source.facts.checked_at = now;
        self.write("approved", &source)?;
        self.approved.store(Some(source.into()));
        self.drop_pending();
        Ok(())
    }

    /// The text of the version that waits.
    pub(super) fn read_pending(&self, pending: &PendingVersion) -> io::Result<FetchedScript> {
        let source = self.read("pending")?;
        if source.hash == pending.hash {
            Ok(source)
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }

    fn is_wanted(&self, hash: &ScriptHash) -> bool {
        match self.settings.version {
            PinnedVersion::First => true,
            PinnedVersion::Version(wanted) => wanted == *hash,
        }
    }

    fn drop_pending(&self) {
        if self.pending.swap(None).is_none() && !self.file("pending").exists() {
            return;
        }
        if let Err(error) = fs::remove_file(self.file("pending")) {
            // The next start removes it if its version is the approved one.
            tracing::warn!(%error, "the file of an approved script version cannot be removed");
        }
    }

    fn file(&self, what: &str) -> PathBuf {
        let name = format!("{}\n{}", self.settings.site, self.settings.url);
        self.folder.join(hex(&hash(name.as_bytes()))).with_extension(what)
    }

    fn read(&self, what: &str) -> io::Result<FetchedScript> {
        // It was within the limit when it was written; the limit may have changed since.
        disk::read(&self.file(what), &self.settings.url, usize::MAX)
    }

    fn write(&self, what: &str, source: &FetchedScript) -> io::Result<()> {
        disk::write(&self.folder, &self.file(what), source)
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, ()> {
        // The mutex protects only the order of changes; poisoning is harmless.
        self.changing.lock()
    }
}

impl PendingVersion {
    fn of(source: &FetchedScript) -> Self {
        Self { hash: source.hash, bytes: source.body.len(), since: source.facts.checked_at }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::script::proxy::source::ScriptMetadata;

    const URL: &str = "https://cdn/a.js";

    fn source(text: &'static str) -> FetchedScript {
        let facts = ScriptMetadata {
            url: URL.to_owned(),
            content_type: "text/javascript".to_owned(),
            etag: None,
            last_modified: None,
            max_age: None,
            checked_at: 1,
        };
        FetchedScript {
            facts,
            hash: hash(text.as_bytes()),
            body: Bytes::from_static(text.as_bytes()),
        }
    }

    fn open(folder: &Path, wanted: PinnedVersion) -> PinnedScript {
        let settings = ScriptPinSettings {
            site: "shop".into(),
            vendor: "ga4",
            script: "/a.js".to_owned(),
            url: URL.to_owned(),
            version: wanted,
        };
        PinnedScript::open(settings, folder)
    }

    fn held(pin: &PinnedScript) -> Option<Bytes> {
        pin.approved().map(|it| it.body.clone())
    }

    #[test]
    fn first_version_stays_until_another_is_approved() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two, three) = (source("one"), source("two"), source("three"));
        let pin = open(folder.path(), PinnedVersion::First);
        assert_eq!(pin.record_version(&one, 5).unwrap(), VersionStatus::Approved);
        assert_eq!(pin.record_version(&one, 6).unwrap(), VersionStatus::Known);
        assert_eq!(pin.record_version(&two, 7).unwrap(), VersionStatus::Pending);
        assert_eq!(pin.record_version(&two, 8).unwrap(), VersionStatus::Known);
        assert_eq!(pin.pending().unwrap(), PendingVersion { hash: two.hash, bytes: 3, since: 7 });
        // Both versions survive a restart.
        let pin = open(folder.path(), PinnedVersion::First);
        assert_eq!(held(&pin).unwrap(), "one");
        assert_eq!(pin.pending().unwrap(), PendingVersion { hash: two.hash, bytes: 3, since: 7 });
        assert_eq!(pin.record_version(&three, 9).unwrap(), VersionStatus::Pending);
        assert!(matches!(pin.approve(&two.hash, 10), Err(ScriptPinError::Changed)));
        pin.approve(&three.hash, 10).unwrap();
        assert_eq!((held(&pin).unwrap(), pin.pending()), ("three".into(), None));
        assert!(matches!(pin.approve(&three.hash, 11), Err(ScriptPinError::NothingPending)));
        let pin = open(folder.path(), PinnedVersion::First);
        assert_eq!((held(&pin).unwrap(), pin.pending()), ("three".into(), None));
        // A version that the vendor withdraws stops waiting.
        assert_eq!(pin.record_version(&one, 12).unwrap(), VersionStatus::Pending);
        assert_eq!(pin.record_version(&three, 13).unwrap(), VersionStatus::Known);
        assert_eq!(open(folder.path(), PinnedVersion::First).pending(), None);
    }

    #[test]
    fn configured_version_is_the_only_approved_one() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (source("one"), source("two"));
        let pin = open(folder.path(), PinnedVersion::Version(two.hash));
        assert_eq!(pin.record_version(&one, 5).unwrap(), VersionStatus::Pending);
        assert_eq!(held(&pin), None);
        assert!(matches!(pin.approve(&one.hash, 6), Err(ScriptPinError::Configured)));
        assert_eq!(pin.record_version(&two, 7).unwrap(), VersionStatus::Approved);
        assert_eq!((held(&pin).unwrap(), pin.pending()), ("two".into(), None));
        pin.record_version(&one, 8).unwrap();
        // The settings name the version that waits, then one that was never fetched.
        let pin = open(folder.path(), PinnedVersion::Version(one.hash));
        assert_eq!((held(&pin).unwrap(), pin.pending()), ("one".into(), None));
        assert_eq!(held(&open(folder.path(), PinnedVersion::Version([7; 32]))), None);
        assert_eq!(held(&open(folder.path(), PinnedVersion::First)).unwrap(), "one");
    }

    #[test]
    fn damaged_copy_is_not_replaced_by_the_next_version() {
        let folder = tempfile::tempdir().unwrap();
        let pin = open(folder.path(), PinnedVersion::First);
        pin.record_version(&source("one"), 5).unwrap();
        fs::write(pin.file("approved"), b"{}\nx").unwrap();
        let pin = open(folder.path(), PinnedVersion::First);
        assert_eq!(pin.record_version(&source("two"), 6).unwrap(), VersionStatus::Pending);
        assert_eq!(held(&pin), None);
        pin.approve(&source("two").hash, 7).unwrap();
        assert_eq!(held(&pin).unwrap(), "two");
    }

    #[test]
    fn pinned_version_reads_the_integrity_format() {
        let written = super::super::source::written(&hash(b"one"));
        let bare = written.trim_start_matches("sha256-");
        assert_eq!(PinnedVersion::read(&written), Some(PinnedVersion::Version(hash(b"one"))));
        for bad in ["", "First", "sha256-", "sha256-AAAA", "sha384-x", bare] {
            assert_eq!(PinnedVersion::read(bad), None, "{bad}");
        }
        assert_eq!(PinnedVersion::read("first"), Some(PinnedVersion::First));
    }
}
