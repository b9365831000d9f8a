//! Sends or tries out an operator's events: messages as if one of the site's servers had sent them.

use std::net::{IpAddr, Ipv4Addr};

use jiff::Timestamp;

use super::accept::{RequestFacts, SenderKind, record};
use super::decode::{self, DecodeContext, JudgedMessages};
use super::feed_entry::{DraftSummary, following};
use super::rejection::RequestRejection;
use super::settings::GatewayLimits;
use super::snapshot::GatewaySite;
use super::{Gateway, GatewaySiteSettings, head};
use tagway_core::event::{Event, EventFacts, RawJsonObject};
use tagway_storage::journal::{AppendError, AppendOutcome, MessageKey};

/// The receipt of an event that an operator sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorSendReceipt {
    /// The journal's result for the event.
    pub appended: AppendOutcome,
    /// The event's message id.
    pub message_id: String,
}

/// An error that kept an operator's event from being accepted.
#[derive(Debug, thiserror::Error)]
pub enum OperatorSendError {
    /// No site has the name.
    #[error("the configuration has no such site")]
    UnknownSite,
    /// The message cannot be accepted; the code is the reason.
    #[error("{0}")]
    Invalid(&'static str),
    /// The journal refused the event.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// The result of trying out an event.
#[derive(Clone, Debug)]
pub struct DryRunEvent {
    /// The event, as readers of the journal would see it.
    pub event: Event,
    /// The reasons why members of the message are left out of it.
    pub unread: Vec<&'static str>,
}

/// A site's rules for messages from any sender.
struct SiteMessageRules<'a> {
    name: &'a str,
    limits: &'a GatewayLimits,
    placeholder_ids: &'a [String],
    anonymizes_ip: bool,
}

/// A decoded message of an operator.
struct OperatorMessage {
    event: Event<RawJsonObject>,
    key: MessageKey,
    /// True if it has traits of the person.
    has_traits: bool,
    unread: Vec<&'static str>,
}

fn read(
    site: &SiteMessageRules<'_>,
    message: &[u8],
    received_at: Timestamp,
) -> Result<OperatorMessage, OperatorSendError> {
    let SiteMessageRules { limits, placeholder_ids, anonymizes_ip, .. } = *site;
    let terms = DecodeContext { limits, kind: None, placeholder_ids, anonymizes_ip, received_at };
    let JudgedMessages { mut drafts, rejected, .. } = decode::read(message, &terms)
        .map_err(|error| OperatorSendError::Invalid(RequestRejection::from(error).code()))?;
    let draft = match (drafts.pop(), rejected.first()) {
        (Some(draft), None) if drafts.is_empty() => draft,
        (_, Some(rejected)) => return Err(OperatorSendError::Invalid(rejected.reason)),
        _ => return Err(OperatorSendError::Invalid("one_message_expected")),
    };
    let facts =
        EventFacts { format: "admin".to_owned(), from_server: true, ..EventFacts::default() };
    let (has_traits, unread) = (draft.excerpt.has_traits, draft.unread.reasons().collect());
    let observed = RequestFacts {
        gives_each_an_id: false,
        facts,
        is_known: false,
        new_cookie: None,
        client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        new_anonymous_id: None,
        has_unique_ids: true,
        sender: SenderKind::Server,
        anonymizes_ip,
    };
    let completed = observed.complete(draft, site.name);
    let (event, key) = completed.map_err(|(_, reason)| OperatorSendError::Invalid(reason))?;
    Ok(OperatorMessage { event, key, has_traits, unread })
}

/// Returns the event that a message would become at a site. Nothing is stored.
///
/// # Errors
///
/// Returns an error if the message cannot be accepted.
pub fn dry_run_event(
    limits: &GatewayLimits,
    site: &GatewaySiteSettings,
    message: &[u8],
    now: Timestamp,
) -> Result<DryRunEvent, OperatorSendError> {
    let terms = SiteMessageRules {
        name: "",
        limits,
        placeholder_ids: &site.placeholder_ids,
        anonymizes_ip: site.privacy.anonymizes_ip(),
    };
    rehearse_message(&terms, message, now)
}

/// Returns the event that a message would become.
fn rehearse_message(
    terms: &SiteMessageRules<'_>,
    message: &[u8],
    now: Timestamp,
) -> Result<DryRunEvent, OperatorSendError> {
    let OperatorMessage { event, unread, .. } = read(terms, message, head::to_millisecond(now))?;
    let record = serde_json::to_value(&event)
        .map_err(|_impossible| OperatorSendError::Invalid("malformed"))?;
    let event = serde_json::from_value(record);
    let event = event.map_err(|_unreadable| OperatorSendError::Invalid("malformed"))?;
    Ok(DryRunEvent { event, unread })
}

impl GatewaySite {
    fn message_rules<'a>(&'a self, limits: &'a GatewayLimits) -> SiteMessageRules<'a> {
        SiteMessageRules {
            name: &self.name,
            limits,
            placeholder_ids: &self.placeholder_ids,
            anonymizes_ip: self.privacy.anonymizes_ip(),
        }
    }
}

impl Gateway {
    /// Returns the event that a message would become at a site if it was sent now. Nothing is stored.
    ///
    /// # Errors
    ///
    /// Returns an error if the site is unknown, or the message cannot be accepted.
    pub fn dry_run(&self, site: &str, message: &[u8]) -> Result<DryRunEvent, OperatorSendError> {
        let snapshot = self.snapshot.load_full();
        let site = snapshot.named(site).ok_or(OperatorSendError::UnknownSite)?;
        rehearse_message(&site.message_rules(&snapshot.limits), message, self.clock.now())
    }

