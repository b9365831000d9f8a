//! The translation of one event of gtag's to the Segment spec's words.

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::hit::Ga4BeaconHit;
use super::items::{self, number};
use crate::beacon::BeaconDecodeError;
use crate::beacon_format::{self, CanonicalMessage, MessageBatch, put};
use crate::ga4::rules::{self, Ga4EventRule};
use crate::naming;
use tagway_core::event::{EventKind, JsonObject};

/// The text that gtag writes for an object in place of a text.
const OBJECT_AS_TEXT: &str = "[object Object]";

/// Events whose single item is their subject.
const OF_ONE_PRODUCT: [&str; 5] =
    ["view_item", "add_to_cart", "remove_from_cart", "select_item", "add_to_wishlist"];

/// The prefix of an event's parameters that identify a person.
const PERSON: &str = "user_data.";

/// Hashed data of a person (`docs/contracts/beacons.md` 3.6): gtag's letters, and Meta's, which takes the same
/// digests. They are no traits: a digest must not replace data that other vendors need in the clear.
const HASHED_MEMBERS: &[(&str, &str)] = &[
    ("em", "em"),
    ("pn", "ph"),
    ("fn", "fn"),
    ("ln", "ln"),
    ("ct", "ct"),
    ("rg", "st"),
    ("pc", "zp"),
    ("co", "country"),
];

/// Client hints, and their members in `context.userAgentData`.
const HINTS: &[(&str, &str)] = &[
    ("uaa", "architecture"),
    ("uab", "bitness"),
    ("uam", "model"),
    ("uap", "platform"),
    ("uapv", "platformVersion"),
];

/// Campaign parameters, and their members in `context.campaign`.
const CAMPAIGN: &[(&str, &str)] = &[
    ("cs", "source"),
    ("cm", "medium"),
    ("cn", "name"),
    ("cc", "content"),
    ("ci", "id"),
    ("ct", "term"),
    ("ck", "term"),
];

/// Adds the messages of an event: that about the person first, if there is one.
pub(super) fn add(
    hit: &Ga4BeaconHit<'_>,
    name: &str,
    batch: &mut MessageBatch<'_>,
) -> Result<(), BeaconDecodeError> {
    let inbound = Ga4BeaconEvent::read(hit);
    let user_id = hit.get("uid");
    let mut context = context(hit, name, &inbound.digests);
    let message_id = hit.message_id();
    if user_id.is_some() && !inbound.traits.is_empty() {
        let id = message_id.as_ref().map(|id| format!("{id}-traits"));
        let identify = CanonicalMessage::new(EventKind::Identify)
            .with_message_id(id)
            .with_ids(user_id, hit.get("cid"))
            .with_traits(inbound.traits.clone())
            .with_context(context.clone());
        batch.push(identify)?;
    }
    let mut traits = inbound.traits;
    traits.extend(inbound.person);
    put(&mut context, "traits", Some(traits));
    let message = if name == "page_view" {
        let page = context.get("page").and_then(Value::as_object).cloned();
        let mut properties = page.unwrap_or_default();
        properties.extend(inbound.properties);
        CanonicalMessage::new(EventKind::Page).with_properties(properties)
    } else {
        let rule = rules::of_vendors(name);
        let event = canonical_event_name(name, rule);
        let properties = canonical(inbound.properties, inbound.products, name, rule);
        CanonicalMessage::track(&event).with_properties(properties)
    };
    let message =
        message.with_message_id(message_id).with_ids(user_id, hit.get("cid")).with_context(context);
    batch.push(message)
}

/// The content of an event without its surroundings.
#[derive(Default)]
struct Ga4BeaconEvent {
    properties: JsonObject,
    products: Vec<Value>,
    /// User properties.
    traits: JsonObject,
    /// The members that identify the person, and the same as digests.
    person: JsonObject,
    digests: JsonObject,
}

