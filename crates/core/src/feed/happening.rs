//! The happenings of the live feed, as watchers receive them.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::event::Event;
use crate::privacy::ConsentRecord;
use tagway_settings::SecretRedactor;

/// The most characters of an id that the feed shows: enough to tell visitors apart, too few to look one up.
const SHOWN_ID_CHARS: usize = 8;

/// The most characters of a page's path in the feed.
const PATH_CHARS: usize = 200;

/// The bytes of a happening besides its texts, in the account of a trace.
const FRAME_BYTES: usize = 256;

/// The event that a happening is about.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EventSubject {
    /// The message id of the event.
    pub message_id: String,
    /// Its name: the track name, or its kind.
    pub event: String,
    /// Its kind of sender: `sdk`, `shim`, `vendor_tag`, `api`, `pixel`, `server` or `segment`.
    pub source: &'static str,
    /// The beginning of the visitor's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visitor: Option<String>,
    /// The complete ids of the visitor, which are compared and never shown.
    #[serde(skip)]
    ids: Vec<String>,
}

impl EventSubject {
    /// Describes an event.
    pub fn of<O>(event: &Event<O>) -> Self {
        let browser = event.facts.visitor.as_ref().map(|visitor| &visitor.id);
        let ids = [browser, event.anonymous_id.as_ref(), event.user_id.as_ref()];
        let ids: Vec<String> = ids.into_iter().flatten().cloned().collect();
        Self {
            message_id: event.message_id.clone(),
            event: event.label().to_owned(),
            source: event.facts.source(),
            visitor: ids.first().map(|id| shortened(id)),
            ids,
        }
    }

    /// Returns true if the visitor has this id, or if the shown beginning of its id begins with it. Nothing that is
    /// not shown can be found out piece by piece.
    pub fn is_of_visitor(&self, id: &str) -> bool {
        let start = id.strip_suffix('…').unwrap_or(id);
        let is_shown = self.visitor.as_ref().is_some_and(|shown| shown.starts_with(start));
        !start.is_empty() && (is_shown || self.ids.iter().any(|own| own == id))
    }

    /// Returns true if one of the visitor's ids is one of these.
    pub(super) fn has_any_id(&self, ids: &[String]) -> bool {
        self.ids.iter().any(|own| ids.contains(own))
    }

    /// Returns the ids by which later events of the same browser are recognised.
    pub(super) fn ids(&self) -> &[String] {
        &self.ids
    }
}

/// Returns the beginning of an id: at most half of it, so that no short one is shown whole.
pub fn shortened(id: &str) -> String {
    let shown = SHOWN_ID_CHARS.min(id.chars().count() / 2);
    let mut text: String = id.chars().take(shown).collect();
    text.push('…');
    text
}

/// The observations of an event's arrival that the feed shows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ArrivalSummary {
    /// The path of the page, without its query.
    pub page: Option<String>,
    /// The bot score of the sender, if there are signs of a bot.
    pub bot: Option<u8>,
    /// The categories of consent that the visitor granted; absent if the visitor has not chosen.
    pub consent: Option<Vec<String>>,
    /// The country of the visitor's address.
    pub country: Option<String>,
}

impl ArrivalSummary {
    /// Describes the arrival of an event on a page, with the visitor's recorded choice.
    pub fn of<O>(event: &Event<O>, page: Option<&str>, consent: Option<&ConsentRecord>) -> Self {
        let granted = |record: &ConsentRecord| {
            let granted = record.answers().filter(|(_, is_granted)| *is_granted);
            granted.map(|(category, _)| category.to_owned()).collect()
        };
        Self {
            page: page.map(page_path),
            bot: event.facts.suspicion.as_ref().map(|suspicion| suspicion.score),
            consent: consent.map(granted),
            country: event.facts.place.as_ref().and_then(|place| place.country.clone()),
        }
    }
}

