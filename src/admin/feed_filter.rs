//! The filter of a watcher of the live feed.
//!
//! `accepted` and `settled` lines describe their event; `held` and `called` lines only number theirs. A watcher that
//! selects by the event's name, visitor or source gets the latter for the events that it got the former of.

use std::collections::{HashSet, VecDeque};

use serde::Deserialize;
use utoipa::IntoParams;

use super::request::optional;
use tagway_console::access::SiteScope;
use tagway_core::feed::{FeedEvent, FeedWatcher};
use tagway_vendors::mapping::GlobPatterns;

/// The most selected events that a watcher remembers: those of the last minutes.
const REMEMBERED: usize = 2000;

/// The filter of a watcher; an absent parameter matches everything.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TailQuery {
    #[serde(deserialize_with = "optional")]
    site: Option<String>,
    /// Lines about this destination, and accepted events.
    #[serde(deserialize_with = "optional")]
    destination: Option<String>,
    /// Names of events with `*` and `?`, separated by commas; `!x` excludes.
    #[serde(deserialize_with = "optional")]
    event: Option<String>,
    /// `delivered`, `skipped`, `dead` or `retry`: only `settled` lines.
    #[serde(deserialize_with = "optional")]
    outcome: Option<String>,
    /// The code of a reason: only `settled` lines.
    #[serde(deserialize_with = "optional")]
    reason: Option<String>,
    /// An id of the visitor, or the beginning that lines show.
    #[serde(deserialize_with = "optional")]
    visitor: Option<String>,
    /// `sdk`, `shim`, `vendor_tag`, `api`, `pixel`, `server` or `segment`.
    #[serde(deserialize_with = "optional")]
    source: Option<String>,
    /// The id of a trace.
    #[serde(deserialize_with = "optional")]
    trace: Option<String>,
    /// Begins with this number of recent lines, at most 500, and then a line `{"what":"live"}`.
    #[serde(deserialize_with = "optional")]
    pub(super) backlog: Option<usize>,
}

/// A compiled filter, with the events that it selected.
#[derive(Debug)]
pub(super) struct FeedFilter {
    query: TailQuery,
    scope: SiteScope,
    events: Option<GlobPatterns>,
    selected: SelectedEvents,
}

/// The sites and numbers of selected events, the oldest forgotten first.
#[derive(Debug, Default)]
struct SelectedEvents {
    known: HashSet<(String, u64)>,
    order: VecDeque<(String, u64)>,
}

impl FeedFilter {
    pub(super) fn new(query: TailQuery, scope: SiteScope) -> Self {
        let events = query.event.as_deref().map(globs);
        Self { query, scope, events, selected: SelectedEvents::default() }
    }

    /// Returns true if the watcher gets the line.
    pub(super) fn matches(&mut self, happening: &FeedEvent, watcher: &FeedWatcher) -> bool {
        let TailQuery { site, destination, trace, .. } = &self.query;
        let is = |wanted: &Option<String>, name: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == name)
        };
        let is_of_destination = happening.destination().is_none_or(|name| is(destination, name));
        if !self.scope.may_see(happening.site())
            || !is(site, happening.site())
            || !is_of_destination
        {
            return false;
        }
        let is_selected = trace.as_deref().is_none_or(|id| watcher.is_in_trace(id, happening))
            && self.selects(happening);
        is_selected
            && match happening {
                FeedEvent::Settled { outcome: own, reason: cause, .. } => {
                    is(&self.query.outcome, own) && is(&self.query.reason, cause)
                }
                _ => outcome_is_free(&self.query),
            }
    }

    /// Selects by the event itself.
    fn selects(&mut self, happening: &FeedEvent) -> bool {
        let TailQuery { visitor, source, .. } = &self.query;
        if self.events.is_none() && visitor.is_none() && source.is_none() {
            return true;
        }
        let Some(subject) = happening.subject() else {
            return happening.seqs().iter().any(|seq| self.selected.has(happening.site(), *seq));
        };
        let is_selected = self.events.as_ref().is_none_or(|globs| globs.matches(&subject.event))
            && visitor.as_deref().is_none_or(|id| subject.is_of_visitor(id))
            && source.as_deref().is_none_or(|source| source == subject.source);
        if is_selected {
            for seq in happening.seqs() {
                self.selected.add(happening.site(), *seq);
            }
        }
        is_selected
    }
}

/// Returns true if the query selects no outcomes: only settled lines have one.
fn outcome_is_free(query: &TailQuery) -> bool {
    query.outcome.is_none() && query.reason.is_none()
}

impl SelectedEvents {
    fn has(&self, site: &str, seq: u64) -> bool {
        self.known.contains(&(site.to_owned(), seq))
    }

    fn add(&mut self, site: &str, seq: u64) {
        if !self.known.insert((site.to_owned(), seq)) {
            return;
        }
        self.order.push_back((site.to_owned(), seq));
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// Reads a list of patterns, separated by commas.
pub(super) fn globs(list: &str) -> GlobPatterns {
    let patterns = list.split(',').map(str::trim).filter(|pattern| !pattern.is_empty());
    GlobPatterns::new(&patterns.map(str::to_owned).collect::<Vec<_>>())
}