impl Ga4BeaconEvent {
    fn read(hit: &Ga4BeaconHit<'_>) -> Self {
        let mut inbound = Self::default();
        let mut listed: Vec<(usize, &str)> = Vec::new();
        for (name, value) in hit.iter() {
            if let Some(name) = name.strip_prefix("ep.") {
                inbound.text(name, value);
            } else if let Some(name) = name.strip_prefix("epn.") {
                put(&mut inbound.properties, name, Some(number(value)));
            } else if let Some(name) = name.strip_prefix("upn.") {
                put(&mut inbound.traits, name, Some(number(value)));
            } else if let Some(name) = name.strip_prefix("up.") {
                // An empty value is explicit, and removes the property.
                let value = if value.is_empty() { Value::Null } else { Value::from(value) };
                inbound.traits.insert(name.to_owned(), value);
            } else if let Some(place) = items::item_index(name) {
                listed.push((place, value));
            } else if name == "em" {
                inbound.hashed(value);
            }
        }
        put(&mut inbound.properties, "currency", hit.get("cu"));
        listed.sort_by_key(|(place, _)| *place);
        let products = listed.into_iter().map(|(_, item)| items::product(item));
        inbound.products = products.filter(|it| !it.is_empty()).map(Value::Object).collect();
        inbound
    }

    fn text(&mut self, name: &str, value: &str) {
        if let Some(member) = name.strip_prefix(PERSON) {
            match member {
                "email_address" => put(&mut self.person, "email", Some(value)),
                "phone_number" => put(&mut self.person, "phone", Some(value)),
                "sha256_email_address" => put(&mut self.digests, "em", Some(value)),
                "sha256_phone_number" => put(&mut self.digests, "ph", Some(value)),
                _ => {}
            }
            return;
        }
        match value {
            "true" => put(&mut self.properties, name, Some(true)),
            "false" => put(&mut self.properties, name, Some(false)),
            _ if value.contains(OBJECT_AS_TEXT) => {}
            _ => put(&mut self.properties, name, Some(value)),
        }
    }

    /// Reads `tv.1~em.HASH~pn.HASH~fn0.HASH...`: the first of each kind. Digests are in base64url here, and
    /// in hexadecimal everywhere else.
    fn hashed(&mut self, value: &str) {
        for field in value.split('~').skip(1) {
            let Some((letters, digest)) = field.split_once('.') else { continue };
            let letters = letters.trim_end_matches('0');
            let Some((_, member)) = HASHED_MEMBERS.iter().find(|(known, _)| *known == letters)
            else {
                continue;
            };
            let digest = beacon_format::base64(digest).filter(|digest| digest.len() == 32);
            let hex = digest.map(hex::encode);
            put(&mut self.digests, member, hex);
        }
    }
}

/// Returns the event's name in the spec, or Google's if the spec has none.
pub(super) fn canonical_event_name(name: &str, rule: Option<&Ga4EventRule>) -> String {
    rule.map_or_else(|| name.to_owned(), |rule| naming::spec_name(rule.canonical))
}

/// Translates properties to the spec's names.
pub(super) fn canonical(
    mut properties: JsonObject,
    products: Vec<Value>,
    name: &str,
    rule: Option<&Ga4EventRule>,
) -> JsonObject {
    for (param, keys) in rule.into_iter().flat_map(|rule| rule.params) {
        if let (Some(key), Some(value)) = (keys.first(), properties.remove(*param)) {
            properties.insert((*key).to_owned(), value);
        }
    }
    for (param, key) in [("search_term", "query"), ("tax", "tax"), ("shipping", "shipping")] {
        if let Some(value) = properties.remove(param) {
            let value = if param == "search_term" { value } else { as_number(value) };
            properties.insert(key.to_owned(), value);
        }
    }
    if let Some(value) = properties.remove("value").map(as_number) {
        if matches!(name, "purchase" | "refund") {
            // Google does not define what this one value includes.
            properties.insert("total".to_owned(), value.clone());
            properties.insert("revenue".to_owned(), value.clone());
        }
        properties.insert("value".to_owned(), value);
    }
    let mut products = products;
    if products.len() == 1
        && OF_ONE_PRODUCT.contains(&name)
        && let Some(Value::Object(product)) = products.pop()
    {
        for (key, value) in product {
            properties.entry(key).or_insert(value);
        }
    }
    put(&mut properties, "products", Some(products));
    properties
}

fn as_number(value: Value) -> Value {
    match value {
        Value::String(text) => number(&text),
        other => other,
    }
}

fn page(hit: &Ga4BeaconHit<'_>) -> JsonObject {
    beacon_format::page(hit.get("dl"), hit.get("dt"), hit.get("dr"))
}

