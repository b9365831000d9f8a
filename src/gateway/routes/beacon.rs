//! `/{mount}/...`: beacons of a vendor's own browser library. They become canonical messages, which are judged like
//! any client's. The site is known by its host and the page by its origin.
//!
//! The library gets its vendor's response, whether the beacon is accepted or not, unless a retry may help.
//! Programs, which name no page, get the reason for a rejection; those that send the site's server token, in the
//! head or where the vendor's key is, are the site's servers.

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, USER_AGENT};
use http::request::Parts;
use http::uri::PathAndQuery;
use hyper::body::Body;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::gateway::accept::{DecodedMessages, SenderKind};
use crate::gateway::answer::{self, AcceptOutcome};
use crate::gateway::body::{self, ReceivedBody};
use crate::gateway::budget::{BudgetOwner, BudgetShare, SMALL_BODY_BYTES, SMALL_BODY_EVENTS};
use crate::gateway::credentials::CredentialCheck;
use crate::gateway::decode::{DecodeContext, JudgedMessages, MessageDraft};
use crate::gateway::mounts::VendorMount;
use crate::gateway::rejection::RequestRejection;
use crate::gateway::settings::GatewayLimits;
use crate::gateway::snapshot::GatewaySnapshot;
use crate::gateway::{SiteRequest, head};
use tagway_core::answer::ResponseBody;
use tagway_core::event::RawBeacon;
use tagway_core::privacy::{ConsentRecord, PrivacyPolicy};
use tagway_vendors::beacon::{BeaconLimits, BeaconOutcome, BeaconRequest};
use tagway_vendors::beacon_format::MessageBatch;

/// The longest header field that is passed on.
const MAX_FIELD_BYTES: usize = 256;

/// The facts of an inbound request besides its body.
struct BeaconRequestHead<'a> {
    head: &'a Parts,
    mount: &'a VendorMount,
    authority: &'a str,
    received_at: Timestamp,
    secure: bool,
    daily_id: &'a str,
    limits: &'a GatewayLimits,
    placeholder_ids: &'a [String],
    anonymizes_ip: bool,
}

/// The body of a beacon.
struct BeaconBody<'b> {
    /// As it was sent.
    sent: &'b [u8],
    /// Decompressed.
    text: &'b [u8],
}

pub(in crate::gateway) async fn answer<B>(
    arrived: &SiteRequest<'_>,
    mount: &VendorMount,
    body: B,
) -> Response<ResponseBody>
where
    B: Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Send,
{
    let daily_id = daily_id(arrived);
    let outside = BeaconRequestHead {
        head: arrived.head,
        mount,
        authority: head::authority(&arrived.head.uri, &arrived.head.headers),
        received_at: arrived.received_at,
        secure: arrived.client.secure,
        daily_id: &daily_id,
        limits: &arrived.snapshot.limits,
        placeholder_ids: &arrived.site.placeholder_ids,
        anonymizes_ip: arrived.site.privacy.anonymizes_ip(),
    };
    let mut text = Bytes::new();
    let (verdict, taken, mut rejection) = match take(arrived, &outside, body, &mut text).await {
        Ok((events, taken)) => (BeaconOutcome::Taken { events }, taken, None),
        Err(rejection) => {
            arrived.count_refused(&rejection);
            (rejection.verdict(), AcceptOutcome::default(), Some(rejection))
        }
    };
    let reply =
        mount.beacon.answer(&outside.inbound(&text, outside.small_beacon_limits()), verdict);
    // A page could only retry, or show the error to no one; a program shows it to its operator.
    if let Some(rejection) = rejection.take_if(|_| {
        let is_lost = matches!(verdict, BeaconOutcome::Ignored | BeaconOutcome::TooLarge);
        is_lost && reply.status.is_success() && !head::is_of_page(&arrived.head.headers)
    }) {
        return rejection.into_response();
    }
    let mut response = answer::vendors(reply, taken);
    let is_refusal = response.status().is_client_error() || response.status().is_server_error();
    if let Some(rejection) = rejection.filter(|_| is_refusal) {
        rejection.announce(response.headers_mut());
    }
    response
}

