//! The live feed of happenings to events, for people who watch (`tagway tail`, the demo, the console).
//! It renders nothing without watchers and traces. What it keeps, the recent happenings and the traces, is in
//! memory only: the former while somebody watched in the last minutes, the latter for [`TRACE_TIME`].

mod happening;
#[cfg(test)]
mod tests;
mod trace_parameter;
mod traces;

pub use happening::{ArrivalSummary, EventSubject, FeedEvent, page_path, shortened};
pub use trace_parameter::{TRACE_PARAMETER, remove_trace_parameter};
pub use traces::{MAX_TRACES, TRACE_TIME, TooManyTraces, TraceRegistry, TraceSummary};

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use tagway_settings::SecretRedactor;

/// The entries by which a slow watcher may fall behind before it misses some.
const BEHIND: usize = 1024;

/// The recent happenings that a new watcher may ask for.
pub const BACKLOG: usize = 500;

/// The time after the last watcher's leave for which recent happenings are still kept: a page that is loaded
/// again, a person who comes back.
const KEEP_TIME: Duration = Duration::from_secs(600);

/// The feed of one gateway. Clones share it.
#[derive(Clone, Debug)]
pub struct LiveFeed(Arc<SharedFeed>);

#[derive(Debug)]
struct SharedFeed {
    sender: broadcast::Sender<Arc<FeedEvent>>,
    redaction: SecretRedactor,
    traces: TraceRegistry,
    /// True while recent happenings are kept although nobody watches.
    is_kept: AtomicBool,
    recent: Mutex<RecentHappenings>,
}

#[derive(Debug, Default)]
struct RecentHappenings {
    happenings: VecDeque<Arc<FeedEvent>>,
    /// The number of watchers: the channel counts one that leaves until its last field is dropped.
    watchers: usize,
    /// The end of keeping; `None` while somebody watches, or if nobody ever did.
    kept_until: Option<Instant>,
}

/// One watcher of the feed.
#[derive(Debug)]
pub struct FeedWatcher {
    receiver: broadcast::Receiver<Arc<FeedEvent>>,
    feed: Arc<SharedFeed>,
}

impl LiveFeed {
    /// A feed without watchers, which never shows a secret that `redaction` knows.
    pub fn new(redaction: SecretRedactor) -> Self {
        Self(Arc::new(SharedFeed {
            sender: broadcast::Sender::new(BEHIND),
            redaction,
            traces: TraceRegistry::default(),
            is_kept: AtomicBool::new(false),
            recent: Mutex::default(),
        }))
    }

    /// Sends a happening to these events of a site to the watchers, and to the traces that follow one of them.
    /// `happening` is called only if there are any.
    pub fn publish(&self, site: &str, seqs: &[u64], happening: impl FnOnce() -> FeedEvent) {
        let feed = &*self.0;
        let is_watched = self.is_watched();
        if !is_watched && !feed.traces.follows(site, seqs) {
            return;
        }
        let happening = Arc::new(happening().redacted(&feed.redaction));
        feed.traces.record(&happening);
        if is_watched {
            feed.send(happening);
        }
    }

    /// Returns true if anyone watches, or watched in the last minutes.
    pub fn is_watched(&self) -> bool {
        self.0.sender.receiver_count() > 0 || self.0.keeps_recent()
    }

    /// Returns true if a happening to one of these events would be rendered.
    pub fn wants(&self, site: &str, seqs: &[u64]) -> bool {
        self.is_watched() || self.0.traces.follows(site, seqs)
    }

    /// The traces of visitors.
    pub fn traces(&self) -> &TraceRegistry {
        &self.0.traces
    }

    /// Subscribes to the entries from now on.
    pub fn watch(&self) -> FeedWatcher {
        self.watch_with_recent().0
    }

    /// Subscribes to the entries from now on. Returns the recent ones before them as well, at most [`BACKLOG`], the
    /// oldest first.
    pub fn watch_with_recent(&self) -> (FeedWatcher, Vec<Arc<FeedEvent>>) {
        // Under the lock, so that each entry is either recent or still to come.
        let mut recent = self.0.recent.lock();
        recent.kept_until = None;
        recent.watchers += 1;
        let receiver = self.0.sender.subscribe();
        let happenings = recent.happenings.iter().cloned().collect();
        (FeedWatcher { receiver, feed: self.0.clone() }, happenings)
    }
}

impl SharedFeed {
    fn send(&self, happening: Arc<FeedEvent>) {
        let mut recent = self.recent.lock();
        if recent.happenings.len() >= BACKLOG {
            recent.happenings.pop_front();
        }
        recent.happenings.push_back(happening.clone());
        // The last watcher may have left since; that is no error.
        self.sender.send(happening).ok();
    }

    /// Returns true if recent happenings are kept although nobody watches. Forgets them when their time is over.
    fn keeps_recent(&self) -> bool {
        if !self.is_kept.load(Ordering::Acquire) {
            return false;
        }
        let mut recent = self.recent.lock();
        // While somebody watches there is no end.
        let is_over =
            recent.watchers == 0 && recent.kept_until.is_none_or(|until| until <= Instant::now());
        if is_over {
            self.is_kept.store(false, Ordering::Release);
            recent.happenings = VecDeque::new();
        }
        !is_over
    }
}

impl FeedWatcher {
    /// Receives the next entry. Cancel safe.
    ///
    /// # Errors
    ///
    /// Fails with the number of missed entries if the watcher was too slow, and once the feed has ended.
    pub async fn recv(&mut self) -> Result<Arc<FeedEvent>, RecvError> {
        self.receiver.recv().await
    }

    /// Returns true if this trace follows an event of the happening.
    pub fn is_in_trace(&self, id: &str, happening: &FeedEvent) -> bool {
        self.feed.traces.is_in(id, happening)
    }
}

impl Drop for FeedWatcher {
    fn drop(&mut self) {
        let mut recent = self.feed.recent.lock();
        recent.watchers = recent.watchers.saturating_sub(1);
        if recent.watchers == 0 {
            recent.kept_until = Some(Instant::now() + KEEP_TIME);
            self.feed.is_kept.store(true, Ordering::Release);
        }
    }
}

impl Default for LiveFeed {
    fn default() -> Self {
        Self::new(SecretRedactor::default())
    }
}
