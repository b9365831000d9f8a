//! A person in the form that is sent to destinations: an event with only their identity.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::SyncSettings;
use crate::DestinationSettings;
use tagway_core::event::{
    EnrichedEvent, Event, EventFacts, GeoLocation, JsonObject, MEMBERSHIP, ProfileView,
};
use tagway_storage::profile::ProfileId;
use tagway_vendors::OutcomeReason;

/// The current data of a person who is to be synced.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberProfile {
    /// The number of the person's profile.
    pub profile: i64,
    /// The id by which the site knows them.
    pub user_id: Option<String>,
    /// The person's device or browser that was seen last.
    pub anonymous_id: Option<String>,
    /// The last e-mail address recorded for them.
    pub email: Option<String>,
    /// The person's traits.
    pub traits: JsonObject,
    /// The person's consent, by category.
    pub consent: JsonObject,
    /// The country of their approximate location, as two letters.
    pub country: Option<String>,
}

impl MemberProfile {
    /// Returns the profile's number as an id.
    pub(super) fn id(&self) -> ProfileId {
        ProfileId(self.profile)
    }

    /// Returns the person in their form for this destination, or the reason for excluding them.
    pub(super) fn into_admitted_event(
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

/// Returns true if a person with this consent may be known to this destination. An unreadable consent counts
/// as none.
pub(super) fn consents(
    consent: &str,
    country: Option<String>,
    destination: &DestinationSettings,
) -> bool {
    let choice: Value = serde_json::from_str(consent).unwrap_or_default();
    let context = json!({ "consent": { "categoryPreferences": choice } });
    context.as_object().is_some_and(|context| destination.consents(context, &facts(country)))
}

/// Returns the country of a location.
pub(super) fn country(mut place: JsonObject) -> Option<String> {
    match place.remove("country") {
        Some(Value::String(country)) => Some(country),
        _ => None,
    }
}

/// Returns the facts about a person: the default without a choice depends on their country.
fn facts(country: Option<String>) -> EventFacts {
    let place =
        country.map(|country| GeoLocation { country: Some(country), ..GeoLocation::default() });
    EventFacts { place, ..EventFacts::default() }
}

/// The names of the events for members who join and leave.
const ENTERED: &str = "Segment Entered";
const EXITED: &str = "Segment Exited";

/// The stored identity that an event is sent with.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct MemberIdentity {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    /// The person's consent: the event of their leaving is sent under the consent they joined with.
    #[serde(default)]
    consent: JsonObject,
    /// The person's country, if only that allowed sending them: otherwise every traveller would get another
    /// row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    country: Option<String>,
}

impl MemberIdentity {
    /// Returns the person's identity, or the reason why a destination could not know them.
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

    /// Builds the event of joining or leaving. A repetition has the same `stay`, and so the same id.
    pub(super) fn event(
        self,
        segment: &str,
        destination: &str,
        stay: &str,
        enters: bool,
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
