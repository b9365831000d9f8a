//! From judged messages to durable events.

use std::net::IpAddr;

use http::header::USER_AGENT;
use serde_json::value::to_raw_value;
use uuid::Uuid;

use super::answer::Taken;
use super::budget::{AT_ONCE_EVENTS, Share};
use super::clues::Caller;
use super::decode::{Draft, Invalid, Rejected};
use super::rejection::Rejection;
use super::route::Route;
use super::{Arrived, binding, head};
use crate::event::{Event, Facts, Kind, RawObject};
use crate::feed::Happening;
use crate::journal::{AppendError, Appended, MessageKey, MessageScope, NewRecord, SiteId};
use crate::privacy;
use crate::visitor::{self, Leave, Recognised, Seen};

/// Who sends, as far as it is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// Anybody: the visitor is whoever holds the connection.
    Client,
    /// One of the site's servers: the visitor is whoever it says.
    Server,
}

/// The messages of one body.
pub(super) struct Messages {
    /// The write key in the body.
    pub(super) write_key: Option<String>,
    /// Those that passed.
    pub(super) drafts: Vec<Draft>,
    /// Those that did not.
    pub(super) rejected: Vec<Rejected>,
    /// Bytes that came, decompressed.
    pub(super) came: usize,
    /// What they hold of the budget for bodies.
    pub(super) share: Option<Share>,
    /// The body's length, as sent or decompressed, whichever is more.
    pub(super) bytes: usize,
    /// Whether their library promises to know nobody again.
    pub(super) is_anonymous: bool,
    /// True if their ids alone tell them from all others.
    pub(super) has_unique_ids: bool,
}

impl Default for Messages {
    fn default() -> Self {
        Self {
            write_key: None,
            drafts: Vec::new(),
            rejected: Vec::new(),
            came: 0,
            share: None,
            bytes: 0,
            is_anonymous: false,
            has_unique_ids: true,
        }
    }
}

/// What was observed of a request.
pub(super) struct Observed {
    pub(super) facts: Facts,
    /// Whether the request brought the visitor's cookie.
    pub(super) is_known: bool,
    /// The id in the cookie that the answer sets, if the request brought none.
    pub(super) new_cookie: Option<String>,
    /// The client's address.
    pub(super) client: IpAddr,
    /// The id of messages that name nobody.
    pub(super) minted: Option<String>,
    /// True if each message that names nobody has an id of its own: at vendors a server's may be of a group,
    /// or a hit of a visitor who was not known.
    pub(super) names_unknown: bool,
    /// True if the messages' ids alone tell them from all others.
    pub(super) has_unique_ids: bool,
    pub(super) sender: Sender,
    /// True if only the network of an address may be kept.
    pub(super) anonymizes_ip: bool,
}

/// What messages become.
#[derive(Default)]
struct Composed {
    records: Vec<NewRecord>,
    /// Ids and names, for who watches.
    told: Vec<(String, String)>,
    /// What was seen together, to be remembered once it is kept.
    groups: Vec<u64>,
    /// Messages of people who are forgotten.
    forgotten: u64,
}

