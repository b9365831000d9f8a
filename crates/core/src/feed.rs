//! The live feed of happenings to events, for people who watch (`tagway tail`, the demo, the admin UI).
//! It stores nothing, and renders nothing without watchers.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::broadcast;

use tagway_settings::SecretRedactor;

/// The entries by which a slow watcher may fall behind before it misses some.
const BACKLOG: usize = 1024;

/// A happening to one event, as watchers receive it.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum FeedEvent {
    /// An event was durably accepted.
    Accepted {
        /// The time of the happening.
        at: Timestamp,
        /// The site's name.
        site: Arc<str>,
        /// Its sequence number in the site.
        seq: u64,
        /// The message id of the event.
        message_id: String,
        /// Its name: the track name, or its kind.
        event: String,
        /// The wire format of its beacon.
        format: String,
    },
    /// An event ended at a destination, or has to wait for another try.
    Settled {
        /// The time of the happening.
        at: Timestamp,
        /// The site's name.
        site: Arc<str>,
        /// The destination's name.
        destination: Arc<str>,
        /// The event's sequence number in the site.
        seq: u64,
        /// The message id of the event.
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
    /// An event waits at a destination for its visitor's consent or identity.
    Held {
        /// The time of the happening.
        at: Timestamp,
        /// The site's name.
        site: Arc<str>,
        /// The destination's name.
        destination: Arc<str>,
        /// The event's sequence number in the site.
        seq: u64,
        /// `consent`: the visitor's choice; `identity`: the visitor's identity.
        awaits: &'static str,
        /// The categories of consent that the destination needs.
        needs: Vec<String>,
        /// The time at which the wait ends.
        until: Timestamp,
    },
    /// A call to a vendor ended.
    Called {
        /// The time of the happening.
        at: Timestamp,
        /// The site's name.
        site: Arc<str>,
        /// The destination's name.
        destination: Arc<str>,
        /// The events in the call, by their sequence numbers in the site.
        seqs: Vec<u64>,
        /// The method and URL, secrets redacted.
        request: String,
        /// The body, secrets redacted, cut to a readable length.
        body: String,
        /// The status code, if there was a reply.
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// The reply's body, cut; or the error.
        reply: String,
        /// The duration of the call.
        milliseconds: u64,
    },
}

impl FeedEvent {
    /// The same happening without the secrets that `redaction` knows.
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
    /// A feed without watchers, which never shows a secret that `redaction` knows.
    pub fn new(redaction: SecretRedactor) -> Self {
        Self { sender: broadcast::Sender::new(BACKLOG), redaction }
    }

    /// Sends an entry to the watchers. `happening` is called only if there are any.
    pub fn publish(&self, happening: impl FnOnce() -> FeedEvent) {
        if self.is_watched() {
            // The last watcher may have left since; that is no error.
            self.sender.send(Arc::new(happening().redacted(&self.redaction))).ok();
        }
    }

    /// Returns true if anyone watches.
    pub fn is_watched(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Subscribes to the entries from now on.
    pub fn watch(&self) -> broadcast::Receiver<Arc<FeedEvent>> {
        self.sender.subscribe()
    }
}

impl Default for LiveFeed {
    fn default() -> Self {
        Self::new(SecretRedactor::default())
    }
}