/// Accepts the beacon, and returns the number of its events. Its text is left in `text`.
async fn take<B>(
    arrived: &SiteRequest<'_>,
    outside: &BeaconRequestHead<'_>,
    body: B,
    text: &mut Bytes,
) -> Result<(usize, AcceptOutcome), RequestRejection>
where
    B: Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Send,
{
    let fields = &arrived.head.headers;
    let payer = if CredentialCheck::in_head(arrived.site, fields).is_servers() {
        BudgetOwner::servers(arrived.site.id)
    } else {
        arrived.budget_owner()
    };
    // Any other key in the head is the vendor's. No page has the server token.
    let (mut sender, mut over) = (None, None);
    if payer.is_servers() {
        arrived.limit_site()?;
        sender = Some(SenderKind::Server);
    } else if arrived.site.server_token.is_none() || head::is_from_page(fields) {
        arrived.limit()?;
        sender = Some(SenderKind::Client);
    } else {
        over = arrived.limit_unverified()?;
    }
    if let Some(sender) = sender {
        arrived.check_volume(sender)?;
    }
    let ReceivedBody { text: received, sent, bytes, share } =
        body::read(body, fields, &arrived.snapshot.limits, arrived.budget_account(payer)).await?;
    let bytes = bytes + arrived.head.uri.query().unwrap_or_default().len();
    let was_spent = sender.is_some();
    if let Some(sender) = sender {
        arrived.spend_bytes(sender, bytes)?;
    }
    *text = received;
    let judged = outside.decode_beacon(arrived, text, share, payer).await;
    let sender = match (sender, &judged) {
        (Some(sender), _) => sender,
        (
            None,
            Ok(DecodedMessages { messages: JudgedMessages { write_key: Some(key), .. }, .. }),
        ) if CredentialCheck::of_vendors(arrived.site, key).is_servers() => SenderKind::Server,
        (None, _) => SenderKind::Client,
    };
    if let Some(limited) = over.filter(|_| sender == SenderKind::Client) {
        return Err(arrived.site.limited(limited));
    }
    if !was_spent {
        arrived.spend_bytes(sender, bytes)?;
    }
    let mut judged = judged?;
    if sender == SenderKind::Server {
        replace_daily_ids(arrived, outside.daily_id, &mut judged.messages.drafts);
    }
    let erased = arrived.take_erasures(&mut judged.messages, outside.mount, sender);
    arrived.erase_people(&erased).await?;
    let is_event = !judged.messages.drafts.is_empty() || !judged.messages.rejected.is_empty();
    // The visitor of a recording is not known.
    let passes_on = || outside.passes_on() && arrived.gateway.suppression_list.is_empty();
    if !is_event && !passes_on() {
        return Ok((0, AcceptOutcome::default()));
    }
    judged.has_unique_ids = outside.mount.beacon.has_unique_ids();
    judged.is_anonymous =
        outside.mount.beacon.is_anonymous(&outside.inbound(text, outside.small_beacon_limits()));
    let events = judged.messages.drafts.len();
    if outside.mount.beacons.forwarding().is_some() {
        let body = BeaconBody { sent: &sent, text };
        outside.add_raw(&mut judged.messages, body, &arrived.site.privacy, sender);
        arrived.hide_secrets(&mut judged.messages, text);
    }
    match arrived.accept(judged, sender).await {
        Err(RequestRejection::NothingValid(rejected)) if !erased.is_empty() => {
            Ok((0, AcceptOutcome { rejected, set_cookies: Vec::new() }))
        }
        taken => Ok((events, taken?)),
    }
}

/// Returns the visitor's id for today, derived from address and browser.
pub(in crate::gateway) fn daily_id(arrived: &SiteRequest<'_>) -> String {
    let agent = head::lossy(&arrived.head.headers, USER_AGENT).unwrap_or_default();
    daily_id_of(arrived, arrived.client.client, &agent)
}

fn daily_id_of(arrived: &SiteRequest<'_>, client: IpAddr, agent: &str) -> String {
    let day = TimeZone::UTC.to_datetime(arrived.received_at).date();
    arrived.site.visitor.daily_id(day, client, agent)
}

