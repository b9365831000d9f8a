//! Turns judged messages into durable events.

use std::net::IpAddr;

use http::header::USER_AGENT;
use uuid::Uuid;

use super::answer::AcceptOutcome;
use super::bot_policy::CallerClass;
use super::budget::{BudgetShare, SMALL_BODY_EVENTS};
use super::decode::{JudgedMessages, MessageDraft, RejectionCode};
use super::feed_entry::{DraftSummary, FeedEntry, following};
use super::rejection::RequestRejection;
use super::route::GatewayRoute;
use super::{SiteRequest, binding, head};
use tagway_core::event::{Event, EventFacts, EventKind, RawJsonObject};
use tagway_core::privacy::{self, BrowserSignals};
use tagway_core::visitor::{self, RecognisedVisitor, StoragePermissions, VisitorRequest};
use tagway_storage::journal::{
    AppendError, AppendOutcome, MessageKey, MessageScope, NewJournalRecord, SiteId,
};
use tagway_vendors::beacon_format::RejectedMessage;

/// The sender of a request, as far as it is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SenderKind {
    /// Any client: its visitor is the one of the connection.
    Client,
    /// One of the site's servers: its messages name their visitors.
    Server,
}

/// The messages of one body, decoded.
pub(super) struct DecodedMessages {
    /// The messages, judged.
    pub(super) messages: JudgedMessages,
    /// The bytes received, decompressed.
    pub(super) unpacked_bytes: usize,
    /// Their share of the budget for bodies.
    pub(super) share: Option<BudgetShare>,
    /// The length of the body, as sent or decompressed, whichever is more.
    pub(super) bytes: usize,
    /// True if their library promises not to recognise visitors.
    pub(super) is_anonymous: bool,
    /// True if the messages' ids alone tell them from all others.
    pub(super) has_unique_ids: bool,
}

impl DecodedMessages {
    /// Takes judged messages of this many bytes, decompressed.
    pub(super) fn of(messages: JudgedMessages, unpacked_bytes: usize) -> Self {
        Self {
            messages,
            unpacked_bytes,
            share: None,
            bytes: 0,
            is_anonymous: false,
            has_unique_ids: true,
        }
    }
}

/// The gateway's observations of a request.
pub(super) struct RequestFacts {
    pub(super) facts: EventFacts,
    /// True if the request sent the visitor's cookie.
    pub(super) is_known: bool,
    /// The id in the cookie that the response sets, if the request sent none.
    pub(super) new_cookie: Option<String>,
    /// The client's address.
    pub(super) client: IpAddr,
    /// The id for messages that name no person or device.
    pub(super) new_anonymous_id: Option<String>,
    /// True if each message without an id gets one of its own: it may be of a group or an unknown visitor.
    pub(super) gives_each_an_id: bool,
    /// True if the messages' ids alone tell them from all others.
    pub(super) has_unique_ids: bool,
    pub(super) sender: SenderKind,
    /// True if only the network of an address may be kept.
    pub(super) anonymizes_ip: bool,
}

/// The journal records made of messages.
#[derive(Default)]
struct PreparedRecords {
    records: Vec<NewJournalRecord>,
    /// The events for watchers of the live feed and for traces: one for each record, or none at all.
    feed_entries: Vec<FeedEntry>,
    /// The groups of ids seen together, to be remembered once the records are durable.
    groups: Vec<u64>,
    /// The number of messages of forgotten people.
    forgotten: u64,
}

