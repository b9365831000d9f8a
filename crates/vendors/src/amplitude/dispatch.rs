//! The delivery of a batch: uploads as large as Amplitude takes them, sent again without the events that a
//! reply names, then the forms.

use std::collections::HashMap;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Uri};
use url::form_urlencoded;

use super::identity::AmplitudeIds;
use super::map::{AmplitudeFormKind, AmplitudePayload, MAX_GROUP_PROPERTIES};
use super::reply_status::{self, AmplitudeOutcome};
use super::settings::{AmplitudeSettings, AmplitudeUploadApi};
use crate::{Outcome, OutcomeReason, VendorCall};
use tagway_core::event::EnrichedEvent;

/// The limits of one request. The documented limits are 1 MB and less than 2000 events, and 20 MB and 2000
/// events; batches of 4 MB use less memory, and the additional calls are negligible.
const HTTP_LIMITS: AmplitudeLimits = AmplitudeLimits { bytes: 1_000_000, events: 1000 };
const BATCH_LIMITS: AmplitudeLimits = AmplitudeLimits { bytes: 4_000_000, events: 2000 };

/// The limits of one form in bytes and entries (Group Identify API).
const FORM_BYTES: usize = 1_000_000;
const FORM_ENTRIES: usize = 1024;

/// The most times one upload is sent without the events that its reply names. HTTP V2 names only the first
/// bad event of each field; beyond this, halving the batch is faster.
const MAX_ROUNDS: usize = 8;

/// The bytes of a form besides its entries: the names of its fields, and the key.
const FORM_ROOM: usize = 300;

/// The limits of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct AmplitudeLimits {
    pub(super) bytes: usize,
    pub(super) events: usize,
}

/// Returns the limits of the endpoint in use.
pub(super) fn limits(settings: &AmplitudeSettings) -> AmplitudeLimits {
    match settings.api {
        AmplitudeUploadApi::Http => HTTP_LIMITS,
        AmplitudeUploadApi::Batch => BATCH_LIMITS,
    }
}

/// Returns true if it is too large for any request.
pub(super) fn is_too_large(hit: &AmplitudePayload, settings: &AmplitudeSettings) -> bool {
    let room = room(settings);
    let is_long = |upload: &String| upload.len() > room;
    let form = hit.form.as_ref().map_or(0, |form| encoded_len(&form.text));
    hit.uploads.iter().any(is_long) || form + FORM_ROOM > FORM_BYTES
}

/// One event of Amplitude's, and the index of its event in the batch.
#[derive(Clone, Copy)]
struct AmplitudeUploadItem<'d> {
    event: usize,
    ids: &'d AmplitudeIds,
    text: &'d str,
}

/// One entry of a form, and the index of its event in the batch.
struct AmplitudeFormItem<'d> {
    event: usize,
    text: &'d str,
    properties: usize,
    bytes: usize,
}

/// A batch, and the outcomes of its events so far.
pub(super) struct AmplitudeBatchRun<'d> {
    settings: &'d AmplitudeSettings,
    batch: &'d [EnrichedEvent],
    call: &'d dyn VendorCall,
    /// The worst outcome of each event; `None` at the end means delivered.
    outcomes: Vec<Option<Outcome>>,
    /// The visitors that Amplitude throttles, with the outcome: their later events wait as well.
    throttled: HashMap<&'d str, Outcome>,
    /// The outcome of the failed call after which nothing more is sent.
    stopped: Option<Outcome>,
}

impl<'d> AmplitudeBatchRun<'d> {
    pub(super) fn new(
        settings: &'d AmplitudeSettings,
        batch: &'d [EnrichedEvent],
        call: &'d dyn VendorCall,
    ) -> Self {
        let (outcomes, held) = (vec![None; batch.len()], HashMap::new());
        Self { settings, batch, call, outcomes, throttled: held, stopped: None }
    }