/// Replaces the ids that a server's messages have of its own address and browser: by those of the visitor's, where
/// the server names them, else by none.
fn replace_daily_ids(arrived: &SiteRequest<'_>, own: &str, drafts: &mut [MessageDraft]) {
    for draft in drafts {
        if draft.event.anonymous_id.as_deref() == Some(own) {
            let agent = draft.excerpt.user_agent.as_deref().unwrap_or_default();
            let named = draft.excerpt.ip.filter(|ip| !ip.is_unspecified());
            draft.event.anonymous_id = named.map(|ip| daily_id_of(arrived, ip, agent));
        }
    }
}

impl BeaconRequestHead<'_> {
    fn inbound<'i>(&'i self, body: &'i [u8], bounds: BeaconLimits) -> BeaconRequest<'i> {
        let uri = &self.head.uri;
        BeaconRequest {
            method: &self.head.method,
            path: self.mount.below(uri.path()).unwrap_or_default(),
            query: uri.query().unwrap_or_default(),
            headers: &self.head.headers,
            body,
            received_at: self.received_at,
            secure: self.secure,
            authority: self.authority,
            mount: &self.mount.path,
            daily_id: self.daily_id,
            bounds,
        }
    }

    fn terms(&self) -> DecodeContext<'_> {
        let Self { limits, placeholder_ids, anonymizes_ip, received_at, .. } = *self;
        DecodeContext { limits, kind: None, placeholder_ids, anonymizes_ip, received_at }
    }

    /// Returns true if a beacon without events is passed on.
    fn passes_on(&self) -> bool {
        let path = self.mount.below(self.head.uri.path()).unwrap_or_default();
        self.mount.beacons.forwarding().is_some() && self.mount.beacon.is_forwarded(path)
    }

    /// Adds the raw beacon, and drops its messages where they are not wanted. A server's key is the site's own, and
    /// is not passed to a vendor.
    fn add_raw(
        &self,
        judged: &mut JudgedMessages,
        body: BeaconBody<'_>,
        privacy: &PrivacyPolicy,
        sender: SenderKind,
    ) {
        let uri = &self.head.uri;
        let text = |name: HeaderName| {
            let value = self.head.headers.get(name)?.to_str().ok()?;
            (value.len() <= MAX_FIELD_BYTES).then(|| value.to_owned())
        };
        let key = self.mount.beacon.key_field().and_then(|name| {
            let value = text(name.clone()).filter(|_| sender == SenderKind::Client)?;
            Some((name.as_str().to_owned(), value))
        });
        let below = uri.path_and_query().map_or("", PathAndQuery::as_str);
        let beacon = RawBeacon {
            vendor: self.mount.vendor.to_owned(),
            method: self.head.method.to_string(),
            target: self.mount.below(below).unwrap_or_default().to_owned(),
            content_type: text(CONTENT_TYPE),
            content_encoding: text(CONTENT_ENCODING),
            key,
            body: STANDARD.encode(body.sent),
        };
        let beacon = if privacy.changes_beacons() {
            remove_denied_data(beacon, body.text, privacy)
        } else {
            beacon
        };
        let index = judged.drafts.len();
        // A message that could not be read may be of a visitor who refused.
        let consents = judged.drafts.iter().map(|draft| draft.excerpt.consent.as_ref());
        let consent = ConsentRecord::of_all(consents).filter(|_| judged.rejected.is_empty());
        let first = judged.drafts.first();
        let raw = MessageDraft::of_beacon(index, beacon, first, consent, &self.terms());
        for draft in &mut judged.drafts {
            draft.becomes_event = self.mount.beacons.converts();
            draft.forwarded_to = Some(self.mount.vendor.to_owned());
        }
        judged.add(raw);
    }

    /// Returns the limits of a beacon that is decoded at once.
    fn small_beacon_limits(&self) -> BeaconLimits {
        let bounds = self.bounds(SMALL_BODY_BYTES);
        let (events, made) = (bounds.events, bounds.made_bytes);
        let (events, made_bytes) = (events.min(SMALL_BODY_EVENTS), made.min(SMALL_BODY_BYTES));
        BeaconLimits { events, made_bytes, ..bounds }
    }

    /// Returns the limits of a beacon that may unpack to this many bytes.
    fn bounds(&self, unpacked_bytes: usize) -> BeaconLimits {
        let bounds = self.limits.body_limits();
        BeaconLimits { unpacked_bytes: unpacked_bytes.min(bounds.unpacked_bytes), ..bounds }
    }

    /// Judges the messages of a beacon: at once if it is small.
    async fn decode_beacon(
        &self,
        arrived: &SiteRequest<'_>,
        text: &Bytes,
        share: Option<BudgetShare>,
        payer: BudgetOwner,
    ) -> Result<DecodedMessages, RequestRejection> {
        let GatewaySnapshot { limits, budget, .. } = &**arrived.snapshot;
        let is_small = share.is_none();
        let judged = match share {
            None => self.decode_within(text, self.small_beacon_limits(), None),
            Some(share) => self.decode_on_thread(arrived, text, share, text.len()).await,
        };
        match judged {
            // It unpacks to more than its length shows.
            Err(error)
                if matches!(error, RequestRejection::TooLarge)
                    || is_small && error.is_of_size() =>
            {
                let share = budget.take(payer, limits.inflated_bytes, limits).await?;
                self.decode_on_thread(arrived, text, share, limits.inflated_bytes).await
            }
            judged => judged,
        }
    }

    async fn decode_on_thread(
        &self,
        arrived: &SiteRequest<'_>,
        text: &Bytes,
        share: BudgetShare,
        unpacked_bytes: usize,
    ) -> Result<DecodedMessages, RequestRejection> {
        let (head, mount, text) = (self.head.clone(), self.mount.clone(), text.clone());
        let (authority, daily_id) = (self.authority.to_owned(), self.daily_id.to_owned());
        let snapshot = Arc::clone(arrived.snapshot);
        let placeholder_ids = Arc::clone(&arrived.site.placeholder_ids);
        let Self { received_at, secure, anonymizes_ip, .. } = *self;
        let work = move |share| {
            let outside = BeaconRequestHead {
                head: &head,
                mount: &mount,
                authority: &authority,
                received_at,
                secure,
                daily_id: &daily_id,
                limits: &snapshot.limits,
                placeholder_ids: &placeholder_ids,
                anonymizes_ip,
            };
            outside.decode_within(&text, outside.bounds(unpacked_bytes), Some(share))
        };
        share.run(work).await
    }

    fn decode_within(
        &self,
        text: &[u8],
        bounds: BeaconLimits,
        mut share: Option<BudgetShare>,
    ) -> Result<DecodedMessages, RequestRejection> {
        let inbound = self.inbound(text, bounds);
        let terms = self.terms();
        let mut judged = JudgedMessages::default();
        let mut draft = |read| judged.add(terms.draft_read(read));
        let mut batch = MessageBatch::new(&inbound, &mut draft);
        self.mount.beacon.read(&inbound, &mut batch)?;
        let (came, write_key) = (batch.received_bytes(), batch.take_key().map(String::from));
        let (erasures, rejected) = (batch.take_erasures(), batch.into_rejected());
        judged.erasures = erasures;
        judged.write_key = write_key;
        judged.rejected.extend(rejected.into_iter().map(|rejected| terms.shown(rejected)));
        if let Some(share) = &mut share {
            share.shrink(came, self.limits);
        }
        Ok(DecodedMessages { share, ..DecodedMessages::of(judged, came) })
    }
}

/// Removes the data that the site shares with no vendor from a beacon. `body`: decompressed.
fn remove_denied_data(mut beacon: RawBeacon, body: &[u8], privacy: &PrivacyPolicy) -> RawBeacon {
    if let Some(body) = privacy.clean_beacon(body) {
        beacon.body = STANDARD.encode(body);
        beacon.content_encoding = None;
    }
    let query = beacon.target.split_once('?');
    if let Some((path, query)) = query
        && let Some(query) = privacy.clean_query(query)
    {
        beacon.target = format!("{path}?{query}");
    }
    beacon
}
