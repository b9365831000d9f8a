//! `/{mount}/...`: a vendor's own browser library. Its beacons become canonical messages, which are
//! judged like any client's. The site is known by its host and the page by its origin.
//!
//! The library is answered as by its vendor: whatever the beacon is worth, unless another try may
//! help. Programs, which tell of no page, hear why nothing was taken; and those that show the site's
//! server token, in the head or where the vendor's key stands, are the site's servers.

use std::error::Error;
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

use crate::answer::AnswerBody;
use crate::event::RawBeacon;
use crate::gateway::accept::{Messages, Sender};
use crate::gateway::answer::{self, Taken};
use crate::gateway::body::{self, Received};
use crate::gateway::budget::{AT_ONCE_BYTES, AT_ONCE_EVENTS, Payer, Share};
use crate::gateway::credentials::Key;
use crate::gateway::decode::{self, Draft, Rejected, Terms};
use crate::gateway::mounts::Mount;
use crate::gateway::rejection::Rejection;
use crate::gateway::settings::Limits;
use crate::gateway::snapshot::Snapshot;
use crate::gateway::{Arrived, head};
use crate::privacy::{Consent, Policy};
use crate::vendors::beacon::{Bounds, DecodeError, Inbound, Verdict};
use crate::vendors::wire::MessageBatch;

/// The longest header field that is passed on.
const MAX_FIELD_BYTES: usize = 256;

/// What an inbound request shows but for its body.
struct Outside<'a> {
    head: &'a Parts,
    mount: &'a Mount,
    authority: &'a str,
    received_at: Timestamp,
    secure: bool,
    daily_id: &'a str,
    limits: &'a Limits,
    placeholder_ids: &'a [String],
}

pub(in crate::gateway) async fn answer<B>(
    arrived: &Arrived<'_>,
    mount: &Mount,
    body: B,
) -> Response<AnswerBody>
where
    B: Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Send,
{
    let daily_id = daily_id(arrived);
    let outside = Outside {
        head: arrived.head,
        mount,
        authority: head::authority(&arrived.head.uri, &arrived.head.headers),
        received_at: arrived.received_at,
        secure: arrived.client.secure,
        daily_id: &daily_id,
        limits: &arrived.snapshot.limits,
        placeholder_ids: &arrived.site.placeholder_ids,
    };
    let mut text = Bytes::new();
    let (verdict, taken, mut rejection) = match take(arrived, &outside, body, &mut text).await {
        Ok((events, taken)) => (Verdict::Taken { events }, taken, None),
        Err(rejection) => {
            arrived.count_refused(&rejection);
            (rejection.verdict(), Taken::default(), Some(rejection))
        }
    };
    let said = mount.beacon.answer(&outside.inbound(&text, outside.few()), verdict);
    // A page could only try again, or complain where nobody looks; a program tells its operator.
    if let Some(rejection) = rejection.take_if(|_| {
        let is_lost = matches!(verdict, Verdict::Ignored | Verdict::TooLarge);
        is_lost && said.status.is_success() && !head::is_of_page(&arrived.head.headers)
    }) {
        return rejection.into_response();
    }
    let mut response = answer::vendors(said, taken);
    let is_refusal = response.status().is_client_error() || response.status().is_server_error();
    if let Some(rejection) = rejection.filter(|_| is_refusal) {
        rejection.announce(response.headers_mut());
    }
    response
}

