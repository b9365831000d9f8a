//! Entities that a tracker attaches to an event, each with its own schema. Unknown ones stay as they are.

use serde_json::Value;

use super::payload::SnowplowPayload;
use super::schema::{SNOWPLOW, SelfDescribingJson, unwrapped};
use tagway_core::event::JsonObject;

/// The entities of an event, from which the known ones are taken.
pub(super) struct SnowplowEntities(Vec<SelfDescribingJson>);

impl SnowplowEntities {
    /// Reads the entities of a payload.
    pub(super) fn of(payload: &SnowplowPayload) -> Self {
        let envelope = payload.json("co", "cx");
        let Some(Value::Array(items)) = envelope.and_then(|all| unwrapped(all, "contexts")) else {
            return Self(Vec::new());
        };
        Self(items.into_iter().filter_map(SelfDescribingJson::of).collect())
    }

    /// Takes the first entity of a schema.
    pub(super) fn take(&mut self, vendor: &str, name: &str) -> Option<JsonObject> {
        let place = self.0.iter().position(|entity| entity.is(vendor, name))?;
        Some(self.0.remove(place).data)
    }

    /// Takes all entities of a schema.
    pub(super) fn take_all(&mut self, vendor: &str, name: &str) -> Vec<JsonObject> {
        let taken = self.0.extract_if(.., |entity| entity.is(vendor, name));
        taken.map(|entity| entity.data).collect()
    }

    /// Takes the tracker's session.
    pub(super) fn session(&mut self) -> Option<JsonObject> {
        self.take(SNOWPLOW, "client_session")
    }

    /// Takes the id of this page view.
    pub(super) fn page_view(&mut self) -> Option<Value> {
        self.take(SNOWPLOW, "web_page")?.get_mut("id").map(Value::take)
    }

    /// Takes the client id of Google's library, as its cookie has it.
    pub(super) fn google_client(&mut self) -> Option<Value> {
        let cookies = self.take("com.google.ga4", "cookies");
        let cookies = cookies.or_else(|| self.take("com.google.analytics", "cookies"))?;
        cookies.get("_ga").and_then(Value::as_str).map(Value::from)
    }

    /// Takes the browser's client hints, in the form of `userAgentData`.
    pub(super) fn client_hints(&mut self) -> JsonObject {
        let mut hints = self.take("org.ietf", "http_client_hints").unwrap_or_default();
        if let Some(is_mobile) = hints.shift_remove("isMobile") {
            hints.insert("mobile".to_owned(), is_mobile);
        }
        hints
    }

    /// Takes the visitor's location, if the page asked for it.
    pub(super) fn location(&mut self) -> JsonObject {
        self.take(SNOWPLOW, "geolocation_context").unwrap_or_default()
    }

    /// Returns the remaining entities as sent.
    pub(super) fn rest(self) -> Vec<Value> {
        self.0.into_iter().map(SelfDescribingJson::into_value).collect()
    }
}