impl Arrived<'_> {
    /// Completes the messages with what was observed, and appends them. Returns when they are
    /// durable.
    pub(super) async fn accept(
        &self,
        messages: Messages,
        sender: Sender,
    ) -> Result<Taken, Rejection> {
        self.spend_events(sender, messages.drafts.len() + messages.rejected.len())?;
        let Messages {
            mut drafts, mut rejected, came, share, is_anonymous, has_unique_ids, ..
        } = messages;
        let suspicion = match self.caller(sender) {
            Caller::Person(suspicion) => suspicion,
            Caller::Nobody(reason) => {
                self.count_rejected(&rejected);
                for _ in &drafts {
                    self.count_dropped(reason);
                }
                // As if they had been taken: a bot learns nothing, and a browser tries no second time.
                return Ok(Taken::default());
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
        let observed = Observed {
            facts,
            names_unknown: sender == Sender::Server && matches!(self.route, Route::Beacon { .. }),
            is_known,
            new_cookie,
            client,
            minted,
            has_unique_ids,
            sender,
            anonymizes_ip,
        };
        let Composed { records, told, groups, forgotten } =
            self.compose(drafts, &observed, &mut rejected, came).await?;
        self.count_rejected(&rejected);
        self.count_forgotten(forgotten);
        if records.is_empty() && forgotten > 0 {
            // The client did nothing wrong and must not try again. Nor is its cookie made to last.
            return Ok(Taken { rejected, set_cookies: Vec::new() });
        }
        if records.is_empty() {
            return Err(Rejection::NothingValid(rejected));
        }
        // From here on the journal bounds what waits for it.
        drop(share);
        let appended = self.gateway.journal.append_counted(records, self.counter()).await?;
        self.gateway.company.remember(groups);
        for ((message_id, event), appended) in told.into_iter().zip(&appended) {
            let Appended::New { seq } = *appended else { continue };
            self.gateway.feed.tell(|| Happening::Accepted {
                at: self.received_at,
                site: self.site.name.clone(),
                seq,
                message_id,
                event,
                format: self.route.format().to_owned(),
            });
        }
        Ok(Taken { rejected, set_cookies })
    }

    /// The records of messages, each with what was observed of all.
    async fn compose(
        &self,
        drafts: Vec<Draft>,
        observed: &Observed,
        rejected: &mut Vec<Rejected>,
        came: usize,
    ) -> Result<Composed, Rejection> {
        let limits = &self.snapshot.limits;
        let mut composed = Composed::default();
        // What was observed goes into every record, and is bounded as such.
        let mut bytes = 0_usize;
        // Asked once: a watcher who comes in the middle would be told of some events by others' names.
        let is_watched = self.gateway.feed.is_watched();
        for (number, draft) in drafts.into_iter().enumerate() {
            if number % AT_ONCE_EVENTS == AT_ONCE_EVENTS - 1 {
                tokio::task::yield_now().await;
            }
            let (index, has_traits, is_kept) = (draft.index, draft.has_traits, draft.is_kept);
            // A beacon is passed on whole, or not at all.
            if draft.beacon.is_some() && composed.forgotten > 0 {
                composed.forgotten += 1;
                continue;
            }
            let (event, message) = match observed.complete(draft, &self.site.name) {
                Ok(completed) => completed,
                Err((message_id, reason)) => {
                    rejected.push(Rejected { index, message_id: Some(message_id), reason });
                    continue;
                }
            };
            let mut record = record(self.site.id, message, &event, has_traits)?;
            bytes = bytes.saturating_add(record.body.len());
            if bytes > limits.records_of(came, number + 1) {
                return Err(Rejection::TooLarge);
            }
            if self.gateway.forgotten.names_in(self.site.id, &record.body) {
                composed.forgotten += 1;
                continue;
            }
            if !is_kept {
                continue;
            }
            if let Some(group) = self.gateway.company.news(self.site.id, &event) {
                record.identifies = true;
                composed.groups.push(group);
            }
            composed.records.push(record);
            if is_watched {
                composed.told.push((event.message_id.clone(), event.label().to_owned()));
            }
        }
        Ok(composed)
    }

    /// Who the visitor is, for beacons of browsers and for messages that name nobody.
    fn recognise(
        &self,
        drafts: &[Draft],
        sender: Sender,
        is_anonymous: bool,
    ) -> Option<Recognised> {
        if sender == Sender::Server {
            return None;
        }
        let nameless =
            |draft: &Draft| draft.event.anonymous_id.is_none() && draft.event.user_id.is_none();
        let is_browsers_route =
            matches!(self.route, Route::Sdk | Route::Pixel | Route::Beacon { .. });
        let fields = &self.head.headers;
        let is_browser = is_browsers_route && drafts.iter().any(nameless);
        if !is_browser && !head::is_from_page(fields) {
            return None;
        }
        let mut leave = self.leave(drafts);
        let referer = head::referer(fields);
        let page_url = drafts.iter().find_map(|draft| draft.page_url.as_deref());
        let is_of_page = self.is_of_page();
        let cookies = head::cookies(fields);
        // A program's jar would bring the cookie back with the next user's events.
        leave.cookies &=
            is_browser_like(self.route, fields) || self.site.visitor.is_shown_in(&cookies);
        let mut seen = Seen {
            cookies: if is_of_page { &cookies } else { "" },
            host: self.host,
            secure: self.client.secure,
            landing: page_url.or(referer.as_deref()),
            leave: Leave { cookies: leave.cookies && !is_anonymous && is_of_page, ..leave },
            now: self.received_at,
            random: Uuid::new_v4().into_bytes(),
        };
        let recognise = |seen: &Seen<'_>| {
            visitor::recognise(&self.site.visitor, &self.snapshot.vendor_cookies, seen)
        };
        let mut recognised = recognise(&seen);
        if self.names_another(drafts, &recognised) {
            (seen.cookies, seen.leave.cookies) = ("", false);
            recognised = recognise(&seen);
        }
        self.mint(&mut recognised, &seen, drafts);
        Some(recognised)
    }

    /// The categories that the browser's own signals refuse.
    pub(super) fn signalled(&self) -> Vec<&str> {
        let fields = &self.head.headers;
        let (gpc, dnt) = (head::is_one(fields, head::SEC_GPC), head::is_one(fields, head::DNT));
        self.site.privacy.signalled(gpc, dnt).collect()
    }

    /// What the visitor has not refused in any of the messages: they are of one visitor, who may have
    /// changed their mind meanwhile, and a cookie too few is the smaller harm.
    pub(super) fn leave(&self, drafts: &[Draft]) -> Leave {
        let signalled = self.signalled();
        let refuse = |categories: &[String]| {
            if categories.iter().any(|category| signalled.contains(&category.as_str())) {
                return true;
            }
            let mut records = drafts.iter().filter_map(|draft| draft.consent.as_ref());
            records.any(|record| record.refuses(categories))
        };
        let settings = &self.site.visitor;
        Leave {
            cookies: !refuse(settings.cookie_consent()),
            ads: !refuse(settings.click_id_consent()),
        }
    }

    /// The client's address, as far as the site keeps it.
    fn kept_address(&self) -> IpAddr {
        let address = self.client.client;
        if self.site.privacy.anonymizes_ip() { privacy::truncate(address) } else { address }
    }

    /// What was observed, the cookies to set, and the id for messages that name nobody.
    fn facts(
        &self,
        recognised: Option<Recognised>,
        sender: Sender,
    ) -> (Facts, Vec<http::HeaderValue>, Option<String>) {
        let (fields, max) = (&self.head.headers, self.snapshot.limits.field_bytes);
        let format = self.route.format().to_owned();
        if sender == Sender::Server {
            return (Facts { format, from_server: true, ..Facts::default() }, Vec::new(), None);
        }
        let tag = match self.route {
            Route::Beacon { vendor, .. } => Some(vendor.to_owned()),
            _ => None,
        };
        let facts = Facts { format, tag, ..Facts::default() };
        let facts = if self.is_mail_proxy() {
            // Address and browser are the proxy's.
            facts
        } else {
            Facts {
                place: self.snapshot.geo.locate(self.client.client),
                ip: Some(self.kept_address()),
                user_agent: head::user_agent(fields, max),
                language: head::language(fields),
                hints: head::hints(fields, max),
                ..facts
            }
        };
        let mut facts = Facts {
            gpc: head::is_one(fields, head::SEC_GPC),
            dnt: head::is_one(fields, head::DNT),
            ..facts
        };
        let Some(recognised) = recognised else { return (facts, Vec::new(), None) };
        let minted = recognised.visitor.id.clone();
        facts.cookies = recognised.cookies;
        facts.click_ids = recognised.click_ids;
        facts.campaign = recognised.campaign;
        // Without cookies nothing links this request to another, and facts must not pretend so.
        if recognised.is_remembered {
            facts.visitor = Some(recognised.visitor);
            facts.session = Some(recognised.session);
        }
        (facts, recognised.set_cookies, Some(minted))
    }
}

