//! Vendors' scripts, first-party: fetched, rewritten for the site's mount, cached, compressed off the request path.
//!
//! A cached script is served at once, whatever its age; once due, it is revalidated in the background. A vendor
//! that is down or sends invalid replies changes nothing for visitors for `scripts.stale_if_error`. Concurrent
//! requests of an uncached script wait for one fetch. A script that a site pins ([`PinnedVersion`]) is fetched
//! like any other, to detect new versions; visitors get the approved version.

mod answer;
mod cached;
mod diff;
mod disk;
mod fetch;
mod pin;
mod report;
mod rewrite;
mod script_mount;
mod served;
mod settings;
mod source;

pub use pin::{PinnedVersion, ScriptPinError, ScriptPinSettings};
pub use report::{ScriptDiff, ScriptSummary, ScriptVersion};
pub use script_mount::ScriptMount;
pub use settings::{SCRIPT_PROXY_SETTINGS, ScriptProxySettings};

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::Full;
use moka::future::Cache;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use url::Url;

use self::cached::{CachedScript, CachedScriptContent};
use self::disk::ScriptDiskCache;
use self::fetch::{ScriptFetchError, ScriptFetchOutcome, ScriptFetcher};
use self::pin::{PinnedScript, PinnedScripts, VersionStatus};
use self::served::ProxiedScript;
use self::source::{FetchedScript, ScriptHash};
use tagway_core::clock::SharedClock;
use tagway_core::metrics::{Metrics, ScriptRequestLabels, SharedName, SiteVendorLabels};
use tagway_vendors::script::AddressRewrite;

/// The cache weight of an entry without a script, in bytes.
const EMPTY_WEIGHT: u32 = 1024;

/// All vendors' scripts of one gateway. Cheap to clone.
#[derive(Clone)]
pub struct ScriptProxy(Arc<ScriptProxyInner>);

struct ScriptProxyInner {
    settings: ScriptProxySettings,
    fetcher: ScriptFetcher,
    disk: Arc<ScriptDiskCache>,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    scripts: Cache<Arc<str>, Arc<CachedScript>>,
    served: Cache<(ScriptHash, Arc<str>), Arc<ProxiedScript>>,
    pins: ArcSwap<PinnedScripts>,
    pins_folder: PathBuf,
    /// One diff at a time; one compression at a time, since the best levels take a core for a second.
    comparing: Semaphore,
    compressing: Arc<Semaphore>,
    /// Rate limits of requests for uncached scripts, by site and vendor.
    fetch_limits: DefaultKeyedRateLimiter<(SharedName, &'static str)>,
    /// Fetches, which outlive the requests that began them.
    tasks: TaskTracker,
}

/// The result of a lookup for one request.
struct ScriptLookup {
    source: Option<Arc<FetchedScript>>,
    /// The kind of the result: a label value for metrics.
    result: &'static str,
}

/// The site's visitors asked for more uncached scripts than `scripts.new_per_minute`.
#[derive(Debug)]
struct FetchLimitReached;

/// One request of a script.
#[derive(Clone, Copy, Debug)]
pub struct ScriptRequest<'a> {
    /// The vendor and site that the script belongs to.
    pub script_mount: &'a ScriptMount,
    /// The path below the mount.
    pub path: &'a str,
    /// The query, as sent.
    pub query: Option<&'a str>,
    /// The mount as the client sees it, from [`ScriptMount::at`].
    pub mount: &'a Arc<str>,
    /// The request's method, GET or HEAD.
    pub method: &'a Method,
    /// The request's header fields.
    pub fields: &'a HeaderMap,
}