    /// Sends everything; `hits` are those of the batch, in its order.
    pub(super) async fn run(
        mut self,
        hits: &[Result<&'d AmplitudePayload, Outcome>],
    ) -> Vec<Outcome> {
        for (event, hit) in hits.iter().enumerate() {
            if let Err(refusal) = hit {
                self.note(event, refusal.clone());
            }
        }
        let hits: Vec<Option<&AmplitudePayload>> =
            hits.iter().map(|hit| hit.as_ref().ok().copied()).collect();
        self.upload(&hits).await;
        for kind in [AmplitudeFormKind::Group, AmplitudeFormKind::Mapping] {
            self.forms(&hits, kind).await;
        }
        self.outcomes.into_iter().map(|outcome| outcome.unwrap_or(Outcome::Delivered)).collect()
    }

    async fn upload(&mut self, hits: &[Option<&'d AmplitudePayload>]) {
        let (limits, room) = (limits(self.settings), room(self.settings));
        let mut pieces = pieces(hits).into_iter().peekable();
        while pieces.peek().is_some() {
            let (mut together, mut bytes) = (Vec::new(), 0);
            while let Some(piece) = pieces.next_if(|piece: &AmplitudeUploadItem<'_>| {
                let fits = bytes + piece.text.len() < room && together.len() < limits.events;
                fits || together.is_empty()
            }) {
                bytes += piece.text.len() + 1;
                together.push(piece);
            }
            together.retain(|piece| self.can_send(piece.event));
            if !together.is_empty() {
                self.send(together).await;
            }
        }
    }

    /// Sends one upload, and again without the events that the reply names.
    async fn send(&mut self, mut together: Vec<AmplitudeUploadItem<'d>>) {
        for _ in 0..MAX_ROUNDS {
            let ids: Vec<&AmplitudeIds> = together.iter().map(|piece| piece.ids).collect();
            let result = self.call.call(upload_request(self.settings, &together)).await;
            match reply_status::read(&result, &ids, self.call.now(), self.settings) {
                AmplitudeOutcome::Whole(outcome) => {
                    for piece in &together {
                        self.note(piece.event, outcome.clone());
                    }
                    return self.stop_if_down(outcome);
                }
                AmplitudeOutcome::Parted(outcomes) => {
                    let mut rest = Vec::with_capacity(together.len());
                    for (piece, outcome) in together.into_iter().zip(outcomes) {
                        match outcome {
                            Some(outcome) => self.note(piece.event, outcome),
                            None if self.can_send(piece.event) => rest.push(piece),
                            None => {}
                        }
                    }
                    together = rest;
                }
            }
            if together.is_empty() {
                return;
            }
        }
        for piece in together {
            self.note(piece.event, Outcome::Refused(OutcomeReason::new("many_faults")));
        }
    }

    /// Sends the forms of one kind.
    async fn forms(&mut self, hits: &[Option<&'d AmplitudePayload>], kind: AmplitudeFormKind) {
        let mut forms = entries(hits, kind).into_iter().peekable();
        while forms.peek().is_some() {
            let (mut events, mut texts) = (Vec::new(), Vec::new());
            let (mut bytes, mut properties) = (FORM_ROOM, 0);
            while let Some(entry) = forms.next_if(|entry: &AmplitudeFormItem<'_>| {
                let fits = bytes + entry.bytes <= FORM_BYTES
                    && properties + entry.properties <= MAX_GROUP_PROPERTIES
                    && texts.len() < FORM_ENTRIES;
                fits || texts.is_empty()
            }) {
                if self.can_send(entry.event) {
                    bytes += entry.bytes;
                    properties += entry.properties;
                    events.push(entry.event);
                    texts.push(entry.text);
                }
            }
            if texts.is_empty() {
                continue;
            }
            let Some(request) = form_request(self.settings, kind, &texts) else { return };
            let result = self.call.call(request).await;
            let outcome = reply_status::read_form(&result, self.call.now(), self.settings);
            for event in events {
                self.note(event, outcome.clone());
            }
            self.stop_if_down(outcome);
        }
    }

    /// Returns true if more of this event is to be sent. Records the outcome of an event that waits behind
    /// another of its visitor, or behind a failed call.
    fn can_send(&mut self, event: usize) -> bool {
        if self.outcomes.get(event).is_some_and(Option::is_some) {
            return false;
        }
        if let Some(outcome) = self.stopped.clone() {
            self.note(event, outcome);
            return false;
        }
        let before = self.key(event).and_then(|key| self.throttled.get(key)).cloned();
        let is_free = before.is_none();
        if let Some(outcome) = before {
            self.note(event, outcome);
        }
        is_free
    }

    fn key(&self, event: usize) -> Option<&'d str> {
        self.batch.get(event).map(|event| event.event.order_key())
    }