/// True if the sender may be a browser. Libraries of servers and apps send vendors' beacons too, and
/// name neither a page nor themselves as browsers do.
fn is_browser_like(route: Route, fields: &http::HeaderMap) -> bool {
    let is_named_so = || {
        let agent = fields.get(USER_AGENT).map(http::HeaderValue::as_bytes).unwrap_or_default();
        agent.starts_with(b"Mozilla/") || agent.starts_with(b"Opera/")
    };
    !matches!(route, Route::Beacon { .. }) || head::is_of_page(fields) || is_named_so()
}

impl Observed {
    /// The draft as an event of the site, and what makes it a duplicate; or the message's id and why it
    /// cannot be one.
    pub(super) fn complete(
        &self,
        draft: Draft,
        site: &str,
    ) -> Result<(Event<RawObject>, MessageKey), (String, Invalid)> {
        let mut event = draft.event;
        let proven = event.facts.proven;
        event.facts = Facts { proven, ..self.facts.clone() };
        let own_name = binding::stranger(&event, self.client);
        if !self.is_known && event.anonymous_id.is_some() {
            // Where the client has an id, a visitor made just now is most likely made at each of its
            // requests, because it sends no cookies.
            (event.facts.visitor, event.facts.session) = (None, None);
        }
        (event.facts.beacon, event.facts.told) = (draft.beacon, draft.told);
        if let Some(shim) = draft.shim {
            event.facts.tag = Some(shim.to_owned());
        }
        if self.sender == Sender::Server {
            event.facts.ip = draft.ip.filter(|ip| !ip.is_unspecified());
            event.facts.user_agent = draft.user_agent;
        } else if draft.ip.is_some_and(|ip| ip.is_unspecified()) {
            // A program says that its own address and agent are no visitor's.
            (event.facts.ip, event.facts.user_agent) = (None, None);
            (event.facts.place, event.facts.language, event.facts.hints) = (None, None, None);
        }
        if self.anonymizes_ip {
            anonymize(&mut event);
        }
        if event.anonymous_id.is_none() {
            event.anonymous_id.clone_from(&self.minted);
            if self.names_unknown && event.user_id.is_none() {
                event.anonymous_id = Some(Uuid::new_v4().to_string());
            }
            let is_minted = event.anonymous_id.is_some();
            event.facts.passing = is_minted && event.facts.visitor.is_none();
        }
        if event.anonymous_id.is_none() && event.user_id.is_none() {
            return Err((event.message_id, "missing_user_id"));
        }
        let scope = match &event.facts.visitor {
            _ if self.sender == Sender::Server => MessageScope::Servers,
            // A second attempt brings the cookie as well.
            Some(visitor) if self.is_known => MessageScope::Browser(&visitor.id),
            _ => MessageScope::Stranger { name: &own_name, cookie: self.new_cookie.as_deref() },
        };
        let id = if self.has_unique_ids { event.message_id.clone() } else { event_id(&event) };
        let message = MessageKey::in_scope(site, scope, &id);
        Ok((event, message))
    }
}