fn context(hit: &Ga4BeaconHit<'_>, event: &str, digests: &JsonObject) -> JsonObject {
    let mut context = beacon_format::preallocated_object();
    put(&mut context, "page", Some(page(hit)));
    put(&mut context, "locale", hit.get("ul").map(locale));
    put(&mut context, "screen", hit.get("sr").and_then(screen));
    put(&mut context, "userAgentData", Some(hints(hit)));
    put(&mut context, "sessionId", hit.get("sid").map(number));
    put(&mut context, "sessionNumber", hit.get("sct").map(number));
    put(&mut context, "campaign", Some(members(hit, CAMPAIGN)));
    put(&mut context, "consent", Some(consent(hit)));
    let mut ids = members(hit, &[("cid", "client_id"), ("sid", "session_id")]);
    put(&mut ids, "measurement_id", hit.get("tid"));
    let mut client_ids = JsonObject::new();
    put(&mut client_ids, "ga4", Some(ids));
    put(&mut client_ids, "meta", Some(digests.clone()));
    put(&mut context, "clientIds", Some(client_ids));
    put(&mut context, "library", Some(json!({ "name": "gtag.js" })));
    put(&mut context, "source", Some(source(hit, event)));
    context
}

fn members(hit: &Ga4BeaconHit<'_>, names: &[(&str, &str)]) -> JsonObject {
    let mut members = JsonObject::new();
    for (param, member) in names {
        put(&mut members, member, hit.get(param));
    }
    members
}

/// Writes gtag's `en-us` as `en-US`.
fn locale(written: &str) -> String {
    match written.split_once('-') {
        Some((language, region)) if region.len() == 2 => {
            format!("{language}-{}", region.to_ascii_uppercase())
        }
        _ => written.to_owned(),
    }
}

fn screen(size: &str) -> Option<Value> {
    let (width, height) = size.split_once('x')?;
    Some(json!({ "width": width.parse::<u32>().ok()?, "height": height.parse::<u32>().ok()? }))
}

fn hints(hit: &Ga4BeaconHit<'_>) -> JsonObject {
    let mut hints = members(hit, HINTS);
    put(&mut hints, "mobile", hit.get("uamb").map(|mobile| mobile == "1"));
    let brands = hit.get("uafvl").unwrap_or_default().split('|').filter_map(|entry| {
        // Each was encoded before the whole.
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (brand, version) = entry.split_once(';')?;
        Some(json!({ "brand": decoded(brand), "version": decoded(version) }))
    });
    put(&mut hints, "fullVersionList", Some(brands.collect::<Vec<_>>()));
    hints
}

/// Reads the page's consent, as gtag sends it. Without consent to analytics the client id is valid for this
/// page only.
fn consent(hit: &Ga4BeaconHit<'_>) -> JsonObject {
    let names = ["gcs", "gcd", "dma", "dma_cps", "npa"];
    let google = members(hit, &names.map(|name| (name, name)));
    let mut consent = JsonObject::new();
    put(&mut consent, "google", Some(google));
    put(&mut consent, "us_privacy", hit.get("us_privacy"));
    put(&mut consent, "tcf", hit.get("gdpr_consent").filter(|_| hit.get("gdpr") != Some("0")));
    let is_cookieless =
        hit.get("gcs").is_some_and(|gcs| gcs.starts_with("G1") && gcs.ends_with('0'));
    put(&mut consent, "cookieless", is_cookieless.then_some(true));
    consent
}

fn source(hit: &Ga4BeaconHit<'_>, event: &str) -> JsonObject {
    let mut source = JsonObject::new();
    put(&mut source, "client", Some("gtag"));
    put(&mut source, "version", hit.get("gtm"));
    put(&mut source, "event", Some(event));
    put(&mut source, "pageLoadId", hit.get("_p"));
    put(&mut source, "engagementTime", hit.get("_et").and_then(|et| et.parse::<u32>().ok()));
    for (param, member) in [("_fv", "firstVisit"), ("_ss", "sessionStart"), ("_c", "keyEvent")] {
        put(&mut source, member, hit.get(param).map(|_| true));
    }
    put(&mut source, "consentUpdate", hit.get("gcu").map(|_| true));
    put(&mut source, "trafficType", hit.get("tt"));
    source
}
