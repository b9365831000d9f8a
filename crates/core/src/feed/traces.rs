//! Traces: everything that happens to the events of one visitor, kept in memory for a short time.
//!
//! A trace follows a known visitor, or each browser that opened its link. The gateway tells it the numbers of the
//! visitor's events as they are accepted; from then on the happenings to these numbers are kept, and rendered
//! even if nobody watches the feed. Without a trace, all of this costs one atomic read.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use super::happening::{EventSubject, FeedEvent};

/// The most traces at once.
pub const MAX_TRACES: usize = 20;

/// The life of a trace: a visit.
pub const TRACE_TIME: SignedDuration = SignedDuration::from_mins(30);

/// The most bytes of happenings of one trace.
const TRACE_BYTES: usize = 1 << 20;

/// The most events that one trace follows.
const TRACE_EVENTS: usize = 5000;

/// The most ids of browsers that opened the link of one trace: a link is for one person's devices.
const TRACE_IDS: usize = 60;

/// A trace without its happenings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceSummary {
    /// The id of the trace.
    pub id: Arc<str>,
    /// The site's name.
    pub site: Arc<str>,
    /// The id of the visitor that it follows; `None` if it follows browsers that open its link.
    pub visitor: Option<String>,
    /// The time at which it ends.
    pub expires_at: Timestamp,
    /// The number of events that it follows.
    pub events: usize,
    /// The number of happenings that it did not keep, for lack of room.
    pub missed: u64,
}

/// The reason why a trace cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {MAX_TRACES} traces already: end one of them")]
pub struct TooManyTraces;

struct VisitorTrace {
    summary: TraceSummary,
    ids: Vec<String>,
    seqs: HashSet<u64>,
    happenings: Vec<Arc<FeedEvent>>,
    bytes: usize,
}

/// The traces of one gateway. Clones share them.
#[derive(Clone, Default)]
pub struct TraceRegistry(Arc<SharedTraces>);

#[derive(Default)]
struct SharedTraces {
    is_active: AtomicBool,
    traces: Mutex<Vec<VisitorTrace>>,
}

impl TraceRegistry {
    /// Starts a trace of a visitor, or of the browsers that open its link.
    ///
    /// # Errors
    ///
    /// Fails if there are [`MAX_TRACES`] already.
    pub fn start(
        &self,
        id: &str,
        site: &str,
        visitor: Option<String>,
        now: Timestamp,
    ) -> Result<TraceSummary, TooManyTraces> {
        let mut traces = self.0.traces.lock();
        traces.retain(|trace| now < trace.summary.expires_at);
        if traces.len() >= MAX_TRACES {
            return Err(TooManyTraces);
        }
        let summary = TraceSummary {
            id: id.into(),
            site: site.into(),
            visitor: visitor.clone(),
            expires_at: now.saturating_add(TRACE_TIME).unwrap_or(Timestamp::MAX),
            events: 0,
            missed: 0,
        };
        traces.push(VisitorTrace {
            summary: summary.clone(),
            ids: visitor.into_iter().collect(),
            seqs: HashSet::new(),
            happenings: Vec::new(),
            bytes: 0,
        });
        self.0.is_active.store(true, Ordering::Release);
        Ok(summary)
    }

    /// Ends a trace. Returns false if there is none with this id.
    pub fn end(&self, id: &str) -> bool {
        let mut traces = self.0.traces.lock();
        let before = traces.len();
        traces.retain(|trace| *trace.summary.id != *id);
        self.0.is_active.store(!traces.is_empty(), Ordering::Release);
        traces.len() < before
    }

    /// Returns the traces that have not ended.
    pub fn list(&self, now: Timestamp) -> Vec<TraceSummary> {
        let mut traces = self.0.traces.lock();
        traces.retain(|trace| now < trace.summary.expires_at);
        self.0.is_active.store(!traces.is_empty(), Ordering::Release);
        traces.iter().map(VisitorTrace::summary).collect()
    }