impl SiteRequest<'_> {
    /// Completes the messages with the observations, and appends them. Returns when they are durable.
    pub(super) async fn accept(
        &self,
        messages: DecodedMessages,
        sender: SenderKind,
    ) -> Result<AcceptOutcome, RequestRejection> {
        let DecodedMessages { unpacked_bytes: came, share, is_anonymous, has_unique_ids, .. } =
            messages;
        let JudgedMessages { mut drafts, mut rejected, .. } = messages.messages;
        self.spend_events(sender, drafts.len() + rejected.len())?;
        let suspicion = match self.classify_sender(sender) {
            CallerClass::Person(suspicion) => suspicion,
            CallerClass::Dropped(reason) => {
                self.count_rejected(&rejected);
                for _ in &drafts {
                    self.count_dropped(reason);
                }
                // The response is that of success: a bot learns nothing, and a browser does not retry.
                return Ok(AcceptOutcome::default());
            }
        };
        self.gateway
            .count_unread(self.site, drafts.iter().flat_map(|draft| draft.unread.reasons()));
        self.prove(&mut drafts, sender);
        let recognised = self.recognise(&drafts, sender, is_anonymous);
        let is_known = recognised.as_ref().is_some_and(|it| it.is_known);
        let new = recognised.as_ref().filter(|it| it.is_remembered && !it.is_known);
        let (new_cookie, client) = (new.map(|it| it.visitor.id.clone()), self.client.client);
        let (mut facts, set_cookies, minted) = self.facts(recognised, sender);
        facts.suspicion = suspicion;
        let anonymizes_ip = self.site.privacy.anonymizes_ip();
        let observed = RequestFacts {
            facts,
            gives_each_an_id: sender == SenderKind::Server
                && matches!(self.route, GatewayRoute::Beacon { .. }),
            is_known,
            new_cookie,
            client,
            new_anonymous_id: minted,
            has_unique_ids,
            sender,
            anonymizes_ip,
        };
        let PreparedRecords { records, feed_entries, groups, forgotten } =
            self.compose(drafts, &observed, &mut rejected, came).await?;
        self.count_rejected(&rejected);
        self.count_forgotten(forgotten);
        if records.is_empty() && forgotten > 0 {
            // The client did nothing wrong and must not retry. Nor is its cookie renewed.
            return Ok(AcceptOutcome { rejected, set_cookies: Vec::new() });
        }
        if records.is_empty() {
            return Err(RequestRejection::NothingValid(rejected));
        }
        // From here on the journal limits the records that wait for it.
        drop(share);
        let count = following(&self.gateway.feed, &feed_entries, self.counter());
        let appended = self.gateway.journal.append_counted(records, count).await?;
        self.gateway.identity_groups.remember(groups);
        for (entry, appended) in feed_entries.into_iter().zip(&appended) {
            let AppendOutcome::New { seq } = *appended else { continue };
            let arrival = (self.received_at, self.route.format());
            self.gateway.publish_accepted((&self.site.name, seq), entry, arrival);
        }
        Ok(AcceptOutcome { rejected, set_cookies })
    }

    /// Makes the records of messages, each with the request's observations.
    async fn compose(
        &self,
        drafts: Vec<MessageDraft>,
        observed: &RequestFacts,
        rejected: &mut Vec<RejectedMessage>,
        came: usize,
    ) -> Result<PreparedRecords, RequestRejection> {
        let limits = &self.snapshot.limits;
        let mut composed = PreparedRecords::default();
        // The observations go into every record, and count towards its limit.
        let mut bytes = 0_usize;
        // Checked once: otherwise a watcher who connects in between would get events under others' names.
        let is_described = self.gateway.describes_events();
        for (number, draft) in drafts.into_iter().enumerate() {
            if number % SMALL_BODY_EVENTS == SMALL_BODY_EVENTS - 1 {
                tokio::task::yield_now().await;
            }
            let (index, has_traits, is_kept) =
                (draft.index, draft.excerpt.has_traits, draft.becomes_event);
            // A beacon is passed on whole, or not at all.
            if draft.beacon.is_some() && composed.forgotten > 0 {
                composed.forgotten += 1;
                continue;
            }
            let summary = is_described.then(|| DraftSummary::of(&draft));
            let (event, message) = match observed.complete(draft, &self.site.name) {
                Ok(completed) => completed,
                Err((message_id, reason)) => {
                    rejected.push(RejectedMessage { index, message_id: Some(message_id), reason });
                    continue;
                }
            };
            let mut record = record(self.site.id, message, &event, has_traits)?;
            bytes = bytes.saturating_add(record.body.len());
            if bytes > limits.records_of(came, number + 1) {
                return Err(RequestRejection::TooLarge);
            }
            if self.gateway.suppression_list.matches_body(self.site.id, &record.body) {
                composed.forgotten += 1;
                continue;
            }
            if !is_kept {
                continue;
            }
            if let Some(group) = self.gateway.identity_groups.find_new_group(self.site.id, &event) {
                record.identifies = true;
                composed.groups.push(group);
            }
            composed.records.push(record);
            if let Some(summary) = summary {
                let now = self.received_at;
                let entry = self.gateway.describe_event(self.site, &event, &summary, now);
                composed.feed_entries.push(entry);
            }
        }
        Ok(composed)
    }

    /// Recognises the visitor, for beacons of browsers and for messages without an id.
    fn recognise(
        &self,
        drafts: &[MessageDraft],
        sender: SenderKind,
        is_anonymous: bool,
    ) -> Option<RecognisedVisitor> {
        if sender == SenderKind::Server {
            return None;
        }
        let nameless = |draft: &MessageDraft| {
            draft.event.anonymous_id.is_none() && draft.event.user_id.is_none()
        };
        let is_browsers_route = matches!(
            self.route,
            GatewayRoute::Sdk | GatewayRoute::Pixel | GatewayRoute::Beacon { .. }
        );
        let fields = &self.head.headers;
        let is_browser = is_browsers_route && drafts.iter().any(nameless);
        if !is_browser && !head::is_from_page(fields) {
            return None;
        }
        let mut leave = self.storage_permissions(drafts);
        let referer = head::referer(fields);
        let page_url = drafts.iter().find_map(|draft| draft.excerpt.page_url.as_deref());
        let is_of_page = self.is_of_page();
        let cookies = head::cookies(fields);
        // A program's cookie jar would send the cookie again with the next user's events.
        leave.cookies &=
            is_browser_like(self.route, fields) || self.site.visitor.is_shown_in(&cookies);
        let mut visitor_request = VisitorRequest {
            cookies: if is_of_page { &cookies } else { "" },
            host: self.host,
            secure: self.client.secure,
            page_url: page_url.or(referer.as_deref()),
            permissions: StoragePermissions {
                cookies: leave.cookies && !is_anonymous && is_of_page,
                ..leave
            },
            now: self.received_at,
            random: Uuid::new_v4().into_bytes(),
        };
        let recognise = |visitor_request: &VisitorRequest<'_>| {
            visitor::recognise(&self.site.visitor, &self.snapshot.vendor_cookies, visitor_request)
        };
        let mut recognised = recognise(&visitor_request);
        if self.names_other_visitor(drafts, &recognised) {
            (visitor_request.cookies, visitor_request.permissions.cookies) = ("", false);
            recognised = recognise(&visitor_request);
        }
        self.issue_vendor_cookies(&mut recognised, &visitor_request, drafts);
        Some(recognised)
    }

    /// Returns the browser's own privacy signals.
    fn signals(&self) -> BrowserSignals {
        BrowserSignals::read(&self.head.headers)
    }

    /// Returns the categories that the browser's own signals refuse.
    pub(super) fn refused_by_signals(&self) -> Vec<&str> {
        self.site.privacy.refused_by_signals(self.signals()).collect()
    }

    /// Returns the storage that the visitor refused in none of the messages: they are of one visitor, who may have
    /// changed the choice meanwhile, and a missing cookie is the lesser harm.
    pub(super) fn storage_permissions(&self, drafts: &[MessageDraft]) -> StoragePermissions {
        let signalled = self.refused_by_signals();
        let refuse = |categories: &[String]| {
            if categories.iter().any(|category| signalled.contains(&category.as_str())) {
                return true;
            }
            let mut records = drafts.iter().filter_map(|draft| draft.excerpt.consent.as_ref());
            records.any(|record| record.refuses(categories))
        };
        let settings = &self.site.visitor;
        StoragePermissions {
            cookies: !refuse(settings.cookie_consent()),
            click_ids: !refuse(settings.click_id_consent()),
        }
    }

    /// Returns the client's address, truncated if the site requires it.
    fn kept_address(&self) -> IpAddr {
        let address = self.client.client;
        if self.site.privacy.anonymizes_ip() { privacy::truncate(address) } else { address }
    }

    /// Returns the observations, the cookies to set, and the id for messages without one.
    fn facts(
        &self,
        recognised: Option<RecognisedVisitor>,
        sender: SenderKind,
    ) -> (EventFacts, Vec<http::HeaderValue>, Option<String>) {
        let (fields, max) = (&self.head.headers, self.snapshot.limits.field_bytes);
        let format = self.route.format().to_owned();
        if sender == SenderKind::Server {
            return (
                EventFacts { format, from_server: true, ..EventFacts::default() },
                Vec::new(),
                None,
            );
        }
        let tag = match self.route {
            GatewayRoute::Beacon { vendor, .. } => Some(vendor.to_owned()),
            _ => None,
        };
        let facts = EventFacts { format, tag, ..EventFacts::default() };
        let mut facts = if self.is_mail_proxy() {
            // Address and browser are the proxy's.
            facts
        } else {
            EventFacts {
                place: self.snapshot.geo.locate(self.client.client),
                ip: Some(self.kept_address()),
                user_agent: head::user_agent(fields, max),
                language: head::language(fields),
                hints: head::hints(fields, max),
                ..facts
            }
        };
        self.signals().record(&mut facts);
        let Some(recognised) = recognised else { return (facts, Vec::new(), None) };
        let minted = recognised.visitor.id.clone();
        facts.cookies = recognised.cookies;
        facts.click_ids = recognised.click_ids;
        facts.campaign = recognised.campaign;
        // Without cookies nothing links this request to another, so the facts name no visitor.
        if recognised.is_remembered {
            facts.visitor = Some(recognised.visitor);
            facts.session = Some(recognised.session);
        }
        (facts, recognised.set_cookies, Some(minted))
    }
}

