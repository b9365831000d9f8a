//! The message to Intercom that an event becomes, before any call.

use serde_json::Value;

use super::contact;
use super::metadata::metadata;
use super::settings::IntercomSettings;
use crate::Outcome;
use crate::contact_api::{ContactIdentity, view_event_name};
use crate::naming::is_like;
use crate::person::EventPerson;
use tagway_core::event::{DroppedFields, EnrichedEvent, Event, EventKind, JsonObject};

/// Events that also introduce a person: the contact is updated first.
const INTRODUCTIONS: [&str; 3] = ["SIGNED_UP", "LEAD", "LEAD_GENERATED"];

/// An action and the identity of its person.
#[derive(Debug)]
pub(super) struct IntercomMessage {
    pub(super) identity: ContactIdentity,
    pub(super) action: IntercomAction,
}

/// The action that an event stands for.
#[derive(Debug)]
pub(super) enum IntercomAction {
    /// Updates the person's contact; removes it from the company of this id, if any.
    Person { leaves: Option<String> },
    /// Sends an event.
    Event(IntercomEvent),
    /// Adds the person to this company.
    Company(JsonObject),
    /// Merges a lead into its user.
    Alias,
}

/// An event as Intercom takes it, without its contact.
#[derive(Debug)]
pub(super) struct IntercomEvent {
    pub(super) name: String,
    /// Seconds since 1970.
    pub(super) created_at: i64,
    pub(super) metadata: JsonObject,
    /// True if the contact is updated first.
    pub(super) introduces: bool,
}

pub(super) fn render(
    event: &EnrichedEvent,
    settings: &IntercomSettings,
    dropped: &mut DroppedFields,
) -> Result<IntercomMessage, Outcome> {
    let say = build_action(event, settings, dropped)?;
    EventPerson::of(event).note_unreadable(&settings.telephones, dropped);
    let mut who = ContactIdentity::of(event);
    if matches!(say, IntercomAction::Alias) {
        // The profile may have the user already, but the lead is the one that the event names.
        who.anonymous_id.clone_from(&event.event.previous_id);
    }
    let can_be_found_again = settings.lead_attribute.is_some() && who.anonymous_id.is_some();
    if who.user_id.is_none() && who.email.is_none() && !can_be_found_again {
        return Err(Outcome::skipped("anonymous"));
    }
    Ok(IntercomMessage { identity: who, action: say })
}

fn build_action(
    event: &EnrichedEvent,
    settings: &IntercomSettings,
    dropped: &mut DroppedFields,
) -> Result<IntercomAction, Outcome> {
    let name = match event.event.kind {
        EventKind::Identify => {
            contact::note_dropped(event, settings, dropped);
            return Ok(IntercomAction::Person { leaves: left_company(&event.event) });
        }
        EventKind::Group => {
            return contact::company(&event.event, settings, dropped)
                .map(IntercomAction::Company)
                .ok_or(Outcome::dead("missing_group_id"));
        }
        EventKind::Alias if settings.leads && is_introduction(&event.event) => {
            return Ok(IntercomAction::Alias);
        }
        EventKind::Alias => return Err(Outcome::skipped("no_aliases")),
        EventKind::Page | EventKind::Screen if settings.pages => view_event_name(&event.event),
        EventKind::Page | EventKind::Screen => return Err(Outcome::skipped("pages_off")),
        EventKind::Track => event.event.event.as_deref().unwrap_or_default().trim().to_owned(),
    };
    if name.is_empty() {
        return Err(Outcome::dead("invalid_name"));
    }
    let empty = JsonObject::new();
    let properties = event.event.properties.as_ref().unwrap_or(&empty);
    let introduces = event.event.kind == EventKind::Track
        && INTRODUCTIONS.iter().any(|introduction| is_like(introduction, &name));
    Ok(IntercomAction::Event(IntercomEvent {
        // Intercom itself would replace these characters.
        name: name.replace(['.', '$'], "-"),
        created_at: event.event.timestamp.as_second(),
        metadata: metadata(properties, settings, dropped),
        introduces,
    }))
}

/// Returns true if an alias links a lead to a user.
fn is_introduction(event: &Event) -> bool {
    let is_there = |id: &Option<String>| id.as_ref().is_some_and(|id| !id.trim().is_empty());
    is_there(&event.user_id) && is_there(&event.previous_id)
}

/// Returns the company that an identify event removes the person from.
fn left_company(event: &Event) -> Option<String> {
    let company = event.traits.as_ref()?.get("company")?;
    let is_removed = company.get("remove").and_then(Value::as_bool) == Some(true);
    is_removed.then(|| contact::company_id(company.get("id")?)).flatten()
}
