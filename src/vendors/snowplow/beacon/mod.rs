//! The collector's endpoints: payloads of strings by POST, many in an envelope, or one in the query of
//! a GET. Failed payloads stay in the tracker's storage and come again with the next page.
//!
//! With `SP-Anonymous` the site forbids to know the visitor again: the ids of such payloads are
//! forgotten, and the visitor has a name for this day only.

mod commerce;
mod enhanced;
mod entities;
mod event;
mod payload;
mod schema;

use std::collections::{BTreeMap, BTreeSet};

use memchr::memmem;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::event::Object;
use crate::vendors::beacon::{Answer, Beacon, DecodeError, Inbound, Methods, Verdict};
use crate::vendors::wire::{self, Fields, MessageBatch};
use event::Client;
use payload::Payload;

pub(super) struct Snowplow;

/// The longest part of a path that a site gives its collector.
const MAX_PART_BYTES: usize = 64;

/// What a path below the mount is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    /// Payloads in a body, or one in the query.
    Payloads,
    /// A payload in the query of an image.
    Image,
    /// An event of any schema, without a tracker.
    Iglu,
    /// Whether the collector is there.
    Health,
}

impl Endpoint {
    fn of(path: &str) -> Option<Self> {
        let path = path.strip_suffix('/').unwrap_or(path);
        match path {
            "/i" | "/ice.png" => return Some(Self::Image),
            "/com.snowplowanalytics.iglu/v1" => return Some(Self::Iglu),
            "/health" => return Some(Self::Health),
            _ => {}
        }
        // Sites give their collectors paths of their own, of this form.
        let (vendor, version) = path.strip_prefix('/')?.split_once('/')?;
        let is_redirect = vendor == "r";
        (!is_redirect && is_part(vendor) && is_part(version)).then_some(Self::Payloads)
    }
}

fn is_part(part: &str) -> bool {
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'~');
    (1..=MAX_PART_BYTES).contains(&part.len()) && part.bytes().all(is_plain)
}

impl Beacon for Snowplow {
    fn endpoint(&self, path: &str) -> Option<Methods> {
        match Endpoint::of(path)? {
            Endpoint::Image | Endpoint::Health => Some(Methods::Get),
            Endpoint::Payloads | Endpoint::Iglu => Some(Methods::Both),
        }
    }

    fn read(&self, inbound: &Inbound<'_>, batch: &mut MessageBatch) -> Result<(), DecodeError> {
        let is_anonymous = inbound.headers.contains_key("sp-anonymous");
        let client = Client { daily_id: is_anonymous.then_some(inbound.daily_id) };
        match Endpoint::of(inbound.path) {
            None | Some(Endpoint::Health) => return Ok(()),
            Some(Endpoint::Iglu) => {
                batch.extend(event::message(&mut iglu(inbound)?, Vec::new(), client))?;
            }
            Some(Endpoint::Image | Endpoint::Payloads) if inbound.body.is_empty() => {
                let mut payload = Payload::of_query(inbound.query, inbound.bounds);
                batch.extend(event::message(&mut payload, Vec::new(), client))?;
            }
            Some(Endpoint::Image | Endpoint::Payloads) => payloads(inbound, client, batch)?,
        }
        if batch.is_empty() { Err(DecodeError::Malformed("there is no event")) } else { Ok(()) }
    }

    fn is_anonymous(&self, inbound: &Inbound<'_>) -> bool {
        inbound.headers.contains_key("sp-anonymous")
    }

    fn answer(&self, inbound: &Inbound<'_>, verdict: Verdict) -> Answer {
        match (Endpoint::of(inbound.path), verdict) {
            (Some(Endpoint::Health), _) => Answer::text("ok"),
            (_, Verdict::Later { limited }) => Answer::later(limited),
            _ if inbound.method == http::Method::GET => Answer::gif(),
            // Upon 413 the trackers of servers send the same again for ever, before anything else.
            (_, Verdict::TooLarge) if !inbound.is_of_page() => Answer {
                status: http::StatusCode::UNPROCESSABLE_ENTITY,
                ..Answer::text("the request is too large")
            },
            // One that is too long is called a success: it would come again for ever.
            _ => Answer::text("ok"),
        }
    }
}

