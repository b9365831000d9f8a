//! What an event has to say to Intercom, before anybody is asked.

use serde_json::Value;

use super::contact;
use super::metadata::metadata;
use super::settings::IntercomSettings;
use crate::event::{DroppedFields, EnrichedEvent, Event, EventKind, JsonObject};
use crate::vendors::MappingRefusal;
use crate::vendors::contact_api::{ContactIdentity, view_event_name};
use crate::vendors::naming::is_like;
use crate::vendors::person::EventPerson;

/// Events that say who somebody is as well: the contact is brought up to date first.
const INTRODUCTIONS: [&str; 3] = ["SIGNED_UP", "LEAD", "LEAD_GENERATED"];

/// Who says what.
#[derive(Debug)]
pub(super) struct IntercomMessage {
    pub(super) who: ContactIdentity,
    pub(super) action: IntercomAction,
}

/// What is said.
#[derive(Debug)]
pub(super) enum IntercomAction {
    /// This is the person; perhaps they leave the company of this id.
    Person { leaves: Option<String> },
    /// This happened.
    Event(IntercomEvent),
    /// The person belongs to this company.
    Company(JsonObject),
    /// A lead turned out to be a user.
    Alias,
}

/// An event as Intercom takes it, but for its contact.
#[derive(Debug)]
pub(super) struct IntercomEvent {
    pub(super) name: String,
    /// Seconds since 1970.
    pub(super) created_at: i64,
    pub(super) metadata: JsonObject,
    /// Whether the contact is brought up to date first.
    pub(super) introduces: bool,
}

pub(super) fn render(
    event: &EnrichedEvent,
    settings: &IntercomSettings,
    dropped: &mut DroppedFields,
) -> Result<IntercomMessage, MappingRefusal> {
    let say = say(event, settings, dropped)?;
    EventPerson::of(event).note_unreadable(&settings.telephones, dropped);
    let mut who = ContactIdentity::of(event);
    if matches!(say, IntercomAction::Alias) {
        // The profile may know the user already, but the lead is the one that the event names.
        who.anonymous_id.clone_from(&event.event.previous_id);
    }
    let can_be_found_again = settings.lead_attribute.is_some() && who.anonymous_id.is_some();
    if who.user_id.is_none() && who.email.is_none() && !can_be_found_again {
        return Err(MappingRefusal::Skip("anonymous"));
    }
    Ok(IntercomMessage { who, action: say })
}

fn say(
    event: &EnrichedEvent,
    settings: &IntercomSettings,
    dropped: &mut DroppedFields,
) -> Result<IntercomAction, MappingRefusal> {
    let name = match event.event.kind {
        EventKind::Identify => {
            contact::note_dropped(event, settings, dropped);
            return Ok(IntercomAction::Person { leaves: leaves(&event.event) });
        }
        EventKind::Group => {
            return contact::company(&event.event, settings, dropped)
                .map(IntercomAction::Company)
                .ok_or(MappingRefusal::Dead("missing_group_id"));
        }
        EventKind::Alias if settings.leads && is_introduction(&event.event) => {
            return Ok(IntercomAction::Alias);
        }
        EventKind::Alias => return Err(MappingRefusal::Skip("no_aliases")),
        EventKind::Page | EventKind::Screen if settings.pages => view_event_name(&event.event),
        EventKind::Page | EventKind::Screen => return Err(MappingRefusal::Skip("pages_off")),
        EventKind::Track => event.event.event.as_deref().unwrap_or_default().trim().to_owned(),
    };
    if name.is_empty() {
        return Err(MappingRefusal::Dead("invalid_name"));
    }
    let empty = JsonObject::new();
    let properties = event.event.properties.as_ref().unwrap_or(&empty);
    let introduces = event.event.kind == EventKind::Track
        && INTRODUCTIONS.iter().any(|introduction| is_like(introduction, &name));
    Ok(IntercomAction::Event(IntercomEvent {
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
