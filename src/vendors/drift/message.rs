//! What an event has to say to Drift, before anybody is asked (`contracts/destinations.md` 6.2, 6.3).

use serde_json::{Value, json};
use url::Url;

use super::settings::{Accounts, Settings};
use crate::event::{DropReason, DroppedFields, Enriched, Event, Kind, Object};
use crate::vendors::conversation::{Who, chosen, email, phone, viewed};
use crate::vendors::naming::is_like;
use crate::vendors::person::Person;
use crate::vendors::{Refusal, products};

/// Events that say who somebody is as well: the contact is brought up to date first.
const INTRODUCTIONS: [&str; 1] = ["SIGNED_UP"];

/// Events that are nothing to a conversation with a customer.
const UNTOLD: [&str; 6] = [
    "PROMOTION_VIEWED",
    "PROMOTION_CLICKED",
    "COUPON_ENTERED",
    "COUPON_APPLIED",
    "COUPON_DENIED",
    "COUPON_REMOVED",
];

/// The tags of one contact, and the characters of one. Drift publishes no limits; people read them.
const MAX_TAGS: usize = 50;
const MAX_TAG_CHARS: usize = 100;

/// Who says what.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) who: Who,
    pub(super) say: Say,
}

/// What is said.
#[derive(Debug)]
pub(super) enum Say {
    /// This is the person, with these tags.
    Person { tags: Vec<Value> },
    /// This happened.
    Event(Entry),
    /// The person belongs to this company, which may be an account.
    Company { name: String, account: Option<Account> },
}

/// An entry of a timeline, but for its contact.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) body: Object,
    /// Whether the contact is brought up to date first.
    pub(super) introduces: bool,
}

/// An account, and the id that Drift gives it.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) id: String,
    pub(super) body: Object,
}

pub(super) fn render(
    event: &Enriched,
    settings: &Settings,
    dropped: &mut DroppedFields,
) -> Result<Message, Refusal> {
    let say = say(event, settings, dropped)?;
    Person::of(event).note_unreadable(&settings.telephones, dropped);
    let who = Who::of(event);
    if who.user_id.is_none() && who.email.is_none() {
        return Err(Refusal::Skip("anonymous"));
    }
    Ok(Message { who, say })
}

fn say(event: &Enriched, settings: &Settings, dropped: &mut DroppedFields) -> Result<Say, Refusal> {
    let name = match event.event.kind {
        Kind::Identify => return Ok(Say::Person { tags: tags(event, settings) }),
        Kind::Group => return company(&event.event, settings),
        Kind::Alias => return Err(Refusal::Skip("no_aliases")),
        Kind::Page | Kind::Screen if settings.pages => viewed(&event.event),
        Kind::Page | Kind::Screen => return Err(Refusal::Skip("pages_off")),
        Kind::Track => event.event.event.as_deref().unwrap_or_default().trim().to_owned(),
    };
    if name.is_empty() {
        return Err(Refusal::Dead("invalid_name"));
    }
    let is_one_of = |names: &[&str]| {
        event.event.kind == Kind::Track && names.iter().any(|one| is_like(one, &name))
    };
    if is_one_of(&UNTOLD) {
        return Err(Refusal::Skip("untold"));
    }
    let introduces = is_one_of(&INTRODUCTIONS);
    let mut body = Object::new();
    body.insert("event".to_owned(), format!("{}{name}", settings.event_prefix).into());
    body.insert("createdAt".to_owned(), event.event.timestamp.as_millisecond().into());
    if let Some(properties) = &event.event.properties {
        // Drift makes texts of them anyway.
        let text = |value: &Value| match value {
            Value::Bool(claim) => Some(claim.to_string()),
            other => products::text(other),
        };
        let told = chosen(properties, &settings.event_attributes);
        let mut attributes = Object::new();
        for (name, value) in told {
            match text(value) {
                Some(text) => {
                    attributes.insert(name, text.into());
                }
                None if value.is_array() || value.is_object() => {
                    dropped.add(&name, DropReason::Nested);
                }
                None => {}
            }
        }
        if !attributes.is_empty() {
            body.insert("attributes".to_owned(), Value::Object(attributes));
        }
    }
    Ok(Say::Event(Entry { body, introduces }))
}

/// The attributes of the contact as far as the event and the profile know the person.
pub(super) fn attributes(event: &Enriched, who: &Who, settings: &Settings) -> Object {
    let person = Person::of(event);
    let mut attributes = Object::new();
    let traits = person.traits();
    let custom = chosen(&traits, &settings.attributes);
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

/// The contact's tags, as the tags' call lists them.
fn tags(event: &Enriched, settings: &Settings) -> Vec<Value> {
    let said = settings.tags_trait.as_deref().and_then(|name| event.person_trait(name));
    let texts = match said {
        Some(Value::Array(tags)) => tags.as_slice(),
        Some(tag) => std::slice::from_ref(tag),
        None => return Vec::new(),
    };
    let mut names: Vec<&str> = texts.iter().filter_map(Value::as_str).map(str::trim).collect();
    names.retain(|name| !name.is_empty() && name.chars().count() <= MAX_TAG_CHARS);
    names.truncate(MAX_TAGS);
    names.into_iter().map(|name| json!({ "name": name })).collect()
}

/// A value that an attribute can hold.
fn scalar(value: &Value) -> Option<Value> {
    match value {
        Value::String(text) if text.trim().is_empty() => None,
        Value::String(_) | Value::Number(_) | Value::Bool(_) => Some(value.clone()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn company(event: &Event, settings: &Settings) -> Result<Say, Refusal> {
    let empty = Object::new();
    let traits = event.traits.as_ref().unwrap_or(&empty);
    let named = traits.get("name").and_then(products::text);
    let id = || event.group_id.clone().filter(|id| !id.trim().is_empty());
    let Some(name) = named.clone().or_else(id) else {
        return Err(Refusal::Dead("missing_group_id"));
    };
    let account = settings.accounts.as_ref().and_then(|accounts| {
        let domain = domain(traits)?;
        Some(account(accounts, &domain, named.as_deref()))
    });
    Ok(Say::Company { name: name.trim().to_owned(), account })
}

fn account(accounts: &Accounts, domain: &str, name: Option<&str>) -> Account {
    let mut body = Object::new();
    body.insert("ownerId".to_owned(), accounts.owner_id.into());
    body.insert("domain".to_owned(), domain.into());
    if let Some(name) = name {
        body.insert("name".to_owned(), name.trim().into());
    }
    Account { id: format!("{}_{domain}", accounts.org_id), body }
}

/// The company's domain: as it is said, else that of its web site; without `www.`, as Drift has it in
/// the ids of accounts.
fn domain(traits: &Object) -> Option<String> {
    let text = |key: &str| traits.get(key).and_then(Value::as_str).map(str::trim);
    let written = text("domain").or_else(|| text("website")).or_else(|| text("url"))?;
    let url = Url::parse(written).or_else(|_relative| Url::parse(&format!("https://{written}")));
    let url = url.ok()?;
    let domain = url.domain()?;
    let domain = domain.strip_prefix("www.").unwrap_or(domain);
    domain.contains('.').then(|| domain.to_owned())
}
