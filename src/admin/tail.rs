//! The live feed as lines of JSON.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use hyper::body::Frame;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::caller::Caller;
use super::feed_filter::{FeedFilter, TailQuery};
use super::masking::mask_happening;
use super::reply;
use super::request::QueryParams;
use super::router::SharedApi;
use tagway_console::access::SiteScope;
use tagway_core::feed::{FeedEvent, FeedWatcher, LiveFeed};

/// Streams what happens to events from now on.
///
/// Each line is an object whose member `what` is `accepted`, `settled`, `held`, `called`, `live` between the recent
/// lines and the others, or `missed` with the number of entries that a slow watcher missed. Empty lines are
/// heartbeats.
#[utoipa::path(get, path = "/api/v1/tail", params(TailQuery),
    responses((status = 200, body = Object, content_type = "application/x-ndjson")))]
pub(super) async fn watch_feed(
    State(api): State<SharedApi>,
    caller: Caller,
    QueryParams(query): QueryParams<TailQuery>,
) -> Response {
    let context = &api.context;
    let (heartbeat, drain) = (context.settings.heartbeat, api.drain.clone());
    let shows_personal = caller.shows_personal;
    let view = FeedView { query, scope: caller.sites, shows_personal };
    reply::json_lines(lines(&context.feed, view, heartbeat, drain))
}

/// The part of the feed that one watcher gets.
#[derive(Clone, Debug, Default)]
pub(super) struct FeedView {
    pub(super) query: TailQuery,
    /// The sites that the watcher may see.
    pub(super) scope: SiteScope,
    /// True if personal data is not masked.
    pub(super) shows_personal: bool,
}

struct TailStream {
    watcher: FeedWatcher,
    filter: FeedFilter,
    shows_personal: bool,
    /// The lines before the live ones.
    recent: VecDeque<String>,
    heartbeat: Interval,
    drain: CancellationToken,
}

/// The happenings that the view selects, one a line, with an empty line every `heartbeat`; ends on `drain`. A
/// watcher that is too slow gets the number of missed entries.
pub(super) fn lines(
    feed: &LiveFeed,
    view: FeedView,
    heartbeat: Duration,
    drain: CancellationToken,
) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + use<> {
    let mut heartbeat = interval(heartbeat.max(Duration::from_millis(1)));
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let FeedView { query, scope, shows_personal } = view;
    let (watcher, recent) = feed.watch_with_recent();
    let backlog = query.backlog;
    let filter = FeedFilter::new(query, scope);
    // The first tick is immediate: it tells the watcher that it is connected.
    let recent_lines = VecDeque::new();
    let mut stream =
        TailStream { watcher, filter, shows_personal, recent: recent_lines, heartbeat, drain };
    if let Some(backlog) = backlog {
        stream.fill(&recent, backlog);
    }
    stream::unfold(stream, |mut stream| async move {
        let line = stream.next_line().await?;
        Some((Ok(Frame::data(Bytes::from(line))), stream))
    })
}

impl TailStream {
    /// Selects the last of the recent happenings.
    fn fill(&mut self, recent: &[Arc<FeedEvent>], backlog: usize) {
        for happening in recent {
            // In their order: lines without a name follow those with one.
            if let Some(line) = self.line_of(happening) {
                self.recent.push_back(line);
                if self.recent.len() > backlog {
                    self.recent.pop_front();
                }
            }
        }
        self.recent.push_back(json!({ "what": "live" }).to_string());
    }

    /// Returns the line of a happening, if the watcher gets it.
    fn line_of(&mut self, happening: &FeedEvent) -> Option<String> {
        if !self.filter.matches(happening, &self.watcher) {
            return None;
        }
        if self.shows_personal {
            return serde_json::to_string(happening).ok();
        }
        let mut value = serde_json::to_value(happening).ok()?;
        mask_happening(&mut value);
        Some(value.to_string())
    }

    async fn next_line(&mut self) -> Option<String> {
        if let Some(line) = self.recent.pop_front() {
            return Some(line + "\n");
        }
        loop {
            let line = tokio::select! {
                () = self.drain.cancelled() => return None,
                _ = self.heartbeat.tick() => return Some("\n".to_owned()),
                received = self.watcher.recv() => match received {
                    Ok(happening) => self.line_of(&happening),
                    Err(RecvError::Lagged(count)) => {
                        Some(json!({ "what": "missed", "count": count }).to_string())
                    }
                    Err(RecvError::Closed) => return None,
                },
            };
            if let Some(line) = line {
                return Some(line + "\n");
            }
        }
    }
}