/// Returns true if the sender may be a browser. Libraries of servers and apps send vendors' beacons too, but send
/// neither a page nor a browser's user agent.
fn is_browser_like(route: GatewayRoute, fields: &http::HeaderMap) -> bool {
    let is_named_so = || {
        let agent = fields.get(USER_AGENT).map(http::HeaderValue::as_bytes).unwrap_or_default();
        agent.starts_with(b"Mozilla/") || agent.starts_with(b"Opera/")
    };
    !matches!(route, GatewayRoute::Beacon { .. }) || head::is_of_page(fields) || is_named_so()
}

impl RequestFacts {
    /// Returns the draft as an event of the site with its deduplication key; or the message's id and the reason for
    /// its rejection.
    pub(super) fn complete(
        &self,
        draft: MessageDraft,
        site: &str,
    ) -> Result<(Event<RawJsonObject>, MessageKey), (String, RejectionCode)> {
        let mut event = draft.event;
        let proven = event.facts.proven;
        event.facts = EventFacts { proven, ..self.facts.clone() };
        let own_name = binding::sender_name(&event, self.client);
        if !self.is_known && event.anonymous_id.is_some() {
            // A client with an id of its own but no cookie probably sends none with any request, so a visitor
            // created now would be a new one each time.
            (event.facts.visitor, event.facts.session) = (None, None);
        }
        (event.facts.beacon, event.facts.forwarded_to) = (draft.beacon, draft.forwarded_to);
        if let Some(shim) = draft.shim {
            event.facts.tag = Some(shim.to_owned());
        }
        if self.sender == SenderKind::Server {
            event.facts.ip = draft.excerpt.ip.filter(|ip| !ip.is_unspecified());
            event.facts.user_agent = draft.excerpt.user_agent;
        } else if draft.excerpt.ip.is_some_and(|ip| ip.is_unspecified()) {
            // The program declares that its own address and user agent are no visitor's.
            (event.facts.ip, event.facts.user_agent) = (None, None);
            (event.facts.place, event.facts.language, event.facts.hints) = (None, None, None);
        }
        if self.anonymizes_ip {
            event.facts.ip = event.facts.ip.map(privacy::truncate);
        }
        if event.anonymous_id.is_none() {
            event.anonymous_id.clone_from(&self.new_anonymous_id);
            if self.gives_each_an_id && event.user_id.is_none() {
                event.anonymous_id = Some(Uuid::new_v4().to_string());
            }
            let is_minted = event.anonymous_id.is_some();
            event.facts.ephemeral_id = is_minted && event.facts.visitor.is_none();
        }
        if event.anonymous_id.is_none() && event.user_id.is_none() {
            return Err((event.message_id, "missing_user_id"));
        }
        let scope = match &event.facts.visitor {
            _ if self.sender == SenderKind::Server => MessageScope::Servers,
            // A retry sends the cookie as well.
            Some(visitor) if self.is_known => MessageScope::Browser(&visitor.id),
            _ => MessageScope::Stranger { name: &own_name, cookie: self.new_cookie.as_deref() },
        };
        let id = if self.has_unique_ids { event.message_id.clone() } else { event_id(&event) };
        let message = MessageKey::in_scope(site, scope, &id);
        Ok((event, message))
    }
}

