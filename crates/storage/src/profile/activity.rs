//! The activity that an event shows besides its visitor's identity: that it happened, its device, its
//! place, the touch that led the visitor there, their consent and their group.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::watch;
use url::form_urlencoded;

use super::user_agent::{self, UserAgentParser};
use tagway_core::event::{Event, EventKind, JsonObject, MEMBERSHIP, UtmCampaign};
use tagway_core::privacy::ConsentRecord;
use tagway_core::values::amount;

/// The longest name, in bytes, under which an event is counted: the Segment spec's names have some 20 characters.
const MAX_NAME_BYTES: usize = 128;

/// The longest text of a touch, in bytes: campaign names of ad platforms have 100 to 250 characters.
const MAX_TEXT_BYTES: usize = 256;

/// The most parameters of one URL that are read.
const MAX_PARAMETERS: usize = 100;

/// The properties that give an event's value; the first that is a number counts.
const VALUES: [&str; 3] = ["value", "revenue", "total"];

/// The largest value that is summed up: beyond, an event has no value.
const MAX_VALUE: f64 = 1e12;

/// Names under which an event is counted besides its own: segments that test properties keep their own
/// counters.
pub trait EventCounterSet: Send + Sync {
    /// Adds this event's names to `out`.
    fn keys(&self, event: &Event, out: &mut Vec<String>);

    /// Returns all names there are, in order. A name stands for the same test permanently.
    fn names(&self) -> Vec<String>;

    /// Returns true if the settings use the counts of this name: it is counted however many other names
    /// there are.
    fn reserves(&self, name: &str) -> bool;
}

/// A counter set without names: events count under their own names only.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmptyCounterSet;

impl EmptyCounterSet {
    /// Returns a receiver of the empty set, which never changes.
    pub fn watched() -> watch::Receiver<Arc<dyn EventCounterSet>> {
        let none: Arc<dyn EventCounterSet> = Arc::new(Self);
        watch::channel(none).1
    }
}

impl EventCounterSet for EmptyCounterSet {
    fn keys(&self, _event: &Event, _out: &mut Vec<String>) {}

    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn reserves(&self, _name: &str) -> bool {
        false
    }
}

/// The activity that one event shows, for its profile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Activity {
    /// The name that the event is counted under.
    pub name: String,
    /// True if the site's settings use the counts of that name.
    pub is_reserved: bool,
    /// Further names to count under, from the site's settings.
    pub counters: Vec<String>,
    /// The event's value.
    pub value: f64,
    /// The touch, if the event is a landing.
    pub touch: Option<JsonObject>,
    /// The device, as `user_agent` reads it.
    pub device: JsonObject,
    /// The place of the visitor.
    pub place: JsonObject,
    /// The visitor's consent, by category.
    pub consent: JsonObject,
    /// The group of the visitor.
    pub group: Option<String>,
}

impl Activity {
    /// Returns the event's activity. `None` if the event is a program's, a vendor's beacon that is
    /// passed on, one that reports a segment, or of a visitor who can never be recognised: none counts
    /// as a person's activity.
    pub fn of(
        event: &Event,
        counters: &dyn EventCounterSet,
        agents: &UserAgentParser,
    ) -> Option<Self> {
        let facts = &event.facts;
        let is_placeholder = facts.ephemeral_id && event.user_id.is_none();
        let is_ours = facts.format == MEMBERSHIP;
        if facts.suspicion.is_some() || facts.beacon.is_some() || is_placeholder || is_ours {
            return None;
        }
        let mut keys = Vec::new();
        counters.keys(event, &mut keys);
        let name = short(event.label(), MAX_NAME_BYTES);
        Some(Self {
            name: name.to_owned(),
            is_reserved: counters.reserves(name),
            counters: keys,
            value: value(event),
            touch: touch(event),
            device: user_agent::device(event, agents),
            place: place(event),
            consent: consent(event),
            group: group(event),
        })
    }

