//! The live feed as lines of JSON.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use hyper::body::Frame;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;

use super::caller::CallerScope;
use super::reply;
use super::request::{QueryParams, optional};
use super::router::SharedApi;
use tagway_console::access::SiteScope;
use tagway_core::feed::{FeedEvent, LiveFeed};

/// The filter of a watcher; `None` matches everything.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TailFilter {
    #[serde(deserialize_with = "optional")]
    site: Option<String>,
    #[serde(deserialize_with = "optional")]
    destination: Option<String>,
    /// The sites that the watcher may see.
    #[serde(skip)]
    #[param(ignore)]
    scope: SiteScope,
}

/// Streams what happens to events from now on.
///
/// Each line is an object whose member `what` is `accepted`, `settled`, `held`, `called`, or `missed` with the
/// number of entries that a slow watcher missed. Empty lines are heartbeats.
#[utoipa::path(get, path = "/api/v1/tail", params(TailFilter),
    responses((status = 200, body = Object, content_type = "application/x-ndjson")))]
pub(super) async fn watch_feed(
    State(api): State<SharedApi>,
    CallerScope(scope): CallerScope,
    QueryParams(filter): QueryParams<TailFilter>,
) -> Response {
    let filter = TailFilter { scope, ..filter };
    let context = &api.context;
    let (heartbeat, drain) = (context.settings.heartbeat, api.drain.clone());
    reply::json_lines(lines(&context.feed, filter, heartbeat, drain))
}

impl TailFilter {
    /// Returns true if the watcher gets it. An accepted event belongs to every destination of its site.
    fn matches(&self, happening: &FeedEvent) -> bool {
        let (site, destination) = match happening {
            FeedEvent::Accepted { site, .. } => (site, None),
            FeedEvent::Settled { site, destination, .. }
            | FeedEvent::Held { site, destination, .. }
            | FeedEvent::Called { site, destination, .. } => (site, Some(destination)),
        };
        let is = |wanted: &Option<String>, name: &Arc<str>| {
            wanted.as_deref().is_none_or(|wanted| wanted == &**name)
        };
        self.scope.may_see(site)
            && is(&self.site, site)
            && destination.is_none_or(|name| is(&self.destination, name))
    }
}

struct TailWatcher {
    receiver: Receiver<Arc<FeedEvent>>,
    filter: TailFilter,
    heartbeat: Interval,
    drain: CancellationToken,
}

/// The happenings from now on, one a line, with an empty line every `heartbeat`; ends on `drain`. A
/// watcher that is too slow gets the number of missed entries.
pub(super) fn lines(
    feed: &LiveFeed,
    filter: TailFilter,
    heartbeat: Duration,
    drain: CancellationToken,
) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + use<> {
    let mut heartbeat = interval(heartbeat.max(Duration::from_millis(1)));
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is immediate: it tells the watcher that it is connected.
    let watcher = TailWatcher { receiver: feed.watch(), filter, heartbeat, drain };
    stream::unfold(watcher, |mut watcher| async move {
        let line = watcher.next_line().await?;
        Some((Ok(Frame::data(Bytes::from(line))), watcher))
    })
}

impl TailWatcher {
    async fn next_line(&mut self) -> Option<String> {
        loop {
            let line = tokio::select! {
                () = self.drain.cancelled() => return None,
                _ = self.heartbeat.tick() => return Some("\n".to_owned()),
                received = self.receiver.recv() => match received {
                    Ok(happening) if self.filter.matches(&happening) => {
                        serde_json::to_string(&happening).ok()
                    }
                    Ok(_) => None,
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
