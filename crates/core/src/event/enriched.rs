//! An event as a destination sees it: the record, its sequence number in the journal, and the part of
//! the visitor's profile that the site's mapping lets through.

use std::any::Any;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::{ComputedAttributes, DroppedFields, Event, JsonObject};

/// One event on its way to destinations. Vendors see this type and know neither stores nor caches.
#[derive(Clone, Debug)]
pub struct EnrichedEvent {
    /// The event's sequence number in its site's journal.
    pub seq: u64,
    /// The event itself, shared by all destinations.
    pub event: Arc<Event>,
    /// The visitor's profile, from the profile store.
    pub profile: Arc<ProfileView>,
    /// The attributes computed from the visitor's events, where the destination's mapping uses them.
    pub computed: Option<Arc<ComputedAttributes>>,
    /// The fields that were dropped before the vendor saw it.
    dropped: DroppedFields,
    /// The rendering of the event by the destination's vendor.
    rendering: Arc<OnceLock<VendorRendering>>,
}

/// A vendor's rendering of an event.
#[derive(Debug)]
struct VendorRendering {
    rendered: Arc<dyn Any + Send + Sync>,
    dropped: DroppedFields,
}

/// The part of a profile that travels with an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProfileView {
    /// The user id last seen with this visitor.
    pub user_id: Option<String>,
    /// The person's traits, newest value of each.
    pub traits: JsonObject,
}

impl EnrichedEvent {
    /// Builds an event with its visitor's profile.
    pub fn new(seq: u64, event: Arc<Event>, profile: Arc<ProfileView>) -> Self {
        Self {
            seq,
            event,
            profile,
            computed: None,
            dropped: DroppedFields::NONE,
            rendering: Arc::default(),
        }
    }

    /// Returns the event with the attributes computed from the visitor's events.
    #[must_use]
    pub fn with_computed(self, computed: Option<Arc<ComputedAttributes>>) -> Self {
        Self { computed, ..self }
    }

    /// Returns the event with another version of its record, and the fields that were dropped in it.
    #[must_use]
    pub fn with_event(self, event: Event, dropped: DroppedFields) -> Self {
        Self { event: Arc::new(event), dropped, rendering: Arc::default(), ..self }
    }

    /// Returns the vendor's rendering of the event: made at the first call and stored with it, so that an
    /// event that is judged, sent and sent again is rendered once. A destination has one rendering; a call
    /// with another type renders anew each time. The fields dropped on the way are stored with it.
    pub fn rendered<T: Send + Sync + 'static>(
        &self,
        render: impl Fn(&Self, &mut DroppedFields) -> T,
    ) -> Arc<T> {
        let VendorRendering { rendered, .. } = self.rendering.get_or_init(|| {
            let mut dropped = self.dropped.clone();
            VendorRendering { rendered: Arc::new(render(self, &mut dropped)), dropped }
        });
        let anew = || Arc::new(render(self, &mut DroppedFields::default()));
        rendered.clone().downcast().unwrap_or_else(|_other| anew())
    }

    /// The fields that the destination drops, as far as it has rendered the event.
    pub fn dropped_fields(&self) -> &DroppedFields {
        self.rendering.get().map_or(&self.dropped, |rendering| &rendering.dropped)
    }

    /// Returns a property of the event by its top-level key.
    pub fn property(&self, key: &str) -> Option<&Value> {
        self.event.properties.as_ref()?.get(key)
    }

    /// Returns a value of the client's context by path (`["page", "url"]`).
    pub fn context(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        let start = self.event.context.as_ref()?.get(*first)?;
        rest.iter().try_fold(start, |value, key| value.get(*key))
    }

    /// Returns a non-empty string of the client's context by path.
    pub fn context_text(&self, path: &[&str]) -> Option<&str> {
        self.context(path)?.as_str().filter(|text| !text.is_empty())
    }

    /// Returns the person's user id: the event's own, else the profile's.
    pub fn user_id(&self) -> Option<&str> {
        self.event.user_id.as_deref().or(self.profile.user_id.as_deref())
    }

    /// Returns a trait of the person: the event's own first, then the profile's.
    pub fn person_trait(&self, key: &str) -> Option<&Value> {
        let own = match self.event.kind {
            super::EventKind::Identify => {
                self.event.traits.as_ref().and_then(|traits| traits.get(key))
            }
            _ => None,
        };
        own.or_else(|| self.context(&["traits", key])).or_else(|| self.profile.traits.get(key))
    }

    /// Returns the visitor's observed IP address.
    pub fn ip(&self) -> Option<IpAddr> {
        self.event.facts.ip
    }

    /// Returns the visitor's user agent: observed, else as the client reported it.
    pub fn user_agent(&self) -> Option<&str> {
        self.event.facts.user_agent.as_deref().or_else(|| self.context_text(&["userAgent"]))
    }
}