/// Adds the messages of the payloads in an envelope. Items of an old transaction that comes with them
/// become its products.
fn payloads(
    inbound: &Inbound<'_>,
    client: Client<'_>,
    batch: &mut MessageBatch,
) -> Result<(), DecodeError> {
    let Some([data]) = wire::members(inbound.body, ["data"]) else {
        return Err(DecodeError::Malformed("the body is not a JSON object"));
    };
    let data = data.filter(|data| wire::is_json(data));
    let data = data.ok_or(DecodeError::Malformed("the envelope has no data"))?;
    let records = wire::records(data, &inbound.bounds)?;
    let mut orders = Orders::find(data, &records);
    for (place, record) in records.iter().enumerate() {
        if orders.items.contains(&place) {
            continue;
        }
        let items = orders.of.remove(&place).unwrap_or_default();
        let texts = items.iter().chain([record]).map(|record| record.get().as_bytes());
        if !wire::fits(texts, &inbound.bounds) {
            batch.refuse("too_large");
            continue;
        }
        let mut payload = |record: &RawValue| {
            let fields = batch.object(record)?;
            Some(Payload::of(fields, inbound.bounds))
        };
        let products = items.iter().filter_map(|item| payload(item));
        let products = products.map(|mut item| Value::Object(commerce::item(&mut item)));
        let products = products.collect();
        if let Some(mut payload) = payload(record) {
            batch.extend(event::message(&mut payload, products, client))?;
        }
    }
    Ok(())
}

/// The old transactions of an envelope that come with items.
#[derive(Default)]
struct Orders<'t> {
    /// By the place of each order, its items.
    of: BTreeMap<usize, Vec<&'t RawValue>>,
    /// The places of all those items.
    items: BTreeSet<usize>,
}

impl<'t> Orders<'t> {
    fn find(data: &[u8], records: &[&'t RawValue]) -> Self {
        let mut orders = Self::default();
        // Nearly no tracker sends them any more.
        if memmem::find(data, b"\"tr\"").is_none() {
            return orders;
        }
        let id = |kind: &str, name: &str, record: &'t RawValue| {
            let [own, id] = wire::members(record.get().as_bytes(), ["e", name])?;
            wire::string(own?).filter(|own| *own == kind)?;
            wire::string(id?)
        };
        let mut places = BTreeMap::new();
        for (place, record) in records.iter().enumerate() {
            if let Some(id) = id("tr", "tr_id", record) {
                places.entry(id).or_insert(place);
            }
        }
        for (place, record) in records.iter().enumerate() {
            let order = id("ti", "ti_id", record).and_then(|id| places.get(&id));
            if let Some(order) = order {
                orders.of.entry(*order).or_default().push(record);
                orders.items.insert(place);
            }
        }
        orders
    }
}

/// The payload of an event that comes as its schema and its data: in the body, or as fields.
fn iglu(inbound: &Inbound<'_>) -> Result<Payload, DecodeError> {
    let event = match wire::is_json(inbound.body) {
        true => wire::tree(inbound.body, &inbound.bounds)?,
        false => {
            let fields = Fields::form(inbound.query);
            let schema =
                fields.get("schema").ok_or(DecodeError::Malformed("there is no schema"))?;
            let data = fields.iter().filter(|(name, _)| *name != "schema");
            let data: Object =
                data.map(|(name, value)| (name.to_owned(), value.to_owned().into())).collect();
            let mut event = Object::new();
            event.insert("schema".to_owned(), schema.to_owned().into());
            event.insert("data".to_owned(), data.into());
            Value::Object(event)
        }
    };
    Ok(Payload::of_event(event, inbound.bounds))
}

#[cfg(test)]
mod tests;
