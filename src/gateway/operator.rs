//! Events that an operator sends, or tries out: messages as if one of the site's servers had sent them.

use std::net::{IpAddr, Ipv4Addr};

use jiff::Timestamp;

use super::accept::{Observed, Sender, record};
use super::decode::{self, Terms};
use super::settings::Limits;
use super::{Gateway, SiteSettings, head};
use crate::event::{Event, Facts, RawObject};
use crate::feed::Happening;
use crate::journal::{AppendError, Appended, MessageKey};

/// An event that an operator sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The journal's answer.
    pub appended: Appended,
    /// Its message id.
    pub message_id: String,
}

/// Why an operator's event was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// There is no such site.
    #[error("there is no such site")]
    UnknownSite,
    /// The message cannot be accepted; a code says why.
    #[error("{0}")]
    Invalid(&'static str),
    /// The journal does not take it.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// An event that was tried out.
#[derive(Clone, Debug)]
pub struct Rehearsed {
    /// The event, as readers of the journal would see it.
    pub event: Event,
    /// The reasons why members of the message are left out of it.
    pub unread: Vec<&'static str>,
}

/// A site's terms for messages, whoever sends them.
struct SiteTerms<'a> {
    name: &'a str,
    limits: &'a Limits,
    placeholder_ids: &'a [String],
    anonymizes_ip: bool,
}

/// A message of an operator.
struct Read {
    event: Event<RawObject>,
    key: MessageKey,
    /// True if it says something of the person.
    has_traits: bool,
    unread: Vec<&'static str>,
}

fn read(site: &SiteTerms<'_>, message: &[u8], received_at: Timestamp) -> Result<Read, SendError> {
    let SiteTerms { limits, placeholder_ids, .. } = *site;
    let terms = Terms { limits, kind: None, placeholder_ids, received_at };
    let (mut drafts, rejected) = decode::read(message, &terms).map_err(SendError::Invalid)?;
    let draft = match (drafts.pop(), rejected.first()) {
        (Some(draft), None) if drafts.is_empty() => draft,
        (_, Some(rejected)) => return Err(SendError::Invalid(rejected.reason)),
        _ => return Err(SendError::Invalid("one_message_expected")),
    };
    let facts = Facts { format: "admin".to_owned(), from_server: true, ..Facts::default() };
    let (has_traits, unread) = (draft.has_traits, draft.unread.reasons().collect());
    let observed = Observed {
        names_unknown: false,
        facts,
        is_known: false,
        new_cookie: None,
        client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        minted: None,
        has_unique_ids: true,
        sender: Sender::Server,
        anonymizes_ip: site.anonymizes_ip,
    };
    let completed = observed.complete(draft, site.name);
    let (event, key) = completed.map_err(|(_, reason)| SendError::Invalid(reason))?;
    Ok(Read { event, key, has_traits, unread })
}

/// Reads the event that a message would be at a site. Nothing is kept.
pub fn rehearse(
    limits: &Limits,
    site: &SiteSettings,
    message: &[u8],
    now: Timestamp,
) -> Result<Rehearsed, SendError> {
    let anonymizes_ip = site.privacy.anonymizes_ip();
    let terms =
        SiteTerms { name: "", limits, placeholder_ids: &site.placeholder_ids, anonymizes_ip };
    let Read { event, unread, .. } = read(&terms, message, head::to_millisecond(now))?;
    let record =
        serde_json::to_value(&event).map_err(|_impossible| SendError::Invalid("malformed"))?;
    let event = serde_json::from_value(record);
    let event = event.map_err(|_unreadable| SendError::Invalid("malformed"))?;
    Ok(Rehearsed { event, unread })
}

impl Gateway {
    /// Accepts a message for a site as if one of its servers had sent it.
    pub async fn send(&self, site: &str, message: &[u8]) -> Result<Sent, SendError> {
        let snapshot = self.snapshot.load_full();
        let site = snapshot.named(site).ok_or(SendError::UnknownSite)?;
        let received_at = head::to_millisecond(self.clock.now());
        let terms = SiteTerms {
            name: &site.name,
            limits: &snapshot.limits,
            placeholder_ids: &site.placeholder_ids,
            anonymizes_ip: site.privacy.anonymizes_ip(),
        };
        let Read { event, key, has_traits, unread } = read(&terms, message, received_at)?;
        self.count_unread(site, unread);
        let record = record(site.id, key, &event, has_traits)
            .map_err(|rejection| SendError::Invalid(rejection.code()))?;
        if self.forgotten.names_in(site.id, &record.body) {
            return Err(SendError::Invalid("forgotten"));
        }
        let appended = self.journal.append_counted(vec![record], self.sent_counter(&site.name));
        let appended = appended.await?.first().copied().unwrap_or(Appended::Duplicate);
        if let Appended::New { seq } = appended {
            self.feed.tell(|| Happening::Accepted {
                at: received_at,
                site: site.name.clone(),
                seq,
                message_id: event.message_id.clone(),
                event: event.label().to_owned(),
                format: event.facts.format.clone(),
            });
        }
        Ok(Sent { appended, message_id: event.message_id })
    }
}