    /// Returns a trace with its happenings, in the order of their times.
    pub fn read(&self, id: &str, now: Timestamp) -> Option<(TraceSummary, Vec<Arc<FeedEvent>>)> {
        let traces = self.0.traces.lock();
        let trace = traces.iter().find(|trace| *trace.summary.id == *id)?;
        if now >= trace.summary.expires_at {
            return None;
        }
        let mut happenings = trace.happenings.clone();
        // An event may reach a vendor before its request has been answered.
        happenings.sort_by_key(|happening| happening.at());
        Some((trace.summary(), happenings))
    }

    /// Returns true if there may be a trace. Cheap: every event asks.
    pub fn is_active(&self) -> bool {
        self.0.is_active.load(Ordering::Acquire)
    }

    /// Returns the traces that follow an accepted event of a site at `now`. `opened` is the trace whose link the
    /// event's page was opened by: it follows the visitor from now on.
    pub fn of_event(
        &self,
        site: &str,
        subject: &EventSubject,
        opened: Option<&str>,
        now: Timestamp,
    ) -> Vec<Arc<str>> {
        let mut traces = self.0.traces.lock();
        traces.retain(|trace| now < trace.summary.expires_at);
        self.0.is_active.store(!traces.is_empty(), Ordering::Release);
        let of_site = traces.iter_mut().filter(|trace| *trace.summary.site == *site);
        let following = of_site.filter_map(|trace| {
            let is_opened = opened == Some(&*trace.summary.id) && trace.summary.visitor.is_none();
            let is_own = subject.has_any_id(&trace.ids);
            if is_opened || (is_own && trace.summary.visitor.is_none()) {
                trace.recognise(subject.ids());
            }
            (is_opened || is_own).then(|| trace.summary.id.clone())
        });
        following.collect()
    }

    /// Follows an accepted event in these traces.
    pub fn follow(&self, traces: &[Arc<str>], seq: u64) {
        let mut all = self.0.traces.lock();
        for trace in all.iter_mut().filter(|trace| traces.contains(&trace.summary.id)) {
            if trace.seqs.len() < TRACE_EVENTS {
                trace.seqs.insert(seq);
            }
        }
    }

    /// Returns true if a trace follows one of these events.
    pub fn follows(&self, site: &str, seqs: &[u64]) -> bool {
        self.is_active() && self.0.traces.lock().iter().any(|trace| trace.follows(site, seqs))
    }

    /// Returns true if this trace follows an event of the happening.
    pub fn is_in(&self, id: &str, happening: &FeedEvent) -> bool {
        let traces = self.0.traces.lock();
        let trace = traces.iter().find(|trace| *trace.summary.id == *id);
        trace.is_some_and(|trace| trace.follows(happening.site(), happening.seqs()))
    }

    /// Keeps a happening in the traces that follow its events.
    pub(super) fn record(&self, happening: &Arc<FeedEvent>) {
        if !self.is_active() {
            return;
        }
        let mut traces = self.0.traces.lock();
        for trace in traces.iter_mut() {
            if trace.follows(happening.site(), happening.seqs()) {
                trace.keep(happening);
            }
        }
    }
}

impl VisitorTrace {
    fn summary(&self) -> TraceSummary {
        TraceSummary { events: self.seqs.len(), ..self.summary.clone() }
    }

    fn follows(&self, site: &str, seqs: &[u64]) -> bool {
        *self.summary.site == *site && seqs.iter().any(|seq| self.seqs.contains(seq))
    }

    /// Remembers the ids of a browser.
    fn recognise(&mut self, ids: &[String]) {
        for id in ids {
            if self.ids.len() < TRACE_IDS && !self.ids.contains(id) {
                self.ids.push(id.clone());
            }
        }
    }

    fn keep(&mut self, happening: &Arc<FeedEvent>) {
        let size = happening.size();
        if self.bytes + size > TRACE_BYTES {
            self.summary.missed += 1;
            return;
        }
        self.bytes += size;
        self.happenings.push(happening.clone());
    }
}

impl std::fmt::Debug for TraceRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TraceRegistry").finish_non_exhaustive()
    }
}
