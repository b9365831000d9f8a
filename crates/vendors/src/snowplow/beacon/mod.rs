//! The collector's endpoints: payloads of strings by POST, many in an envelope, or one in the query of
//! a GET. Failed payloads stay in the tracker's storage and are sent again with the next page.
//!
//! With `SP-Anonymous` the site forbids recognising the visitor: the ids of such payloads are dropped,
//! and the visitor has an id for this day only.

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

use crate::beacon::{
    AllowedMethods, Beacon, BeaconDecodeError, BeaconOutcome, BeaconReply, BeaconRequest,
};
use crate::beacon_format::{self, FormFields, MessageBatch};
use event::SnowplowSender;
use payload::SnowplowPayload;
use tagway_core::event::JsonObject;

pub(super) struct SnowplowBeacon;

/// The longest part of a site's own collector path, in bytes.
const MAX_PART_BYTES: usize = 64;

/// The purpose of a path below the mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SnowplowBeaconRoute {
    /// Payloads in a body, or one in the query.
    Payloads,
    /// A payload in the query of an image.
    Image,
    /// An event of any schema, without a tracker.
    Iglu,
    /// The collector's health check.
    Health,
}

impl SnowplowBeaconRoute {
    fn of(path: &str) -> Option<Self> {
        let path = path.strip_suffix('/').unwrap_or(path);
        match path {
            "/i" | "/ice.png" => return Some(Self::Image),
            "/com.snowplowanalytics.iglu/v1" => return Some(Self::Iglu),
            "/health" => return Some(Self::Health),
            _ => {}
        }
        // Sites may give their collector a custom path of this form.
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

impl Beacon for SnowplowBeacon {
    fn endpoint(&self, path: &str) -> Option<AllowedMethods> {
        match SnowplowBeaconRoute::of(path)? {
            SnowplowBeaconRoute::Image | SnowplowBeaconRoute::Health => Some(AllowedMethods::Get),
            SnowplowBeaconRoute::Payloads | SnowplowBeaconRoute::Iglu => Some(AllowedMethods::Both),
        }
    }

    fn read(
        &self,
        inbound: &BeaconRequest<'_>,
        batch: &mut MessageBatch<'_>,
    ) -> Result<(), BeaconDecodeError> {
        let is_anonymous = inbound.headers.contains_key("sp-anonymous");
        let client = SnowplowSender { daily_id: is_anonymous.then_some(inbound.daily_id) };
        match SnowplowBeaconRoute::of(inbound.path) {
            None | Some(SnowplowBeaconRoute::Health) => return Ok(()),
            Some(SnowplowBeaconRoute::Iglu) => {
                batch.extend(event::message(&mut iglu(inbound)?, Vec::new(), client))?;
            }
            Some(SnowplowBeaconRoute::Image | SnowplowBeaconRoute::Payloads)
                if inbound.body.is_empty() =>
            {
                let mut payload = SnowplowPayload::of_query(inbound.query, inbound.bounds);
                batch.extend(event::message(&mut payload, Vec::new(), client))?;
            }
            Some(SnowplowBeaconRoute::Image | SnowplowBeaconRoute::Payloads) => {
                payloads(inbound, client, batch)?
            }
        }
        if batch.is_empty() {
            Err(BeaconDecodeError::Malformed("there is no event"))
        } else {
            Ok(())
        }
    }

    fn is_anonymous(&self, inbound: &BeaconRequest<'_>) -> bool {
        inbound.headers.contains_key("sp-anonymous")
    }

    fn answer(&self, inbound: &BeaconRequest<'_>, verdict: BeaconOutcome) -> BeaconReply {
        match (SnowplowBeaconRoute::of(inbound.path), verdict) {
            (Some(SnowplowBeaconRoute::Health), _) => BeaconReply::text("ok"),
            (_, BeaconOutcome::RetryLater { limited }) => BeaconReply::retry_later(limited),
            _ if inbound.method == http::Method::GET => BeaconReply::gif(),
            // Trackers of servers retry a 413 for ever, before any other request.
            (_, BeaconOutcome::TooLarge) if !inbound.is_from_page() => BeaconReply {
                status: http::StatusCode::UNPROCESSABLE_ENTITY,
                ..BeaconReply::text("the request is too large")
            },
            // A request that is too long gets a success: the tracker would retry it for ever.
            _ => BeaconReply::text("ok"),
        }
    }
}

/// Adds the messages of the payloads in an envelope. Items of an old transaction in the same envelope
/// become its products.
fn payloads(
    inbound: &BeaconRequest<'_>,
    client: SnowplowSender<'_>,
    batch: &mut MessageBatch<'_>,
) -> Result<(), BeaconDecodeError> {
    let Some([data]) = beacon_format::members(inbound.body, ["data"]) else {
        return Err(BeaconDecodeError::Malformed("the body is not a JSON object"));
    };
    let data = data.filter(|data| beacon_format::is_json(data));
    let data = data.ok_or(BeaconDecodeError::Malformed("the envelope has no data"))?;
    let records = beacon_format::records(data, &inbound.bounds)?;
    let mut orders = SnowplowTransactions::find(data, &records);
    for (place, record) in records.iter().enumerate() {
        if orders.items.contains(&place) {
            continue;
        }
        let items = orders.of.remove(&place).unwrap_or_default();
        let texts = items.iter().chain([record]).map(|record| record.get().as_bytes());
        if !beacon_format::fits(texts, &inbound.bounds) {
            batch.reject("too_large");
            continue;
        }
        let mut payload = |record: &RawValue| {
            let fields = batch.object(record)?;
            Some(SnowplowPayload::of(fields, inbound.bounds))
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

/// The old transactions of an envelope that have items in it.
#[derive(Default)]
struct SnowplowTransactions<'t> {
    /// The items of each order, by the order's index in the envelope.
    of: BTreeMap<usize, Vec<&'t RawValue>>,
    /// The indices of all those items.
    items: BTreeSet<usize>,
}

impl<'t> SnowplowTransactions<'t> {
    fn find(data: &[u8], records: &[&'t RawValue]) -> Self {
        let mut orders = Self::default();
        // A cheap test: hardly any tracker still sends transactions.
        if memmem::find(data, b"\"tr\"").is_none() {
            return orders;
        }
        let id = |kind: &str, name: &str, record: &'t RawValue| {
            let [own, id] = beacon_format::members(record.get().as_bytes(), ["e", name])?;
            beacon_format::string(own?).filter(|own| *own == kind)?;
            beacon_format::string(id?)
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

/// Returns the payload of an event sent as schema and data, in the body or as query fields.
fn iglu(inbound: &BeaconRequest<'_>) -> Result<SnowplowPayload, BeaconDecodeError> {
    let event = match beacon_format::is_json(inbound.body) {
        true => beacon_format::tree(inbound.body, &inbound.bounds)?,
        false => {
            let fields = FormFields::form(inbound.query);
            let schema =
                fields.get("schema").ok_or(BeaconDecodeError::Malformed("there is no schema"))?;
            let data = fields.iter().filter(|(name, _)| *name != "schema");
            let data: JsonObject =
                data.map(|(name, value)| (name.to_owned(), value.to_owned().into())).collect();
            let mut event = JsonObject::new();
            event.insert("schema".to_owned(), schema.to_owned().into());
            event.insert("data".to_owned(), data.into());
            Value::Object(event)
        }
    };
    Ok(SnowplowPayload::of_event(event, inbound.bounds))
}

#[cfg(test)]
mod tests;