impl ScriptProxy {
    /// Opens the proxy with its disk cache in `data_dir`.
    ///
    /// # Errors
    ///
    /// Fails if TLS cannot be set up on this machine.
    pub fn new(
        settings: ScriptProxySettings,
        data_dir: &Path,
        allow_private: bool,
        clock: SharedClock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, reqwest::Error> {
        let weigh = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let held = Cache::builder()
            .max_capacity(settings.cache_bytes)
            .weigher(move |_: &Arc<str>, held: &Arc<CachedScript>| match &held.content {
                CachedScriptContent::Script(source) => {
                    EMPTY_WEIGHT.saturating_add(weigh(source.body.len()))
                }
                CachedScriptContent::Absent | CachedScriptContent::Failed => EMPTY_WEIGHT,
            })
            .build();
        let served = Cache::builder()
            .max_capacity(settings.cache_bytes)
            .weigher(move |_: &(ScriptHash, Arc<str>), served: &Arc<ProxiedScript>| {
                weigh(served.weight())
            })
            .build();
        Ok(Self(Arc::new(ScriptProxyInner {
            fetcher: ScriptFetcher::new(&settings, allow_private)?,
            fetch_limits: RateLimiter::keyed(Quota::per_minute(settings.new_per_minute)),
            disk: Arc::new(ScriptDiskCache::new(data_dir.join("scripts"), settings.disk_bytes)),
            settings,
            clock,
            metrics,
            scripts: held,
            served,
            pins: ArcSwap::default(),
            pins_folder: data_dir.join("pins"),
            comparing: Semaphore::new(1),
            compressing: Arc::new(Semaphore::new(1)),
            tasks: TaskTracker::new(),
        })))
    }

    /// Pins these scripts, and no others, to their versions from now on.
    pub async fn set_pins(&self, wanted: Vec<ScriptPinSettings>) {
        let (before, folder) = (self.0.pins.load_full(), self.0.pins_folder.clone());
        let open = move || PinnedScripts::new(wanted, &before, &folder);
        match tokio::task::spawn_blocking(open).await {
            Ok(pins) => self.0.pins.store(Arc::new(pins)),
            Err(error) => tracing::error!(%error, "the pinned scripts could not all be read"),
        }
        // The list may no longer contain all earlier sites and vendors.
        self.0.metrics.scripts_pending.clear();
        self.count_pending();
    }

    /// Answers one request.
    pub async fn answer(&self, asked: ScriptRequest<'_>) -> Response<Full<Bytes>> {
        let place = asked.script_mount;
        let Some((url, file)) = place.upstream(asked.path, asked.query) else {
            self.count(place.vendor, "absent");
            return answer::none(false);
        };
        let pin = match place.pins().is_empty() {
            true => None,
            false => self.0.pins.load().get(&place.site, &url).cloned(),
        };
        let found = match &pin {
            Some(pin) => self.approved(pin, &url).await,
            None => self.latest((&place.site, place.vendor), &url).await,
        };
        let Some(source) = found.source else {
            self.count(place.vendor, found.result);
            return answer::none(found.result != "absent");
        };
        let Some(served) = self.served(&source, place.script.rewrites, asked.mount).await else {
            return answer::none(true);
        };
        self.compress(&served);
        let result = answer::script(&asked, file, &served);
        let is_known = result.status() == StatusCode::NOT_MODIFIED;
        self.count(place.vendor, if is_known { "unchanged" } else { found.result });
        result
    }

    /// Returns the version that the vendor serves.
    async fn latest(&self, (site, vendor): (&SharedName, &'static str), url: &str) -> ScriptLookup {
        let (held, is_fresh) = match self.0.scripts.get(url).await {
            Some(held) => (held, false),
            None => {
                let (held, all) = (self.0.scripts.clone(), self.clone());
                let key: Arc<str> = url.into();
                // A separate task: it continues for the others if the first client leaves.
                let whose = (site.clone(), vendor);
                let load = async move {
                    let url = key.clone();
                    held.try_get_with(key, all.load(whose, url)).await
                };
                match self.0.tasks.spawn(load).await {
                    Ok(Ok(held)) => (held, true),
                    Ok(Err(_limited)) => return ScriptLookup::none("limited"),
                    Err(_ended) => return ScriptLookup::none("error"),
                }
            }
        };
        let is_due = self.refresh(url, &held);
        match &held.content {
            CachedScriptContent::Script(source) => {
                let how = match (is_fresh, is_due) {
                    (true, _) => "miss",
                    (_, true) => "stale",
                    _ => "hit",
                };
                ScriptLookup { source: Some(source.clone()), result: how }
            }
            CachedScriptContent::Absent => ScriptLookup::none("absent"),
            CachedScriptContent::Failed => ScriptLookup::none("error"),
        }
    }

    /// Starts a revalidation if the entry is due, and returns whether it is.
    fn refresh(&self, url: &str, held: &Arc<CachedScript>) -> bool {
        let is_due = held.revalidate_at <= self.now();
        if is_due && !held.is_revalidating.swap(true, Ordering::Relaxed) {
            let (all, held, url) = (self.clone(), held.clone(), Arc::from(url));
            self.0.tasks.spawn(async move { all.revalidate(url, held).await });
        }
        is_due
    }

    /// Returns the approved version of a pinned script, whatever the vendor serves.
    async fn approved(&self, pin: &Arc<PinnedScript>, url: &str) -> ScriptLookup {
        if let Some(source) = pin.approved() {
            match self.0.scripts.get(url).await {
                Some(held) => drop(self.refresh(url, &held)),
                None if pin.asking.swap(true, Ordering::Relaxed) => {}
                None => {
                    let (all, pin, url) = (self.clone(), pin.clone(), url.to_owned());
                    self.0.tasks.spawn(async move {
                        all.latest((&pin.settings.site, pin.settings.vendor), &url).await;
                        pin.asking.store(false, Ordering::Relaxed);
                    });
                }
            }
            return ScriptLookup { source: Some(source), result: "hit" };
        }
        let latest = self.latest((&pin.settings.site, pin.settings.vendor), url).await;
        let Some(source) = latest.source else { return latest };
        self.record_version(pin, &source).await;
        match pin.approved() {
            Some(source) => ScriptLookup { source: Some(source), result: latest.result },
            None => ScriptLookup::none("unapproved"),
        }
    }

    /// Records in a pinned script the version that the vendor serves.
    async fn record_version(&self, pin: &Arc<PinnedScript>, source: &Arc<FetchedScript>) {
        if !pin.is_unrecorded(&source.hash) {
            return;
        }
        let (own, seen, now) = (pin.clone(), source.clone(), self.now());
        let noticed = tokio::task::spawn_blocking(move || own.record_version(&seen, now)).await;
        let ScriptPinSettings { site, vendor, script, .. } = &pin.settings;
        let hash = source::written(&source.hash);
        match noticed {
            Ok(Ok(VersionStatus::Known)) => {}
            Ok(Ok(VersionStatus::Approved)) => {
                tracing::info!(%site, vendor, script, hash, "a script is pinned to this version");
            }
            Ok(Ok(VersionStatus::Pending)) => {
                tracing::warn!(%site, vendor, script, hash, "a new version of a pinned script waits for \
                    `tagway scripts approve`");
                let labels = SiteVendorLabels { site: site.clone(), vendor };
                self.0.metrics.script_changes.get_or_create(&labels).inc();
            }
            Ok(Err(error)) => {
                tracing::error!(%site, vendor, script, %error, "a pinned script cannot be stored");
            }
            Err(error) => tracing::error!(%error, "the storing of a pinned script was aborted"),
        }
        self.count_pending();
    }

    /// Records in the pinned scripts of this URL the version that the vendor serves.
    async fn record_versions(&self, url: &str, held: &CachedScript) {
        let CachedScriptContent::Script(source) = &held.content else { return };
        let pins: Vec<Arc<PinnedScript>> = self.0.pins.load().of(url).cloned().collect();
        for pin in pins {
            self.record_version(&pin, source).await;
        }
    }

    /// Waits for the fetches under way, none of which takes longer than `scripts.timeout`.
    pub async fn stop(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn now(&self) -> i64 {
        self.0.clock.now().as_millisecond()
    }

    fn count(&self, vendor: &'static str, result: &'static str) {
        self.0.metrics.script_requests.get_or_create(&ScriptRequestLabels { vendor, result }).inc();
    }

    /// Reads the script from the disk, otherwise from the vendor.
    async fn load(
        self,
        whose: (SharedName, &'static str),
        url: Arc<str>,
    ) -> Result<Arc<CachedScript>, FetchLimitReached> {
        self.0.fetch_limits.check_key(&whose).map_err(|_until| FetchLimitReached)?;
        let (_, vendor) = whose;
        let (disk, bytes) = (self.0.disk.clone(), self.0.settings.script_bytes);
        let text = url.clone();
        let read = tokio::task::spawn_blocking(move || disk.read(&text, bytes)).await;
        let held = if let Ok(Some(source)) = read {
            let ask_at = self.due(source.facts.checked_at, source.facts.max_age);
            CachedScript::new(vendor, CachedScriptContent::Script(Arc::new(source)), ask_at)
        } else {
            self.fetch(vendor, &url, None).await
        };
        self.record_versions(&url, &held).await;
        Ok(Arc::new(held))
    }

    async fn revalidate(self, url: Arc<str>, held: Arc<CachedScript>) {
        let known = match &held.content {
            CachedScriptContent::Script(source) => Some(source.clone()),
            CachedScriptContent::Absent | CachedScriptContent::Failed => None,
        };
        let held = self.fetch(held.vendor, &url, known).await;
        self.record_versions(&url, &held).await;
        self.0.scripts.insert(url, Arc::new(held)).await;
    }

    /// Fetches a script from the vendor, conditionally if a version is known.
    async fn fetch(
        &self,
        vendor: &'static str,
        url: &str,
        known: Option<Arc<FetchedScript>>,
    ) -> CachedScript {
        let Ok(url) = Url::parse(url) else {
            return CachedScript::new(
                vendor,
                CachedScriptContent::Absent,
                self.after(self.0.settings.negative_ttl),
            );
        };
        let facts = known.as_ref().map(|source| &source.facts);
        let fetched = self.0.fetcher.fetch(&url, facts, self.now()).await;
        self.apply_fetch((vendor, &url), fetched, known).await
    }

    /// Turns the result of a fetch into a cache entry, and stores a new script on disk.
    async fn apply_fetch(
        &self,
        (vendor, url): (&'static str, &Url),
        fetched: Result<ScriptFetchOutcome, ScriptFetchError>,
        known: Option<Arc<FetchedScript>>,
    ) -> CachedScript {
        let now = self.now();
        let source = match (fetched, known) {
            (Ok(ScriptFetchOutcome::New(source)), _) => source,
            (Ok(ScriptFetchOutcome::Same(max_age)), Some(known)) => {
                let mut source = (*known).clone();
                source.facts.checked_at = now;
                source.facts.max_age = max_age.or(source.facts.max_age);
                source
            }
            (Ok(ScriptFetchOutcome::Absent | ScriptFetchOutcome::Same(_)), None) => {
                return CachedScript::new(
                    vendor,
                    CachedScriptContent::Absent,
                    self.after(self.0.settings.negative_ttl),
                );
            }
            // A vendor that no longer has a script counts as one that is down.
            (Ok(ScriptFetchOutcome::Absent), Some(known)) => return self.keep_stale(vendor, known),
            (Err(error), known) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%url, %error, cause, "a vendor's script cannot be fetched");
                return match known {
                    Some(known) => self.keep_stale(vendor, known),
                    None => CachedScript::new(
                        vendor,
                        CachedScriptContent::Failed,
                        self.after(self.0.settings.retry),
                    ),
                };
            }
        };
        let source = Arc::new(source);
        let (disk, kept) = (self.0.disk.clone(), source.clone());
        match tokio::task::spawn_blocking(move || disk.write(&kept)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a script cannot be stored on disk"),
            Err(error) => tracing::error!(%error, "the storing of a script was aborted"),
        }
        let ask_at = self.due(now, source.facts.max_age);
        CachedScript::new(vendor, CachedScriptContent::Script(source), ask_at)
    }

    /// Keeps the known version, unless it is older than `scripts.stale_if_error`.
    fn keep_stale(&self, vendor: &'static str, known: Arc<FetchedScript>) -> CachedScript {
        let ask_at = self.after(self.0.settings.retry);
        let last = plus(known.facts.checked_at, self.0.settings.stale_if_error);
        let kept = if last < self.now() {
            CachedScriptContent::Failed
        } else {
            CachedScriptContent::Script(known)
        };
        CachedScript { is_stale: true, ..CachedScript::new(vendor, kept, ask_at) }
    }

    fn after(&self, wait: Duration) -> i64 {
        plus(self.now(), wait)
    }

    fn due(&self, checked_at: i64, max_age: Option<Duration>) -> i64 {
        let ScriptProxySettings { min_ttl: fresh_min, max_ttl: fresh_max, .. } = self.0.settings;
        plus(checked_at, max_age.unwrap_or_default().min(fresh_max).max(fresh_min))
    }

    /// The script rewritten for one mount. `None` if the work ended early.
    async fn served(
        &self,
        source: &Arc<FetchedScript>,
        rewrites: &'static [AddressRewrite],
        mount: &Arc<str>,
    ) -> Option<Arc<ProxiedScript>> {
        let key = (source.hash, mount.clone());
        if let Some(served) = self.0.served.get(&key).await {
            return Some(served);
        }
        let (source, mount) = (source.clone(), mount.clone());
        let make = async move {
            let text = move || {
                let text = rewrite::rewrite(&source.body, rewrites, &mount);
                Arc::new(ProxiedScript::new(text, &source.facts.content_type))
            };
            tokio::task::spawn_blocking(text).await
        };
        self.0.served.try_get_with(key, make).await.ok()
    }

    /// Starts the compression of the script if none has begun and a permit is free.
    fn compress(&self, served: &Arc<ProxiedScript>) {
        if served.encoded.is_compressed() {
            return;
        }
        let Ok(place) = self.0.compressing.clone().try_acquire_owned() else { return };
        if !served.compressing.swap(true, Ordering::Relaxed) {
            let served = served.clone();
            tokio::task::spawn_blocking(move || {
                served.encoded.compress();
                drop(place);
            });
        }
    }
}

impl ScriptLookup {
    fn none(how: &'static str) -> Self {
        Self { source: None, result: how }
    }
}

fn plus(at: i64, wait: Duration) -> i64 {
    at.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
}
