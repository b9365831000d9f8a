//! The message to Drift that an event becomes, before any call (`docs/contracts/destinations.md` 6.2, 6.3).

use serde_json::{Value, json};
use url::Url;

use super::settings::{DriftAccountSettings, DriftSettings};
use crate::contact_api::{ContactIdentity, email, phone, select_values, view_event_name};
use crate::naming::is_like;
use crate::person::EventPerson;
use crate::{Outcome, products};
use tagway_core::event::{
    DroppedFields, EnrichedEvent, Event, EventKind, FieldDropReason, JsonObject,
};

/// Events that also introduce a person: the contact is updated first.
const INTRODUCTIONS: [&str; 1] = ["SIGNED_UP"];

/// Events without use in a conversation with a customer: they are not sent.
const UNSENT_EVENTS: [&str; 6] = [
    "PROMOTION_VIEWED",
    "PROMOTION_CLICKED",
    "COUPON_ENTERED",
    "COUPON_APPLIED",
    "COUPON_DENIED",
    "COUPON_REMOVED",
];

/// The most tags of one contact, and characters of one. Drift publishes no limits; people read them.
const MAX_TAGS: usize = 50;
const MAX_TAG_CHARS: usize = 100;

/// An action and the identity of its person.
#[derive(Debug)]
pub(super) struct DriftMessage {
    pub(super) identity: ContactIdentity,
    pub(super) action: DriftAction,
}

/// The action that an event stands for.
#[derive(Debug)]
pub(super) enum DriftAction {
    /// Updates the person's contact and adds these tags.
    Person { tags: Vec<Value> },
    /// Adds an entry to the timeline.
    Event(DriftTimelineEntry),
    /// Adds the person to this company, which may be an account.
    Company { name: String, account: Option<DriftAccount> },
}

/// An entry of a timeline, without its contact.
#[derive(Debug)]
pub(super) struct DriftTimelineEntry {
    pub(super) body: JsonObject,
    /// True if the contact is updated first.
    pub(super) introduces: bool,
}

/// An account, and the id that Drift gives it.
#[derive(Debug)]
pub(super) struct DriftAccount {
    pub(super) id: String,
    pub(super) body: JsonObject,
}

pub(super) fn render(
    event: &EnrichedEvent,
    settings: &DriftSettings,
    dropped: &mut DroppedFields,
) -> Result<DriftMessage, Outcome> {
    let say = build_action(event, settings, dropped)?;
    EventPerson::of(event).note_unreadable(&settings.telephones, dropped);
    let who = ContactIdentity::of(event);
    if who.user_id.is_none() && who.email.is_none() {
        return Err(Outcome::skipped("anonymous"));
    }
    Ok(DriftMessage { identity: who, action: say })
}

fn build_action(
    event: &EnrichedEvent,
    settings: &DriftSettings,
    dropped: &mut DroppedFields,
) -> Result<DriftAction, Outcome> {
    let name = match event.event.kind {
        EventKind::Identify => return Ok(DriftAction::Person { tags: tags(event, settings) }),
        EventKind::Group => return company(&event.event, settings),
        EventKind::Alias => return Err(Outcome::skipped("no_aliases")),
        EventKind::Page | EventKind::Screen if settings.pages => view_event_name(&event.event),
        EventKind::Page | EventKind::Screen => return Err(Outcome::skipped("pages_off")),
        EventKind::Track => event.event.event.as_deref().unwrap_or_default().trim().to_owned(),
    };
    if name.is_empty() {
        return Err(Outcome::dead("invalid_name"));
    }
    let is_one_of = |names: &[&str]| {
        event.event.kind == EventKind::Track && names.iter().any(|one| is_like(one, &name))
    };
    if is_one_of(&UNSENT_EVENTS) {
        return Err(Outcome::skipped("untold"));
    }
    let introduces = is_one_of(&INTRODUCTIONS);
    let mut body = JsonObject::new();
    body.insert("event".to_owned(), format!("{}{name}", settings.event_prefix).into());
    body.insert("createdAt".to_owned(), event.event.timestamp.as_millisecond().into());
    if let Some(properties) = &event.event.properties {
        // Drift converts them to texts in any case.
        let text = |value: &Value| match value {
            Value::Bool(claim) => Some(claim.to_string()),
            other => products::text(other),
        };
        let selected = select_values(properties, &settings.event_attributes);
        let mut attributes = JsonObject::new();
        for (name, value) in selected {
            match text(value) {
                Some(text) => {
                    attributes.insert(name, text.into());
                }
                None if value.is_array() || value.is_object() => {
                    dropped.add(&name, FieldDropReason::Nested);
                }
                None => {}
            }
        }
        if !attributes.is_empty() {
            body.insert("attributes".to_owned(), Value::Object(attributes));
        }
    }
    Ok(DriftAction::Event(DriftTimelineEntry { body, introduces }))
}