/// Takes the beacon in, and says how many events it brought. Its text is left in `text`.
async fn take<B>(
    arrived: &Arrived<'_>,
    outside: &Outside<'_>,
    body: B,
    text: &mut Bytes,
) -> Result<(usize, Taken), Rejection>
where
    B: Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Send,
{
    let Snapshot { limits, budget, .. } = &**arrived.snapshot;
    let fields = &arrived.head.headers;
    let payer = if Key::in_head(arrived.site, fields).is_servers() {
        Payer::servers(arrived.site.id)
    } else {
        arrived.payer()
    };
    // Any other key in the head is one of the vendor's. No page has the token of servers.
    let (mut sender, mut over) = (None, None);
    if payer.is_servers() {
        arrived.limit_site()?;
        sender = Some(Sender::Server);
    } else if arrived.site.server_token.is_none() || head::is_from_page(fields) {
        arrived.limit()?;
        sender = Some(Sender::Client);
    } else {
        over = arrived.limit_unproven()?;
    }
    if let Some(sender) = sender {
        arrived.check_volume(sender)?;
    }
    let Received { text: received, sent, bytes, share } =
        body::read(body, fields, limits, (budget, payer)).await?;
    let bytes = bytes + arrived.head.uri.query().unwrap_or_default().len();
    let was_spent = sender.is_some();
    if let Some(sender) = sender {
        arrived.spend_bytes(sender, bytes)?;
    }
    *text = received;
    let judged = outside.judge(arrived, text, share, payer).await;
    let sender = match (sender, &judged) {
        (Some(sender), _) => sender,
        (None, Ok(Messages { write_key: Some(key), .. }))
            if Key::of_vendors(arrived.site, key).is_servers() =>
        {
            Sender::Server
        }
        (None, _) => Sender::Client,
    };
    if let Some(limited) = over.filter(|_| sender == Sender::Client) {
        return Err(arrived.site.limited(limited));
    }
    if !was_spent {
        arrived.spend_bytes(sender, bytes)?;
    }
    let mut judged = judged?;
    let is_event = !judged.drafts.is_empty() || !judged.rejected.is_empty();
    // Of a recording it is not known whose it is.
    let passes_on = || outside.passes_on() && arrived.gateway.forgotten.is_empty();
    if !is_event && !passes_on() {
        return Ok((0, Taken::default()));
    }
    judged.has_unique_ids = outside.mount.beacon.has_unique_ids();
    judged.is_anonymous = outside.mount.beacon.is_anonymous(&outside.inbound(text, outside.few()));
    let events = judged.drafts.len();
    if outside.mount.forward.is_some() {
        outside.add_raw(&mut judged, (&sent, text), &arrived.site.privacy, sender);
        arrived.hide_secrets(&mut judged, text);
    }
    Ok((events, arrived.accept(judged, sender).await?))
}

/// Who the visitor is today, as far as address and browser tell.
pub(in crate::gateway) fn daily_id(arrived: &Arrived<'_>) -> String {
    let agent = head::lossy(&arrived.head.headers, USER_AGENT).unwrap_or_default();
    let day = TimeZone::UTC.to_datetime(arrived.received_at).date();
    arrived.site.visitor.daily_id(day, arrived.client.client, &agent)
}

