//! A person as a destination is told of them: an event that says no more than who they are.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::SyncSettings;
use crate::delivery::DestinationSettings;
use crate::event::{
    EnrichedEvent, Event, EventFacts, GeoLocation, JsonObject, MEMBERSHIP, ProfileView,
};
use crate::profile::ProfileId;
use crate::vendors::OutcomeReason;

/// What is known of a person who is to be told of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberProfile {
    /// Who.
    pub profile: i64,
    /// The id that the site knows them by.
    pub user_id: Option<String>,
    /// The device or browser of theirs that was seen last.
    pub anonymous_id: Option<String>,
    /// The address that was said last.
    pub email: Option<String>,
    /// Their traits.
    pub traits: JsonObject,
    /// What they chose, by category.
    pub consent: JsonObject,
    /// The country they seem to be in, as two letters.
    pub country: Option<String>,
}

impl MemberProfile {
    /// Their profile's number.
    pub(super) fn id(&self) -> ProfileId {
        ProfileId(self.profile)
    }

    /// The person as this destination is to see them, or why it is not to hear of them.
    pub(super) fn admitted(
        self,
        sync: &SyncSettings,
        destination: &DestinationSettings,
        now: Timestamp,
    ) -> Result<EnrichedEvent, OutcomeReason> {
        let mut traits = self.traits;
        if let Some(email) = self.email {
            traits.entry("email").or_insert_with(|| email.into());
        }
        if !sync.traits.is_empty() {
            traits.retain(|name, _| sync.traits.contains(name));
        }
        let event = json!({
            "type": "identify",
            "messageId": format!("segment:{}", self.profile),
            "userId": self.user_id,
            "anonymousId": self.anonymous_id,
            "timestamp": now,
            "receivedAt": now,
            "context": { "consent": { "categoryPreferences": self.consent } },
            "facts": facts(self.country),
        });
        let event: Event = serde_json::from_value(event)
            .map_err(|_impossible| OutcomeReason::new("unmappable"))?;
        let view = ProfileView { user_id: self.user_id, traits };
        destination.admit_member(EnrichedEvent::new(0, Arc::new(event), Arc::new(view)))
    }
}

/// Whether somebody who chose so is to be known to this destination. What cannot be read was never
/// chosen.
pub(super) fn consents(
    consent: &str,
    country: Option<String>,
    destination: &DestinationSettings,
) -> bool {
    let choice: Value = serde_json::from_str(consent).unwrap_or_default();
    let context = json!({ "consent": { "categoryPreferences": choice } });
    context.as_object().is_some_and(|context| destination.consents(context, &facts(country)))
}

/// The country of where somebody seems to be.
pub(super) fn country(mut place: JsonObject) -> Option<String> {
    match place.remove("country") {
        Some(Value::String(country)) => Some(country),
        _ => None,
    }
}

/// What is observed of somebody: what their silence means depends on where they are.
fn facts(country: Option<String>) -> EventFacts {
    let place =
        country.map(|country| GeoLocation { country: Some(country), ..GeoLocation::default() });
    EventFacts { place, ..EventFacts::default() }
}

/// The names of the events that tell of members.
const ENTERED: &str = "Segment Entered";
const EXITED: &str = "Segment Exited";

/// Who an event is of, as it is kept.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct MemberIdentity {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    /// What they chose: whoever leaves is told of under the consent they came with.
    #[serde(default)]
    consent: JsonObject,
    /// Where they were, if only that let them be told of: elsewhere it would make another row of
    /// everybody who travels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    country: Option<String>,
}

impl MemberIdentity {
    /// Whoever it is, if a destination could know them at all.
    pub(super) fn of(
        person: &EnrichedEvent,
        destination: &DestinationSettings,
    ) -> Result<Self, OutcomeReason> {
        let user = person.user_id().map(str::to_owned);
        let device = person.event.anonymous_id.clone();
        if user.is_none() && device.is_none() {
            return Err(OutcomeReason::new("no_identifier"));
        }
        let consent = person.context(&["consent", "categoryPreferences"]);
        let consent = consent.and_then(Value::as_object).cloned().unwrap_or_default();
        let context = json!({ "consent": { "categoryPreferences": consent } });
        let consents = |context| destination.consents(context, &EventFacts::default());
        let is_sure = context.as_object().is_some_and(consents);
        let place = person.event.facts.place.as_ref();
        let country = place.and_then(|place| place.country.clone()).filter(|_| !is_sure);
        Ok(Self { user, device, consent, country })
    }

    /// The event that they came, or that they left. A repetition has the same id.
    pub(super) fn event(
        self,
        segment: &str,
        destination: &str,
        (stay, enters): (&str, bool),
        now: Timestamp,
    ) -> Result<Event, OutcomeReason> {
        let (name, way) = if enters { (ENTERED, "in") } else { (EXITED, "out") };
        let member = format!("segment_{segment}");
        let mut switches = JsonObject::new();
        switches.insert("All".to_owned(), false.into());
        switches.insert(destination.to_owned(), true.into());
        let mut facts = facts(self.country);
        (facts.format, facts.from_server) = (MEMBERSHIP.to_owned(), true);
        let event = json!({
            "type": "track",
            "event": name,
            "messageId": format!("segment-{way}:{stay}"),
            "userId": self.user,
            "anonymousId": self.device,
            "timestamp": now,
            "receivedAt": now,
            "properties": { "segment": segment, "member": enters },
            "context": {
                "active": false,
                "traits": { member: enters },
                "consent": { "categoryPreferences": self.consent },
            },
            "integrations": switches,
            "facts": facts,
        });
        serde_json::from_value(event).map_err(|_impossible| OutcomeReason::new("unmappable"))
    }
}
