//! The operators' view of the scripts, and their commands.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use utoipa::ToSchema;

use super::pin::{PinnedScript, ScriptPinError};
use super::source::{FetchedScript, read_hash, written};
use super::{CachedScriptContent, ScriptProxy, diff};
use tagway_core::metrics::{SharedName, SiteVendorLabels};

/// The most unpinned scripts in one list: visitors decide how many are cached.
const MAX_LISTED: usize = 1000;

/// A script in the operators' list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ScriptSummary {
    /// The site that pins it. Unpinned scripts are shared by sites.
    #[schema(value_type = Option<String>)]
    pub site: Option<SharedName>,
    /// The vendor's name.
    pub vendor: &'static str,
    /// Path and query below the mount of a pinned script, otherwise the URL at the vendor.
    pub script: String,
    /// For a pinned script, `pending` while a new version waits, else `missing` while none is approved,
    /// `stale` if the last fetch failed, `pinned`. For others `open` or `stale`.
    pub state: &'static str,
    /// The version that visitors get.
    pub served: Option<ScriptVersion>,
    /// The version that waits for approval.
    pub pending: Option<ScriptVersion>,
}

/// One version of a script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ScriptVersion {
    /// The SHA-256 of its text, as `sha256-` and base64.
    pub hash: String,
    /// The length of its text.
    pub bytes: usize,
    /// The time since its approval, or since it waits; of an unpinned script, since the vendor confirmed it.
    pub age_seconds: i64,
}

/// The difference between the version that waits and the one that visitors get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ScriptDiff {
    /// The version that visitors get.
    pub served: Option<ScriptVersion>,
    /// The version that waits for approval.
    pub pending: ScriptVersion,
    /// The diff in the unified format, of the scripts broken into short lines.
    pub diff: String,
    /// True if the diff is cut.
    pub cut: bool,
}

impl ScriptProxy {
    /// The scripts: first the pinned ones, then some of the others in memory.
    pub fn list(&self) -> Vec<ScriptSummary> {
        let now = self.now();
        let (mut others, mut stale) = (Vec::new(), HashSet::new());
        for (url, held) in &self.0.scripts {
            let CachedScriptContent::Script(source) = &held.content else { continue };
            if held.is_stale {
                stale.insert(url.to_string());
            }
            if others.len() < MAX_LISTED {
                others.push(ScriptSummary {
                    site: None,
                    vendor: held.vendor,
                    script: url.to_string(),
                    state: if held.is_stale { "stale" } else { "open" },
                    served: Some(ScriptVersion::of(source, now)),
                    pending: None,
                });
            }
        }
        let pins = self.0.pins.load();
        let mut states: Vec<ScriptSummary> =
            pins.all().map(|pin| state(pin, stale.contains(&pin.settings.url), now)).collect();
        for list in [&mut states, &mut others] {
            list.sort_by_key(|it| (it.site.clone(), it.vendor, it.script.clone()));
        }
        states.append(&mut others);
        states
    }

    /// Compares the waiting version of a pinned script with the approved one.
    ///
    /// # Errors
    ///
    /// [`ScriptPinError::NothingPending`] if no version waits, [`ScriptPinError::Busy`] while another
    /// comparison runs, or the error of an unknown pin or of its file.
    pub async fn diff(
        &self,
        site: &str,
        vendor: &str,
        script: &str,
    ) -> Result<ScriptDiff, ScriptPinError> {
        let pin = self.0.pins.load().named(site, vendor, script)?.clone();
        let _turn = self.0.comparing.try_acquire().or(Err(ScriptPinError::Busy))?;
        let now = self.now();
        let compare = move || {
            let waits = pin.pending().ok_or(ScriptPinError::NothingPending)?;
            let new = pin.read_pending(&waits)?;
            let old = pin.approved();
            let before = old.as_ref().map(|old| &*old.body).unwrap_or_default();
            let (diff, cut) = diff::diff(before, &new.body);
            let served = old.map(|old| ScriptVersion::of(&old, now));
            Ok(ScriptDiff { served, pending: ScriptVersion::of(&new, now), diff, cut })
        };
        tokio::task::spawn_blocking(compare).await.or(Err(ScriptPinError::Busy))?
    }

    /// Approves the waiting version of a pinned script, if it has this hash.
    ///
    /// # Errors
    ///
    /// [`ScriptPinError::Changed`] if the waiting version has another hash, or the error of an unknown pin or of its file.
    pub async fn approve(
        &self,
        (site, vendor, script): (&str, &str, &str),
        hash: &str,
    ) -> Result<(), ScriptPinError> {
        let pin = self.0.pins.load().named(site, vendor, script)?.clone();
        let hash = read_hash(hash).ok_or(ScriptPinError::Changed)?;
        let now = self.now();
        let approve = move || pin.approve(&hash, now);
        tokio::task::spawn_blocking(approve).await.or(Err(ScriptPinError::Busy))??;
        tracing::info!(
            site,
            vendor,
            script,
            hash = written(&hash),
            "a version of a pinned script is approved"
        );
        self.count_pending();
        Ok(())
    }

    /// Publishes the number of waiting versions.
    pub(super) fn count_pending(&self) {
        let pins = self.0.pins.load();
        let mut counts: HashMap<SiteVendorLabels, i64> = HashMap::new();
        for pin in pins.all() {
            let (site, vendor) = (pin.settings.site.clone(), pin.settings.vendor);
            let count = counts.entry(SiteVendorLabels { site, vendor }).or_default();
            *count += i64::from(pin.pending().is_some());
        }
        for (labels, count) in counts {
            self.0.metrics.scripts_pending.get_or_create(&labels).set(count);
        }
    }
}

fn state(pin: &PinnedScript, is_stale: bool, now: i64) -> ScriptSummary {
    let (served, pending) = (pin.approved(), pin.pending());
    let state = match (&served, pending) {
        (_, Some(_)) => "pending",
        (None, _) => "missing",
        _ if is_stale => "stale",
        _ => "pinned",
    };
    ScriptSummary {
        site: Some(pin.settings.site.clone()),
        vendor: pin.settings.vendor,
        script: pin.settings.script.clone(),
        state,
        served: served.map(|source| ScriptVersion::of(&source, now)),
        pending: pending.map(|it| ScriptVersion::new(&it.hash, it.bytes, it.since, now)),
    }
}

impl ScriptVersion {
    fn of(source: &FetchedScript, now: i64) -> Self {
        Self::new(&source.hash, source.body.len(), source.facts.checked_at, now)
    }

    fn new(hash: &[u8; 32], bytes: usize, since: i64, now: i64) -> Self {
        Self { hash: written(hash), bytes, age_seconds: now.saturating_sub(since).max(0) / 1000 }
    }
}