impl Outside<'_> {
    fn inbound<'i>(&'i self, body: &'i [u8], bounds: Bounds) -> Inbound<'i> {
        let uri = &self.head.uri;
        Inbound {
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

    /// Whether a beacon without events is passed on.
    fn passes_on(&self) -> bool {
        let path = self.mount.below(self.head.uri.path()).unwrap_or_default();
        self.mount.forward.is_some() && self.mount.beacon.passes_on(path)
    }

    /// Adds the beacon as it was sent, and drops its messages where they are not wanted.
    /// The key of a server is the site's own, and no vendor's.
    fn add_raw(
        &self,
        judged: &mut Messages,
        (sent, body): (&[u8], &[u8]),
        privacy: &Policy,
        sender: Sender,
    ) {
        let uri = &self.head.uri;
        let text = |name: HeaderName| {
            let value = self.head.headers.get(name)?.to_str().ok()?;
            (value.len() <= MAX_FIELD_BYTES).then(|| value.to_owned())
        };
        let key = self.mount.beacon.key_field().and_then(|name| {
            let value = text(name.clone()).filter(|_| sender == Sender::Client)?;
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
            body: STANDARD.encode(sent),
        };
        let beacon =
            if privacy.changes_beacons() { cleaned(beacon, body, privacy) } else { beacon };
        let index = judged.drafts.len();
        // A message that could not be read may be of somebody who refused.
        let consents = judged.drafts.iter().map(|draft| draft.consent.as_ref());
        let consent = Consent::of_all(consents).filter(|_| judged.rejected.is_empty());
        let first = judged.drafts.first();
        let raw = Draft::of_beacon(index, beacon, first, consent, self.received_at);
        for draft in &mut judged.drafts {
            draft.is_kept = self.mount.converts;
            draft.told = Some(self.mount.vendor.to_owned());
        }
        judged.drafts.push(raw);
    }

    /// The bounds of a beacon that is decoded at once.
    fn few(&self) -> Bounds {
        let bounds = self.bounds(AT_ONCE_BYTES);
        let (events, made) = (bounds.events, bounds.made_bytes);
        let (events, made_bytes) = (events.min(AT_ONCE_EVENTS), made.min(AT_ONCE_BYTES));
        Bounds { events, made_bytes, ..bounds }
    }

    /// The bounds of a beacon that may unpack to so many bytes.
    fn bounds(&self, unpacked_bytes: usize) -> Bounds {
        let limits = self.limits;
        Bounds {
            unpacked_bytes: unpacked_bytes.min(limits.inflated_bytes),
            messages_bytes: limits.inflated_bytes,
            events: limits.batch_events,
            least_event_bytes: limits.least_event_bytes,
            event_bytes: limits.event_bytes,
            made_bytes: limits.made_bytes,
        }
    }

    /// Judges the messages of a beacon: at once if it is small.
    async fn judge(
        &self,
        arrived: &Arrived<'_>,
        text: &Bytes,
        share: Option<Share>,
        payer: Payer,
    ) -> Result<Messages, Rejection> {
        let Snapshot { limits, budget, .. } = &**arrived.snapshot;
        let is_small = share.is_none();
        let judged = match share {
            None => self.judge_within(text, self.few(), None),
            Some(share) => self.judge_aside(arrived, text, share, text.len()).await,
        };
        match judged {
            // More is in it than its length shows.
            Err(error)
                if matches!(error, Rejection::TooLarge) || is_small && error.is_of_size() =>
            {
                let share = budget.take(payer, limits.inflated_bytes, limits).await?;
                self.judge_aside(arrived, text, share, limits.inflated_bytes).await
            }
            judged => judged,
        }
    }

    async fn judge_aside(
        &self,
        arrived: &Arrived<'_>,
        text: &Bytes,
        share: Share,
        unpacked_bytes: usize,
    ) -> Result<Messages, Rejection> {
        let (head, mount, text) = (self.head.clone(), self.mount.clone(), text.clone());
        let (authority, daily_id) = (self.authority.to_owned(), self.daily_id.to_owned());
        let snapshot = Arc::clone(arrived.snapshot);
        let placeholder_ids = Arc::clone(&arrived.site.placeholder_ids);
        let Self { received_at, secure, .. } = *self;
        let work = move |share| {
            let outside = Outside {
                head: &head,
                mount: &mount,
                authority: &authority,
                received_at,
                secure,
                daily_id: &daily_id,
                limits: &snapshot.limits,
                placeholder_ids: &placeholder_ids,
            };
            outside.judge_within(&text, outside.bounds(unpacked_bytes), Some(share))
        };
        share.run(work).await
    }

    fn judge_within(
        &self,
        text: &[u8],
        bounds: Bounds,
        mut share: Option<Share>,
    ) -> Result<Messages, Rejection> {
        let inbound = self.inbound(text, bounds);
        let mut batch = MessageBatch::new(&inbound);
        self.mount.beacon.read(&inbound, &mut batch)?;
        let (came, write_key) = (batch.came(), batch.take_key().map(String::from));
        let (texts, refused) = batch.into_parts();
        let Self { limits, placeholder_ids, received_at, .. } = *self;
        let terms = Terms { limits, kind: None, placeholder_ids, received_at };
        let (drafts, mut rejected) = decode::judge_each(texts, &terms);
        rejected.extend(refused.into_iter().map(|(index, reason)| Rejected {
            index,
            message_id: None,
            reason,
        }));
        if let Some(share) = &mut share {
            share.shrink(came, self.limits);
        }
        Ok(Messages { write_key, drafts, rejected, came, share, ..Messages::default() })
    }
}

/// A beacon without what the site lets nobody have. `body`: decompressed.
fn cleaned(mut beacon: RawBeacon, body: &[u8], privacy: &Policy) -> RawBeacon {
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

impl From<DecodeError> for Rejection {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Malformed(why) => Self::Malformed(why),
            DecodeError::TooMany => Self::TooMany,
            DecodeError::TooLarge => Self::TooLarge,
        }
    }
}