    /// Records the worse of an event's outcome so far and this one.
    fn note(&mut self, event: usize, outcome: Outcome) {
        if let (Outcome::Throttled { .. }, Some(key)) = (&outcome, self.key(event)) {
            self.throttled.entry(key).or_insert_with(|| outcome.clone());
        }
        let Some(slot) = self.outcomes.get_mut(event) else { return };
        let is_worse = slot.as_ref().is_none_or(|known| severity(&outcome) > severity(known));
        if outcome != Outcome::Delivered && is_worse {
            *slot = Some(outcome);
        }
    }

    /// Stops after a call that failed as a whole: the next would fail as well, and could overtake it.
    fn stop_if_down(&mut self, outcome: Outcome) {
        if matches!(outcome, Outcome::Retry { .. } | Outcome::Unauthorised(_)) {
            self.stopped.get_or_insert(outcome);
        }
    }
}

/// Returns all uploads of these events, in their order.
fn pieces<'d>(hits: &[Option<&'d AmplitudePayload>]) -> Vec<AmplitudeUploadItem<'d>> {
    let mut pieces = Vec::with_capacity(hits.len());
    for (event, hit) in hits.iter().enumerate() {
        let Some(hit) = hit else { continue };
        let of_hit =
            hit.uploads.iter().map(|text| AmplitudeUploadItem { event, ids: &hit.ids, text });
        pieces.extend(of_hit);
    }
    pieces
}

/// Returns all entries of forms of this kind, in their order.
fn entries<'d>(
    hits: &[Option<&'d AmplitudePayload>],
    kind: AmplitudeFormKind,
) -> Vec<AmplitudeFormItem<'d>> {
    let entry = |(event, hit): (usize, &Option<&'d AmplitudePayload>)| {
        let form = (*hit)?.form.as_ref().filter(|form| form.kind == kind)?;
        let (text, properties) = (form.text.as_str(), form.properties);
        Some(AmplitudeFormItem { event, text, properties, bytes: encoded_len(text) })
    };
    hits.iter().enumerate().filter_map(entry).collect()
}

/// Returns the severity of an outcome: an event of several parts ends as the worst of them.
fn severity(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Delivered | Outcome::Skipped(_) => 0,
        Outcome::Dead(_) => 1,
        Outcome::Refused(_) => 2,
        Outcome::Throttled { .. } => 3,
        Outcome::Retry { .. } => 4,
        Outcome::Unauthorised(_) => 5,
    }
}

/// Returns the text before and after the events of an upload. It allows ids of one character: shops count
/// their customers from 1.
fn envelope(settings: &AmplitudeSettings) -> (String, &'static str) {
    let key = serde_json::Value::from(settings.api_key.expose());
    (format!("{{\"api_key\":{key},\"events\":["), "],\"options\":{\"min_id_length\":1}}")
}

/// Returns the bytes for events, commas included, in one upload.
fn room(settings: &AmplitudeSettings) -> usize {
    let (before, after) = envelope(settings);
    limits(settings).bytes.saturating_sub(before.len() + after.len())
}

fn upload_request(
    settings: &AmplitudeSettings,
    pieces: &[AmplitudeUploadItem<'_>],
) -> Request<Bytes> {
    let (mut body, after) = envelope(settings);
    let bytes: usize = pieces.iter().map(|piece| piece.text.len() + 1).sum();
    body.reserve_exact(bytes + after.len());
    for (index, piece) in pieces.iter().enumerate() {
        if index > 0 {
            body.push(',');
        }
        body.push_str(piece.text);
    }
    body.push_str(after);
    request(&settings.upload, "application/json", body)
}

fn form_request(
    settings: &AmplitudeSettings,
    kind: AmplitudeFormKind,
    entries: &[&str],
) -> Option<Request<Bytes>> {
    let (uri, field) = match kind {
        AmplitudeFormKind::Group => (Some(&settings.group_identify), "identification"),
        AmplitudeFormKind::Mapping => (settings.user_map.as_ref(), "mapping"),
    };
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("api_key", settings.api_key.expose());
    form.append_pair(field, &format!("[{}]", entries.join(",")));
    Some(request(uri?, "application/x-www-form-urlencoded", form.finish()))
}

fn request(uri: &Uri, content_type: &'static str, body: String) -> Request<Bytes> {
    let mut request = Request::new(Bytes::from(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.clone();
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    request
}

/// Returns the bytes of a text in a form, its comma or bracket included.
fn encoded_len(text: &str) -> usize {
    form_urlencoded::byte_serialize(text.as_bytes()).map(str::len).sum::<usize>() + 3
}
