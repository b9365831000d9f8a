//! The live feed: what happens to events right now, for people who watch (`tagway tail`, the demo,
//! the admin UI). Nothing is kept, and nothing is rendered while nobody watches.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::broadcast;

use crate::settings::SecretRedactor;

/// Happenings a slow watcher may fall behind by before it misses some.
const BACKLOG: usize = 1024;

/// Something that happened to one event, as watchers see it.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum FeedEvent {
    /// An event was durably accepted.
    Accepted {
        /// When.
        at: Timestamp,
        /// The site's name.
        site: Arc<str>,
        /// Its place in the site's sequence.
        seq: u64,
        /// Its message id.
        message_id: String,
        /// Its name: the track name, or its kind.
        event: String,
        /// The wire format of its beacon.
        format: String,
    },
    /// An event ended at a destination, or has to wait for another try.
    Settled {
        /// When.
        at: Timestamp,
        /// The site's name.
        site: Arc<str>,
        /// The destination's name.
        destination: Arc<str>,
        /// The event's place in the site's sequence.
        seq: u64,
        /// Its message id.
        message_id: String,
        /// Its name: the track name, or its kind.
        event: String,
        /// `delivered`, `skipped`, `dead` or `retry`.
        outcome: &'static str,
        /// The reason's code, empty for delivered.
        reason: &'static str,
        /// The reason's detail.
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
        /// The fields that the destination dropped, each with its reason.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        dropped: Vec<String>,
    },
    /// An event waits at a destination for something about its visitor.
    Held {
        /// When.
        at: Timestamp,
        /// The site's name.
        site: Arc<str>,
        /// The destination's name.
        destination: Arc<str>,
        /// The event's place in the site's sequence.
        seq: u64,
        /// `consent`: the visitor's choice; `identity`: who the visitor is.
        awaits: &'static str,
        /// The categories of consent that the destination needs.
        needs: Vec<String>,
        /// The time at which the wait ends.
        until: Timestamp,
    },
    /// A call to a vendor ended.
    Called {
        /// When.
        at: Timestamp,
        /// The site's name.
        site: Arc<str>,
        /// The destination's name.
        destination: Arc<str>,
        /// The events in the call, by their place in the site's sequence.
        seqs: Vec<u64>,
        /// The method and URL, secrets redacted.
        request: String,
        /// The body, secrets redacted, cut to what a person reads.
        body: String,
        /// The status code, if there was a reply.
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// The reply's body, cut; or what went wrong.
        reply: String,
        /// How long it took.
        milliseconds: u64,
    },
}

impl FeedEvent {
    /// The same without the secrets that `redaction` knows.
    fn redacted(mut self, redaction: &SecretRedactor) -> Self {
        let texts = match &mut self {
            Self::Accepted { message_id, event, .. } => vec![message_id, event],
            Self::Settled { message_id, event, detail, dropped, .. } => {
                [message_id, event].into_iter().chain(detail).chain(dropped).collect()
            }
            Self::Called { request, body, reply, .. } => vec![request, body, reply],
            Self::Held { .. } => Vec::new(),
        };
        for text in texts {
            if let Cow::Owned(redacted) = redaction.redact(text) {
                *text = redacted;
            }
        }
        self
    }
}

/// The feed of one gateway.
#[derive(Clone, Debug)]
pub struct LiveFeed {
    sender: broadcast::Sender<Arc<FeedEvent>>,
    redaction: SecretRedactor,
}

impl LiveFeed {
    /// A feed that nobody watches yet, and that shows nothing of what `redaction` knows.
    pub fn new(redaction: SecretRedactor) -> Self {
        Self { sender: broadcast::Sender::new(BACKLOG), redaction }
    }

    /// Tells the watchers, if there are any. `happening` is called only then.
    pub fn publish(&self, happening: impl FnOnce() -> FeedEvent) {
        if self.is_watched() {
            // The last watcher may have left since; that is no error.
            self.sender.send(Arc::new(happening().redacted(&self.redaction))).ok();
        }
    }

    /// Whether anybody watches.
    pub fn is_watched(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Watches from now on.
    pub fn watch(&self) -> broadcast::Receiver<Arc<FeedEvent>> {
        self.sender.subscribe()
    }
}

impl Default for LiveFeed {
    fn default() -> Self {
        Self::new(SecretRedactor::default())
    }
}