    /// Returns the part that repeats itself: what the event states of the person, apart from the counts.
    pub(super) fn statement(&self) -> impl std::hash::Hash {
        let text = |object: &JsonObject| serde_json::to_string(object).unwrap_or_default();
        let touch = self.touch.as_ref().map(text);
        (touch, text(&self.device), text(&self.place), text(&self.consent), self.group.clone())
    }
}

/// Returns the start of a text, at most `max` bytes.
fn short(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

fn value(event: &Event) -> f64 {
    let Some(properties) = &event.properties else { return 0.0 };
    let number = |key: &&str| amount::read(properties.get(*key), None).read()?.number.as_f64();
    let found = VALUES.iter().find_map(number);
    // NaN fails the comparison, so it counts as no value.
    found.filter(|value: &f64| value.abs() <= MAX_VALUE).unwrap_or(0.0)
}

fn context<'e>(event: &'e Event, path: &[&str]) -> Option<&'e Value> {
    let (first, rest) = path.split_first()?;
    let start = event.context.as_ref()?.get(*first)?;
    rest.iter().try_fold(start, |value, key| value.get(*key))
}

/// Returns the touch that led to the event's page, if its address or its referrer shows one: a campaign, a click on
/// an advertisement, a link of another site. The client's memory of earlier landings is ignored.
fn touch(event: &Event) -> Option<JsonObject> {
    let text = |path| context(event, path).and_then(Value::as_str);
    let url = text(&["page", "url"]);
    let query = url.and_then(|url| url.split_once('?')).map(|(_, query)| query).unwrap_or_default();
    let query = query.split('#').next().unwrap_or_default();
    let campaign = if query.contains("utm_") {
        of_query(query)
    } else {
        let stated = context(event, &["campaign"]);
        stated.and_then(|stated| serde_json::from_value::<UtmCampaign>(stated.clone()).ok())
    };
    let mut touch = JsonObject::new();
    if let Some(campaign) = campaign.map(fields).filter(|campaign| !campaign.is_empty()) {
        touch.insert("campaign".into(), Value::Object(campaign));
    }
    let clicks = event.facts.click_ids.iter();
    let clicks = clicks.filter(|(_, click)| query.contains(click.value.as_str()));
    let clicks: JsonObject =
        clicks.map(|(name, click)| (name.clone(), json!(short(&click.value, 512)))).collect();
    if !clicks.is_empty() {
        touch.insert("click_ids".into(), Value::Object(clicks));
    }
    let referrer = text(&["page", "referrer"]).filter(|referrer| {
        let (there, here) = (host(referrer), url.and_then(host));
        there.is_some() && there != here
    });
    if let Some(referrer) = referrer {
        // The query of the referring page is private and is dropped.
        let referrer = referrer.split(['?', '#']).next().unwrap_or_default();
        touch.insert("referrer".into(), json!(short(referrer, MAX_TEXT_BYTES)));
    }
    (!touch.is_empty()).then_some(touch)
}

fn host(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    (scheme.starts_with("http") && !host.is_empty()).then_some(host)
}

fn of_query(query: &str) -> Option<UtmCampaign> {
    let mut campaign = UtmCampaign::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()).take(MAX_PARAMETERS) {
        let field = match &*name {
            "utm_campaign" => &mut campaign.name,
            "utm_source" => &mut campaign.source,
            "utm_medium" => &mut campaign.medium,
            "utm_term" => &mut campaign.term,
            "utm_content" => &mut campaign.content,
            "utm_id" => &mut campaign.id,
            _ => continue,
        };
        *field = Some(value.into_owned());
    }
    Some(campaign)
}

fn fields(campaign: UtmCampaign) -> JsonObject {
    let UtmCampaign { name, source, medium, term, content, id } = campaign;
    let all = [
        ("source", source),
        ("medium", medium),
        ("name", name),
        ("term", term),
        ("content", content),
        ("id", id),
    ];
    let stated = all.into_iter().filter_map(|(key, value)| Some((key, value?)));
    let stated = stated.filter(|(_, value)| !value.is_empty());
    stated.map(|(key, value)| (key.to_owned(), json!(short(&value, MAX_TEXT_BYTES)))).collect()
}