/// Returns the attributes of the contact with the data that the event and the profile have of the person.
pub(super) fn attributes(
    event: &EnrichedEvent,
    who: &ContactIdentity,
    settings: &DriftSettings,
) -> JsonObject {
    let person = EventPerson::of(event);
    let mut attributes = JsonObject::new();
    let traits = person.traits();
    let custom = select_values(&traits, &settings.attributes);
    attributes.extend(custom.filter_map(|(name, value)| Some((name, scalar(value)?))));
    let mut set = |key: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.trim().is_empty()) {
            attributes.insert(key.to_owned(), value.trim().into());
        }
    };
    set("externalId", who.user_id.clone());
    set("email", email(event));
    set("name", person.name().map(Into::into));
    set("phone", phone(event, &settings.telephones));
    let company = traits.get("company");
    let named = company.and_then(|company| company.get("name"));
    set("employment_name", named.or(company).and_then(products::text));
    attributes
}

/// Returns the contact's tags, in the form of the tags' call.
fn tags(event: &EnrichedEvent, settings: &DriftSettings) -> Vec<Value> {
    let stated = settings.tags_trait.as_deref().and_then(|name| event.person_trait(name));
    let texts = match stated {
        Some(Value::Array(tags)) => tags.as_slice(),
        Some(tag) => std::slice::from_ref(tag),
        None => return Vec::new(),
    };
    let mut names: Vec<&str> = texts.iter().filter_map(Value::as_str).map(str::trim).collect();
    names.retain(|name| !name.is_empty() && name.chars().count() <= MAX_TAG_CHARS);
    names.truncate(MAX_TAGS);
    names.into_iter().map(|name| json!({ "name": name })).collect()
}

/// Returns a value that an attribute can hold.
fn scalar(value: &Value) -> Option<Value> {
    match value {
        Value::String(text) if text.trim().is_empty() => None,
        Value::String(_) | Value::Number(_) | Value::Bool(_) => Some(value.clone()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn company(event: &Event, settings: &DriftSettings) -> Result<DriftAction, Outcome> {
    let empty = JsonObject::new();
    let traits = event.traits.as_ref().unwrap_or(&empty);
    let named = traits.get("name").and_then(products::text);
    let id = || event.group_id.clone().filter(|id| !id.trim().is_empty());
    let Some(name) = named.clone().or_else(id) else {
        return Err(Outcome::dead("missing_group_id"));
    };
    let account = settings.accounts.as_ref().and_then(|accounts| {
        let domain = domain(traits)?;
        Some(account(accounts, &domain, named.as_deref()))
    });
    Ok(DriftAction::Company { name: name.trim().to_owned(), account })
}

fn account(accounts: &DriftAccountSettings, domain: &str, name: Option<&str>) -> DriftAccount {
    let mut body = JsonObject::new();
    body.insert("ownerId".to_owned(), accounts.owner_id.into());
    body.insert("domain".to_owned(), domain.into());
    if let Some(name) = name {
        body.insert("name".to_owned(), name.trim().into());
    }
    DriftAccount { id: format!("{}_{domain}", accounts.org_id), body }
}

/// Returns the company's domain: the stated one, else that of its web site; without `www.`, as in Drift's ids
/// of accounts.
fn domain(traits: &JsonObject) -> Option<String> {
    let text = |key: &str| traits.get(key).and_then(Value::as_str).map(str::trim);
    let written = text("domain").or_else(|| text("website")).or_else(|| text("url"))?;
    let url = Url::parse(written).or_else(|_relative| Url::parse(&format!("https://{written}")));
    let url = url.ok()?;
    let domain = url.domain()?;
    let domain = domain.strip_prefix("www.").unwrap_or(domain);
    domain.contains('.').then(|| domain.to_owned())
}
