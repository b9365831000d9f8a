//! One event as a canonical message (`contracts/beacons.md` 1.6, 2 and 4.3).

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::commerce::{self, Told};
use super::hit::Hit;
use crate::event::{Kind, Object, names_somebody};
use crate::values::time::read_event_time;
use crate::vendors::digest;
use crate::vendors::meta::NAME;
use crate::vendors::wire::{Message, page, put, roomy};

/// How far a browser's clock may be off to be believed.
const MAX_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// The longest id of an event: the gateway refuses a message with a longer one.
const MAX_ID_BYTES: usize = 1000;

/// The keys of advanced matching, and the traits that they are.
const PERSON: &[(&str, Trait)] = &[
    ("em", Trait::Own("email")),
    ("ph", Trait::Own("phone")),
    ("fn", Trait::Own("firstName")),
    ("ln", Trait::Own("lastName")),
    ("ge", Trait::Own("gender")),
    ("db", Trait::Own("birthday")),
    ("ct", Trait::OfAddress("city")),
    ("st", Trait::OfAddress("state")),
    ("zp", Trait::OfAddress("postalCode")),
    ("country", Trait::OfAddress("country")),
    ("external_id", Trait::Id),
];

/// Where something that is said of the person belongs.
#[derive(Clone, Copy)]
enum Trait {
    Own(&'static str),
    OfAddress(&'static str),
    /// An id that the site knows the person by, and nobody else.
    Id,
}

/// The message of an event that arrived then.
pub(super) fn message(hit: &Hit<'_>, received_at: Timestamp) -> Object {
    let page = page(hit.url, hit.title, hit.referrer);
    let message = if hit.event == "PageView" {
        let mut properties = page.clone();
        properties.extend(commerce::properties(&hit.data));
        Message::new(Kind::Page).with("properties", Some(properties))
    } else {
        let Told { event, properties } = commerce::told(hit.event, commerce::properties(&hit.data));
        Message::track(&event).with("properties", Some(properties))
    };
    message
        .with("messageId", id(hit))
        .at("timestamp", time(hit, received_at))
        .with("context", Some(context(hit, page)))
        .finish()
}

/// The id that the site gave the event.
fn own_id<'h>(hit: &Hit<'h>) -> Option<&'h str> {
    hit.id.filter(|id| names_somebody(id) && id.len() <= MAX_ID_BYTES)
}

/// What tells the event from others: to Meta, that is the site's id and the name, for templates give all
/// tags of a page one id. Else its time; without one, the same fields come from many browsers.
fn id(hit: &Hit<'_>) -> Option<String> {
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

fn time(hit: &Hit<'_>, received_at: Timestamp) -> Option<Timestamp> {
    let time = read_event_time(hit.at?)?;
    (received_at.duration_since(time).abs() <= MAX_SKEW).then_some(time)
}

fn context(hit: &Hit<'_>, page: Object) -> Object {
    let mut context = roomy();
    put(&mut context, "page", Some(page));
    let mut screen = Object::new();
    let sizes = [("width", hit.width), ("height", hit.height), ("innerWidth", hit.inner_width)];
    for (name, size) in sizes {
        put(&mut screen, name, size.and_then(|size| size.parse::<u32>().ok()));
    }
    put(&mut context, "screen", Some(screen));
    // Some releases send an offset, which names no zone.
    let names_zone = |zone: &&str| zone.starts_with(|c: char| c.is_ascii_alphabetic());
    put(&mut context, "timezone", hit.timezone.filter(names_zone));
    // What the site says comes before what is found in its forms.
    let (traits, digests) = person(hit.found.iter().chain(&hit.person).copied());
    put(&mut context, "traits", Some(traits));
    let mut ids = Object::new();
    put(&mut ids, "fbp", hit.browser);
    put(&mut ids, "fbc", hit.click);
    put(&mut ids, "meta", Some(digests));
    put(&mut context, "clientIds", Some(ids));
    limit(&mut context, hit);
    let mut library = Object::new();
    put(&mut library, "name", hit.version.map(|_| "fbevents.js"));
    put(&mut library, "version", hit.version);
    put(&mut context, "library", Some(library));
    let mut source = Object::new();
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

/// What is said of the person in the clear, and what is hashed.
pub(super) fn person<'s>(said: impl Iterator<Item = (&'s str, &'s str)>) -> (Object, Object) {
    let (mut traits, mut address, mut digests) = (Object::new(), Object::new(), Object::new());
    for (key, value) in said {
        let Some((key, it)) = PERSON.iter().find(|(known, _)| *known == key) else { continue };
        let value = value.trim();
        let first = value.split(',').next().unwrap_or_default();
        match it {
            _ if digest::is_sha256(first) => put(&mut digests, key, Some(first)),
            Trait::Id => put(&mut digests, key, Some(value)),
            Trait::Own(name) => put(&mut traits, name, Some(value)),
            Trait::OfAddress(name) => put(&mut address, name, Some(value)),
        }
    }
    put(&mut traits, "address", Some(address));
    (traits, digests)
}

/// Limited data use, as the three arguments of the library's own function.
fn limit(context: &mut Object, hit: &Hit<'_>) {
    let Some(options) = hit.options else { return };
    let options: Vec<&str> = options.split(',').filter(|option| !option.is_empty()).collect();
    if options.contains(&"LDU") {
        put(context, "consent", Some(json!({ "meta_ldu": true })));
    }
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    let said = json!([options, number(hit.country), number(hit.state)]);
    context.insert("dataProcessingOptions".to_owned(), said);
}