/// Returns the path of a page's URL.
pub fn page_path(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/");
    path.chars().take(PATH_CHARS).collect()
}

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
        /// The event.
        #[serde(flatten)]
        subject: EventSubject,
        /// The wire format of its beacon.
        format: String,
        /// The observations of its arrival.
        #[serde(flatten)]
        arrival: ArrivalSummary,
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
        /// The event.
        #[serde(flatten)]
        subject: EventSubject,
        /// `delivered`, `skipped`, `dead` or `retry`.
        outcome: &'static str,
        /// The reason's code, empty for delivered.
        reason: &'static str,
        /// The reason's detail.
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
        /// The number of tries, this one included; 0 if the vendor was not called.
        attempt: u32,
        /// The duration of the last call of the event's batch; absent if the vendor was not called.
        milliseconds: Option<u64>,
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
    /// Returns the time of the happening.
    pub const fn at(&self) -> Timestamp {
        match self {
            Self::Accepted { at, .. }
            | Self::Settled { at, .. }
            | Self::Held { at, .. }
            | Self::Called { at, .. } => *at,
        }
    }

    /// Returns the site's name.
    pub fn site(&self) -> &str {
        match self {
            Self::Accepted { site, .. }
            | Self::Settled { site, .. }
            | Self::Held { site, .. }
            | Self::Called { site, .. } => site,
        }
    }

    /// Returns the destination's name. An accepted event belongs to every destination of its site.
    pub fn destination(&self) -> Option<&str> {
        match self {
            Self::Accepted { .. } => None,
            Self::Settled { destination, .. }
            | Self::Held { destination, .. }
            | Self::Called { destination, .. } => Some(destination),
        }
    }

    /// Returns the sequence numbers of its events.
    pub fn seqs(&self) -> &[u64] {
        match self {
            Self::Accepted { seq, .. } | Self::Settled { seq, .. } | Self::Held { seq, .. } => {
                std::slice::from_ref(seq)
            }
            Self::Called { seqs, .. } => seqs,
        }
    }

    /// Returns its event, where the happening describes it.
    pub const fn subject(&self) -> Option<&EventSubject> {
        match self {
            Self::Accepted { subject, .. } | Self::Settled { subject, .. } => Some(subject),
            Self::Held { .. } | Self::Called { .. } => None,
        }
    }

    /// Returns about the number of bytes that it takes in memory, and as text.
    pub(super) fn size(&self) -> usize {
        let texts = match self {
            Self::Accepted { subject, .. } => subject.event.len() + subject.message_id.len(),
            Self::Settled { subject, detail, dropped, .. } => {
                let dropped: usize = dropped.iter().map(String::len).sum();
                subject.event.len() + dropped + detail.as_ref().map_or(0, String::len)
            }
            Self::Held { needs, .. } => needs.iter().map(String::len).sum(),
            Self::Called { request, body, reply, seqs, .. } => {
                request.len() + body.len() + reply.len() + 8 * seqs.len()
            }
        };
        FRAME_BYTES + texts
    }

    /// The same happening without the secrets that `redaction` knows.
    pub(super) fn redacted(mut self, redaction: &SecretRedactor) -> Self {
        let texts = match &mut self {
            Self::Accepted { subject: EventSubject { message_id, event, .. }, arrival, .. } => {
                [message_id, event].into_iter().chain(&mut arrival.page).collect()
            }
            Self::Settled { subject, detail, dropped, .. } => {
                let EventSubject { message_id, event, .. } = subject;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_never_shown_whole() {
        assert_eq!(shortened("3f2504e0-4f89-41d3-9a0c-0305e82c3301"), "3f2504e0…");
        assert_eq!(shortened("u1"), "u…");
        assert_eq!(shortened("ü"), "…");
        assert_eq!(shortened(""), "…");
    }

    #[test]
    fn page_path_leaves_out_host_and_query() {
        assert_eq!(page_path("https://shop.example/a/b?x=1#y"), "/a/b");
        assert_eq!(page_path("https://shop.example"), "/");
        assert_eq!(page_path("/a?b"), "/a");
        assert_eq!(page_path("https://shop.example?x=/y"), "/");
    }
}
