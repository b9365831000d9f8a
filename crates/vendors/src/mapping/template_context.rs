//! The context that conditions and templates see: an event and its person.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, Serde};
use serde_json::{Value, json};

use crate::person::EventPerson;
use tagway_core::event::{ComputedAttributes, EnrichedEvent, Event, EventTally, ProfileView};

/// The members of a profile that need no computed attributes.
const KNOWN: [&str; 2] = ["profile.traits", "profile.user_id"];

/// The variables that the templates of a mapping use: the others are not built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ContextNeeds {
    /// The event's own members.
    pub(super) event: bool,
    /// The person's traits, wherever they stand.
    pub(super) traits: bool,
    /// The person's profile.
    pub(super) profile: bool,
    /// The attributes computed from the person's events.
    pub(super) computed: bool,
}

impl ContextNeeds {
    /// Derives the needs from the variables that the templates name, with the members named in them.
    pub(super) fn of(names: &HashSet<String>) -> Self {
        let roots = || names.iter().filter_map(|name| name.split('.').next());
        let within = |name: &&String| *name == "profile" || name.starts_with("profile.");
        let is_known = |name: &String| {
            let rest = KNOWN.iter().find_map(|known| name.strip_prefix(known));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        Self {
            event: roots().any(|root| !matches!(root, "profile" | "traits")),
            traits: roots().any(|root| root == "traits"),
            profile: names.iter().any(|name| within(&name)),
            computed: names.iter().filter(within).any(|name| !is_known(name)),
        }
    }
}

/// Returns the names of events that a template's source looks up in `activity`: `activity.Order`,
/// `activity['Order Completed']`.
pub(super) fn counted(source: &str) -> Vec<String> {
    let name = |rest: &str| {
        // `activity` may itself stand in brackets and quotes.
        let rest = rest.trim_start_matches(['\'', '"']).trim_start().trim_start_matches(']');
        let rest = rest.trim_start();
        if let Some(word) = rest.strip_prefix('.') {
            let word = word.trim_start();
            let end = word.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(word.len());
            return word.get(..end).map(str::to_owned);
        }
        let quoted = rest.strip_prefix('[')?.trim_start();
        let quote = quoted.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (name, _) = quoted.strip_prefix(quote)?.split_once(quote)?;
        Some(name.to_owned())
    };
    source.split("activity").skip(1).filter_map(name).filter(|name| !name.is_empty()).collect()
}

/// Builds the needed part of the context from the event and its profile.
pub(super) fn template_context(
    looks: ContextNeeds,
    event: &Event,
    profile: &ProfileView,
    computed: Option<&Arc<ComputedAttributes>>,
) -> minijinja::Value {
    let mut seen: BTreeMap<String, minijinja::Value> = BTreeMap::new();
    if looks.event {
        let event_json = serde_json::to_value(event).unwrap_or_default();
        for (key, value) in event_json.as_object().into_iter().flatten() {
            seen.insert(key.clone(), Serde(value).into());
        }
    }
    if looks.traits {
        let enriched = EnrichedEvent::new(0, Arc::new(event.clone()), Arc::new(profile.clone()));
        let traits = Value::Object(EventPerson::of(&enriched).traits());
        seen.insert("traits".to_owned(), Serde(&traits).into());
    }
    if looks.profile {
        let mut known: BTreeMap<String, minijinja::Value> = BTreeMap::new();
        known.insert("user_id".to_owned(), Serde(&profile.user_id).into());
        known.insert("traits".to_owned(), Serde(&profile.traits).into());
        if looks.computed {
            let computed = computed.cloned().unwrap_or_default();
            for (key, value) in computed.members() {
                known.insert(key, Serde(&value).into());
            }
            let activity = minijinja::Value::from_object(TemplateActivity(computed));
            known.insert("activity".to_owned(), activity);
        }
        seen.insert("profile".to_owned(), known.into());
    }
    seen.into()
}

/// A person's events by name. An event that never happened has the count 0.
#[derive(Debug)]
struct TemplateActivity(Arc<ComputedAttributes>);

impl Object for TemplateActivity {
    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        let tally = self.0.activity.get(key.as_str()?);
        let seen = tally.map_or_else(|| json!({ "count": 0, "sum": 0 }), EventTally::members);
        Some(Serde(&seen).into())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let names = self.0.activity.keys();
        Enumerator::Values(names.map(|name| minijinja::Value::from(name.as_str())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_returns_the_event_names_of_activity_lookups() {
        let source = "profile.activity['Order Completed'].count > profile.activity.Refund.sum \
            and profile[\"activity\"] [ \"Cart \u{e9}\" ].count or activity or activity[name]";
        assert_eq!(counted(source), ["Order Completed", "Refund", "Cart \u{e9}"]);
        assert_eq!(counted("properties.activity_level and activity."), [""; 0]);
    }
}
