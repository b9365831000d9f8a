//! Vendors' scripts, first-party: fetched from the vendor, rewritten for the site's mount, kept in
//! memory and on disk, compressed off the request's path.
//!
//! A script at hand is served at once, whatever its age; when its time is over, it is asked for anew
//! behind the answer. A vendor that is down or answers nonsense changes nothing for visitors, for as
//! long as `scripts.stale_if_error` says. Many who ask for one that is not at hand wait for one fetch.

mod answer;
mod disk;
mod fetch;
mod rewrite;
mod served;
mod settings;
mod source;

pub use settings::Settings;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use http_body_util::Full;
use moka::future::Cache;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use url::Url;

use self::disk::Disk;
use self::fetch::{FetchError, Fetched, Fetcher};
use self::served::Served;
use self::source::{Hash, Source};
use crate::clock::SharedClock;
use crate::metrics::{Metrics, ScriptLabels};
use crate::vendors::Script;
use crate::vendors::script::{File, Rewrite};

/// What an entry without a script weighs.
const EMPTY_WEIGHT: u32 = 1024;

/// All vendors' scripts of one gateway. Cheap to clone.
#[derive(Clone)]
pub struct Scripts(Arc<Inner>);

struct Inner {
    settings: Settings,
    fetcher: Fetcher,
    disk: Arc<Disk>,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    held: Cache<Arc<str>, Arc<Held>>,
    served: Cache<(Hash, Arc<str>), Arc<Served>>,
    /// One at a time: the best levels take a core for a second.
    compressing: Arc<Semaphore>,
    /// Fetches, which outlive the requests that began them.
    tasks: TaskTracker,
}

/// What is known of one script of a vendor.
struct Held {
    kept: Kept,
    /// When to ask the vendor again, in milliseconds since 1970.
    ask_at: i64,
    /// Whether somebody does.
    asking: AtomicBool,
}

enum Kept {
    Script(Arc<Source>),
    /// The vendor has none.
    Absent,
    /// The vendor could not be asked.
    Failed,
}

/// One request of a script.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Whose.
    pub vendor: &'static str,
    /// The vendor's scripts.
    pub script: &'static Script,
    /// Stands in for the vendor's own host.
    pub endpoint: Option<&'a Url>,
    /// The path below the mount.
    pub path: &'a str,
    /// The query, as sent.
    pub query: Option<&'a str>,
    /// The mount as the client sees it: scheme, host and path.
    pub mount: &'a str,
    /// GET or HEAD.
    pub method: &'a Method,
    /// The request's fields.
    pub fields: &'a HeaderMap,
}