/// The key of an event whose id does not tell it from others: its name and person besides.
fn event_id(event: &Event<RawObject>) -> String {
    let user_id = event.user_id.as_deref().unwrap_or_default();
    let anonymous_id = event.anonymous_id.as_deref().unwrap_or_default();
    [&event.message_id, event.label(), user_id, anonymous_id].join("\0")
}

/// Cuts every address that an event names to its network.
fn anonymize(event: &mut Event<RawObject>) {
    event.facts.ip = event.facts.ip.map(privacy::truncate);
    let objects = [&mut event.context, &mut event.properties, &mut event.traits];
    for object in objects.into_iter().flatten() {
        if !privacy::may_name_address(object.text()) {
            continue;
        }
        let Ok(mut tree) = object.parse() else { continue };
        if privacy::anonymize(&mut tree)
            && let Ok(raw) = to_raw_value(&tree)
            && let Some(raw) = RawObject::new(&raw)
        {
            *object = raw;
        }
    }
}

pub(super) fn record(
    site: SiteId,
    message: MessageKey,
    event: &Event<RawObject>,
    has_traits: bool,
) -> Result<NewRecord, Rejection> {
    let tells = matches!(event.kind, Kind::Identify | Kind::Group | Kind::Alias);
    Ok(NewRecord {
        site,
        message,
        rank: event.facts.rank(),
        received_at: event.received_at,
        identifies: tells || has_traits || event.user_id.is_some(),
        body: written(event)?,
    })
}

/// An event as the journal keeps it. Its room is made at once: grown step by step, it would take three
/// times as much meanwhile.
fn written(event: &Event<RawObject>) -> Result<Vec<u8>, Rejection> {
    const HEAD_BYTES: usize = 768;
    let objects = [&event.properties, &event.traits, &event.context, &event.integrations];
    let objects = objects.into_iter().flatten().map(|object| object.text().len());
    let beacon = event.facts.beacon.as_ref().map_or(0, |beacon| beacon.body.len());
    let mut body = Vec::with_capacity(objects.sum::<usize>() + beacon + HEAD_BYTES);
    serde_json::to_writer(&mut body, event)
        .map_err(|_impossible| Rejection::Malformed("not JSON"))?;
    Ok(body)
}

impl From<AppendError> for Rejection {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::QueueFull => Self::Busy,
            AppendError::Full => Self::Full,
            AppendError::Unwritable(_) => Self::Unwritable,
            AppendError::Closed => Self::Closing,
        }
    }
}
