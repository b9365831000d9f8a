//! What an event has to say to Intercom, before anybody is asked.

use serde_json::Value;

use super::contact;
use super::metadata::metadata;
use super::settings::Settings;
use crate::event::{DroppedFields, Enriched, Event, Kind, Object};
use crate::vendors::Refusal;
use crate::vendors::conversation::{Who, viewed};
use crate::vendors::naming::is_like;
use crate::vendors::person::Person;

/// Events that say who somebody is as well: the contact is brought up to date first.
const INTRODUCTIONS: [&str; 3] = ["SIGNED_UP", "LEAD", "LEAD_GENERATED"];

/// Who says what.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) who: Who,
    pub(super) say: Say,
}

/// What is said.
#[derive(Debug)]
pub(super) enum Say {
    /// This is the person; perhaps they leave the company of this id.
    Person { leaves: Option<String> },
    /// This happened.
    Event(Happening),
    /// The person belongs to this company.
    Company(Object),
    /// A lead turned out to be a user.
    Alias,
}

/// An event as Intercom takes it, but for its contact.
#[derive(Debug)]
pub(super) struct Happening {
    pub(super) name: String,
    /// Seconds since 1970.
    pub(super) created_at: i64,
    pub(super) metadata: Object,
    /// Whether the contact is brought up to date first.
    pub(super) introduces: bool,
}

pub(super) fn render(
    event: &Enriched,
    settings: &Settings,
    dropped: &mut DroppedFields,
) -> Result<Message, Refusal> {
    let say = say(event, settings, dropped)?;
    Person::of(event).note_unreadable(&settings.telephones, dropped);
    let mut who = Who::of(event);
    if matches!(say, Say::Alias) {
        // The profile may know the user already, but the lead is the one that the event names.
        who.anonymous_id.clone_from(&event.event.previous_id);
    }
    let can_be_found_again = settings.lead_attribute.is_some() && who.anonymous_id.is_some();
    if who.user_id.is_none() && who.email.is_none() && !can_be_found_again {
        return Err(Refusal::Skip("anonymous"));
    }
    Ok(Message { who, say })
}

fn say(event: &Enriched, settings: &Settings, dropped: &mut DroppedFields) -> Result<Say, Refusal> {
    let name = match event.event.kind {
        Kind::Identify => {
            contact::note_dropped(event, settings, dropped);
            return Ok(Say::Person { leaves: leaves(&event.event) });
        }
        Kind::Group => {
            return contact::company(&event.event, settings, dropped)
                .map(Say::Company)
                .ok_or(Refusal::Dead("missing_group_id"));
        }
        Kind::Alias if settings.leads && is_introduction(&event.event) => return Ok(Say::Alias),
        Kind::Alias => return Err(Refusal::Skip("no_aliases")),
        Kind::Page | Kind::Screen if settings.pages => viewed(&event.event),
        Kind::Page | Kind::Screen => return Err(Refusal::Skip("pages_off")),
        Kind::Track => event.event.event.as_deref().unwrap_or_default().trim().to_owned(),
    };
    if name.is_empty() {
        return Err(Refusal::Dead("invalid_name"));
    }
    let empty = Object::new();
    let properties = event.event.properties.as_ref().unwrap_or(&empty);
    let introduces = event.event.kind == Kind::Track
        && INTRODUCTIONS.iter().any(|introduction| is_like(introduction, &name));
    Ok(Say::Event(Happening {
        // What Intercom itself would make of them.
        name: name.replace(['.', '$'], "-"),
        created_at: event.event.timestamp.as_second(),
        metadata: metadata(properties, settings, dropped),
        introduces,
    }))
}

/// Whether an alias says which lead is which user.
fn is_introduction(event: &Event) -> bool {
    let is_there = |id: &Option<String>| id.as_ref().is_some_and(|id| !id.trim().is_empty());
    is_there(&event.user_id) && is_there(&event.previous_id)
}

/// The company that an identify event takes the person out of.
fn leaves(event: &Event) -> Option<String> {
    let company = event.traits.as_ref()?.get("company")?;
    let is_removed = company.get("remove").and_then(Value::as_bool) == Some(true);
    is_removed.then(|| contact::company_id(company.get("id")?)).flatten()
}