impl Scripts {
    /// Scripts kept in `data_dir`. An error means that TLS cannot be set up on this machine.
    pub fn new(
        settings: Settings,
        data_dir: &Path,
        allow_private: bool,
        clock: SharedClock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, reqwest::Error> {
        let weigh = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let held = Cache::builder()
            .max_capacity(settings.cache_bytes)
            .weigher(move |_: &Arc<str>, held: &Arc<Held>| match &held.kept {
                Kept::Script(source) => EMPTY_WEIGHT.saturating_add(weigh(source.body.len())),
                Kept::Absent | Kept::Failed => EMPTY_WEIGHT,
            })
            .build();
        let served = Cache::builder()
            .max_capacity(settings.cache_bytes)
            .weigher(move |_: &(Hash, Arc<str>), served: &Arc<Served>| weigh(served.weight()))
            .build();
        Ok(Self(Arc::new(Inner {
            fetcher: Fetcher::new(&settings, allow_private)?,
            disk: Arc::new(Disk::new(data_dir.join("scripts"), settings.disk_bytes)),
            settings,
            clock,
            metrics,
            held,
            served,
            compressing: Arc::new(Semaphore::new(1)),
            tasks: TaskTracker::new(),
        })))
    }

    /// The answer to one request.
    pub async fn answer(&self, asked: Asked<'_>) -> Response<Full<Bytes>> {
        let Some((url, file)) = upstream(&asked) else {
            self.count(asked.vendor, "absent");
            return answer::none(false);
        };
        let key: Arc<str> = url.as_str().into();
        let (held, fresh) = match self.0.held.get(&key).await {
            Some(held) => (held, false),
            None => {
                let (held, all) = (self.0.held.clone(), self.clone());
                let url = url.clone();
                // On a task of its own: the first client may leave, the others wait on.
                let load = async move { held.get_with(key, all.load(url)).await };
                let Ok(held) = self.0.tasks.spawn(load).await else { return answer::none(true) };
                (held, true)
            }
        };
        let is_due = held.ask_at <= self.now();
        if is_due && !held.asking.swap(true, Ordering::Relaxed) {
            let (all, held) = (self.clone(), held.clone());
            self.0.tasks.spawn(async move { all.ask_again(url, held).await });
        }
        let source = match &held.kept {
            Kept::Script(source) => source,
            Kept::Absent | Kept::Failed => {
                let failed = matches!(held.kept, Kept::Failed);
                self.count(asked.vendor, if failed { "error" } else { "absent" });
                return answer::none(failed);
            }
        };
        let Some(served) = self.served(source, asked.script.rewrites, asked.mount).await else {
            return answer::none(true);
        };
        self.compress(&served);
        let result = answer::script(&asked, file, &served);
        let counted = match (result.status().as_u16(), fresh, is_due) {
            (304, ..) => "unchanged",
            (_, true, _) => "miss",
            (_, _, true) => "stale",
            _ => "hit",
        };
        self.count(asked.vendor, counted);
        result
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
        self.0.metrics.script_requests.get_or_create(&ScriptLabels { vendor, result }).inc();
    }

    /// From the disk, else from the vendor.
    async fn load(self, url: Url) -> Arc<Held> {
        let (disk, bytes) = (self.0.disk.clone(), self.0.settings.script_bytes);
        let text = url.as_str().to_owned();
        let read = tokio::task::spawn_blocking(move || disk.read(&text, bytes)).await;
        if let Ok(Some(source)) = read {
            let ask_at = self.due(source.facts.checked_at, source.facts.max_age);
            return Arc::new(Held::new(Kept::Script(Arc::new(source)), ask_at));
        }
        let fetched = self.0.fetcher.fetch(&url, None, self.now()).await;
        Arc::new(self.judge(&url, fetched, None).await)
    }

    async fn ask_again(self, url: Url, held: Arc<Held>) {
        let known = match &held.kept {
            Kept::Script(source) => Some(source.clone()),
            Kept::Absent | Kept::Failed => None,
        };
        let facts = known.as_ref().map(|source| &source.facts);
        let fetched = self.0.fetcher.fetch(&url, facts, self.now()).await;
        let held = self.judge(&url, fetched, known).await;
        self.0.held.insert(url.as_str().into(), Arc::new(held)).await;
    }

    /// What is to be kept of an answer.
    async fn judge(
        &self,
        url: &Url,
        fetched: Result<Fetched, FetchError>,
        known: Option<Arc<Source>>,
    ) -> Held {
        let now = self.now();
        let source = match (fetched, known) {
            (Ok(Fetched::New(source)), _) => source,
            (Ok(Fetched::Same(max_age)), Some(known)) => {
                let mut source = (*known).clone();
                source.facts.checked_at = now;
                source.facts.max_age = max_age.or(source.facts.max_age);
                source
            }
            (Ok(Fetched::Absent | Fetched::Same(_)), None) => {
                return Held::new(Kept::Absent, self.after(self.0.settings.absent));
            }
            // A vendor that loses a script it had is as ill as one that is down.
            (Ok(Fetched::Absent), Some(known)) => return self.hold_on(known),
            (Err(error), known) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%url, %error, cause, "a vendor's script cannot be fetched");
                return match known {
                    Some(known) => self.hold_on(known),
                    None => Held::new(Kept::Failed, self.after(self.0.settings.retry)),
                };
            }
        };
        let source = Arc::new(source);
        let (disk, kept) = (self.0.disk.clone(), source.clone());
        match tokio::task::spawn_blocking(move || disk.write(&kept)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a script cannot be kept on disk"),
            Err(error) => tracing::error!(%error, "keeping a script ended early"),
        }
        let ask_at = self.due(now, source.facts.max_age);
        Held::new(Kept::Script(source), ask_at)
    }

    /// Keeps what is there, unless it is too old.
    fn hold_on(&self, known: Arc<Source>) -> Held {
        let ask_at = self.after(self.0.settings.retry);
        let last = plus(known.facts.checked_at, self.0.settings.stale_if_error);
        let kept = if last < self.now() { Kept::Failed } else { Kept::Script(known) };
        Held::new(kept, ask_at)
    }

    fn after(&self, wait: Duration) -> i64 {
        plus(self.now(), wait)
    }

    fn due(&self, checked_at: i64, max_age: Option<Duration>) -> i64 {
        let Settings { fresh_min, fresh_max, .. } = self.0.settings;
        plus(checked_at, max_age.unwrap_or_default().min(fresh_max).max(fresh_min))
    }

    /// The script for one mount. `None`: the work was ended early.
    async fn served(
        &self,
        source: &Arc<Source>,
        rewrites: &'static [Rewrite],
        mount: &str,
    ) -> Option<Arc<Served>> {
        let key = (source.hash, Arc::from(mount));
        if let Some(served) = self.0.served.get(&key).await {
            return Some(served);
        }
        let (source, mount) = (source.clone(), mount.to_owned());
        let make = async move {
            let text = move || {
                let text = rewrite::rewrite(&source.body, rewrites, &mount);
                Arc::new(Served::new(text, &source.facts.content_type))
            };
            tokio::task::spawn_blocking(text).await
        };
        self.0.served.try_get_with(key, make).await.ok()
    }

    /// Sees to it that the script is compressed, when there is a place for it.
    fn compress(&self, served: &Arc<Served>) {
        if served.compressed.get().is_some() {
            return;
        }
        let Ok(place) = self.0.compressing.clone().try_acquire_owned() else { return };
        if !served.compressing.swap(true, Ordering::Relaxed) {
            let served = served.clone();
            tokio::task::spawn_blocking(move || {
                served.compress();
                drop(place);
            });
        }
    }
}

impl Held {
    fn new(kept: Kept, ask_at: i64) -> Self {
        Self { kept, ask_at, asking: AtomicBool::new(false) }
    }
}

fn plus(at: i64, wait: Duration) -> i64 {
    at.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
}

/// Where a script is, which no client can lead elsewhere.
fn upstream(asked: &Asked<'_>) -> Option<(Url, &'static File)> {
    let file = asked.script.file(asked.path)?;
    let target = file.target(asked.path, asked.query)?;
    let base = match asked.endpoint {
        Some(endpoint) => endpoint.as_str().trim_end_matches('/').to_owned(),
        None if file.origin.is_empty() => return None,
        None => file.origin.to_owned(),
    };
    let own = Url::parse(&base).ok()?;
    let url = Url::parse(&(base + &target)).ok()?;
    (url.origin() == own.origin()).then_some((url, file))
}