fn place(event: &Event) -> JsonObject {
    let Some(place) = &event.facts.place else { return JsonObject::new() };
    let all = [("country", &place.country), ("region", &place.region), ("city", &place.city)];
    all.into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), json!(value.as_ref()?))))
        .collect()
}

fn consent(event: &Event) -> JsonObject {
    let Some(consent) = event.context.as_ref().and_then(ConsentRecord::read) else {
        return JsonObject::new();
    };
    let answers = consent.answers().filter(|(category, _)| category.len() <= MAX_NAME_BYTES);
    answers.map(|(category, answer)| (category.to_owned(), Value::Bool(answer))).collect()
}

fn group(event: &Event) -> Option<String> {
    let own = event.group_id.as_deref().filter(|_| event.kind == EventKind::Group);
    let group = own.or_else(|| context(event, &["groupId"]).and_then(Value::as_str))?;
    Some(short(group, MAX_TEXT_BYTES).to_owned()).filter(|group| !group.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(members: Value) -> Event {
        let mut event = json!({
            "type": "track", "event": "Order Completed", "messageId": "m",
            "timestamp": "2026-11-23T10:00:00Z", "receivedAt": "2026-11-23T10:00:00Z",
        });
        event.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        serde_json::from_value(event).unwrap()
    }

    fn seen(members: Value) -> Activity {
        Activity::of(&event(members), &EmptyCounterSet, &UserAgentParser::default())
            .expect("it counts")
    }

    #[test]
    fn landing_is_a_touch_and_a_remembered_campaign_is_none() {
        let at = "2026-11-20T10:00:00Z";
        let facts = json!({
            "clickIds": { "gclid": { "value": "G1", "at": at }, "fbclid": { "value": "F1", "at": at } },
            "campaign": { "name": "autumn" },
        });
        let page = |url: &str, referrer: &str| {
            let page = json!({ "url": url, "referrer": referrer });
            seen(json!({ "context": { "page": page }, "facts": facts })).touch
        };
        let expected = json!({
            "campaign": { "source": "g", "name": "a b" },
            "click_ids": { "gclid": "G1" },
            "referrer": "https://search.example/r",
        });
        let url = "https://shop.example/?utm_source=g&utm_campaign=a+b&gclid=G1#x";
        let landing = page(url, "https://search.example/r?q=secret");
        assert_eq!(landing.map(Value::Object), Some(expected));
        for (url, referrer) in [
            ("https://shop.example/cart", "https://shop.example/"),
            ("https://shop.example/?utm_source=", ""),
            ("https://shop.example/", "android-app://mail"),
        ] {
            assert_eq!(page(url, referrer), None, "{url}");
        }
    }

    #[test]
    fn event_value_is_the_first_numeric_property() {
        for (properties, worth) in [
            (json!({ "revenue": 5, "total": 9 }), 5.0),
            (json!({ "value": "2.5" }), 2.5),
            (json!({ "value": null, "total": -3 }), -3.0),
            (json!({ "value": "NaN" }), 0.0),
            (json!({ "value": 1e300 }), 0.0),
            (json!({}), 0.0),
        ] {
            let found = seen(json!({ "properties": properties })).value;
            assert!((found - worth).abs() < f64::EPSILON, "{properties}: {found}");
        }
    }

    #[test]
    fn programs_and_beacons_that_are_passed_on_do_not_count() {
        let bot = event(json!({ "facts": { "suspicion": { "score": 60, "reasons": [] } } }));
        assert_eq!(Activity::of(&bot, &EmptyCounterSet, &UserAgentParser::default()), None);
        let beacon = json!({ "vendor": "meta", "method": "GET", "target": "/" });
        assert_eq!(
            Activity::of(
                &event(json!({ "facts": { "beacon": beacon } })),
                &EmptyCounterSet,
                &UserAgentParser::default()
            ),
            None
        );
    }
}