    /// Accepts a message for a site as if one of its servers had sent it.
    ///
    /// # Errors
    ///
    /// Returns an error if the site is unknown, or the message or its append is refused.
    pub async fn send(
        &self,
        site: &str,
        message: &[u8],
    ) -> Result<OperatorSendReceipt, OperatorSendError> {
        self.send_message(site, message, None).await
    }

    /// Accepts a message for one destination of a site alone, as [`Gateway::send`] does.
    ///
    /// # Errors
    ///
    /// Returns an error if the site is unknown, or the message or its append is refused.
    pub async fn send_test(
        &self,
        site: &str,
        message: &[u8],
        destination: &str,
    ) -> Result<OperatorSendReceipt, OperatorSendError> {
        self.send_message(site, message, Some(destination)).await
    }

    async fn send_message(
        &self,
        site: &str,
        message: &[u8],
        test_of: Option<&str>,
    ) -> Result<OperatorSendReceipt, OperatorSendError> {
        let snapshot = self.snapshot.load_full();
        let site = snapshot.named(site).ok_or(OperatorSendError::UnknownSite)?;
        let received_at = head::to_millisecond(self.clock.now());
        let OperatorMessage { mut event, key, has_traits, unread } =
            read(&site.message_rules(&snapshot.limits), message, received_at)?;
        event.facts.test_of = test_of.map(str::to_owned);
        self.count_unread(site, unread);
        let record = record(site.id, key, &event, has_traits)
            .map_err(|rejection| OperatorSendError::Invalid(rejection.code()))?;
        if self.suppression_list.matches_body(site.id, &record.body) {
            return Err(OperatorSendError::Invalid("forgotten"));
        }
        let entry = self
            .describes_events()
            .then(|| self.describe_event(site, &event, &DraftSummary::default(), received_at));
        let entries: Vec<_> = entry.into_iter().collect();
        let count = following(&self.feed, &entries, self.sent_counter(&site.name));
        let appended = self.journal.append_counted(vec![record], count);
        let appended = appended.await?.first().copied().unwrap_or(AppendOutcome::Duplicate);
        if let AppendOutcome::New { seq } = appended {
            for entry in entries {
                let arrival = (received_at, event.facts.format.as_str());
                self.publish_accepted((&site.name, seq), entry, arrival);
            }
        }
        Ok(OperatorSendReceipt { appended, message_id: event.message_id })
    }
}