/// Returns the key of an event whose id alone does not identify it: its name and person are added.
fn event_id(event: &Event<RawJsonObject>) -> String {
    let user_id = event.user_id.as_deref().unwrap_or_default();
    let anonymous_id = event.anonymous_id.as_deref().unwrap_or_default();
    [&event.message_id, event.label(), user_id, anonymous_id].join("\0")
}

pub(super) fn record(
    site: SiteId,
    message: MessageKey,
    event: &Event<RawJsonObject>,
    has_traits: bool,
) -> Result<NewJournalRecord, RequestRejection> {
    let tells = matches!(event.kind, EventKind::Identify | EventKind::Group | EventKind::Alias);
    Ok(NewJournalRecord {
        site,
        message,
        rank: event.facts.rank(),
        received_at: event.received_at,
        identifies: tells || has_traits || event.user_id.is_some(),
        body: written(event)?,
    })
}

/// Serialises an event as the journal stores it. The buffer is allocated at once: growing it step by step would
/// take three times as much memory meanwhile.
fn written(event: &Event<RawJsonObject>) -> Result<Vec<u8>, RequestRejection> {
    const HEAD_BYTES: usize = 768;
    let objects = [&event.properties, &event.traits, &event.context, &event.integrations];
    let objects = objects.into_iter().flatten().map(|object| object.text().len());
    let beacon = event.facts.beacon.as_ref().map_or(0, |beacon| beacon.body.len());
    let mut body = Vec::with_capacity(objects.sum::<usize>() + beacon + HEAD_BYTES);
    serde_json::to_writer(&mut body, event)
        .map_err(|_impossible| RequestRejection::Malformed("not JSON"))?;
    Ok(body)
}

impl From<AppendError> for RequestRejection {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::QueueFull => Self::Busy,
            AppendError::Full => Self::Full,
            AppendError::Unwritable(_) => Self::Unwritable,
            AppendError::Closed => Self::Closing,
        }
    }
}
