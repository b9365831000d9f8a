//! The mapping of one event to a canonical message (`docs/contracts/beacons.md` 1.6, 2 and 4.3).

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::commerce::{self, MetaTrackEvent};
use super::hit::MetaBeaconHit;
use crate::beacon_format::{CanonicalMessage, page, preallocated_object, put};
use crate::digest;
use crate::meta::NAME;
use tagway_core::event::{EventKind, JsonObject, is_identifying_id};
use tagway_core::values::time::read_event_time;

/// The greatest difference from the gateway's clock at which a browser's time is used.
const MAX_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// The longest id of an event, in bytes: the gateway refuses a message with a longer one.
const MAX_ID_BYTES: usize = 1000;

/// The keys of advanced matching and their traits.
const PERSON: &[(&str, MetaTraitTarget)] = &[
    ("em", MetaTraitTarget::Own("email")),
    ("ph", MetaTraitTarget::Own("phone")),
    ("fn", MetaTraitTarget::Own("firstName")),
    ("ln", MetaTraitTarget::Own("lastName")),
    ("ge", MetaTraitTarget::Own("gender")),
    ("db", MetaTraitTarget::Own("birthday")),
    ("ct", MetaTraitTarget::OfAddress("city")),
    ("st", MetaTraitTarget::OfAddress("state")),
    ("zp", MetaTraitTarget::OfAddress("postalCode")),
    ("country", MetaTraitTarget::OfAddress("country")),
    ("external_id", MetaTraitTarget::Id),
];

/// The target of a key of advanced matching.
#[derive(Clone, Copy)]
enum MetaTraitTarget {
    Own(&'static str),
    OfAddress(&'static str),
    /// The site's own id of the person, which is sent to Meta alone.
    Id,
}

/// Returns the message of an event that was received at this time.
pub(super) fn message(hit: &MetaBeaconHit<'_>, received_at: Timestamp) -> CanonicalMessage {
    let page = page(hit.url, hit.title, hit.referrer);
    let message = if hit.event == "PageView" {
        let mut properties = page.clone();
        properties.extend(commerce::properties(&hit.data));
        CanonicalMessage::new(EventKind::Page).with_properties(properties)
    } else {
        let MetaTrackEvent { event, properties } =
            commerce::to_track_event(hit.event, commerce::properties(&hit.data));
        CanonicalMessage::track(&event).with_properties(properties)
    };
    message.with_message_id(id(hit)).at(time(hit, received_at)).with_context(context(hit, page))
}

/// Returns the id that the site gave the event, if it is a valid one.
fn own_id<'h>(hit: &MetaBeaconHit<'h>) -> Option<&'h str> {
    hit.id.filter(|id| is_identifying_id(id) && id.len() <= MAX_ID_BYTES)
}

/// Returns the message id. It is made of the site's id and the event's name, by which Meta deduplicates:
/// templates give all tags of a page one id. Else it is made of the event's times. `None` without them:
/// many browsers send the same fields then.
fn id(hit: &MetaBeaconHit<'_>) -> Option<String> {
    let own = own_id(hit).and_then(|id| {
        let whole = format!("{id}.{}", hit.event);
        if whole.len() <= MAX_ID_BYTES { Some(whole) } else { digest::sha256(&whole) }
    });
    own.or_else(|| {
        let (loaded_at, at) = (hit.loaded_at?, hit.at?);
        let (pixel, event, count) = (hit.pixel, hit.event, hit.count.unwrap_or_default());
        digest::sha256(&format!("{pixel}\n{event}\n{loaded_at}\n{count}\n{at}"))
    })
}

fn time(hit: &MetaBeaconHit<'_>, received_at: Timestamp) -> Option<Timestamp> {
    let time = read_event_time(hit.at?)?;
    (received_at.duration_since(time).abs() <= MAX_SKEW).then_some(time)
}

fn context(hit: &MetaBeaconHit<'_>, page: JsonObject) -> JsonObject {
    let mut context = preallocated_object();
    put(&mut context, "page", Some(page));
    let mut screen = JsonObject::new();
    let sizes = [("width", hit.width), ("height", hit.height), ("innerWidth", hit.inner_width)];
    for (name, size) in sizes {
        put(&mut screen, name, size.and_then(|size| size.parse::<u32>().ok()));
    }
    put(&mut context, "screen", Some(screen));
    // Some releases send an offset, which is no zone's name.
    let names_zone = |zone: &&str| zone.starts_with(|c: char| c.is_ascii_alphabetic());
    put(&mut context, "timezone", hit.timezone.filter(names_zone));
    // The site's own data replaces data found in its forms.
    let (traits, digests) = person(hit.found.iter().chain(&hit.person).copied());
    put(&mut context, "traits", Some(traits));
    let mut ids = JsonObject::new();
    put(&mut ids, "fbp", hit.browser);
    put(&mut ids, "fbc", hit.click);
    put(&mut ids, "meta", Some(digests));
    put(&mut context, "clientIds", Some(ids));
    limit(&mut context, hit);
    let mut library = JsonObject::new();
    put(&mut library, "name", hit.version.map(|_| "fbevents.js"));
    put(&mut library, "version", hit.version);
    put(&mut context, "library", Some(library));
    let mut source = JsonObject::new();
    put(&mut source, "client", Some(NAME));
    put(&mut source, "version", hit.version);
    put(&mut source, "endpoint", Some(super::EVENTS));
    put(&mut source, "event", Some(hit.event));
    put(&mut source, "event_id", own_id(hit));
    put(&mut source, "pixel_id", Some(hit.pixel));
    put(&mut source, "agent", hit.agent);
    put(&mut context, "source", Some(source));
    context
}

/// Splits advanced matching data into traits in the clear and data for Meta alone: digests and the id.
pub(super) fn person<'s>(
    stated: impl Iterator<Item = (&'s str, &'s str)>,
) -> (JsonObject, JsonObject) {
    let (mut traits, mut address, mut digests) =
        (JsonObject::new(), JsonObject::new(), JsonObject::new());
    for (key, value) in stated {
        let Some((key, it)) = PERSON.iter().find(|(known, _)| *known == key) else { continue };
        let value = value.trim();
        let first = value.split(',').next().unwrap_or_default();
        match it {
            _ if digest::is_sha256(first) => put(&mut digests, key, Some(first)),
            MetaTraitTarget::Id => put(&mut digests, key, Some(value)),
            MetaTraitTarget::Own(name) => put(&mut traits, name, Some(value)),
            MetaTraitTarget::OfAddress(name) => put(&mut address, name, Some(value)),
        }
    }
    put(&mut traits, "address", Some(address));
    (traits, digests)
}

/// Adds Limited Data Use in the form of the three arguments of the library's own function.
fn limit(context: &mut JsonObject, hit: &MetaBeaconHit<'_>) {
    let Some(options) = hit.options else { return };
    let options: Vec<&str> = options.split(',').filter(|option| !option.is_empty()).collect();
    if options.contains(&"LDU") {
        put(context, "consent", Some(json!({ "meta_ldu": true })));
    }
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    let stated = json!([options, number(hit.country), number(hit.state)]);
    context.insert("dataProcessingOptions".to_owned(), stated);
}
