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

use std::collections::BTreeMap;

use serde_json::Value;

use crate::event::Object;
use crate::vendors::beacon::{Answer, Beacon, Inbound, Malformed, Methods, Verdict};
use crate::vendors::wire::{self, Fields};
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

    fn decode(&self, inbound: &Inbound<'_>) -> Result<Vec<Object>, Malformed> {
        let endpoint = Endpoint::of(inbound.path);
        let payloads = match endpoint {
            None | Some(Endpoint::Health) => return Ok(Vec::new()),
            Some(Endpoint::Iglu) => vec![iglu(inbound)?],
            Some(Endpoint::Image | Endpoint::Payloads) if inbound.body.is_empty() => {
                vec![Payload::of_query(inbound.query)]
            }
            Some(Endpoint::Image | Endpoint::Payloads) => payloads(inbound.body)?,
        };
        let is_anonymous = inbound.headers.contains_key("sp-anonymous");
        let client = Client { daily_id: is_anonymous.then_some(inbound.daily_id) };
        let messages = messages(payloads, client);
        if messages.is_empty() { Err(Malformed("there is no event")) } else { Ok(messages) }
    }

    fn is_anonymous(&self, inbound: &Inbound<'_>) -> bool {
        inbound.headers.contains_key("sp-anonymous")
    }

    fn answer(&self, inbound: &Inbound<'_>, verdict: Verdict) -> Answer {
        match (Endpoint::of(inbound.path), verdict) {
            (Some(Endpoint::Health), _) => Answer::text("ok"),
            (_, Verdict::Later { limited }) => Answer::later(limited),
            _ if inbound.method == http::Method::GET => Answer::gif(),
            // One that is too long is called a success: it would come again for ever.
            _ => Answer::text("ok"),
        }
    }
}

/// The payloads in an envelope.
fn payloads(body: &[u8]) -> Result<Vec<Payload>, Malformed> {
    let Some(Value::Object(mut envelope)) = wire::json(body) else {
        return Err(Malformed("the body is not a JSON object"));
    };
    match envelope.get_mut("data").map(Value::take) {
        Some(Value::Array(items)) => Ok(items.into_iter().filter_map(Payload::of).collect()),
        Some(item @ Value::Object(_)) => Ok(Payload::of(item).into_iter().collect()),
        _ => Err(Malformed("the envelope has no data")),
    }
}

/// The payload of an event that comes as its schema and its data: in the body, or as fields.
fn iglu(inbound: &Inbound<'_>) -> Result<Payload, Malformed> {
    let event = match wire::json(inbound.body) {
        Some(event) => event,
        None => {
            let fields = Fields::form(inbound.query);
            let schema = fields.get("schema").ok_or(Malformed("there is no schema"))?;
            let data = fields.iter().filter(|(name, _)| *name != "schema");
            let data: Object =
                data.map(|(name, value)| (name.to_owned(), value.to_owned().into())).collect();
            let mut event = Object::new();
            event.insert("schema".to_owned(), schema.to_owned().into());
            event.insert("data".to_owned(), data.into());
            Value::Object(event)
        }
    };
    Ok(Payload::of_event(event))
}

/// The messages of payloads. Items of an old transaction that comes with them become its products.
fn messages(payloads: Vec<Payload>, client: Client<'_>) -> Vec<Object> {
    let is = |payload: &Payload, kind: &str| payload.peek("e") == Some(kind);
    let orders = payloads.iter().filter(|payload| is(payload, "tr"));
    let mut products: BTreeMap<String, Vec<Value>> =
        orders.filter_map(|order| Some((order.peek("tr_id")?.to_owned(), Vec::new()))).collect();
    let mut rest = Vec::with_capacity(payloads.len());
    for mut payload in payloads {
        let order = payload.peek("ti_id").filter(|_| is(&payload, "ti"));
        match order.and_then(|order| products.get_mut(order)) {
            Some(products) => products.push(Value::Object(commerce::item(&mut payload))),
            None => rest.push(payload),
        }
    }
    let messages = rest.into_iter().filter_map(|mut payload| {
        let order = payload.peek("tr_id").filter(|_| is(&payload, "tr"));
        let products = order.and_then(|order| products.remove(order)).unwrap_or_default();
        event::message(&mut payload, products, client)
    });
    messages.collect()
}

#[cfg(test)]
mod tests;
